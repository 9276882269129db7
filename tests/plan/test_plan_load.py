"""A load from options: the settings they stand for, and what is refused."""

import argparse
import json

import numpy as np
import pytest
from burstbench import cli
from burstbench.contracts import PLAN
from burstbench.errors import UserError
from burstbench.plan import load
from burstbench.prompts.synthetic import LOWEST_ID, Synthetic
from scipy import stats


def settings(*words):
    parser = argparse.ArgumentParser()
    load.add_load(parser)
    return load.load_settings(parser.parse_args(words))


def test_rate_and_cv_stand_for_alpha_and_beta():
    made = settings("--rate", "4", "--cv", "2", "--seconds", "10", "--theta", "1.5")
    assert made["initial"] == {"alpha": 0.25, "beta": 1.0, "theta": 1.5}
    assert made["phases"] == [{"name": "load", "seconds": 10.0}]
    made = settings("--alpha", "0.5", "--beta", "3", "--requests", "7", "--input-tokens", "64")
    assert made["initial"] == {"alpha": 0.5, "beta": 3.0, "theta": 1.1}
    assert made["phases"] == [{"name": "load", "requests": 7, "lengths": {"kind": "constant", "tokens": 64}}]
    assert made["prompt_max_tokens"] == 64


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "0"], "--rate: found 0, expected a number > 0"),
        (["--cv", "-1"], "--cv: found -1"),
        (["--rate", "1", "--beta", "1"], "--rate and --beta: found both"),
        (["--theta", "1", "--input-tokens", "9"], "--theta and --input-tokens: found both"),
    ],
)
def test_what_cannot_be_is_refused(words, said):
    with pytest.raises(UserError, match=said):
        settings(*words)


def test_the_verb_writes_a_plan_of_that_law(tmp_path):
    words = ["plan", "load", "--rate", "50", "--cv", "1.5", "--requests", "20000", "--max-input-tokens", "300"]
    files = ["--plan", f"{tmp_path}/plan.parquet", "--record", f"{tmp_path}/plan.json"]
    cli.main([*words, *files])
    first = (tmp_path / "plan.parquet").read_bytes()
    plan = PLAN.read(tmp_path / "plan.parquet")
    gaps = np.diff(plan["send_s"].to_numpy())
    assert stats.kstest(gaps, stats.gamma(1.5**-2, scale=1.5**2 / 50).cdf).pvalue > 1e-4
    weights = np.arange(1, 301) ** -1.1
    ones = (plan["prompt_tokens"].to_numpy() == 1).mean()
    assert ones == pytest.approx(1 / weights.sum(), abs=4 / 20000**0.5 * 0.5)
    assert json.loads((tmp_path / "plan.json").read_text())["requests"] == 20000
    cli.main([*words, *files])
    assert (tmp_path / "plan.parquet").read_bytes() == first


def test_synthetic_prompts_are_reproducible_prefixes_of_distinct_prompts():
    made = Synthetic(3, 500, 1000)
    whole = made.tokens(7, 500)
    assert np.array_equal(made.tokens(7, 20), whole[:20])
    assert whole.min() >= LOWEST_ID
    assert whole.max() < 1000
    assert len({tuple(made.tokens(number, 8)) for number in range(200)}) == 200
    assert stats.chisquare(np.bincount((made.tokens(1, 500) - LOWEST_ID) // 99, minlength=10)).pvalue > 1e-4
    with pytest.raises(UserError, match="vocabulary: found 10"):
        Synthetic(1, 1, 10)
