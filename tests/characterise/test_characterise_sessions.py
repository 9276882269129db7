"""Turns, think time and speed, by hand."""

import json

import numpy as np
import pyarrow as pa
import pytest
from burstbench.cli import main
from burstbench.contracts import SESSIONS, SPEED_LOADS, TRACE


def tables(folder, rows):
    """Rows of (time, service, session, elapsed, response tokens) through the verb."""
    time_s, service, session, elapsed, response = zip(*sorted(rows, key=lambda row: row[0]), strict=True)
    TRACE.write(
        {
            "time_s": pa.array(time_s, pa.float64()),
            "service": list(service),
            "model": ["GPT-4"] * len(rows),
            "request_tokens": [1] * len(rows),
            "response_tokens": list(response),
            "failed": [tokens == 0 for tokens in response],
            "session_id": pa.array(session, pa.string()),
            "elapsed_s": pa.array(elapsed, pa.float64()),
        },
        folder / "trace.parquet",
    )
    settings = json.dumps({"start": "2024-03-01", "days": 2})
    outputs = ["--sessions", str(folder / "s.parquet"), "--speed-loads", str(folder / "l.parquet")]
    main(["characterise", "sessions", "--settings", settings, "--trace", str(folder / "trace.parquet"), *outputs])
    found = SESSIONS.read(folder / "s.parquet").to_pylist()
    return {(r["service"], r["quantity"]): r for r in found}, SPEED_LOADS.read(folder / "l.parquet").to_pylist()


def test_sessions_by_hand(tmp_path):
    found, speed = tables(
        tmp_path,
        [
            (0, "conversation", "a", 4.0, 8),
            (3, "conversation", "b", 2.0, 0),
            (10, "conversation", "a", 5.0, 50),
            (12, "conversation", "a", None, 7),
            (100, "conversation", None, 0.0, 9),
            (20, "api", "a", 1.0, 3),
        ],
    )
    turns = found["conversation", "turns"]
    assert (turns["n"], turns["mean"], turns["median"]) == (2, 2, 2)
    assert (found["conversation", "session_s"]["n"], found["conversation", "session_s"]["mean"]) == (1, 12)
    assert (found["conversation", "gap_s"]["n"], found["conversation", "gap_s"]["mean"]) == (2, 6)
    # From 0 + 4 to 10; the third request came 3 s before the second was answered.
    think = found["conversation", "think_s"]
    assert (think["n"], think["mean"], think["median"]) == (2, 1.5, 1.5)
    assert found["conversation", "elapsed_s"]["n"] == 4
    assert (found["conversation", "tokens_per_s"]["n"], found["conversation", "tokens_per_s"]["mean"]) == (2, 6)
    assert found["api", "turns"]["mean"] == 1
    assert ("api", "gap_s") not in found
    own = [r for r in speed if (r["service"], r["load_of"]) == ("conversation", "own")]
    assert [(r["load_low"], r["load_high"], r["requests"], r["tokens_per_s"]) for r in own] == [(4, 4, 2, 6)]
    [whole] = [r for r in speed if (r["service"], r["load_of"]) == ("api", "all")]
    assert (whole["load_low"], whole["tokens_per_s"], whole["elapsed_s"]) == (5, 3, 1)


def test_speed_falls_with_load(tmp_path):
    """Each request takes as many seconds as requests came in its minute, for 100 tokens."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 50, 300)
    rows = [(60 * k, "api", None, float(size), 100) for k, size in enumerate(sizes) for _ in range(size)]
    _, speed = tables(tmp_path, rows)
    own = [r for r in speed if r["load_of"] == "own"]
    assert len(own) == 5
    for row in own:
        assert 100 / row["load_high"] <= row["tokens_per_s_q1"] <= row["tokens_per_s"] <= 100 / row["load_low"]


@pytest.mark.parametrize("session", [None, "a"])
def test_a_trace_without_them_gives_tables_without_rows(session, tmp_path):
    found, speed = tables(tmp_path, [(0, "api", session, None, 1), (1, "api", session, None, 2)])
    assert speed == []
    assert {quantity for _, quantity in found} == ({"turns", "session_s", "gap_s"} if session else set())
