"""Claims 14-19: each test says yes on runs made so that it must, and no on runs made so that it must not."""

from pathlib import Path

import numpy as np
import pytest
from burstbench.paper.claims import serving
from burstbench.paper.claims.evidence import NoDataError
from claims_data import CASE, steps, study, whole
from scipy import stats


@pytest.mark.parametrize(
    ("mean", "holds", "said"),
    [
        (0.35, True, "inside 30-40 %, inside 20-50 %"),
        (0.25, False, "outside 30-40 %, inside"),
        (0.7, False, "outside 20"),
    ],
)
def test_kv_in_band(tmp_path, mean, holds, said):
    rows = [
        whole("kv_usage_mean", mean, mean - 0.01, mean + 0.01),
        whole("kv_usage_p10", 0.1),
        whole("kv_usage_p90", 0.6),
    ]
    p = CASE | {"band": [0.3, 0.4], "wide": [0.2, 0.5]}
    found = serving.kv_in_band(study(tmp_path, warmup_summary=rows), p)
    assert found.holds is holds
    assert said in found.reason


def test_a_cache_that_was_not_measured_is_not_testable(tmp_path):
    rows = [whole("kv_usage_mean", None)]
    with pytest.raises(NoDataError, match="kv_usage_mean of llama a800 was not measured"):
        serving.kv_in_band(study(tmp_path, warmup_summary=rows), CASE | {"band": [0.3, 0.4], "wide": [0.2, 0.5]})


def mirrored(beta=1.0, alpha=None, arrivals=None, failed=None, phase="mirrored", **more):
    """Intervals of a timeline, 10 s each."""
    n = len(failed or alpha or arrivals or [0] * 4)
    return [
        CASE | {"seed": 1, "time_s": 10.0 * k, "width_s": 10.0, "phase": phase, "beta": beta,
                "alpha": alpha[k] if alpha else 1.0, "arrivals": arrivals[k] if arrivals else 10,
                "failed": failed[k] if failed else 0} | more
        for k in range(n)
    ]  # fmt: skip


def test_beta_above(tmp_path):
    for conversation, api, holds in ((10.0, 2.0, True), (2.0, 10.0, False)):
        tables = study(
            tmp_path,
            mirror_conversation_timeline=mirrored(conversation),
            mirror_api_timeline=mirrored(api) + mirrored(1e6, phase="warmup", seed=2),
        )
        assert serving.beta_above(tables, {}).holds is holds


def test_few_failures_looks_where_alpha_dips(tmp_path):
    alpha = [1.0, 0.9, 0.8, 0.9, 1.0, 1.1, 0.2, 0.1]
    for failed, holds in (
        ([0, 0, 0, 0, 0, 0, 0, 0], True),
        ([1, 1, 1, 1, 1, 1, 1, 1], False),
        ([0, 0, 0, 0, 0, 0, 0, 2], False),  # 2.5 % in all, 10 % where alpha dips
    ):
        tables = study(tmp_path, mirror_conversation_timeline=mirrored(alpha=alpha, failed=failed))
        assert serving.few_failures(tables, {"at_most": 0.05}).holds is holds


def streams(conversation, api, metric="failure_rate"):
    return {
        "mirror_conversation_summary": [whole(metric, *conversation, phase="mirrored")],
        "mirror_api_summary": [whole(metric, *api, phase="mirrored")],
    }


def test_lasting_failures(tmp_path):
    summaries = streams((0.01, 0.005, 0.015), (0.2, 0.18, 0.22))
    for failed, arrivals, spell in (
        ([0, 1, 1, 1, 1, 1, 1, 0], None, 60),
        ([0, 1, 1, 1, 0, 1, 1, 1], None, 30),
        ([0, 1, 1, 0, 1, 1, 1, 0], [5, 5, 5, 0, 5, 5, 5, 5], 60),  # nobody asked in between
        ([0] * 8, None, 0),
    ):
        tables = study(tmp_path, mirror_api_timeline=mirrored(failed=failed, arrivals=arrivals), **summaries)
        found = serving.lasting_failures(tables, {"at_least_s": 60})
        assert found.numbers[-1].value == spell
        assert found.holds is (spell >= 60)
    alike = streams((0.18, 0.1, 0.25), (0.2, 0.18, 0.22))
    tables = study(tmp_path, mirror_api_timeline=mirrored(failed=[1] * 8), **alike)
    assert serving.lasting_failures(tables, {"at_least_s": 60}).holds is False


def test_degraded(tmp_path):
    for api, holds in (((0.08, 0.07, 0.09), True), ((0.05, 0.03, 0.07), False), ((0.02, 0.01, 0.03), False)):
        tables = study(tmp_path, **streams((0.04, 0.035, 0.045), api, "token_latency_mean"))
        assert serving.degraded(tables, {}).holds is holds


FAILURES = {"metric": "failure_rate", "label": "the failure rate", "unit": "%", "scale": 100, "by": 0.05}
SPREAD = {"metric": "latency_sd", "label": "the spread", "unit": "s", "scale": 1, "times": 1.5}


@pytest.mark.parametrize(
    ("values", "jumps", "recovers"),
    [
        ([0, 0, 0, 0.3, 0.4, 0.1, 0, 0], True, True),
        ([0, 0, 0, 0.3, 0.4, 0.5, 0.5, 0.5], True, False),
        ([0, 0, 0, 0.01, 0.02, 0, 0, 0], False, None),
        ([0.3, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1], False, None),
    ],
)
def test_failures_that_jump_and_recover(tmp_path, values, jumps, recovers):
    tables = study(tmp_path, vary_alpha_summary=steps("failure_rate", values))
    assert serving.jumps(tables, FAILURES).holds is jumps
    assert serving.recovers(tables, FAILURES).holds is recovers


def test_a_spread_jumps_by_a_ratio(tmp_path):
    for values, holds in (([2, 2, 2, 5, 3, 2, 2], True), ([2, 2, 2, 2.5, 2, 2, 2], False)):
        tables = study(tmp_path, vary_alpha_summary=steps("latency_sd", values))
        assert serving.jumps(tables, SPREAD).holds is holds


def test_a_claim_about_all_cases_fails_with_one(tmp_path):
    rows = steps("failure_rate", [0, 0, 0.5, 0.5, 0, 0]) + steps("failure_rate", [0] * 6, gpu="a6000")
    found = serving.jumps(study(tmp_path, vary_alpha_summary=rows), FAILURES)
    assert found.holds is False
    assert "llama a6000 (1 of 2 hold)" in found.reason


def test_a_case_that_cannot_be_tested_is_named(tmp_path):
    rows = steps("failure_rate", [0, 0, 0.5, 0.5, 0, 0]) + steps("failure_rate", [0] * 6, gpu="a6000")
    found = serving.recovers(study(tmp_path, vary_alpha_summary=rows), FAILURES)
    assert found.holds is True
    assert found.reason == (
        "on 1 of 2 cases: llama a800: the failure rate recovers; not testable on llama a6000: the failure"
        " rate does not jump"
    )
    every = serving.recovers(study(tmp_path, vary_alpha_summary=rows[: len(rows) // 2]), FAILURES)
    assert every.reason == "llama a800: the failure rate recovers"


def test_a_step_without_an_answer_is_not_testable(tmp_path):
    tables = study(tmp_path, vary_alpha_summary=steps("latency_sd", [1, 1, None, None, 1, 1]))
    with pytest.raises(NoDataError):
        serving.jumps(tables, SPREAD)
    with pytest.raises(NoDataError, match="has 3 steps"):
        serving.jumps(study(tmp_path, vary_alpha_summary=steps("latency_sd", [1, 1, 1])), SPREAD)


def test_kv_fills(tmp_path):
    failures = [0, 0, 0.1, 0.4, 0.1, 0]
    for use, holds in (([0.3, 0.4, 0.8, 0.99, 0.8, 0.4], True), ([0.3, 0.4, 0.99, 0.6, 0.5, 0.4], False)):
        rows = steps("failure_rate", failures) + steps("kv_usage_p90", use)
        assert serving.kv_fills(study(tmp_path, vary_alpha_summary=rows), {"at_least": 0.9}).holds is holds
    rows = steps("failure_rate", failures) + steps("kv_usage_p90", [0.5] * 6)
    for metric in ("failure_rate", "kv_usage_p90"):
        rows += steps(metric, [0] * 6, gpu="a6000")
    found = serving.kv_fills(study(tmp_path, vary_alpha_summary=rows), {"at_least": 0.9})
    assert found.holds is False
    assert found.reason.startswith("on 1 of 2 cases: llama a800: not so")
    rows = steps("failure_rate", [0] * 6) + steps("kv_usage_p90", [1.0] * 6)
    assert serving.kv_fills(study(tmp_path, vary_alpha_summary=rows), {"at_least": 0.9}).holds is None


def test_rises_gradually(tmp_path):
    p = {"metric": "latency_mean", "label": "mean latency", "unit": "s", "rank": 0.8, "single": 0.5}
    for values, holds in (
        ([1, 2, 3, 4, 5, 6], True),
        ([1, 1.1, 1.2, 6, 6.1, 6.2], False),  # one step takes it all
        ([6, 5, 4, 3, 2, 1], False),
        ([3, 3, 3, 3, 3, 3], False),
        ([1, 5, 2, 5, 1, 5], False),
    ):
        tables = study(tmp_path, vary_beta_summary=steps("latency_mean", values))
        assert serving.rises_gradually(tables, p).holds is holds


def test_the_rank_correlation_is_spearmans():
    rng = np.random.default_rng(6)
    for _ in range(20):
        values = rng.integers(0, 6, 11).astype(float)
        expected = stats.spearmanr(np.arange(11), values).statistic
        assert serving.rank_correlation(values) == pytest.approx(expected)


def test_drifts_slightly(tmp_path):
    p = {"metric": "latency_mean", "label": "mean latency", "at_most": 0.3}
    for values, rises, falls in (
        ([10, 10, 11, 11, 12, 12], True, False),
        ([10, 10, 15, 15, 20, 20], False, False),
        ([10, 10, 9, 9, 8, 8], False, True),
        ([10, 10, 8, 12, 10, 10], False, False),
    ):
        tables = study(tmp_path, vary_theta_summary=steps("latency_mean", values))
        assert serving.drifts_slightly(tables, p | {"direction": "rises"}).holds is rises
        assert serving.drifts_slightly(tables, p | {"direction": "falls"}).holds is falls


def test_smaller_effect(tmp_path):
    p = {"metric": "latency_mean", "label": "mean latency"}
    large, small = [10, 12, 20, 30, 20, 12], [10, 10.5, 11, 10.5, 10, 10]
    for theta, beta, holds in ((small, large, True), (large, large, False), (small, [10] * 6, False)):
        tables = study(
            tmp_path,
            vary_theta_summary=steps("latency_mean", theta),
            vary_alpha_summary=steps("latency_mean", large),
            vary_beta_summary=steps("latency_mean", beta),
        )
        assert serving.smaller_effect(tables, p).holds is holds


@pytest.mark.parametrize(
    ("alpha", "latency", "throughput", "failures", "holds"),
    [
        ([1, 0.9, 0.8, 0.7, 0.6], [10, 10, 10.5, 11, 11], [9, 9, 9, 9, 9], [0, 0, 0.2, 0.2, 0.2], True),
        (
            [1, 0.9, 0.8, 0.7, 0.6],
            [10, 10, 20, 20, 20],
            [9, 9, 9, 9, 9],
            [0, 0, 0.2, 0.2, 0.2],
            False,
        ),  # latency doubles
        (
            [1, 0.9, 0.8, 0.7, 0.6],
            [10, 10, 10, 10, 10],
            [9, 9, 4, 4, 4],
            [0, 0, 0.2, 0.2, 0.2],
            False,
        ),  # less is served
        ([1, 0.9, 0.3, 0.3, 0.3], [10, 10, 10, 10, 10], [9, 9, 9, 9, 9], [0, 0, 0.2, 0.2, 0.2], False),  # alpha leaps
        ([1, 0.9, 0.8, 0.7, 0.6], [10, 10, 10, 10, 10], [9, 9, 9, 9, 9], [0.2, 0.21, 0.22, 0.2, 0.1], False),
    ],
)
def test_sudden_failures(tmp_path, alpha, latency, throughput, failures, holds):
    values = {"latency_mean": latency, "throughput_tokens": throughput, "failure_rate": failures}
    rows = [row for metric, series in values.items() for row in steps(metric, series, alpha)]
    p = {"alpha": 0.25, "jump": 0.05, "steady": 0.2}
    assert serving.sudden_failures(study(tmp_path, vary_alpha_summary=rows), p).holds is holds


def test_every_test_of_the_room_is_tested_here():
    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in serving.TESTS if f"serving.{name}(" not in text] == []
