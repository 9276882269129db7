"""Metrics on runs of a few requests, with the answers written down by hand."""

import re
from pathlib import Path

import numpy as np
import pytest
from burstbench.metrics import definitions
from burstbench.metrics.runs import read_run
from burstbench.metrics.summarise import parts
from metrics_cells import write_cell


def measured(tmp_path: Path, requests: list[dict], steps: list[dict], ttft_s: float = 10, tpot_s: float = 1) -> dict:
    """(phase, step) -> metric -> (value, n)."""
    found: dict = {}
    for rows in parts(read_run(*write_cell(tmp_path, requests, steps)), ttft_s, tpot_s):
        for name, value, n in zip(rows["metric"], rows["value"], rows["n"], strict=True):
            found.setdefault((rows["phase"][0], rows["step"][0]), {})[name] = (value, n)
    return found


ONE = {"intended": 100, "sent": 100.25, "scheduled": 102, "first": 104, "done": 110, "tokens": 4, "preemptions": 2}


def test_one_request_has_the_latencies_that_one_reads_off_a_clock(tmp_path):
    (whole,) = measured(tmp_path, [ONE], [{"start": 102, "duration": 8, "prefill": 5, "decode": 3}]).values()
    expected = {
        "latency_mean": 10,  # start 100, answer 110
        "latency_p50": 10,
        "latency_p99": 10,
        "token_latency_mean": 2.5,  # 10 s for 4 tokens
        "ttft_mean": 4,
        "tpot_mean": 2,  # 6 s for the 3 tokens after the first
        "queue_wait_mean": 2,
        "lag_p50": 0.25,
        "failure_rate": 0,
        "preemptions": 2,
        "arrival_rate": 0.1,  # the span is 100 to 110 s
        "throughput_requests": 0.1,
        "throughput_output_tokens": 0.4,
        "throughput_tokens": 0.8,
    }
    assert {name: whole[name][0] for name in expected} == pytest.approx(expected)
    assert whole["latency_sd"] == (None, 1)  # one value has no spread


def test_failures_count_in_the_rate_and_in_no_latency(tmp_path):
    requests = [
        ONE,
        {"intended": 101, "sent": 101, "done": 131, "outcome": "timeout"},
        {"intended": 102, "sent": 102, "scheduled": 103, "first": 105, "done": 122, "tokens": 10},
        {"intended": 103, "outcome": "connection"},
    ]
    (whole,) = measured(tmp_path, requests, []).values()
    assert whole["failure_rate"] == (0.5, 4)
    assert whole["latency_mean"] == (15, 2)  # 10 and 20 s
    assert whole["latency_p90"] == (pytest.approx(19), 2)
    assert whole["latency_sd"] == (pytest.approx(np.sqrt(50)), 2)
    assert whole["lag_p99"][1] == 3  # a request that was sent has a lag, whatever became of it
    assert whole["throughput_requests"] == (pytest.approx(2 / 31), 2)


def test_nothing_to_measure_is_null_not_zero(tmp_path):
    (whole,) = measured(tmp_path, [{"intended": 5, "outcome": "rejected"}], []).values()
    assert whole["failure_rate"] == (1, 1)
    for name in (
        "latency_mean",
        "ttft_p99",
        "tpot_mean",
        "preemptions",
        "kv_usage_mean",
        "throughput_tokens",
        "goodput",
    ):
        assert whole[name][0] is None, name


def test_an_answer_of_one_token_has_no_time_per_output_token_and_one_of_none_no_token_latency(tmp_path):
    requests = [
        {"intended": 0, "first": 1, "done": 1, "tokens": 1},
        {"intended": 0, "done": 2, "tokens": 0},
    ]
    (whole,) = measured(tmp_path, requests, []).values()
    assert whole["tpot_mean"] == (None, 0)
    assert whole["token_latency_mean"] == (1, 1)
    assert whole["ttft_mean"] == (1, 1)
    assert whole["latency_mean"] == (1.5, 2)


def test_goodput_counts_answers_within_both_limits(tmp_path):
    requests = [
        {"intended": 0, "first": 1, "done": 5, "tokens": 5},  # TTFT 1, TPOT 1: good
        {"intended": 0, "first": 2.5, "done": 3, "tokens": 2},  # late first token
        {"intended": 0, "first": 1, "done": 7, "tokens": 5},  # slow tokens
        {"intended": 0, "first": 2, "done": 2, "tokens": 1},  # no TPOT to miss
        {"intended": 0, "done": 10, "tokens": 3},  # first token not seen
        {"intended": 0, "first": 1, "done": 2, "tokens": 5, "outcome": "aborted"},
    ]
    (whole,) = measured(tmp_path, requests, [], ttft_s=2, tpot_s=1).values()
    assert whole["goodput"] == (pytest.approx(0.2), 2)  # 2 in 10 s


STEPS = [
    {"start": 0, "duration": 2, "prefill": 20, "kv": 0.5, "running": 1, "waiting": 3},
    {"start": 2, "duration": 2, "decode": 2, "kv": 0.75, "running": 2},
    # idle from 4 to 8
    {"start": 8, "duration": 2, "prefill": 8, "kv": 0.25, "running": 1},
]


def test_states_are_weighted_by_time_and_an_idle_engine_holds_nothing(tmp_path):
    requests = [
        {"intended": 0, "scheduled": 0, "first": 2, "done": 4, "tokens": 2},
        {"intended": 8, "scheduled": 8, "first": 10, "done": 10, "tokens": 1},
    ]
    (whole,) = measured(tmp_path, requests, STEPS).values()
    assert whole["kv_usage_mean"] == (pytest.approx((2 * 0.5 + 2 * 0.75 + 2 * 0.25) / 10), 3)
    assert whole["kv_usage_p10"][0] == 0  # idle for 40 % of the time
    assert whole["kv_usage_p90"][0] == 0.75
    assert whole["running_mean"][0] == pytest.approx((2 * 1 + 2 * 2 + 2 * 1) / 10)
    assert whole["waiting_mean"][0] == pytest.approx(0.6)
    assert whole["throughput_tokens"] == (pytest.approx(3.0), 3)


def test_a_gap_with_a_request_inside_the_engine_holds_what_the_step_before_held(tmp_path):
    requests = [{"intended": 0, "scheduled": 0, "first": 2, "done": 10, "tokens": 2}]
    (whole,) = measured(tmp_path, requests, STEPS).values()
    assert whole["kv_usage_mean"][0] == pytest.approx((2 * 0.5 + 2 * 0.75 + 4 * 0.75 + 2 * 0.25) / 10)


def test_a_part_reaches_to_the_next_part_and_a_step_across_the_border_counts_by_its_time(tmp_path):
    requests = [
        {"intended": 0, "scheduled": 0, "first": 1, "done": 4, "tokens": 2, "phase": "warmup"},
        {"intended": 1, "scheduled": 1, "first": 3, "done": 9, "tokens": 2, "phase": "variation", "step": 0},
        {"intended": 3, "scheduled": 3, "first": 4, "done": 4, "tokens": 1, "phase": "variation", "step": 1},
        {"intended": 9, "scheduled": 9, "first": 10, "done": 10, "tokens": 1, "phase": "variation", "step": 1},
    ]
    found = measured(tmp_path, requests, STEPS)
    assert list(found) == [("warmup", -1), ("variation", -1), ("variation", 0), ("variation", 1)]
    assert found["warmup", -1]["throughput_tokens"][0] == pytest.approx(10)  # half of 20 tokens in 1 s
    assert found["variation", 0]["throughput_tokens"][0] == pytest.approx((10 + 1) / 2)
    assert found["variation", 1]["throughput_tokens"][0] == pytest.approx((1 + 8) / 7)
    assert found["variation", -1]["throughput_tokens"][0] == pytest.approx((10 + 2 + 8) / 9)
    # Completions count where they fall, latencies where the request was intended.
    assert found["warmup", -1]["throughput_requests"] == (0, 0)
    assert found["variation", 1]["throughput_requests"] == (pytest.approx(4 / 7), 4)
    assert found["variation", 0]["latency_mean"] == (8, 1)
    assert found["variation", 0]["kv_usage_mean"] == (pytest.approx((0.5 + 0.75) / 2), 2)


def test_overlapping_steps_end_where_the_next_begins(tmp_path):
    steps = [
        {"start": 0, "duration": 3, "kv": 0.2, "decode": 1},
        {"start": 2, "duration": 2, "kv": 0.6, "decode": 1},
    ]
    (whole,) = measured(tmp_path, [{"intended": 0, "scheduled": 0, "first": 2, "done": 4, "tokens": 2}], steps).values()
    assert whole["kv_usage_mean"][0] == pytest.approx(0.4)
    assert whole["throughput_tokens"][0] == pytest.approx(0.5)


def test_states_and_tokens_agree_with_a_sum_over_small_slices(tmp_path):
    """Against a plain walk over the milliseconds of a random log with idle gaps."""
    rng = np.random.default_rng(7)
    gaps = np.where(rng.random(40) < 0.3, rng.integers(1, 200, 40), 0)
    lasting = rng.integers(1, 300, 40)
    start = np.concatenate([[0], np.cumsum(gaps + lasting)[:-1]]) + gaps
    tokens, kv = rng.integers(0, 50, 40), rng.random(40).round(3)
    steps = [
        {"start": a / 1000, "duration": b / 1000, "decode": int(t), "kv": k}
        for a, b, t, k in zip(start, lasting, tokens, kv, strict=True)
    ]
    end = int(start[-1] + lasting[-1])
    border = end // 3
    requests = [
        {"intended": 0, "outcome": "timeout"},
        {"intended": border / 1000, "outcome": "timeout", "phase": "second"},
    ]
    found = measured(tmp_path, requests, steps)
    held, rate = np.zeros(end), np.zeros(end)
    for a, b, t, k in zip(start, lasting, tokens, kv, strict=True):
        held[a : a + b], rate[a : a + b] = k, t / b
    for name, piece in (("warmup", slice(0, border)), ("second", slice(border, end))):
        part = found[name, -1]
        seconds = (piece.stop - piece.start) / 1000
        assert part["kv_usage_mean"][0] == pytest.approx(held[piece].mean())
        assert part["throughput_tokens"][0] == pytest.approx(rate[piece].sum() / seconds)
        for share in (10, 90):
            expected = np.percentile(held[piece], share, method="inverted_cdf")
            assert part[f"kv_usage_p{share}"][0] == pytest.approx(expected)


def test_every_metric_says_its_unit_and_meaning(tmp_path):
    for function, unit, *_ in (*definitions.SCALARS, *definitions.QUANTITIES, *definitions.STATES):
        stated = re.match(r"[^.]+ \[(.+?)\]", function.__doc__)
        assert stated, function.__name__
        assert stated.group(1) == unit, function.__name__
    (whole,) = measured(tmp_path, [ONE], STEPS).values()
    assert list(whole) == list(definitions.names())
