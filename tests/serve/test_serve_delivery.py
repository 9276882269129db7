"""The proof of delivery, on hand-sized numbers and against SciPy."""

from dataclasses import replace

import numpy as np
import pytest
from burstbench.serve import delivery
from burstbench.serve.client import ClientRecords, Options
from scipy import stats

MS = 1_000_000


def records(intended_ms, sent_ms, outcome=None, prompt_tokens=None, partial=False):
    n = len(intended_ms)
    never = np.full(n, -1)
    sent = np.array([-1 if value is None else round(value * MS) for value in sent_ms])
    return ClientRecords(
        request_id=np.arange(n),
        intended_ns=np.array(intended_ms) * MS,
        sent_ns=sent,
        first_byte_ns=never,
        first_token_ns=never,
        done_ns=never,
        prompt_tokens=np.full(n, 4) if prompt_tokens is None else np.array(prompt_tokens),
        response_tokens=never,
        outcome=np.array(outcome or ["ok"] * n, object),
        status=np.where(np.array(outcome or ["ok"] * n) == "ok", 200, -1),
        message=np.array(["" if o == "ok" else f"it was {o}" for o in outcome or ["ok"] * n], object),
        chunk_offsets=np.zeros(n + 1, int),
        chunk_ns=np.zeros(0, int),
        chunk_tokens=np.zeros(0, int),
        start_monotonic_ns=0,
        partial=partial,
        cpu_s=0.5,
        wall_s=2.0,
    )


def prove(found, **options):
    return delivery.proof(found, Options(**options), np.full(len(found.request_id), 4))


def failed(found):
    return [check["name"] for check in found["checks"] if not check["passed"]]


def test_ks_distance_is_scipys():
    rng = np.random.default_rng()
    for _ in range(20):
        one = np.round(rng.gamma(0.5, 1.0, rng.integers(1, 300)), 1)  # with ties
        other = np.round(rng.gamma(0.7, 1.0, rng.integers(1, 300)), 1)
        assert delivery.ks_distance(one, other) == pytest.approx(stats.ks_2samp(one, other).statistic)


def test_lag_and_rate_by_hand():
    # 5 requests over 400 ms: 4 gaps in 0.4 s are 10/s. The last comes 100 ms late: 4 gaps in 0.5 s are 8/s.
    found = prove(records([0, 100, 200, 300, 400], [0, 100, 200, 300, 500]), lag_limit_s=1.0)
    assert found["lag_s"] == pytest.approx({"p50": 0.0, "p90": 0.06, "p99": 0.096, "max": 0.1})
    assert found["intended_rate_per_s"] == pytest.approx(10.0)
    assert found["achieved_rate_per_s"] == pytest.approx(8.0)
    assert found["rate_error"] == pytest.approx(-0.2)
    assert found["gaps_ks_distance"] == pytest.approx(0.25)  # one gap of four is another
    assert found["client_cpu_share"] == pytest.approx(0.25)
    assert failed(found) == []


def test_what_was_never_sent_has_no_lag():
    found = prove(records([0, 100, 200], [0, 100, None], ["ok", "ok", "connection"]))
    assert (found["n"], found["sent"], found["planned"]) == (2, 2, 3)
    assert found["achieved_rate_per_s"] == pytest.approx(10.0)
    nothing = prove(records([0, 100], [None, None], ["aborted"] * 2))
    assert nothing["lag_s"] is None
    assert nothing["achieved_rate_per_s"] is None
    assert failed(nothing) == []
    empty = prove(records([], []))
    assert (empty["n"], empty["gaps_ks_distance"]) == (0, None)


@pytest.mark.parametrize(("limit", "fails"), [(0.0021, []), (0.0019, ["lag"]), (None, [])])
def test_the_limit_of_the_lag(limit, fails):
    assert failed(prove(records([0, 10, 20], [2, 12, 22]), lag_limit_s=limit)) == fails


def test_prompts_that_the_server_counts_otherwise():
    found = prove(records([0, 10, 20], [0, 10, 20], prompt_tokens=[4, 5, -1]))
    assert failed(found) == ["prompt_tokens"]
    assert (found["prompts_counted_by_server"], found["prompts_of_planned_length"]) == (2, 1)
    assert "request_id 1: planned 4 tokens, the server counted 5" in found["checks"][-1]["reason"]


def test_failures_of_the_client_itself_fail_the_run():
    few = records([0, 10], [0, None], ["ok", "connection"])
    few.message[1] = "the client is out of sockets: OSError: too many open files"
    assert failed(prove(few)) == ["client_sockets"]


def test_a_request_without_an_outcome_is_found():
    assert failed(prove(replace(records([0], [0]), outcome=np.array([None], object)))) == ["every_request_once"]


def test_counts_of_outcomes_and_messages():
    found = delivery.outcomes(records([0] * 4, [0] * 4, ["timeout", "ok", "timeout", "rejected"]))
    assert sum(found["outcomes"].values()) == 4
    assert found["outcomes"]["timeout"] == 2
    assert found["statuses"] == {"-1": 3, "200": 1}
    assert found["failure_messages"] == [
        {"message": "it was timeout", "requests": 2},
        {"message": "it was rejected", "requests": 1},
    ]


def test_a_failed_run_fails_with_the_reason_and_keeps_what_was_written(tmp_path):
    written = tmp_path / "requests.parquet"
    written.write_text("measured")
    delivery.demand(prove(records([0], [0])), [written])
    assert not (tmp_path / "failed").exists()
    late = prove(records([0, 1], [50, 51], partial=True))
    for _ in range(2):  # again over an earlier failure
        with pytest.raises(delivery.DeliveryError, match=r"stopped: 2 of 2.*; lag: .* 50\.000 ms, limit 10 ms"):
            delivery.demand(late, [written])
    written.unlink()  # as Snakemake does
    assert (tmp_path / "failed" / "requests.parquet").read_text() == "measured"


def test_the_same_from_the_servers_side():
    intended = np.array([0, 100, 200]) * MS
    assert delivery.timeliness(intended, intended + MS)["lag_s"]["p50"] == pytest.approx(0.001)
