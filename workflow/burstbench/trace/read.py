"""trace read: raw trace files as one checked table.

A file is parsed and checked as a whole, column by column. Only when something is wrong is the line looked for, so that
the message can name it. Lines count from 1, the header is line 1.

Decisions:
    Several files are one trace: their clocks are one clock, on which time goes on from file to file. A file whose clock
    starts anew needs an offset; without one it is refused at the seam.
    A last line without a line end is taken if it is whole by all checks, and refused as cut off otherwise.
    A request failed if its response has 0 tokens.
"""

import argparse
import csv as text_csv
import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from burstbench.cli import add_settings
from burstbench.contracts import TRACE, TRACE_WINDOW
from burstbench.errors import UserError
from burstbench.progress import progress
from burstbench.trace.adapters import Adapter, adapters_of
from burstbench.trace.window import Window, select, warn

TOKENS = ("request_tokens", "response_tokens", "total_tokens")
LARGEST_HEADER = 65536
LABEL = pa.dictionary(pa.int32(), pa.string())
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class TraceError(UserError):
    """A raw trace cannot be read; the message names file, line, what was found and what was expected."""


@dataclass(frozen=True)
class Fault:
    """The first thing wrong in a column: its row (from 0) and what was expected there."""

    row: int
    column: str
    expected: str


def read_traces(
    paths: Sequence[Path],
    adapters: Sequence[Adapter],
    start: date,
    days: int,
    offsets_s: Sequence[float] = (),
) -> pa.Table:
    """Read raw trace files, one after the other, as one trace.

    Args:
        paths: the files, in the order of time.
        adapters: what the files may look like; each file's header chooses.
        start: local date of time 0; needed by clocks that show date and time.
        days: length of the calendar, which no request may lie beyond.
        offsets_s: seconds to add to the clock of each file; none by default.

    Returns:
        A table with the columns of `contracts.TRACE`; labels are dictionaries.

    Raises:
        TraceError: a file is empty or no such CSV; a column is missing, unknown or in another place; a value is
            missing, not a number, negative, not finite or unknown; a total is not the sum; time goes back, within a
            file or between two; a request lies beyond the calendar.
    """
    if not paths:
        raise TraceError("no trace file was given")
    if offsets_s and len(offsets_s) != len(paths):
        raise TraceError(f"offsets_s: found {len(offsets_s)} offsets, expected one for each of the {len(paths)} files")
    parts: list[pa.Table] = []
    with progress("read the trace", len(paths), "files") as show:
        for number, path in enumerate(paths):
            part = _read_file(path, adapters, start, days, offsets_s[number] if offsets_s else 0.0)
            if parts:
                before, after = parts[-1].column("time_s")[-1].as_py(), part.column("time_s")[0].as_py()
                if after < before:
                    raise TraceError(
                        f"{path}, line 2: time goes back to {after} s from {before} s, the end of {paths[number - 1]}: "
                        "files are read in the order given and share one clock (offsets_s shifts that of a file)"
                    )
            parts.append(part)
            show(number + 1)
    return pa.concat_tables(parts).unify_dictionaries()


def _read_file(path: Path, adapters: Sequence[Adapter], start: date, days: int, offset_s: float) -> pa.Table:
    if not path.is_file():
        raise TraceError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise TraceError(f"{path}, line 1: the file is empty, expected the header of a CSV file")
    with open(path, "rb") as stream:
        head = stream.read(LARGEST_HEADER)
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            first_nul = data.find(b"\0")
    # The map is Arrow's from here on: its threads may hold on to it for longer than a block of ours.
    with pa.memory_map(str(path)) as stream:
        data = stream.read_buffer()
    _refuse_other_formats(path, head, data, first_nul)
    first_line = _first_line(path, head)
    adapter = next((adapter for adapter in adapters if adapter.fits(_fields(first_line, adapter.quotes))), None)
    if adapter is None:
        raise TraceError(_wrong_header(path, _fields(first_line, adapters[0].quotes), adapters))
    if data.size == len(head) and len(head.splitlines()) < 2:
        raise TraceError(f"{path}, line 2: the file ends after the header, expected requests")
    raw = _Raw(path, data, head, _fields(first_line, adapter.quotes), adapter)
    table, error = raw.parse()
    part = table
    # A fault can hide others from the eyes, but only in rows after its own: look again at those before it.
    while first := min(_faults(part, adapter, start, days, offset_s), key=lambda fault: fault.row, default=None):
        error = raw.error(first.row, first.expected, first.column)
        part = table.slice(0, first.row)
    if error:
        raise error
    return _as_trace(table, adapter, start, offset_s)


def _refuse_other_formats(path: Path, head: bytes, data: pa.Buffer, first_nul: int) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TraceError(f"{path}, line 1: the file is UTF-16, expected UTF-8")
    if head.lstrip(BYTE_ORDER_MARK + b" \t\r\n").startswith(b"<"):
        raise TraceError(
            f"{path}, line 1: found {_shown(head.lstrip()[:40])}, expected the header of a CSV file: this is a web page"
        )
    if first_nul >= 0:
        line = len(_line_ends(data.slice(0, first_nul))) + 1
        raise TraceError(f"{path}, line {line}: found a NUL byte, expected text: the file is damaged or not a CSV file")


def _first_line(path: Path, head: bytes) -> str:
    line = re.split(rb"[\r\n]", head, maxsplit=1)[0]
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}, line 1: found {_shown(line[:80])}, expected UTF-8 text: {error.reason}") from error


def _fields(line: str, quotes: bool) -> list[str]:
    return next(text_csv.reader([line]), []) if quotes else line.split(",")


def _wrong_header(path: Path, header: list[str], adapters: Sequence[Adapter]) -> str:
    """Say what is wrong with a header, against the adapter that it resembles most."""
    nearest = max(adapters, key=lambda adapter: len(set(adapter.columns.values()) & set(header)))
    wanted = list(nearest.columns.values())
    found = ",".join(header)
    found = found if len(found) <= 200 else found[:200] + " ..."
    for name in wanted:
        if name not in header:
            return f"{path}, line 1: column {name!r} is missing: found {found!r}, expected {','.join(wanted)!r}"
        if header.count(name) > 1:
            return f"{path}, line 1: column {name!r} stands there more than once: {found!r}"
    for name in header:
        if name not in wanted:
            return f"{path}, line 1: column {name!r} is unknown: found {found!r}, expected {','.join(wanted)!r}"
    return f"{path}, line 1: the columns stand in another order: found {found!r}, expected {','.join(wanted)!r}"


class _Raw:
    """The bytes of one file, with the adapter that reads them."""

    def __init__(self, path: Path, data: pa.Buffer, head: bytes, header: list[str], adapter: Adapter) -> None:
        self.path = path
        self.data = data
        self.header = header
        self.adapter = adapter
        self.zone = adapter.clock == "datetime" and self._first_time_has_zone(head)
        self._ends: NDArray[np.int64] | None = None

    def parse(self) -> tuple[pa.Table, TraceError | None]:
        """Return the columns that are read, named as in `contracts.TRACE`, with their types.

        The rows end where a line has too many or too few fields, or a field of it is no number, time or UTF-8 text;
        then the error of that line is returned too.
        """
        try:
            return self._parse(self.data), None
        except pa.ArrowInvalid as error:
            problem = str(error)
        good, bad = 0, len(self._line_ends()) - 1
        # The smallest number of rows that cannot be parsed: its last row is the first wrong one.
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                self._parse_rows(middle)
                good = middle
            except pa.ArrowInvalid as error:
                bad, problem = middle, str(error)
        return self._parse_rows(good), self.error(bad - 1, f"a row that can be parsed: {problem}", "")

    def error(self, row: int, expected: str, column: str) -> TraceError:
        """Return the error of a row, in the words that fit its line best."""
        ends = self._line_ends()
        line = self.data.slice(ends[row], ends[row + 1] - ends[row]).to_pybytes()
        last = row + 2 == len(ends) and not line.endswith((b"\n", b"\r"))
        found, wanted = _explain(line.rstrip(b"\r\n"), self.header, self.adapter, expected, column)
        cut = "; the file ends here without a line end: it was cut off" if last else ""
        return TraceError(f"{self.path}, line {row + 2}: {found}, expected {wanted}{cut}")

    def _line_ends(self) -> NDArray[np.int64]:
        """Return where each line ends: shape (lines,), the header's first; a last line without an end counts."""
        if self._ends is None:
            ends = _line_ends(self.data)
            if not len(ends) or ends[-1] != self.data.size:
                ends = np.append(ends, self.data.size)
            self._ends = ends
        return self._ends

    def _parse_rows(self, rows: int) -> pa.Table:
        return self._parse(self.data.slice(0, self._line_ends()[rows]))

    def _parse(self, text: pa.Buffer) -> pa.Table:
        types: dict[str, pa.DataType] = {}
        for column, name in self.adapter.columns.items():
            if column in TOKENS:
                types[name] = pa.int64()
            elif column in {"service", "model"}:
                types[name] = LABEL
            elif column == "session_id":
                types[name] = pa.string()
            elif column == "time_s" and self.adapter.clock == "datetime":
                types[name] = pa.timestamp("ns", "UTC" if self.zone else None)
            else:
                types[name] = pa.float64()
        table = csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(block_size=4 << 20, column_names=self.header, skip_rows=1),
            parse_options=csv.ParseOptions(
                quote_char='"' if self.adapter.quotes else False, ignore_empty_lines=False, newlines_in_values=False
            ),
            convert_options=csv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=[""], strings_can_be_null=True
            ),
        )
        return table.rename_columns(list(self.adapter.columns)).unify_dictionaries()

    def _first_time_has_zone(self, head: bytes) -> bool:
        lines = re.split(rb"\r\n|\r|\n", head, maxsplit=2)
        fields = lines[1].split(b",") if len(lines) > 1 else []
        place = self.header.index(self.adapter.columns["time_s"])
        return place < len(fields) and bool(re.search(rb"(Z|[+-]\d\d:?\d\d)\"?$", fields[place]))


def _line_ends(data: pa.Buffer) -> NDArray[np.int64]:
    """Return the places after each line end: LF, CR LF or a single CR."""
    text = np.frombuffer(data, np.uint8)
    feed, back = text == 10, text == 13
    single = back & ~np.append(feed[1:], False)
    return np.flatnonzero(feed | single) + 1


def _faults(table: pa.Table, adapter: Adapter, start: date, days: int, offset_s: float) -> Iterator[Fault]:
    """Yield the first fault of each kind; values that are missing hide some of the kinds in the rows after them."""
    if not table.num_rows:
        return

    def first(bad: Any, column: str, expected: str) -> Iterator[Fault]:
        mask = bad if isinstance(bad, np.ndarray) else pc.fill_null(bad, True).to_numpy()
        if mask.any():
            yield Fault(int(mask.argmax()), column, expected)

    for column in TOKENS:
        if column in table.column_names:
            values = table.column(column)
            if values.null_count:
                yield from first(pc.is_null(values), column, "a whole number of tokens")
            lowest = pc.min(values).as_py()
            if lowest is not None and lowest < 0:
                yield from first(pc.less(values, 0), column, "at least 0 tokens")
    if "total_tokens" in table.column_names:
        parts = [table.column(column) for column in TOKENS]
        if not any(values.null_count for values in parts):
            request, response, total = (values.to_numpy() for values in parts)
            yield from first(request + response != total, "total_tokens", "the sum of request and response tokens")
    for column, allowed in (("service", tuple(adapter.services)), ("model", adapter.models)):
        if column in table.column_names:
            values = table.column(column)
            if values.null_count:
                yield from first(pc.is_null(values), column, f"a {column}")
            labels = values.chunk(0).dictionary
            for code, label in enumerate(labels.to_pylist()):
                if allowed and label not in allowed:
                    codes = np.concatenate([chunk.indices.fill_null(-1).to_numpy() for chunk in values.chunks])
                    yield from first(codes == code, column, f"one of {', '.join(map(repr, allowed))}")
    if "elapsed_s" in table.column_names:
        values = table.column("elapsed_s")
        yield from first(
            pc.fill_null(pc.or_(pc.less(values, 0), pc.invert(pc.is_finite(values))), False),
            "elapsed_s",
            "a finite number of at least 0 s, or nothing",
        )
    times = table.column("time_s")
    if times.null_count:
        yield from first(pc.is_null(times), "time_s", "a time")
        return
    seconds = _seconds(times, start, offset_s)
    yield from first(~np.isfinite(seconds), "time_s", "a finite number of seconds")
    yield from first(seconds < 0, "time_s", f"a time after the start of the trace, {start}")
    expected = f"a time within the {days} days of the calendar from {start}: before {days * 86400} s"
    yield from first(seconds >= days * 86400, "time_s", expected)
    back = np.zeros(len(seconds), bool)
    back[1:] = seconds[1:] < seconds[:-1]
    if back.any():
        row = int(back.argmax())
        yield Fault(row, "time_s", f"no time before that of the line above, {times[row - 1]}: time goes back")


def _seconds(times: pa.ChunkedArray, start: date, offset_s: float) -> NDArray[np.float64]:
    """Return times as seconds since 0:00 of day 1."""
    if not pa.types.is_timestamp(times.type):
        seconds = times.to_numpy()
        return seconds + offset_s if offset_s else seconds
    zero = int(np.datetime64(start, "ns").astype(np.int64))
    return (times.cast(pa.int64()).to_numpy() - zero) / 1e9 + offset_s


def _as_trace(table: pa.Table, adapter: Adapter, start: date, offset_s: float) -> pa.Table:
    n = table.num_rows

    def labels(column: str, constant: str, names: Mapping[str, str] | None) -> pa.ChunkedArray | pa.Array:
        if column not in table.column_names:
            return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([constant]))
        values = table.column(column)
        if names is None:
            return values
        dictionary = pa.array([names[label] for label in values.chunk(0).dictionary.to_pylist()], pa.string())
        return pa.chunked_array([pa.DictionaryArray.from_arrays(chunk.indices, dictionary) for chunk in values.chunks])

    def optional(column: str, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
        return table.column(column) if column in table.column_names else pa.nulls(n, kind)

    return pa.table(
        {
            "time_s": _seconds(table.column("time_s"), start, offset_s),
            "service": labels("service", adapter.service, adapter.services),
            "model": labels("model", adapter.model, None),
            "request_tokens": table.column("request_tokens"),
            "response_tokens": table.column("response_tokens"),
            "failed": pc.equal(table.column("response_tokens"), 0),
            "session_id": optional("session_id", pa.string()),
            "elapsed_s": optional("elapsed_s", pa.float64()),
        }
    )


def _explain(line: bytes, header: list[str], adapter: Adapter, expected: str, column: str) -> tuple[str, str]:
    """Say what was found in a wrong line, and what was expected instead."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return f"found {_shown(line)}", "UTF-8 text"
    if not text:
        return "found an empty line", f"{len(header)} fields"
    fields = _fields(text, adapter.quotes)
    if len(fields) != len(header):
        return f"found {len(fields)} fields in {_shown(line)}", f"{len(header)} fields"
    by_column = {name: fields[header.index(label)] for name, label in adapter.columns.items()}
    if column:
        return f"column {adapter.columns[column]!r}: found {_shown(by_column[column].encode())}", expected
    for name, value in by_column.items():
        label = adapter.columns[name]
        found = f"column {label!r}: found {_shown(value.encode())}"
        if name in TOKENS and not re.fullmatch(r" *-?\d{1,18} *", value):
            return found, "a whole number of tokens"
        if name == "time_s" and adapter.clock == "datetime" and not _is_datetime(value):
            return found, "a date and time like 2023-11-16 18:15:46.68"
        if (name == "elapsed_s" and value) or (name == "time_s" and adapter.clock == "seconds"):
            try:
                float(value)
            except ValueError:
                return found, "a number of seconds"
    return f"found {_shown(line)}", expected


def _is_datetime(value: str) -> bool:
    try:
        datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", value))
    except ValueError:
        return False
    return True


def _shown(value: bytes) -> str:
    text = value.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 120 else text[:120] + " ...")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `burstbench trace read`."""
    add_settings(parser)
    parser.add_argument("--csv", type=Path, nargs="+", required=True, help="raw trace files, in the order of time")
    parser.add_argument("--out", type=Path, required=True, help="trace.parquet")
    parser.add_argument("--window", type=Path, required=True, help="window.csv: the window beside the whole trace")


def run(args: argparse.Namespace) -> None:
    """Read raw traces; settings: start, days, window, offsets_s, and those of `adapters.adapters_of`."""
    settings = args.settings
    window = Window.of(settings)
    table = read_traces(
        args.csv,
        adapters_of(settings),
        start=date.fromisoformat(settings["start"]),
        days=settings["days"],
        offsets_s=settings.get("offsets_s", ()),
    )
    table, record = select(table, settings["days"], window)
    warn(record)
    TRACE_WINDOW.write(record, args.window)
    TRACE.write(table, args.out)
