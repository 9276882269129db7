"""One row a request from two sides: what the client saw and what the engine wrote, joined by the request's number."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from burstbench.errors import UserError
from burstbench.serve import journal
from burstbench.serve.client import ClientRecords, requests_table

Ints = NDArray[np.int64]

# Why a client's row has no engine row, by the client's outcome.
_WITHOUT = {
    "timeout": "timed out before the engine had it",
    "rejected": "rejected before the engine",
    "server_error": "refused by the server",
    "connection": "never reached the server",
    "malformed": "never reached the server",
    "aborted": "stopped before it was sent",
}


class JoinError(UserError):
    """Client and engine disagree where they cannot."""


@dataclass(frozen=True)
class EngineRows:
    """What the engine wrote of each request of the plan, arrays of shape (n,); -1 where it wrote nothing.

    Attributes:
        added_ns, scheduled_ns, first_token_ns, ended_ns: monotonic times.
        prompt_tokens: as the engine counted them.
        response_tokens, preemptions: until the end of the request.
        ending: index into `journal.ENDINGS`.
        others: events of requests outside the plan.
    """

    added_ns: Ints
    scheduled_ns: Ints
    first_token_ns: Ints
    ended_ns: Ints
    prompt_tokens: Ints
    response_tokens: Ints
    preemptions: Ints
    ending: Ints
    others: int

    @classmethod
    def of(cls, events: NDArray[Any], requests: int) -> "EngineRows":
        """Sort the events of a journal by request.

        Args:
            events: dtype `journal.EVENT`.
            requests: of the plan; their numbers are 0 … requests - 1.

        Raises:
            JoinError: the same thing happened twice to one request.
        """
        ours = (events["request"] >= 0) & (events["request"] < requests)
        columns: dict[int, dict[str, Ints]] = {}
        for kind in (journal.ADDED, journal.SCHEDULED, journal.FIRST_TOKEN, journal.ENDED):
            rows = events[ours & (events["kind"] == kind)]
            numbers, counts = np.unique(rows["request"], return_counts=True)
            if (counts > 1).any():
                raise JoinError(f"the engine's journal has event {kind} of request {numbers[counts > 1][0]} twice")
            columns[kind] = {name: np.full(requests, -1, np.int64) for name in ("time_ns", "a", "b", "c")}
            for name, column in columns[kind].items():
                column[rows["request"]] = rows[name]
        added, ended = columns[journal.ADDED], columns[journal.ENDED]
        return cls(
            added_ns=added["time_ns"],
            scheduled_ns=columns[journal.SCHEDULED]["time_ns"],
            first_token_ns=columns[journal.FIRST_TOKEN]["time_ns"],
            ended_ns=ended["time_ns"],
            prompt_tokens=added["a"],
            response_tokens=ended["b"],
            preemptions=ended["c"],
            ending=ended["a"],
            others=int((~ours).sum()),
        )


def join(records: ClientRecords, planned_tokens: Ints, engine: EngineRows) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the columns of contract `requests`, and what is to be said of the join.

    The client's times are kept: they are what a user sees. From the engine come the first schedule, the preemptions,
    the tokens of the prompt, and the tokens of a response that was not delivered whole. A request that the engine ended
    for its time in the queue is a timeout.

    Args:
        records: of the client, in the order of the plan, whose requests are numbered 0 … n - 1.
        planned_tokens: [n] prompt tokens of the plan.
        engine: of the same requests.

    Raises:
        JoinError: an answered request has no engine row, the engine counted another number of prompt tokens than was
            sent, or of response tokens than was delivered.
    """
    n = len(records.request_id)
    outcome = records.outcome.astype(str).astype(object)
    has = engine.added_ns >= 0
    ok = outcome == "ok"

    def refuse(bad: NDArray[np.bool_], what: str) -> None:
        if bad.any():
            raise JoinError(f"request {records.request_id[np.flatnonzero(bad)[0]]} (of {int(bad.sum())}): {what}")

    refuse(ok & ~has, "answered, but the engine has no record of it")
    refuse(has & (engine.prompt_tokens != planned_tokens), "the engine counted another prompt than was sent")
    refuse(
        ok & (records.response_tokens >= 0) & (engine.response_tokens != records.response_tokens),
        "the engine counted another response than was delivered",
    )
    queue = journal.ENDINGS.index("queue_timeout")
    outcome[(engine.ending == queue) & ~ok] = "timeout"

    def happened(values: Ints) -> pa.Array:
        return pa.array(values, pa.int64(), mask=values < 0)

    start = records.start_monotonic_ns
    columns = requests_table(records) | {
        "first_scheduled_ns": happened(np.where(engine.scheduled_ns >= 0, engine.scheduled_ns - start, -1)),
        "prompt_tokens": happened(engine.prompt_tokens),
        "response_tokens": np.maximum(np.where(ok, records.response_tokens, engine.response_tokens), 0),
        "preemptions": happened(engine.preemptions),
        "outcome": pa.array(outcome, pa.string()),
    }
    without = Counter(
        "stopped before it was sent" if records.sent_ns[row] < 0 else _WITHOUT[str(outcome[row])]
        for row in np.flatnonzero(~has)
    )
    pairs = Counter(
        f"{said} / {journal.ENDINGS[ending] if ending >= 0 else 'not ended' if known else 'no row'}"
        for said, ending, known in zip(outcome, engine.ending, has, strict=True)
    )
    said = {
        "client_rows": n,
        "joined": int(has.sum()),
        "client_rows_without_engine_row": dict(sorted(without.items())),
        "engine_events_of_other_requests": engine.others,
        "outcomes": dict(sorted(Counter(outcome.tolist()).items())),
        "outcome_of_client_and_ending_in_engine": dict(sorted(pairs.items())),
    }
    return columns, said


def engine(rows: EngineRows, start_ns: int) -> dict[str, Any]:
    """Return the columns of contract `engine`: what the scheduler wrote of each request.

    Args:
        rows: of the run.
        start_ns: monotonic time of the run's time 0.
    """

    def happened(values: Ints, offset: int = 0) -> pa.Array:
        return pa.array(values - offset, pa.int64(), mask=values < 0)

    names = np.array([*journal.ENDINGS, None], object)  # -1, not ended, is the last
    return {
        "request_id": np.arange(len(rows.added_ns)),
        "arrived_ns": happened(rows.added_ns, start_ns),
        "scheduled_ns": happened(rows.scheduled_ns, start_ns),
        "first_token_ns": happened(rows.first_token_ns, start_ns),
        "ended_ns": happened(rows.ended_ns, start_ns),
        "prompt_tokens": happened(rows.prompt_tokens),
        "response_tokens": happened(rows.response_tokens),
        "preemptions": happened(rows.preemptions),
        "ending": pa.array(names[rows.ending], pa.string()),
    }


def steps(rows: NDArray[Any], start_ns: int, usable: int) -> dict[str, Any]:
    """Return the columns of contract `steps`: those that began after the run did.

    Args:
        rows: dtype `journal.STEP`.
        start_ns: monotonic time of the run's time 0.
        usable: KV-cache blocks that requests can use.
    """
    rows = rows[rows["start_ns"] >= start_ns]
    return {
        "step": np.arange(len(rows)),
        "start_ns": rows["start_ns"] - start_ns,
        "duration_ns": rows["end_ns"] - rows["start_ns"],
        "prefill_tokens": rows["prefill"],
        "decode_tokens": rows["decode"],
        "running": rows["running"],
        "waiting": rows["waiting"],
        "preempted": rows["preempted"],
        "kv_usage": 1.0 - rows["free"] / usable,
        "free_blocks": rows["free"],
        "gpu_memory_bytes": pa.array(rows["gpu_memory"], pa.int64(), mask=rows["gpu_memory"] < 0),
    }
