"""Client and engine rows of four requests, small enough to join by hand."""

import numpy as np
import pytest
from burstbench import contracts
from burstbench.serve import journal
from burstbench.serve.client import ClientRecords
from burstbench.serve.joined import EngineRows, JoinError, engine, join, steps

START = 1_000_000  # monotonic time of the run's time 0
STOPPED, LENGTH, ABORTED, _, QUEUE = range(len(journal.ENDINGS))


def client(**changes):
    """Request 0 is answered, 1 times out half-way, 2 waits in vain, 3 never reaches the server."""
    n = 4
    values = {
        "request_id": np.arange(n),
        "intended_ns": np.array([0, 10, 20, 30]),
        "sent_ns": np.array([1, 11, 21, 31]),
        "first_byte_ns": np.array([50, 60, -1, -1]),
        "first_token_ns": np.array([50, 60, -1, -1]),
        "done_ns": np.array([90, 400, 500, 40]),
        "prompt_tokens": np.array([5, 6, -1, -1]),
        "response_tokens": np.array([3, 1, -1, -1]),
        "outcome": np.array(["ok", "timeout", "timeout", "connection"], object),
        "status": np.array([200, 200, 504, -1]),
        "message": np.array(["", "timed out", "timed out", "refused"], object),
        "chunk_offsets": np.array([0, 3, 4, 4, 4]),
        "chunk_ns": np.array([50, 70, 90, 60]),
        "chunk_tokens": np.array([1, 2, 3, 1]),
        "start_monotonic_ns": START,
        "partial": False,
        "cpu_s": 0.1,
        "wall_s": 0.5,
    }
    return ClientRecords(**(values | changes))


PLANNED = np.array([5, 6, 7, 8])
EVENTS = [
    (journal.ADDED, journal.OTHER, START - 50, 8, 1, 0),
    (journal.ADDED, 0, START + 5, 5, 64, 0),
    (journal.SCHEDULED, 0, START + 6, 0, 0, 0),
    (journal.ADDED, 1, START + 15, 6, 64, 0),
    (journal.SCHEDULED, 1, START + 30, 0, 0, 0),
    (journal.ADDED, 2, START + 25, 7, 64, 0),
    (journal.FIRST_TOKEN, 0, START + 45, 0, 0, 0),
    (journal.FIRST_TOKEN, 1, START + 55, 0, 0, 0),
    (journal.ENDED, 0, START + 85, STOPPED, 3, 0),
    (journal.ENDED, 1, START + 399, ABORTED, 4, 2),
    (journal.ENDED, 2, START + 490, ABORTED, 0, 0),
]


def events(rows=EVENTS):
    return np.array(rows, journal.EVENT)


def test_each_row_has_both_sides(tmp_path):
    columns, said = join(client(), PLANNED, EngineRows.of(events(), 4))
    contracts.REQUESTS.write(columns, tmp_path / "requests.parquet")
    rows = contracts.REQUESTS.read(tmp_path / "requests.parquet").to_pylist()
    assert [row["first_scheduled_ns"] for row in rows] == [6, 30, None, None]
    assert [row["first_token_ns"] for row in rows] == [50, 60, None, None]
    assert [row["done_ns"] for row in rows] == [90, 400, 500, 40]
    assert [row["prompt_tokens"] for row in rows] == [5, 6, 7, None]
    assert [row["response_tokens"] for row in rows] == [3, 4, 0, 0], "of a timeout: what the engine had made"
    assert [row["preemptions"] for row in rows] == [0, 2, 0, None]
    assert [row["outcome"] for row in rows] == ["ok", "timeout", "timeout", "connection"]
    assert said["client_rows"] == 4
    assert said["joined"] == 3
    assert said["client_rows_without_engine_row"] == {"never reached the server": 1}
    assert said["engine_events_of_other_requests"] == 1
    assert said["outcome_of_client_and_ending_in_engine"] == {
        "ok / stopped": 1,
        "timeout / aborted": 2,
        "connection / no row": 1,
    }


def test_the_engine_keeps_its_own_rows(tmp_path):
    contracts.ENGINE.write(engine(EngineRows.of(events(), 4), START), tmp_path / "engine.parquet")
    rows = contracts.ENGINE.read(tmp_path / "engine.parquet").to_pylist()
    assert [row["arrived_ns"] for row in rows] == [5, 15, 25, None]
    assert [row["scheduled_ns"] for row in rows] == [6, 30, None, None]
    assert [row["first_token_ns"] for row in rows] == [45, 55, None, None]
    assert [row["ended_ns"] for row in rows] == [85, 399, 490, None]
    assert [row["response_tokens"] for row in rows] == [3, 4, 0, None]
    assert [row["ending"] for row in rows] == ["stopped", "aborted", "aborted", None]


def test_who_was_never_sent_is_told_from_who_never_arrived():
    records = client(
        sent_ns=np.array([1, 11, 21, -1]), outcome=np.array(["ok", "timeout", "timeout", "aborted"], object)
    )
    _, said = join(records, PLANNED, EngineRows.of(events(), 4))
    assert said["client_rows_without_engine_row"] == {"stopped before it was sent": 1}


def test_an_end_in_the_queue_is_a_timeout_whatever_the_client_heard():
    rows = [*EVENTS[:-1], (journal.ENDED, 2, START + 490, QUEUE, 0, 0)]
    records = client(outcome=np.array(["ok", "timeout", "server_error", "connection"], object))
    columns, _ = join(records, PLANNED, EngineRows.of(events(rows), 4))
    assert columns["outcome"].to_pylist()[2] == "timeout"


@pytest.mark.parametrize(
    ("rows", "records", "expected"),
    [
        ([row for row in EVENTS if row[1] != 0], {}, "request 0 .*no record of it"),
        ([(*row[:3], 9, *row[4:]) if row[:2] == (journal.ADDED, 1) else row for row in EVENTS], {}, "another prompt"),
        (EVENTS, {"response_tokens": np.array([2, 1, -1, -1])}, "request 0 .*another response"),
    ],
)
def test_client_and_engine_must_agree(rows, records, expected):
    with pytest.raises(JoinError, match=expected):
        join(client(**records), PLANNED, EngineRows.of(events(rows), 4))


def test_nothing_happens_twice():
    with pytest.raises(JoinError, match="request 2 twice"):
        EngineRows.of(events([*EVENTS, EVENTS[5]]), 4)


def test_steps_of_the_run_count_from_its_start(tmp_path):
    rows = np.array(
        [
            (START - 40, START - 10, 8, 0, 1, 0, 0, 9, -1),
            (START + 6, START + 45, 5, 0, 1, 0, 0, 8, -1),
            (START + 45, START + 55, 6, 1, 2, 1, 1, 4, 7000),
        ],
        journal.STEP,
    )
    contracts.STEPS.write(steps(rows, START, usable=10), tmp_path / "steps.parquet")
    found = contracts.STEPS.read(tmp_path / "steps.parquet").to_pylist()
    assert [row["step"] for row in found] == [0, 1]
    assert [row["start_ns"] for row in found] == [6, 45]
    assert [row["duration_ns"] for row in found] == [39, 10]
    assert [row["kv_usage"] for row in found] == pytest.approx([0.2, 0.6])
    assert [row["gpu_memory_bytes"] for row in found] == [None, 7000]
    assert [row["free_blocks"] for row in found] == [8, 4]
    assert found[1]["prefill_tokens"] == 6
    assert found[1]["decode_tokens"] == 1
    assert found[1]["preempted"] == 1
