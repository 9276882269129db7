"""A chat template around prompts: exact lengths, the right ids, and what is refused."""

from dataclasses import dataclass

import numpy as np
import pytest
from burstbench.prompts.tokenizer import Tokenizer
from burstbench.serve.template import Template, TemplateError

SETTINGS = {"before": "the quick", "after": "return 0;", "bos": True}


@dataclass
class Pool:
    tokenizer_sha256: str

    def tokens(self, prompt_id, n):
        return 1000 * prompt_id + np.arange(n)


@pytest.fixture
def pool(tokenizer_file):
    return Pool(Tokenizer(tokenizer_file).sha256)


def test_a_prompt_has_its_planned_length_with_the_template_in_it(pool, tokenizer_file):
    template = Template.of(SETTINGS, pool, tokenizer_file)
    assert template.tokens > 3
    prompt = template.around(pool, 2, 40)
    assert len(prompt) == 40
    middle = prompt[len(template.before) : 40 - len(template.after)]
    assert middle.tolist() == (2000 + np.arange(40 - template.tokens)).tolist()
    model = Tokenizer(tokenizer_file)
    assert prompt[0] == model.bos == 1
    assert model.decode(prompt[1 : len(template.before)]) == "the quick"
    assert model.decode(template.after) == "return 0;"


def test_a_prompt_too_short_for_the_template_is_lengthened(pool, tokenizer_file):
    template = Template.of(SETTINGS | {"bos": False}, pool, tokenizer_file)
    shortest = template.tokens + 1
    assert template.lengths(np.array([1, shortest, 500])).tolist() == [shortest, shortest, 500]
    assert len(template.around(pool, 0, shortest)) == shortest


def test_no_template_changes_nothing(pool):
    template = Template.of(None, pool, None)
    assert template.lengths(np.array([1, 2])).tolist() == [1, 2]
    assert template.around(pool, 1, 3).tolist() == [1000, 1001, 1002]


def test_the_tokenizer_must_be_the_prompts_own(pool, tokenizer_file):
    with pytest.raises(TemplateError, match="give --tokenizer"):
        Template.of(SETTINGS, pool, None)
    with pytest.raises(TemplateError, match=r"sha256: found .*expected 00, the pool's"):
        Template.of(SETTINGS, Pool("00"), tokenizer_file)
