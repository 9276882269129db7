"""Prompts as text: exactly the planned number of tokens, encoded again; and the other kind of tokenizer."""

import pickle
import random

import numpy as np
import pytest
from burstbench import contracts
from burstbench.errors import UserError
from burstbench.prompts.pool import Pool, make_pool
from burstbench.prompts.text import Texts
from burstbench.prompts.tokenizer import Tokenizer, locate
from conftest import WORDS


@pytest.fixture
def pool_of(tmp_path, write_dialogues):
    """Make a pool with a tokenizer; return pool.arrow and the record."""

    def made(tokenizer, seed=0):
        words = random.Random(seed)
        text = ["".join(words.choice([*WORDS, " "]) for _ in range(40)) for _ in range(60)]
        talks = [[("human", text[k]), ("gpt", text[k + 1])] for k in range(0, 60, 2)]
        names = {key: tmp_path / f"{key}.parquet" for key in ("pool", "index", "replies", "record")}
        limits = {"max_tokens": 40, "buffer_tokens": 10_000, "seed": 1}
        return names["pool"], make_pool(write_dialogues(talks), tokenizer, **names, **limits)

    return made


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_text_has_the_planned_number_of_tokens(pool_of, tokenizer_file, seed):
    import sentencepiece  # not by way of our own class

    encode = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer_file)).encode
    path, _ = pool_of(tokenizer_file, seed)
    texts, pool = Texts(path, tokenizer_file), Pool(path)
    served = 0
    for prompt_id in range(len(pool)):
        for n in range(1, int(pool.lengths[prompt_id]) + 1):
            try:
                text = texts(prompt_id, n)
            except UserError:
                continue
            served += 1
            assert len(encode(text)) == n
    assert served > 0.9 * pool.lengths.sum()


def test_naive_cuts_would_not_have_it(pool_of, tokenizer_file):
    """What the test above holds us to is no matter of course."""
    path, _ = pool_of(tokenizer_file)
    pool, tokenizer = Pool(path), Tokenizer(tokenizer_file)
    off = [
        len(tokenizer.encode([tokenizer.decode(pool.tokens(prompt_id, n))])[0]) != n
        for prompt_id in range(len(pool))
        for n in range(1, int(pool.lengths[prompt_id]) + 1)
    ]
    assert any(off)


def test_texts_travel_to_another_process(pool_of, tokenizer_file):
    path, _ = pool_of(tokenizer_file)
    texts = Texts(path, tokenizer_file)
    assert pickle.loads(pickle.dumps(texts))(0, 5) == texts(0, 5)


def test_another_tokenizer_than_the_pools_is_refused(pool_of, tokenizer_file, tmp_path):
    path, _ = pool_of(tokenizer_file)
    other = tmp_path / "other.model"
    other.write_bytes(tokenizer_file.read_bytes() + b"\x00")
    with pytest.raises(UserError):
        Texts(path, other)


@pytest.fixture
def fast_file(tmp_path):
    """A tokenizer.json of bytes and a few merges, made by the library itself."""
    library = pytest.importorskip("tokenizers", reason="pip install tokenizers")
    made = library.Tokenizer(library.models.BPE())
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = library.decoders.ByteLevel()
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    trainer = library.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<s>"])
    made.train_from_iterator([" ".join(WORDS)] * 5, trainer)
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    return path, made


def test_a_tokenizer_json_makes_a_pool(pool_of, fast_file):
    path, library = fast_file
    pool_path, record = pool_of(path)
    assert record["tokenizer"]["kind"] == "tokenizer.json"
    assert record["tokenizer"]["vocabulary"] == library.get_vocab_size()
    made = Tokenizer(path)
    assert made.encode(["the lazy dog"])[0].tolist() == library.encode("the lazy dog", add_special_tokens=False).ids
    assert made.decode(made.encode(["größer 東京"])[0]) == "größer 東京"
    pool = Pool(pool_path)
    assert pool.tokenizer_sha256 == record["tokenizer"]["sha256"]
    text = Texts(pool_path, path)(0, 9)
    assert len(library.encode(text, add_special_tokens=False).ids) == 9
    assert contracts.POOL_INDEX.read(pool_path.with_name("index.parquet"))["tokens"].to_numpy().max() == 40
    assert np.all(pool.lengths <= 40)


def test_what_is_no_tokenizer_is_refused(tmp_path, fast_file):
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    with pytest.raises(UserError, match=r"broken.json: not a tokenizer.json"):
        Tokenizer(broken)


def test_a_name_on_the_hub_is_downloaded(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="pip install tokenizers")
    asked = []
    monkeypatch.setattr(hub, "hf_hub_download", lambda *args, **more: asked.append((args, more)) or str(tmp_path / "x"))
    assert locate("meta-llama/Llama-2-7b-hf@main") == tmp_path / "x"
    assert asked == [(("meta-llama/Llama-2-7b-hf", "tokenizer.json"), {"revision": "main"})]

    def fails(*args, **more):
        raise OSError("no network")

    monkeypatch.setattr(hub, "hf_hub_download", fails)
    with pytest.raises(UserError, match=r"a/b: found neither a file nor a tokenizer\.json on the hub: no network"):
        locate("a/b")
    assert locate(tmp_path / "none.model") == tmp_path / "none.model"
