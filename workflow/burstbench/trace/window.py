"""The days of a trace that are characterised, and how they compare with the whole of it."""

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from burstbench.contracts import SERVICES, TRACE, TRACE_WINDOW
from burstbench.errors import UserError

DAY_S = 86_400
# A window is unlike the whole in a number that is more than so many times larger or smaller.
UNLIKE = 1.5
AVERAGED = {"failed": "1", "request_tokens": "tokens", "response_tokens": "tokens"}


class Window(NamedTuple):
    """Days of the calendar, from 1, both included."""

    from_day: int
    to_day: int

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Window":
        """The window of the settings: `window` with `from_day` and `to_day`, by default all of `days`.

        Raises:
            UserError: the window is empty or leaves the calendar.
        """
        days = settings["days"]
        asked = settings.get("window") or {}
        window = cls(asked.get("from_day", 1), asked.get("to_day", days))
        if not 1 <= window.from_day <= window.to_day <= days:
            raise UserError(
                f"settings: window: found days {window.from_day} to {window.to_day}, expected days within 1 to {days}, "
                "the first not after the last"
            )
        return window


def select(trace: pa.Table, days: int, window: Window) -> tuple[pa.Table, pa.Table]:
    """Keep a window of a trace; its first day becomes day 1.

    Args:
        trace: after `contracts.TRACE`.
        days: length of the whole trace's calendar.
        window: the days to keep.

    Returns:
        The requests of the window, with time 0 at 0:00 of its first day; and a table after `contracts.TRACE_WINDOW`.

    Raises:
        UserError: the window has no request.
    """
    time_s = trace.column("time_s").to_numpy()
    begin, end = (window.from_day - 1) * DAY_S, window.to_day * DAY_S
    first, last = np.searchsorted(time_s, (begin, end))
    if first == last:
        raise UserError(
            f"settings: window: no request on days {window.from_day} to {window.to_day}; the trace has {len(time_s)} "
            f"requests, from day {time_s[0] // DAY_S + 1:.0f} to day {time_s[-1] // DAY_S + 1:.0f}"
            if len(time_s)
            else "the trace has no request"
        )
    record = compare(trace, slice(int(first), int(last)), days, window)
    if window == Window(1, days):
        return trace, record
    kept = trace.slice(first, last - first)
    place = kept.column_names.index("time_s")
    return kept.set_column(place, TRACE.schema.field("time_s"), pa.array(time_s[first:last] - begin)), record


def compare(trace: pa.Table, rows: slice, days: int, window: Window) -> pa.Table:
    """Compare a window with the whole trace, by service and model.

    Args:
        trace: the whole, after `contracts.TRACE`.
        rows: those of the window.
        days: length of the whole trace's calendar.
        window: its days.

    Returns:
        A table after `contracts.TRACE_WINDOW`: requests a day, share of failures, mean lengths. A ratio is null where
        the whole has 0 or nothing to divide by.
    """
    columns = [trace.column(name).combine_chunks() for name in ("service", "model")]
    service, model = (
        values if pa.types.is_dictionary(values.type) else values.dictionary_encode() for values in columns
    )
    models = model.dictionary.to_pylist()
    cell = service.indices.to_numpy().astype(np.int64) * len(models) + model.indices.to_numpy()
    labels = [(of_service, of_model) for of_service in service.dictionary.to_pylist() for of_model in models]
    # By cell: requests, and the sums of what is averaged; of the whole, then of the window.
    sums = []
    for part in (slice(None), rows):
        weights = [None, *(trace.column(name).to_numpy()[part] for name in AVERAGED)]
        sums.append(np.stack([np.bincount(cell[part], values, minlength=len(labels)) for values in weights]))
    lengths = days, window.to_day - window.from_day + 1
    found: list[dict[str, Any]] = []
    for of_service in (*SERVICES, "all"):
        for of_model in (*sorted(models), "all"):
            members = [k for k, (s, m) in enumerate(labels) if of_service in {s, "all"} and of_model in {m, "all"}]
            whole, own = (part[:, members].sum(axis=1) for part in sums)
            if not whole[0]:
                continue
            pairs = [("requests_per_day", "1/d", whole[0] / lengths[0], own[0] / lengths[1])]
            for k, (name, unit) in enumerate(AVERAGED.items(), 1):
                mean = own[k] / own[0] if own[0] else None
                pairs.append((f"{name}_mean", unit, whole[k] / whole[0], mean))
            for quantity, unit, of_whole, of_window in pairs:
                ratio = None if of_window is None or not of_whole else float(of_window / of_whole)
                found.append(
                    {
                        "from_day": window.from_day,
                        "to_day": window.to_day,
                        "of_days": days,
                        "service": of_service,
                        "model": of_model,
                        "quantity": quantity,
                        "unit": unit,
                        "whole": float(of_whole),
                        "window": None if of_window is None else float(of_window),
                        "ratio": ratio,
                        "unlike": bool(of_whole) and (ratio is None or not 1 / UNLIKE <= ratio <= UNLIKE),
                    }
                )
    return pa.Table.from_pylist(found, schema=TRACE_WINDOW.schema)


def warn(record: pa.Table) -> None:
    """Say on stderr in what a window is unlike the whole trace."""
    unlike = [row for row in record.to_pylist() if row["unlike"]]
    if not unlike:
        return
    first = unlike[0]
    print(
        f"warning: days {first['from_day']} to {first['to_day']} are unlike the whole trace of {first['of_days']} days "
        f"(more than {UNLIKE:g} times larger or smaller):",
        file=sys.stderr,
    )
    for row in unlike:
        own = "nothing" if row["window"] is None else f"{row['window']:.4g}"
        print(
            f"  {row['service']} {row['model']} {row['quantity']}: {own} in the window, {row['whole']:.4g} "
            f"[{row['unit']}] in the whole",
            file=sys.stderr,
        )
