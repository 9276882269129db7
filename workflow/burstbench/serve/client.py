"""The load client: sends every request of a plan at its time and records what became of it. (Interface; body follows.)"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from burstbench.prompts.pool import Pool

Int = NDArray[np.int64]
Prompt = Callable[[int, int], NDArray[Any]]


@dataclass(frozen=True)
class Target:
    """The server.

    Attributes:
        url: base of its OpenAI-compatible interface, for example "http://127.0.0.1:8000/v1".
        model: name under which it serves the model.
        api_key: sent as a bearer token, or None.
        headers: further headers of every request.
    """

    url: str
    model: str
    api_key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """How requests are made.

    Attributes:
        run_id: request i carries the header `X-Request-Id: {run_id}-{i}`, i its `request_id` in the plan.
        temperature: of the sampling; None leaves it to the server.
        ignore_eos: ask for exactly max_tokens tokens (an extension of vLLM).
        extra_body: further keys of the request body.
        continuous_usage: ask for the token count with every event (an extension of vLLM), to time every token.
        connect_s: give up a connection that is not made in this time.
        total_s: give up a request after this time. Generous: the server times out; this catches a dead server.
        lag_limit_s: limit of the 99th percentile of sent - intended; checked by `delivery`, not here.
        processes: the plan is split by index over so many processes.
    """

    run_id: str = "run"
    temperature: float | None = None
    ignore_eos: bool = False
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    continuous_usage: bool = True
    connect_s: float = 30.0
    total_s: float = 3600.0
    lag_limit_s: float = 0.01
    processes: int = 1


@dataclass(frozen=True)
class ClientRecords:
    """What became of every planned request, in the order of the plan; arrays of shape (n,).

    Times are int64 ns from the start of the run, -1 where it never happened.

    Attributes:
        request_id: of the plan.
        intended_ns: when it should have been sent.
        sent_ns: when the last byte of the request was given to the kernel.
        first_byte_ns: when the answer's headers came.
        first_token_ns: when the event with the first token came.
        done_ns: when its last event, its failure or its abortion came.
        prompt_tokens, response_tokens: as the server counted them (usage), -1 where it did not say.
        outcome: one of `contracts.OUTCOMES`, shape (n,), object.
        status: HTTP status, -1 without an answer.
        message: why it failed, "" where it did not, shape (n,), object.
        chunk_offsets: shape (n + 1,): request k's events with tokens are chunk_*[offsets[k]:offsets[k + 1]].
        chunk_ns: when each came.
        chunk_tokens: response tokens until and with it by usage, -1 where the server did not say.
        start_monotonic_ns: `time.monotonic_ns()` of time 0.
        partial: whether the run was stopped before every request had ended.
        cpu_s: CPU time of the client's processes during the run.
        wall_s: from time 0 to the end of the last request.
    """

    request_id: Int
    intended_ns: Int
    sent_ns: Int
    first_byte_ns: Int
    first_token_ns: Int
    done_ns: Int
    prompt_tokens: Int
    response_tokens: Int
    outcome: NDArray[np.object_]
    status: Int
    message: NDArray[np.object_]
    chunk_offsets: Int
    chunk_ns: Int
    chunk_tokens: Int
    start_monotonic_ns: int
    partial: bool
    cpu_s: float
    wall_s: float


@dataclass(frozen=True)
class State:
    """What the run shows while it goes: counts of requests, and the lag of the latest sends in seconds."""

    time_s: float
    planned: int
    sent: int
    in_flight: int
    done: int
    failed: int
    lag_s: float


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; the handlers of before come back at the end."""
    raise NotImplementedError
    yield


def run_plan(
    plan: pa.Table,
    prompt: Prompt | Pool,
    target: Target,
    options: Options,
    *,
    stop: threading.Event | None = None,
    progress: Callable[[State], None] | None = None,
) -> ClientRecords:
    """Send every request of a plan at its time, open loop, and record what became of it. Blocks until all have ended.

    Args:
        plan: contract PLAN (needs request_id, send_s, prompt_tokens, prompt_id, max_tokens).
        prompt: the pool, or a function of (prompt_id, n) that returns n token ids.
        target: the server.
        options: how.
        stop: when set, nothing more is sent, what is in flight is aborted, and the records come back partial.
        progress: called about twice a second, on the loop (be quick). `live()` is the usual one.
    """
    raise NotImplementedError


def requests_table(records: ClientRecords) -> dict[str, Any]:
    """Columns of contract REQUESTS: first_scheduled_ns and preemptions are null (the engine knows them, not the client).

    A caller who knows the engine's records replaces these columns.
    """
    raise NotImplementedError
