"""A plan split by index over processes: request k goes to process k mod n, all count from one time 0."""

import multiprocessing
import signal
import threading
import time
from contextlib import suppress
from dataclasses import fields, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from burstbench.prompts.pool import Pool
from burstbench.serve import client
from burstbench.serve.client import ClientError, ClientRecords, Options, Part, Prompt, Report, State, Target

_POLL_S = 0.05


def run_split(
    part: Part,
    prompt: Prompt | Pool,
    target: Target,
    options: Options,
    stop: threading.Event,
    progress: Report | None,
) -> ClientRecords:
    """`client.run_plan` over `options.processes` processes; arguments as there.

    A process that dies leaves its requests aborted, with that message.
    """
    count = options.processes
    source = prompt.path if isinstance(prompt, Pool) else prompt
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    parts = [part[first::count] for first in range(count)]
    ours: list[Connection] = []
    processes = []
    try:
        for own in parts:
            here, there = context.Pipe()
            process = context.Process(target=_child, args=(there, own, source, target, options), daemon=True)
            try:
                process.start()
            except (TypeError, AttributeError) as error:
                raise ClientError(f"prompt: cannot be sent to {count} processes: {error}") from error
            there.close()
            ours.append(here)
            processes.append(process)
        return _gather(part, parts, ours, stop, progress)
    finally:
        for here in ours:
            here.close()  # a child whose pipe closes stops
        for process in processes:
            process.join(10)
            if process.is_alive():
                process.kill()


def _gather(
    part: Part, parts: list[Part], ours: list[Connection], stop: threading.Event, progress: Report | None
) -> ClientRecords:
    ready: dict[int, int] = {}
    states: dict[int, State] = {}
    found: dict[int, ClientRecords] = {}
    tables: dict[str, dict[int, Any]] = {"ready": ready, "state": states, "records": found}
    lost: dict[int, str] = {}
    start = 0
    told = False
    shown = time.monotonic()
    while len(found) + len(lost) < len(ours):
        open_ = [here for number, here in enumerate(ours) if number not in found and number not in lost]
        wait(open_, _POLL_S)
        for here in open_:
            number = ours.index(here)
            try:
                if not here.poll():
                    continue
                kind, value = here.recv()
            except (EOFError, OSError):
                lost[number] = "the client's process died"
                continue
            if kind == "error":
                raise value
            tables[kind][number] = value
        if not start and len(ready) + len(lost) == len(ours) and ready:
            start = max(ready.values()) + 50_000_000
            for number in ready:
                _send(ours[number], ("start", start))
        if stop.is_set() and start and not told:
            told = True
            for here in ours:
                _send(here, ("stop", None))
        if progress and states and time.monotonic() - shown > 0.5:
            shown = time.monotonic()
            progress(_sum(list(states.values())))
    for number, message in lost.items():
        found[number] = _aborted(parts[number], start, message)
    if progress and states:
        progress(_sum(list(states.values())))
    return _merge(part, [found[number] for number in range(len(ours))])


def _send(here: Connection, message: Any) -> None:
    with suppress(OSError):  # it died; the next read says so
        here.send(message)


def _sum(states: list[State]) -> State:
    counts = {
        name: sum(getattr(state, name) for state in states)
        for name in ("planned", "sent", "in_flight", "done", "failed")
    }
    return State(time_s=max(s.time_s for s in states), lag_s=max(s.lag_s for s in states), **counts)


def _child(there: Connection, part: Part, source: Prompt | Path, target: Target, options: Options) -> None:
    """One process: wait for the others, run, send the records."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal signals all processes; the parent decides
    stop = threading.Event()

    def listen() -> None:
        try:
            while there.recv()[0] != "stop":
                pass
        except (EOFError, OSError):
            pass  # the parent is gone
        stop.set()

    def start(ready: int) -> int:
        there.send(("ready", ready))
        time0 = there.recv()[1]
        threading.Thread(target=listen, daemon=True).start()
        return time0

    try:
        prompt = Pool(source) if isinstance(source, Path) else source
        records = client._run_part(
            part, prompt, target, options, start, stop.is_set, lambda state: there.send(("state", state))
        )
        there.send(("records", records))
    except Exception as error:
        with suppress(OSError):  # the parent is gone
            there.send(("error", error))


def _aborted(part: Part, start: int, message: str) -> ClientRecords:
    n = len(part)
    never = np.full(n, -1)
    empty = np.zeros(0, np.int64)
    return ClientRecords(
        request_id=part.request_id,
        intended_ns=part.intended_ns,
        sent_ns=never,
        first_byte_ns=never,
        first_token_ns=never,
        done_ns=never,
        prompt_tokens=never,
        response_tokens=never,
        outcome=np.full(n, "aborted", object),
        status=never,
        message=np.full(n, message, object),
        chunk_offsets=np.zeros(n + 1, np.int64),
        chunk_ns=empty,
        chunk_tokens=empty,
        start_monotonic_ns=start,
        partial=True,
        cpu_s=0.0,
        wall_s=0.0,
    )


def _merge(part: Part, records: list[ClientRecords]) -> ClientRecords:
    """Put the parts back into the order of the plan."""
    n, count = len(part), len(records)
    columns: dict[str, Any] = {}
    for f in fields(ClientRecords):
        values = [getattr(one, f.name) for one in records]
        if not isinstance(values[0], np.ndarray) or f.name.startswith("chunk_"):
            continue
        column = np.empty(n, values[0].dtype)
        for first, value in enumerate(values):
            column[first::count] = value
        columns[f.name] = column
    counts = np.empty(n, np.int64)
    source = np.empty(n, np.int64)  # where each request's events begin in the parts' events, one after the other
    before = 0
    for first, one in enumerate(records):
        counts[first::count] = np.diff(one.chunk_offsets)
        source[first::count] = before + one.chunk_offsets[:-1]
        before += len(one.chunk_ns)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    take = np.arange(before) + np.repeat(source - offsets[:-1], counts)
    return replace(
        records[0],
        **columns,
        chunk_offsets=offsets,
        chunk_ns=np.concatenate([one.chunk_ns for one in records])[take],
        chunk_tokens=np.concatenate([one.chunk_tokens for one in records])[take],
        partial=any(one.partial for one in records),
        cpu_s=sum(one.cpu_s for one in records),
        wall_s=max(one.wall_s for one in records),
    )
