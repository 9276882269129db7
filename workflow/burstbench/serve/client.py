"""The load client: sends every request of a plan at its time, open loop, and records what became of it.

How a request keeps its time. The schedule is known, so everything that can be done before the deadline is: the whole
HTTP message is encoded, and a connection is taken from those kept or made `lead_s` ahead. At the deadline one write is
left, made from the callback of an absolute timer (`serve/timer.py`). Nothing is skipped, re-anchored or held back,
however late the server or this client: a request that is due is written, and how late it was stands in its record.

What is aiohttp's: making connections, name resolution, TLS and the parsing of HTTP answers. Its session layer is left
out: it would build the message at the deadline, and costs more time than all the rest together. So is waiting for an
answer in a task: what came is taken in where it came, in the callback of the connection (`_Line`). A task is made only
for a new connection.
"""

import asyncio
import errno
import gc
import json
import re
import resource
import signal
import sys
import threading
import time
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from typing import Any

import aiohttp
import numpy as np
import pyarrow as pa
import uvloop
from aiohttp.http import HttpResponseParser
from numpy.typing import NDArray
from yarl import URL

from burstbench.errors import UserError
from burstbench.progress import EVERY_S
from burstbench.prompts.pool import Pool
from burstbench.serve.events import Events, MalformedStreamError
from burstbench.serve.timer import Timer

Int = NDArray[np.int64]
Prompt = Callable[[int, int], NDArray[Any] | str]

# uvicorn closes a connection that was idle for 5 s; one that is used later may meet that close half-way and lose a
# request that the server never saw.
KEEP_IDLE_S = 2.0
ENCODED_AHEAD_BYTES = 256 << 20  # messages encoded before the run; those beyond are encoded `lead_s` ahead
READ_BYTES = 1 << 20  # buffered of an answer before reading pauses
MESSAGE_CHARACTERS = 300
OUT_OF_SOCKETS = "the client is out of sockets"  # begins the message of a failure that is not the server's
_FIRST_WAIT_S = 5.0  # for the first connections, before the run
_WARM = 256  # of them at most
_TICK_S = 0.1
_SPIN_NS = 30_000  # the next request is waited for, not slept for, if it is due so soon;
_BUSY_NS = 5_000_000  # what comes is read after so long, whatever is due
_PREPARED_AT_ONCE = 2
_TEXT_BYTES = 1 << 16  # read of an answer that is no stream
_CONNECTION_ERRORS = (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError, TimeoutError)
_TIMEOUT_WORDS = re.compile(r"time[ _-]?(d[ _-])?out|deadline exceeded", re.IGNORECASE)


class ClientError(UserError):
    """The plan, the target or the options cannot make a run."""


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
        total_s: give up a request this long after it was sent. Generous: the server times out; this catches a dead one.
        lead_s: a connection is taken or made this long before it is needed (half of it at least, if time allows).
        lag_limit_s: limit of the 99th percentile of sent - intended, None for none; checked by `delivery`, not here.
        processes: the plan is split by index over so many processes.
    """

    run_id: str = "run"
    temperature: float | None = None
    ignore_eos: bool = False
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    continuous_usage: bool = True
    connect_s: float = 30.0
    total_s: float = 3600.0
    lead_s: float = 0.1
    lag_limit_s: float | None = 0.01
    processes: int = 1


@dataclass(frozen=True)
class ClientRecords:
    """What became of every planned request, in the order of the plan; arrays of shape (n,).

    Times are int64 ns from the start of the run, -1 where it never happened.

    Attributes:
        request_id: of the plan.
        intended_ns: when it should have been sent.
        sent_ns: when its message was written to the connection.
        first_byte_ns: when the answer's headers had come.
        first_token_ns: when the event with the first token came.
        done_ns: when its last token, its failure or its abortion came.
        prompt_tokens, response_tokens: as the server counted them (usage), -1 where it did not say.
        outcome: one of `contracts.OUTCOMES`, shape (n,), object.
        status: HTTP status, -1 without an answer.
        message: why it failed, "" where it did not, shape (n,), object.
        chunk_offsets: shape (n + 1,): request k's events with tokens are chunk_*[offsets[k]:offsets[k + 1]].
        chunk_ns: when each came.
        chunk_tokens: response tokens until and with it by usage, -1 where the server did not say.
        start_monotonic_ns: `time.monotonic_ns()` of time 0.
        partial: whether the run was stopped before every request had ended.
        cpu_s: CPU time of the client's event loops from time 0 on.
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
    """What the run shows while it goes: counts of requests, and the worst lag since the last report in seconds."""

    time_s: float
    planned: int
    sent: int
    in_flight: int
    done: int
    failed: int
    lag_s: float


Report = Callable[[State], None]


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; the handlers of before come back at the end. Main thread only."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def live(title: str, extra: Callable[[], str] = lambda: "") -> Iterator[Report]:
    """Show the run on stderr: one line that renews itself in a terminal, plain lines every few seconds in a log.

    Args:
        title: what runs.
        extra: further text for the line, for example the use of the KV cache.
    """
    terminal = sys.stderr.isatty()
    next_s = 0.0

    def report(state: State) -> None:
        nonlocal next_s
        if not terminal:
            if state.time_s < next_s:
                return
            next_s = state.time_s + EVERY_S
        line = (
            f"{title}: {state.time_s:.0f} s, sent {state.sent:,} of {state.planned:,}, in flight {state.in_flight:,}, "
            f"done {state.done:,}, failed {state.failed:,}, lag {1000 * state.lag_s:.2f} ms"
        )
        line += f", {text}" if (text := extra()) else ""
        print(f"\r\x1b[2K{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)

    try:
        yield report
    finally:
        if terminal:
            print(file=sys.stderr)


def run_plan(
    plan: pa.Table,
    prompt: Prompt | Pool,
    target: Target,
    options: Options,
    *,
    stop: threading.Event | None = None,
    progress: Report | None = None,
) -> ClientRecords:
    """Send every request of a plan at its time, open loop, and record what became of it. Blocks until all have ended.

    Args:
        plan: contract PLAN (needs request_id, send_s, prompt_tokens, prompt_id, max_tokens).
        prompt: the pool, or a function of (prompt_id, n) that returns n token ids or a text of n tokens (to be
            pickled, if processes > 1).
        target: the server.
        options: how.
        stop: when set, nothing more is sent, what is in flight is aborted, and the records come back partial.
        progress: called about twice a second, on the loop (be quick). `live()` is the usual one.

    Raises:
        ClientError: the URL, a header or the options cannot be used.
    """
    stop = stop or threading.Event()
    part = Part.of(plan)
    if options.processes < 1:
        raise ClientError(f"processes: found {options.processes}, expected a whole number from 1")
    _Messages(target, options)  # refuses what cannot be used before any process starts
    if options.processes == 1:
        return _run_part(part, prompt, target, options, lambda ready: ready, stop.is_set, progress)
    from burstbench.serve.split import run_split

    return run_split(part, prompt, target, options, stop, progress)


def requests_table(records: ClientRecords) -> dict[str, Any]:
    """Columns of contract REQUESTS; first_scheduled_ns and preemptions are null: the engine knows them.

    A caller who knows the engine's records replaces these columns.
    """
    n = len(records.request_id)
    return {
        "request_id": records.request_id,
        "intended_ns": records.intended_ns,
        "sent_ns": _happened(records.sent_ns),
        "first_scheduled_ns": pa.nulls(n, pa.int64()),
        "first_token_ns": _happened(records.first_token_ns),
        "done_ns": _happened(records.done_ns),
        "prompt_tokens": _happened(records.prompt_tokens),
        "response_tokens": np.maximum(records.response_tokens, 0),
        "preemptions": pa.nulls(n, pa.int64()),
        "outcome": pa.array(records.outcome, pa.string()),
    }


def _happened(values: Int) -> pa.Array:
    """An Arrow array in which -1 is missing."""
    return pa.array(values, pa.int64(), mask=values < 0)


def client_table(records: ClientRecords) -> dict[str, Any]:
    """Columns of contract CLIENT."""
    offsets = pa.array(records.chunk_offsets, pa.int32())
    return {
        "request_id": records.request_id,
        "first_byte_ns": _happened(records.first_byte_ns),
        "status": _happened(records.status),
        "message": pa.array(records.message, pa.string()),
        "chunk_ns": pa.ListArray.from_arrays(offsets, pa.array(records.chunk_ns)),
        "chunk_tokens": pa.ListArray.from_arrays(offsets, pa.array(records.chunk_tokens)),
    }


@dataclass(frozen=True)
class Part:
    """What a client process needs of a plan: arrays of shape (n,), ascending by intended_ns."""

    request_id: Int
    intended_ns: Int
    prompt_tokens: Int
    prompt_id: Int
    max_tokens: Int

    @classmethod
    def of(cls, plan: pa.Table) -> "Part":
        """Take it from a table of contract PLAN."""
        column = {
            name: plan.column(name).to_numpy() for name in ("request_id", "prompt_tokens", "prompt_id", "max_tokens")
        }
        return cls(intended_ns=np.rint(plan.column("send_s").to_numpy() * 1e9).astype(np.int64), **column)

    def __len__(self) -> int:
        return len(self.request_id)

    def __getitem__(self, which: slice) -> "Part":
        return Part(**{f.name: getattr(self, f.name)[which] for f in fields(self)})


class _Messages:
    """Encodes whole HTTP messages."""

    def __init__(self, target: Target, options: Options) -> None:
        self.url = URL(target.url.rstrip("/") + "/completions")
        if self.url.scheme not in {"http", "https"} or not self.url.host:
            raise ClientError(f"url: found {target.url!r}, expected http://host:port/v1 or https://...")
        headers = {
            "Host": self.url.host_port_subcomponent or "",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": "burstbench",
            **({"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}),
            **target.headers,
            "X-Request-Id": options.run_id,
        }
        for name, value in headers.items():
            if re.search(r"[^\x21-\x7e]|:", name) or re.search(r"[^\x20-\x7e]", value):
                shown = "(hidden)" if name == "Authorization" else repr(value)
                raise ClientError(f"header {name!r}: found {shown}, expected printable ASCII on one line")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._head = f"POST {self.url.raw_path_qs} HTTP/1.1\r\n{lines[:-2]}"
        body: dict[str, Any] = {"model": target.model, "stream": True, "stream_options": {"include_usage": True}}
        if options.continuous_usage:
            body["stream_options"]["continuous_usage_stats"] = True
        if options.temperature is not None:
            body["temperature"] = options.temperature
        if options.ignore_eos:
            body["ignore_eos"] = True
        for key, value in options.extra_body.items():
            if key in {*body, "prompt", "max_tokens"}:
                raise ClientError(f"extra_body: found key {key!r}, which the client sets itself")
            body[key] = value
        self._body = json.dumps(body)[:-1]

    def encode(self, request_id: int, max_tokens: int, ids: NDArray[Any] | str) -> bytes:
        """The message of one request, head and body; its prompt as token ids or as text."""
        prompt = json.dumps(ids) if isinstance(ids, str) else str(ids.tolist()).replace(" ", "")
        body = f'{self._body}, "max_tokens": {max_tokens}, "prompt": {prompt}}}'
        return f"{self._head}-{request_id}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode("ascii")


class _FailureError(Exception):
    """How a request ended that was not answered."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome, self.message = outcome, message


class _Line(asyncio.Protocol):
    """A connection that aiohttp made, with aiohttp's parser of answers; tells at once when something came.

    It takes the place of aiohttp's own protocol, which wakes a task for each piece of an answer and paces the reading:
    here each piece is taken in whole before the next is read.

    Attributes:
        exchange: the request that it serves, or None.
        answer: head and payload of its answer, once they came.
        error: why it ended or cannot be understood, or None.
        idle_ns: since when it is kept (monotonic).
    """

    __slots__ = (
        "answer",
        "came",
        "connection",
        "error",
        "exchange",
        "handler",
        "idle_ns",
        "last",
        "parser",
        "transport",
    )

    def __init__(self, connection: Any, came: "Callable[[_Exchange], None]", loop: asyncio.AbstractEventLoop) -> None:
        self.connection, self.came = connection, came
        self.handler, self.transport = connection.protocol, connection.transport
        self.exchange: _Exchange | None = None
        self.answer: tuple[Any, aiohttp.StreamReader] | None = None
        self.error: Exception | None = None
        self.last = False  # whether it cannot serve once more
        self.idle_ns = 0
        host: Any = self  # of the parser, which asks it to pause and to go on
        self.parser = HttpResponseParser(
            host, loop, READ_BYTES, payload_exception=aiohttp.ClientPayloadError,
            read_until_eof=True, auto_decompress=False,
        )  # fmt: skip
        # Written at once when the kernel takes it, not at the end of the loop's turn.
        self.transport.set_write_buffer_limits(0)
        self.transport.set_protocol(self)

    @property
    def usable(self) -> bool:
        """Whether it is open, and nothing came that was not asked for."""
        return not self.last and self.error is None and not self.transport.is_closing()

    def serve(self, exchange: "_Exchange") -> None:
        """The next answer is to this request."""
        self.answer, self.exchange = None, exchange

    def close(self) -> None:
        """Close it, and tell nobody."""
        self.exchange = None
        self.connection.close()

    def data_received(self, data: bytes) -> None:
        """Of the transport."""
        try:
            for head, payload in self.parser.feed_data(data)[0]:
                if head.code < 200 and head.code != 101:
                    continue
                self.last = self.last or head.should_close or self.exchange is None or self.answer is not None
                self.answer = self.answer or (head, payload)
        except Exception as error:
            self.error = error
        exchange = self.exchange
        if exchange is not None:
            self.came(exchange)

    def connection_lost(self, error: Exception | None) -> None:
        """Of the transport."""
        found: Exception = aiohttp.ServerDisconnectedError()
        if isinstance(error, OSError):
            found = aiohttp.ClientOSError(*error.args)
        try:
            self.parser.feed_eof()
        except Exception as cut:
            found = aiohttp.ClientPayloadError(f"the answer is not complete: {cut!r}; {found!r}")
        self.error = self.error or found
        self.handler.connection_lost(error)
        if self.exchange is not None:
            self.came(self.exchange)

    def pause_reading(self) -> None:
        """Of the parser's protocol: not needed, as all that came is taken in before more is read."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Of the parser's protocol."""


class _Exchange:
    """One request between its preparation and its end.

    Attributes:
        index: in the plan.
        line: its connection, or None.
        task: makes its connection, or None.
        due: whether its time has come.
        payload: of the answer, once its head has come.
        refused: why the answer is no stream, given its text.
        whole: whether the answer was read to its end, so that the connection serves again.
        events, response_tokens, last_ns, finished: of the stream.
        prompt_counted, response_counted: by the server's last usage, -1 without one.
    """

    __slots__ = (
        "due", "events", "finished", "index", "last_ns", "line", "payload", "prompt_counted", "refused",
        "response_counted", "response_tokens", "task", "whole",
    )  # fmt: skip

    def __init__(self, index: int) -> None:
        self.index = index
        self.line: _Line | None = None
        self.task: asyncio.Task[None] | None = None
        self.due = self.whole = self.finished = False
        self.payload: aiohttp.StreamReader | None = None
        self.refused: Callable[[str], _FailureError] | None = None
        self.events = Events()
        self.response_tokens = 0
        self.prompt_counted = self.response_counted = -1
        self.last_ns = 0


def _run_part(
    part: Part,
    prompt: Prompt | Pool,
    target: Target,
    options: Options,
    start: Callable[[int], int],
    stop: Callable[[], bool],
    progress: Report | None,
) -> ClientRecords:
    """Run a part of a plan in this process.

    Args:
        part: of the plan.
        prompt: as `run_plan`.
        target: as `run_plan`.
        options: as `run_plan`.
        start: is told from which time on (monotonic ns) this part could start, and returns the time 0 of all parts.
        stop: whether to stop.
        progress: as `run_plan`.
    """
    raise_open_files()
    loop = uvloop.new_event_loop()
    try:
        client = _Client(part, prompt, target, options, loop)
        return loop.run_until_complete(client.run(start, stop, progress))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def raise_open_files() -> None:
    """Let this process hold as many sockets as the system allows: each request in flight has one, and none may wait."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Route(aiohttp.ClientRequest):
    """Says only where to connect to; the same for all requests, so its key is made once."""

    @cached_property
    def connection_key(self) -> Any:
        return super().connection_key


class _Client:
    """One event loop's share of a run."""

    def __init__(
        self, part: Part, prompt: Prompt | Pool, target: Target, options: Options, loop: asyncio.AbstractEventLoop
    ) -> None:
        n = len(part)
        self.part, self.options, self.loop = part, options, loop
        self.tokens = prompt.tokens if isinstance(prompt, Pool) else prompt
        self.messages = _Messages(target, options)
        self.encoded: list[bytes | None] = [None] * n
        size = 0
        for index in range(n):
            message = self._encode(index)
            size += len(message)
            if size > ENCODED_AHEAD_BYTES:
                break
            self.encoded[index] = message
        self.intended: list[int] = part.intended_ns.tolist()
        # Arrays of the standard library: a number is written to them faster than to NumPy's.
        self.sent, self.first_byte, self.first_token, self.done = (array("q", [-1]) * n for _ in range(4))
        self.prompt_tokens, self.response_tokens, self.status = (array("q", [-1]) * n for _ in range(3))
        self.outcome: list[str | None] = [None] * n
        self.message = [""] * n
        self.chunk_index, self.chunk_ns, self.chunk_tokens = array("q"), array("q"), array("q")
        self.prepared = 0  # how many have been prepared,
        self.due = 0  # and how many were due
        self.started: dict[int, _Exchange] = {}  # those not ended, in the order of the plan
        self.idle: deque[_Line] = deque()  # kept connections, the one that ended last at the right
        self.count_sent = self.ended = self.failed = 0
        self.worst_lag = 0
        self.error: Exception | None = None  # that ends the run: no request's failure, but this program's
        self.t0 = 0
        self.lead = round(options.lead_s * 1e9)
        self.timeout = _limit(options.connect_s)
        self.scan = json.JSONDecoder().raw_decode

    async def run(
        self, start: Callable[[int], int], stop: Callable[[], bool], progress: Report | None
    ) -> ClientRecords:
        """Run it all."""
        self.connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=None, enable_cleanup_closed=False)
        self.route = _Route("POST", self.messages.url, loop=self.loop)
        timer = self.timer = Timer(self.loop, self._on_time)
        aborted = False
        try:
            await self._first_connections()
            gc.collect()
            gc.freeze()  # what lives now is not looked at again by a collection during the run
            first = self.intended[0] if self.intended else 0
            ready = time.monotonic_ns() + max(self.lead - first, 0) + 20_000_000
            self.t0 = await self.loop.run_in_executor(None, start, ready)
            cpu = time.thread_time()
            self._arm()
            tick = 0
            while self.ended < len(self.part):
                await asyncio.sleep(_TICK_S)
                tick += 1
                if self.error:
                    raise self.error
                if stop():
                    aborted = True
                    await self._abort()
                    break
                self._drop_idle()
                if tick % 5 == 0:
                    self._give_up()
                    if progress:
                        progress(self._state())
            cpu = time.thread_time() - cpu
            if progress:
                progress(self._state())
        finally:
            if self.ended < len(self.part):  # an error, for example of `progress`
                await self._abort()
            timer.close()
            gc.unfreeze()
            while self.idle:
                self.idle.pop().close()
            await self.connector.close()
            await asyncio.sleep(0)  # transports close on the next turn of the loop
        return self._records(aborted, cpu)

    async def _first_connections(self) -> None:
        """Make one connection, which resolves the name and loads what is loaded late, then those needed at once."""
        limit = _limit(min(self.options.connect_s, _FIRST_WAIT_S))
        soon = bisect_right(self.intended, 2 * self.lead)

        async def make() -> None:
            connection = await self.connector.connect(self.route, [], limit)
            if connection.closed:
                connection.close()
            else:
                self._keep(_Line(connection, self._came, self.loop))

        with suppress(*_CONNECTION_ERRORS):  # each request finds out for itself
            await make()
            await asyncio.gather(*(make() for _ in range(min(soon, _WARM) - 1)), return_exceptions=True)

    # the schedule

    def _arm(self) -> None:
        """Set the timer for the next request that is due, or to prepare one that nothing due comes before in time."""
        n = len(self.intended)
        if self.due == n:
            self.timer.off()
            return
        wanted = self.intended[self.due]
        if self.prepared < n:
            wanted = min(wanted, self.intended[self.prepared] - self.lead // 2)
        self.timer.at(self.t0 + wanted)

    def _on_time(self) -> None:
        try:
            self._send_and_prepare()
        except Exception as error:
            self.error = error
            self.timer.off()

    def _send_and_prepare(self) -> None:
        """Write what is due, then prepare some of what will be."""
        now = time.monotonic_ns() - self.t0
        n = len(self.intended)
        latest = now + _BUSY_NS
        while self.due < n and self.intended[self.due] <= now + _SPIN_NS and now <= latest:
            # To sleep so little would cost more than to wait, and end later.
            while now < self.intended[self.due]:
                now = time.monotonic_ns() - self.t0
            if self.due == self.prepared:
                self._prepare()
            exchange = self.started.get(self.due)
            self.due += 1
            if exchange is None:  # this program's own error ended it
                continue
            exchange.due = True
            if exchange.line is not None and exchange.line.usable:
                self._write(exchange, exchange.line)
            elif exchange.task is None:  # its connection was lost, or could not be made
                self._connect(exchange)
            # Else its connection is still being made: its task writes as soon as there is one.
            now = time.monotonic_ns() - self.t0
        # Few at a time, so that the preparation of a burst never holds up what is due.
        for _ in range(_PREPARED_AT_ONCE):
            if self.prepared < n and self.intended[self.prepared] <= now + self.lead:
                self._prepare()
        self._arm()

    def _prepare(self) -> None:
        index = self.prepared
        self.prepared += 1
        exchange = self.started[index] = _Exchange(index)
        if self.encoded[index] is None:
            self.encoded[index] = self._encode(index)
        self._connect(exchange)

    def _encode(self, index: int) -> bytes:
        part = self.part
        ids = self.tokens(int(part.prompt_id[index]), int(part.prompt_tokens[index]))
        return self.messages.encode(int(part.request_id[index]), int(part.max_tokens[index]), ids)

    def _write(self, exchange: _Exchange, line: _Line) -> None:
        index = exchange.index
        message = self.encoded[index]
        assert message is not None
        self.encoded[index] = None
        line.transport.write(message)
        now = time.monotonic_ns() - self.t0
        self.sent[index] = now
        self.count_sent += 1
        lag = now - self.intended[index]
        if lag > self.worst_lag:
            self.worst_lag = lag

    # connections

    def _connect(self, exchange: _Exchange) -> None:
        """Give a request a connection that is kept, or begin to make one; write it if it is due and has one."""
        if exchange.line is not None:
            exchange.line.close()
            exchange.line = None
        self._drop_idle()
        while self.idle:
            line = self.idle.pop()
            if line.usable:
                self._give(exchange, line)
                return
            line.close()
        exchange.task = self.loop.create_task(self._make_connection(exchange))

    def _give(self, exchange: _Exchange, line: _Line) -> None:
        line.serve(exchange)
        exchange.line = line
        if exchange.due:
            self._write(exchange, line)

    async def _make_connection(self, exchange: _Exchange) -> None:
        try:
            ahead = not exchange.due
            try:
                connection = await self.connector.connect(self.route, [], self.timeout)
            except _CONNECTION_ERRORS:
                # Ahead of time; what counts is whether the server can be reached when the request is due.
                if not ahead:
                    raise
                if not exchange.due:
                    exchange.task = None
                    return
                connection = await self.connector.connect(self.route, [], self.timeout)
            exchange.task = None
            if connection.closed:
                connection.close()
                if exchange.due:
                    raise _FailureError("connection", "the connection was closed as soon as it was made")
                return
            self._give(exchange, _Line(connection, self._came, self.loop))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            exchange.task = None
            self._fail(exchange, error)

    def _keep(self, line: _Line) -> None:
        line.exchange = None
        line.idle_ns = time.monotonic_ns()
        self.idle.append(line)

    def _drop_idle(self) -> None:
        """Close connections that were kept for long."""
        if not self.idle:
            return
        oldest = time.monotonic_ns() - round(KEEP_IDLE_S * 1e9)
        while self.idle and self.idle[0].idle_ns < oldest:
            self.idle.popleft().close()

    # the answer

    def _came(self, exchange: _Exchange) -> None:
        """Take in what came on a request's connection, its loss included."""
        now = time.monotonic_ns() - self.t0
        try:
            payload = exchange.payload or self._begin(exchange, now)
            if payload is None:
                return
            piece = payload.read_nowait()
            if exchange.refused is not None and (piece or payload.is_eof()):
                exchange.whole = payload.at_eof()
                raise exchange.refused(piece[:_TEXT_BYTES].decode("utf-8", "replace"))
            if piece:
                self._events(exchange, piece, now)
            if payload.is_eof():
                self._complete(exchange, now)
            elif exchange.line.error is not None:  # type: ignore[union-attr]
                raise exchange.line.error  # type: ignore[union-attr]
        except Exception as error:
            self._fail(exchange, error)

    def _begin(self, exchange: _Exchange, now: int) -> aiohttp.StreamReader | None:
        """Take in the head of an answer, if it has come."""
        index, line = exchange.index, exchange.line
        assert line is not None
        if self.sent[index] < 0:  # lost before its time, or something came that was not asked for
            line.close()
            exchange.line = None
            return None
        if line.answer is None:
            if line.error is not None:
                raise line.error
            return None
        head, exchange.payload = line.answer
        self.first_byte[index] = now
        self.status[index] = head.code
        kind = head.headers.get("Content-Type", "")
        if head.code != 200:
            exchange.refused = partial(_refused, head.code, head.reason)
        elif not kind.startswith("text/event-stream"):
            exchange.refused = partial(_no_stream, f"Content-Type {kind!r}, expected text/event-stream")
        elif head.compression:
            exchange.refused = partial(_no_stream, f"Content-Encoding {head.compression!r}, expected none")
        return exchange.payload

    def _complete(self, exchange: _Exchange, now: int) -> None:
        """End a request whose answer has ended."""
        if not exchange.finished or exchange.events.rest:
            raise MalformedStreamError("bytes after [DONE]" if exchange.finished else "the stream ended without [DONE]")
        if exchange.response_counted < 0:
            raise MalformedStreamError("the server never told the usage: its tokens cannot be counted")
        self.done[exchange.index] = exchange.last_ns or now
        exchange.whole = True
        self._end(exchange, "ok", "")

    def _events(self, exchange: _Exchange, piece: bytes, now: int) -> None:
        """Take in a piece of a stream that came at `now` [ns]: count the tokens that its events tell."""
        for data in exchange.events.feed(piece):
            if exchange.finished:
                raise MalformedStreamError(f"an event after [DONE]: {_cut(data)}")
            if data == b"[DONE]":
                exchange.finished = True
                continue
            usual = _USUAL_EVENT(data)
            if usual is not None:
                chosen, asked, count = usual.groups()
                said, asked, count = True, int(asked), int(count)
            else:
                chosen, said, asked, count = self._event(exchange, data)
            if asked is not None:
                if count < exchange.response_tokens or asked < 0:
                    raise MalformedStreamError(_shape(data))
                if exchange.prompt_counted < 0:
                    exchange.prompt_counted = asked
                exchange.response_counted = count
                said = count > exchange.response_tokens
            if not chosen:
                continue
            exchange.last_ns = now
            if said:
                if not exchange.response_tokens:
                    self.first_token[exchange.index] = now
                exchange.response_tokens = count if count > 0 else 1
                self.chunk_index.append(exchange.index)
                self.chunk_ns.append(now)
                self.chunk_tokens.append(count)

    def _event(self, exchange: _Exchange, data: bytes) -> tuple[bool, bool, int | None, int]:
        """Parse an event.

        Returns:
            Whether it holds a choice; whether that has a text; tokens of the prompt and of the response so far by
            usage, None and -1 without one.
        """
        try:
            text = data.decode()
            value, end = self.scan(text)
            if end != len(text) and text[end:].strip():
                raise ValueError("something after the value")
            choices, usage = value.get("choices"), value.get("usage")
        except (ValueError, AttributeError, RecursionError) as error:
            raise MalformedStreamError(f"an event is not a JSON object ({error}): {_cut(data)}") from None
        if choices is None and usage is None:
            raise _error(value, exchange.response_tokens > 0) or MalformedStreamError(
                f"an event has neither choices nor usage nor error: {_cut(data)}"
            )
        try:
            asked, count = (usage["prompt_tokens"], usage["completion_tokens"]) if usage else (None, -1)
            said = bool(choices and choices[0].get("text"))
            if usage and not (type(asked) is int and type(count) is int):
                raise TypeError
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise MalformedStreamError(_shape(data)) from None
        return bool(choices), said, asked, count

    # the end

    def _fail(self, exchange: _Exchange, error: Exception) -> None:
        """End a request for what was raised."""
        if isinstance(error, _FailureError):
            self._end(exchange, error.outcome, error.message)
        elif isinstance(error, MalformedStreamError):
            self._end(exchange, "malformed", str(error))
        elif isinstance(error, _CONNECTION_ERRORS):
            bad = isinstance(error, aiohttp.http_exceptions.HttpProcessingError)
            message = f"the answer is not HTTP: {error}" if bad else f"{type(error).__name__}: {error}"
            if getattr(error, "errno", None) in {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL}:
                message = f"{OUT_OF_SOCKETS}: {message}"
            self._end(exchange, "malformed" if bad else "connection", message)
        else:
            self.error = error
            self._end(exchange, "aborted", f"{type(error).__name__}: {error}")

    def _end(self, exchange: _Exchange, outcome: str, message: str) -> None:
        """End a request that has begun."""
        index, line = exchange.index, exchange.line
        if exchange.task is not None:
            exchange.task.cancel()
        if line is not None:
            exchange.line = None
            if exchange.whole and line.usable:
                self._keep(line)
            else:
                line.close()
        self.prompt_tokens[index], self.response_tokens[index] = exchange.prompt_counted, exchange.response_counted
        del self.started[index]
        self._record(index, outcome, message)

    def _record(self, index: int, outcome: str, message: str) -> None:
        if self.outcome[index] is not None:
            raise RuntimeError(f"request {self.part.request_id[index]} ended twice")
        self.outcome[index] = outcome
        if message:
            self.message[index] = message[:MESSAGE_CHARACTERS]
        if self.done[index] < 0 and (outcome != "aborted" or self.sent[index] >= 0):
            self.done[index] = time.monotonic_ns() - self.t0
        self.ended += 1
        self.failed += outcome != "ok"
        self.encoded[index] = None

    def _give_up(self) -> None:
        """End requests that a dead server never answers."""
        oldest = time.monotonic_ns() - self.t0 - round(self.options.total_s * 1e9)
        for exchange in list(self.started.values()):
            if 0 <= self.sent[exchange.index] <= oldest:
                self._end(exchange, "connection", f"no end after {self.options.total_s:g} s, the client's own limit")

    async def _abort(self) -> None:
        """End all that has not ended."""
        self.timer.off()  # nothing more is due
        self.due = self.prepared = len(self.intended)
        making = [exchange.task for exchange in self.started.values() if exchange.task]
        for exchange in list(self.started.values()):
            self._end(exchange, "aborted", "the run was stopped")
        await asyncio.gather(*making, return_exceptions=True)
        for index, outcome in enumerate(self.outcome):
            if outcome is None:
                self._record(index, "aborted", "the run was stopped before it was sent")

    def _state(self) -> State:
        lag, self.worst_lag = self.worst_lag / 1e9, 0
        return State(
            (time.monotonic_ns() - self.t0) / 1e9,
            len(self.part),
            self.count_sent,
            self.count_sent - self.ended if self.count_sent > self.ended else 0,
            self.ended - self.failed,
            self.failed,
            lag,
        )

    def _records(self, aborted: bool, cpu_s: float) -> ClientRecords:
        # Tokens were stored as they came; they go back in the order of the plan.
        owner = _numbers(self.chunk_index)
        order = np.argsort(owner, kind="stable")
        done = _numbers(self.done)
        return ClientRecords(
            request_id=self.part.request_id,
            intended_ns=self.part.intended_ns,
            sent_ns=_numbers(self.sent),
            first_byte_ns=_numbers(self.first_byte),
            first_token_ns=_numbers(self.first_token),
            done_ns=done,
            prompt_tokens=_numbers(self.prompt_tokens),
            response_tokens=_numbers(self.response_tokens),
            outcome=np.array(self.outcome, object),
            status=_numbers(self.status),
            message=np.array(self.message, object),
            chunk_offsets=np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(self.part)))]),
            chunk_ns=_numbers(self.chunk_ns)[order],
            chunk_tokens=_numbers(self.chunk_tokens)[order],
            start_monotonic_ns=self.t0,
            partial=aborted and "aborted" in self.outcome,
            cpu_s=cpu_s,
            wall_s=max(int(done.max(initial=0)), 0) / 1e9,
        )


def _numbers(values: "array[int]") -> Int:
    return np.frombuffer(values, np.int64)


def _limit(connect_s: float) -> aiohttp.ClientTimeout:
    # Not rounded up to whole seconds (`ceil_threshold`).
    return aiohttp.ClientTimeout(total=None, connect=connect_s, ceil_threshold=1e9)


def _refused(code: int, reason: str, text: str) -> _FailureError:
    """The outcome of an answer that is not 200."""
    outcome = {408: "timeout", 504: "timeout", 429: "rejected", 503: "rejected"}.get(code, "server_error")
    return _FailureError(outcome, f"{code} {reason}: {_message(text)}")


def _message(text: str) -> str:
    """What an OpenAI-compatible error says, or the text as it is."""
    try:
        value = json.loads(text)
        error = value.get("error", value)
        return str(error.get("message", text) if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        return text.strip()


def _no_stream(why: str, text: str) -> _FailureError:
    """The outcome of a 200 that is no stream of events."""
    return _error_in(text) or _FailureError("malformed", f"{why}: {text}")


def _error_in(text: str) -> _FailureError | None:
    try:
        return _error(json.loads(text), False)
    except (ValueError, AttributeError, RecursionError):
        return None


def _error(value: dict[str, Any], begun: bool) -> _FailureError | None:
    """The failure that an event of a 200 tells, if it does.

    A timeout says so. Any other before the first token is a rejection at admission (vLLM with --max-num-queued-reqs
    answers so), after it a failure of the server.
    """
    error = value.get("error") or (value if value.get("object") == "error" else None)
    if not error:
        return None
    said = error if isinstance(error, dict) else {"message": error}
    message = str(said.get("message", said))
    code = said.get("code")
    if code in {408, 504, "408", "504"} or _TIMEOUT_WORDS.search(f"{message} {said.get('type')} {code}"):
        return _FailureError("timeout", f"error event: {message}")
    return _FailureError("server_error" if begun else "rejected", f"error event: {message}")


def _shape(data: bytes) -> str:
    return f"choices or usage are not as they should be: {_cut(data)}"


def _usual_event() -> Callable[[bytes], re.Match[bytes] | None]:
    """Match whole events of the usual shape, that need no parsing: plain values, at most one choice, and a usage.

    Strict JSON of ASCII without nesting; whatever else there may be, errors among it, goes to the parser. Groups: the
    choice, its prompt's and its response's tokens.
    """
    plain = rb"[\x20\x21\x23-\x5b\x5d-\x7e]*+"
    string = rb'"%b(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})%b)*+"' % (plain, plain)
    number = rb"(?:0|[1-9][0-9]{0,17}+)"
    name = rb'"(?!(?:choices|usage|error|object)")[a-z_]++"'
    value = rb"(?:null|true|false|%b|%b)" % (number, string)
    member = rb"%b: ?%b" % (name, value)
    object_ = rb'(?:"object": ?"(?!error")[a-z_.]+"|%b)' % member
    members = rb"%b(?:, ?%b)*+" % (member, member)
    usage = rb'"prompt_tokens": ?(%b), ?"total_tokens": ?%b, ?"completion_tokens": ?(%b)(?:, ?%b)*+' % (
        number, number, number, member
    )  # fmt: skip
    return re.compile(
        rb'\{(?:%b, ?)*+"choices": ?\[(\{%b\})?\], ?(?:%b, ?)*+"usage": ?\{%b\}(?:, ?%b)*+\}'
        % (object_, members, object_, usage, object_)
    ).fullmatch


_USUAL_EVENT = _usual_event()


def _cut(data: bytes) -> str:
    return repr(data[:80])
