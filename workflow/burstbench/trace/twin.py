"""trace twin: a statistical twin of BurstGPT, made from published numbers only.

The twin holds no row of the data set. It is generated top-down: the published totals by service and model; the
published calendar of days; the published spread of each hour over the days; 20-minute windows with Gamma gaps; whole
seconds; lengths from the published moments, quartiles and curves; failures at the published rates. What nobody
published is an assumption, named as such (`arrivals.ASSUMPTIONS`, `tokens`). No assumption is set so that a claim of
the paper holds; where one that the paper states settles a free number, it is said there (`tokens.failure_totals`).
`trace check` says how close the twin comes.
"""

import argparse
import functools
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from burstbench.cli import add_settings
from burstbench.contracts import TRACE, TRACE_WINDOW
from burstbench.errors import UserError
from burstbench.seeds import generator
from burstbench.trace.arrivals import (
    DAY_S,
    HOUR_S,
    WINDOW_S,
    Bools,
    Ints,
    arrival_times,
    cell_totals,
    covered,
    daily_requests,
    drawn_hours,
    hourly_requests,
    silent_nights,
    whole_numbers,
)
from burstbench.trace.published import STREAMS, Floats, Published, Stream, read_published
from burstbench.trace.tokens import (
    conversation_requests,
    conversation_responses,
    deal_lengths,
    failure_totals,
    hour_sums,
    remaining_lengths,
)
from burstbench.trace.window import Window, select, warn

LEAST_ROWS = 1000


def make_twin(published: Published, rows: int, days: int, start: date, seed: int) -> pa.Table:
    """Make the twin.

    Args:
        published: the published tables.
        rows: requests; the published trace has 1,429,737. Other sizes keep the shape: every count is scaled.
        days: length of the calendar; the published trace has 61.
        start: local date of time 0; days outside of the published calendar copy one of the same weekday.
        seed: root seed. Same arguments, same table.

    Returns:
        A table after `contracts.TRACE`, with whole-second times.

    Raises:
        UserError: fewer than 1000 rows, or less than one day.
        PublishedError: the published tables contradict each other.
    """
    if rows < LEAST_ROWS:
        raise UserError(f"twin: rows: found {rows}, expected at least {LEAST_ROWS}")
    if days < 1:
        raise UserError(f"twin: days: found {days}, expected at least 1")
    full = cell_totals(published)
    totals = dict(zip(STREAMS, _scaled(list(full.values()), rows), strict=True))
    # Requests of the twin per published request of the same stretch of time.
    scale = (rows / days) / (published.value("requests", "all") / published.value("period", "days"))
    workdays = np.array([(start + timedelta(i)).weekday() < 5 for i in range(days)])
    silences = silent_nights(days, published.count("gaps", "max"), generator(seed, "twin", "silence"))
    starts = np.arange(days * 24) * HOUR_S
    closed = covered(starts, HOUR_S, silences).reshape(days, 24)
    edges = _windows(published, days, silences)
    calendar = daily_requests(published, full, start, days, generator(seed, "twin", "days"))

    times, hourly = {}, {}
    for stream in STREAMS:
        daily = whole_numbers(calendar[stream][None, :], np.array([totals[stream]]))[0]
        rng = generator(seed, "twin", "hours", *stream)
        draw = functools.partial(hourly_requests, published, stream, daily, workdays, closed, scale, rng)
        wanted = published.boxes["hourly_request_count", *stream][:, 2] * scale
        hourly[stream] = drawn_hours(wanted, workdays, draw)
        times[stream] = arrival_times(hourly[stream], stream[0], edges, generator(seed, "twin", "windows", *stream))
    moments = np.concatenate([times[stream] for stream in STREAMS])
    order = np.argsort(moments, kind="stable")
    stream_of = np.repeat(np.arange(len(STREAMS), dtype=np.int8), [len(times[stream]) for stream in STREAMS])[order]
    time_s = _whole_seconds(moments[order], edges, silences)

    failed, counted = _failures(published, totals, full, stream_of, generator(seed, "twin", "failures"))
    request, response = _lengths(published, stream_of, time_s, failed, counted, hourly, workdays, scale, seed)
    names = np.array([service for service, _ in STREAMS]), np.array([model for _, model in STREAMS])
    indices = pa.array(stream_of)
    return pa.table(
        {
            "time_s": pa.array(time_s, pa.float64()),
            "service": pa.DictionaryArray.from_arrays(indices, pa.array(names[0])).cast(pa.string()),
            "model": pa.DictionaryArray.from_arrays(indices, pa.array(names[1])).cast(pa.string()),
            "request_tokens": pa.array(request),
            "response_tokens": pa.array(response),
            "failed": pa.array(failed),
            "session_id": pa.nulls(rows, pa.string()),
            "elapsed_s": pa.nulls(rows, pa.float64()),
        },
        schema=TRACE.schema,
    )


def _scaled(counts: list[int], total: int) -> list[int]:
    return [int(n) for n in whole_numbers(np.array([counts], float), np.array([total]))[0]]


def _windows(published: Published, days: int, silences: Floats) -> Floats:
    """Return first and last moment of each 20-minute window, without what is silent; shape (windows, 2), s."""
    starts = np.arange(days * DAY_S // WINDOW_S, dtype=float) * WINDOW_S
    edges = np.stack([starts, starts + WINDOW_S], axis=1)
    edges[covered(starts, WINDOW_S, silences), 1] = edges[covered(starts, WINDOW_S, silences), 0]
    for _, end in silences:  # a silence begins with a window; the window that it ends in is shorter
        edges[int(end // WINDOW_S), 0] = end
    edges[0, 0] = published.value("period", "first timestamp")
    edges[-1, 1] -= published.value("period", "days") * DAY_S - 1 - published.value("period", "last timestamp")
    return edges


def _whole_seconds(times: Floats, edges: Floats, silences: Floats) -> Ints:
    """Cut times to whole seconds; the rows at the trace's ends and around silences stand at the very ends."""
    seconds = np.floor(times).astype(np.int64)
    for begin, end in silences:
        after = int(np.searchsorted(times, end))
        if 0 < after < len(seconds):
            seconds[after - 1], seconds[after] = begin, end
    seconds[0], seconds[-1] = int(edges[0, 0]), int(edges[-1, 1]) - 1
    return seconds


def _failures(
    published: Published, totals: dict[Stream, int], full: dict[Stream, int], stream_of: Any, rng: np.random.Generator
) -> tuple[Bools, Bools]:
    """Choose the failed requests of each service and model at random, and the few of them that have request tokens."""
    rate = {stream: n / full[stream] for stream, n in failure_totals(published, full).items()}
    failed = np.zeros(len(stream_of), bool)
    for index, stream in enumerate(STREAMS):
        rows = np.flatnonzero(stream_of == index)
        failed[rng.choice(rows, round(rate[stream] * totals[stream]), replace=False)] = True
    # All requests of 0 tokens failed; the other way round a few failures have request tokens.
    known_share = 1 - published.value("request tokens", "rows of 0") / published.value("failures", "all")
    rows = np.flatnonzero(failed)
    counted = ~failed
    counted[rng.choice(rows, round(known_share * len(rows)), replace=False)] = True
    return failed, counted


def _lengths(
    published: Published,
    stream_of: Any,
    time_s: Ints,
    failed: Bools,
    counted: Bools,
    hourly: dict[Stream, Ints],
    workdays: Bools,
    scale: float,
    seed: int,
) -> tuple[Ints, Ints]:
    hour = time_s // HOUR_S
    hours = hourly[STREAMS[0]].size
    request = np.zeros(len(stream_of), np.int64)
    response = np.zeros(len(stream_of), np.int64)

    def told(name: str, streams: list[Stream], draw: np.random.Generator) -> tuple[Floats, Bools]:
        """Tokens of each hour of one stream after the other, and in which of them they are told."""
        tables = [
            hour_sums(published, f"hourly_{name}_tokens", stream, hourly[stream], workdays, scale, draw)
            for stream in streams
        ]
        return np.concatenate([sums.ravel() for sums, _ in tables]), np.concatenate([hit.ravel() for _, hit in tables])

    for index, stream in enumerate(STREAMS):
        if stream[0] == "api":
            continue
        model = stream[1]
        draw = generator(seed, "twin", "conversation lengths", model)
        rows = stream_of == index
        with_tokens, answered = rows & counted, rows & ~failed
        lengths = conversation_requests(published, model, hour[with_tokens] % 24, with_tokens.sum() / rows.sum(), draw)
        request[with_tokens] = deal_lengths(np.sort(lengths), hour[with_tokens], *told("request", [stream], draw), draw)
        response[answered] = conversation_responses(
            published, model, request[answered], hour[answered], *told("response", [stream], draw), draw
        )
    # A cell is an hour of one model.
    streams = [index for index, (service, _) in enumerate(STREAMS) if service == "api"]
    api = np.isin(stream_of, streams)
    cell = hour + hours * (stream_of == streams[1])
    for name, values, has in (("request", request, counted), ("response", response, ~failed)):
        draw = generator(seed, "twin", "api lengths", name)
        rows = api & has
        lengths = remaining_lengths(published, f"{name} tokens", values[~api & has], int((~has).sum()), int(rows.sum()))
        values[rows] = deal_lengths(lengths, cell[rows], *told(name, [STREAMS[i] for i in streams], draw), draw)
    return request, response


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `burstbench trace twin`."""
    add_settings(parser)
    parser.add_argument("--published", type=Path, required=True, help="folder of the published tables")
    parser.add_argument("--out", type=Path, required=True, help="trace.parquet")
    parser.add_argument("--window", type=Path, required=True, help="window.csv: the window beside the whole trace")


def run(args: argparse.Namespace) -> None:
    """Make the twin; settings: rows, days, start, seed, window."""
    settings = args.settings
    window = Window.of(settings)
    twin = make_twin(
        read_published(args.published),
        rows=settings["rows"],
        days=settings["days"],
        start=date.fromisoformat(settings["start"]),
        seed=settings["seed"],
    )
    twin, record = select(twin, settings["days"], window)
    warn(record)
    TRACE_WINDOW.write(record, args.window)
    TRACE.write(twin, args.out)
