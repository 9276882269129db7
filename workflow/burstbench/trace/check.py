"""trace check: each published number beside the same number of a trace, real or twin."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from burstbench.cli import add_settings
from burstbench.contracts import TRACE, TRACE_CHECK
from burstbench.errors import UserError
from burstbench.trace.published import BOX, QUANTITIES, RESPONSE, STREAMS, Floats, Published, read_published

# The published curves have a point at every 10 request tokens; ours takes the requests up to 5 on either side.
HALF_BIN = 5
LEAST_IN_BIN = 20


@dataclass(frozen=True)
class Found:
    """One published number with the trace's: the columns of `contracts.TRACE_CHECK` but the error."""

    table: str
    item: str
    unit: str
    published: float
    found: float
    reading_error: float
    clipped: bool = False


@dataclass(frozen=True)
class Columns:
    """A trace as arrays of one length: stream is the index in `STREAMS`, -1 for others."""

    time_s: Floats
    stream: np.ndarray
    request: np.ndarray
    response: np.ndarray
    failed: np.ndarray


def check_trace(trace: pa.Table, published: Published, start: date, days: int) -> pa.Table:
    """Compare a trace with the published numbers.

    Every published number that the trace can have is compared: not the days outside of its calendar, nor an hour, a
    length or a moment of which it has no requests.

    Args:
        trace: after `contracts.TRACE`.
        published: the published tables.
        start: local date of time 0.
        days: length of the calendar.

    Returns:
        A table after `contracts.TRACE_CHECK`. `error` is relative, where the unit is "1" a difference, and null where
        the published value is 0.
    """
    if trace.num_rows < 2:
        raise UserError(f"the trace has {trace.num_rows} rows, expected at least 2")
    columns = _columns(trace)
    rows = [
        *_moments(columns, published, days),
        *_daily(columns, published, start, days),
        *_hourly(columns, published, start, days),
        *_responses(columns, published),
    ]
    return pa.table(
        {
            "table": [row.table for row in rows],
            "item": [row.item for row in rows],
            "unit": [row.unit for row in rows],
            "published": [row.published for row in rows],
            "found": [row.found for row in rows],
            "error": [_error(row) for row in rows],
            "reading_error": [row.reading_error for row in rows],
            "clipped": [row.clipped for row in rows],
        },
        schema=TRACE_CHECK.schema,
    )


def _error(row: Found) -> float | None:
    if row.unit == "1":
        return row.found - row.published
    return (row.found - row.published) / row.published if row.published else None


def _columns(trace: pa.Table) -> Columns:
    service, model = (trace.column(name).combine_chunks().dictionary_encode() for name in ("service", "model"))
    stream = np.full(trace.num_rows, -1, np.int8)
    codes = [
        (service.indices.to_numpy(), service.dictionary.to_pylist()),
        (model.indices.to_numpy(), model.dictionary.to_pylist()),
    ]
    for index, names in enumerate(STREAMS):
        if all(name in known for name, (_, known) in zip(names, codes, strict=True)):
            hits = [code == known.index(name) for name, (code, known) in zip(names, codes, strict=True)]
            stream[hits[0] & hits[1]] = index
    return Columns(
        trace.column("time_s").to_numpy(),
        stream,
        trace.column("request_tokens").to_numpy(),
        trace.column("response_tokens").to_numpy(),
        trace.column("failed").to_numpy(),
    )


def _moments(columns: Columns, published: Published, days: int) -> Iterator[Found]:
    """The single numbers of moments.csv."""
    found = dict(_moments_of(columns, days))
    for (group, item), moment in published.moments.items():
        if (group, item) not in found:
            raise UserError(f"moments.csv: {group!r}, {item!r} is not a number that a trace is checked against")
        # A number whose last digits were cut off is a lower limit, by less than its reading error.
        yield Found("moments", f"{group}: {item}", moment.unit, moment.value, found[group, item], moment.reading_error)


def _moments_of(columns: Columns, days: int) -> Iterator[tuple[tuple[str, str], float]]:
    time_s, failed = columns.time_s, columns.failed
    groups = {"all": np.ones(len(time_s), bool)}
    for index, (service, model) in enumerate(STREAMS):
        rows = columns.stream == index
        groups[f"{service} {model}"] = rows
        groups[service] = groups.get(service, False) | rows
        groups[model] = groups.get(model, False) | rows
    seconds = days * 86400.0
    for name, rows in groups.items():
        n = int(rows.sum())
        yield ("requests", name), n
        yield ("rate", name), n / seconds
        yield ("failures", name), int((failed & rows).sum())
    yield ("period", "days"), time_s[-1] // 86400 + 1
    yield ("period", "first timestamp"), time_s[0]
    yield ("period", "last timestamp"), time_s[-1]
    gaps = np.diff(time_s)
    yield ("gaps", "mean"), gaps.mean()
    yield ("gaps", "median"), np.median(gaps)
    yield ("gaps", "sd"), gaps.std()
    yield ("gaps", "95th percentile"), np.quantile(gaps, 0.95)
    yield ("gaps", "99th percentile"), np.quantile(gaps, 0.99)
    yield ("gaps", "max"), gaps.max()
    yield ("gaps", "share of rows that repeat the previous timestamp"), (gaps == 0).sum() / len(time_s)
    for group, values in (("request tokens", columns.request), ("response tokens", columns.response)):
        yield (group, "mean"), values.mean()
        yield (group, "sd"), values.std()
        for item, share in (("1st quartile", 0.25), ("median", 0.5), ("3rd quartile", 0.75), ("max", 1.0)):
            yield (group, item), np.quantile(values, share)
        yield (group, "rows of 0"), (values == 0).sum()


def _daily(columns: Columns, published: Published, start: date, days: int) -> Iterator[Found]:
    """Requests of each day (Figs. 1, 2); the published 0 of a blank cell is not compared."""
    day_of = (columns.time_s // 86400).astype(np.int64)
    for index, stream in enumerate(STREAMS):
        counts = np.bincount(day_of[columns.stream == index], minlength=days)
        reading_error = published.reading_errors["daily_requests", "requests", *stream]
        for day, (requests, clipped) in published.daily[stream].items():
            place = (day - start).days
            if 0 <= place < days and np.isfinite(requests):
                item = f"{day} {' '.join(stream)} requests"
                yield Found("daily_requests", item, "requests", requests, counts[place], reading_error, clipped)


def _hourly(columns: Columns, published: Published, start: date, days: int) -> Iterator[Found]:
    """Boxes over the days, by hour (Figs. 3, 4, 10 to 13).

    Over workdays, and over the hours with at least one request: `arrivals.hourly_requests` says why. Whiskers reach to
    the last value within 1.5 times the quartiles' distance.
    """
    cell = (columns.time_s // 3600).astype(np.int64)
    workdays = np.array([(start + timedelta(i)).weekday() < 5 for i in range(days)])
    for index, stream in enumerate(STREAMS):
        rows = columns.stream == index
        tables = {
            "hourly_request_count": np.bincount(cell[rows], minlength=days * 24),
            "hourly_request_tokens": np.bincount(cell[rows], columns.request[rows], days * 24),
            "hourly_response_tokens": np.bincount(cell[rows], columns.response[rows], days * 24),
        }
        some = (tables["hourly_request_count"] > 0).reshape(days, 24) & workdays[:, None]
        for quantity in QUANTITIES:
            unit = "requests" if quantity == "hourly_request_count" else "tokens"
            reading_error = published.reading_errors["hourly_boxes", quantity, *stream]
            table = tables[quantity].reshape(days, 24)
            for hour in range(24):
                values = table[some[:, hour], hour]
                if not len(values):
                    continue
                for corner, value, expected in zip(
                    BOX, _box(values), published.boxes[(quantity, *stream)][hour], strict=True
                ):
                    if np.isfinite(expected):
                        item = f"{quantity} {' '.join(stream)} {hour} h {corner}"
                        yield Found("hourly_boxes", item, unit, expected, value, reading_error)


def _box(values: np.ndarray) -> tuple[float, ...]:
    q1, median, q3 = np.quantile(values, (0.25, 0.5, 0.75))
    reach = 1.5 * (q3 - q1)
    inside = values[(values >= q1 - reach) & (values <= q3 + reach)]
    return inside.min(), q1, median, q3, inside.max()


def _responses(columns: Columns, published: Published) -> Iterator[Found]:
    """Responses of conversations by request length (Fig. 8); not where fewer than 20 requests are that long."""
    for index, (service, model) in enumerate(STREAMS):
        if service != "conversation":
            continue
        rows = (columns.stream == index) & ~columns.failed
        order = np.argsort(columns.request[rows], kind="stable")
        request, response = columns.request[rows][order], columns.response[rows][order]
        reading_error = published.reading_errors["response_by_request_tokens", "response", service, model]
        for length, *curve in published.responses[model]:
            low, high = np.searchsorted(request, (length - HALF_BIN, length + HALF_BIN))
            if high - low < LEAST_IN_BIN:
                continue
            part = response[low:high]
            found = (np.quantile(part, 0.05), np.median(part), part.mean(), np.quantile(part, 0.95))
            for name, value, expected in zip(RESPONSE, found, curve, strict=True):
                if np.isfinite(expected):
                    item = f"{model} {name} at {length:.0f} request tokens"
                    yield Found("response_by_request_tokens", item, "tokens", expected, value, reading_error)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `burstbench trace check`."""
    add_settings(parser)
    parser.add_argument("--trace", type=Path, required=True, help="trace.parquet")
    parser.add_argument("--published", type=Path, required=True, help="folder of the published tables")
    parser.add_argument("--out", type=Path, required=True, help="check.csv")


def run(args: argparse.Namespace) -> None:
    """Compare a trace with the published numbers; settings: start, days."""
    names = ("time_s", "service", "model", "request_tokens", "response_tokens", "failed")
    table = check_trace(
        TRACE.read(args.trace, names),
        read_published(args.published),
        start=date.fromisoformat(args.settings["start"]),
        days=args.settings["days"],
    )
    TRACE_CHECK.write(table, args.out)
