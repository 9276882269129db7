"""`burstbench characterise failures`: failure rates by service and model, cells and pools side by side (Fig. 14)."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from burstbench.characterise.cells import DAY_S, Calendar, Cells, read_cells
from burstbench.characterise.loads import MINUTE_S, load_bins, loads
from burstbench.cli import add_settings
from burstbench.contracts import DAILY_FAILURES, FAILURE_LOADS, FAILURES
from burstbench.stats.intervals import wilson


def by_day(cells: Cells, days: int) -> tuple[np.ndarray, np.ndarray]:
    """Requests and failures of each cell on each day, whole numbers of shape (cells, days)."""
    shape = (len(cells.labels), days)
    slot = cells.cell * days + (cells.time_s // DAY_S).astype(np.int64)
    requests = np.bincount(slot, minlength=shape[0] * days).reshape(shape)
    failed = np.bincount(slot[cells.column("failed")], minlength=shape[0] * days).reshape(shape)
    return requests, failed


def rate_table(requests: np.ndarray, failed: np.ndarray, cells: Cells) -> dict[str, npt.ArrayLike]:
    """Columns of failures: every cell and pool that has requests.

    A pool weighs each cell by its requests, so a pool of services can order the models the other way than each
    service does.

    Args:
        requests: of each cell, shape (cells,).
        failed: of each cell, shape (cells,).
        cells: names of the cells.
    """
    groups = [group for group in cells.groups() if requests[group[2]].sum()]
    all_requests = np.array([requests[members].sum() for _, _, members in groups], dtype=np.int64)
    all_failed = np.array([failed[members].sum() for _, _, members in groups], dtype=np.int64)
    low, high = wilson(all_failed, all_requests)
    return {
        "service": [service for service, _, _ in groups],
        "model": [model for _, model, _ in groups],
        "requests": all_requests,
        "failed": all_failed,
        "rate": all_failed / all_requests,
        "low": low,
        "high": high,
    }


def daily_table(requests: np.ndarray, failed: np.ndarray, cells: Cells) -> dict[str, npt.ArrayLike]:
    """Columns of daily_failures: days in order, within a day the cells; days of a cell without requests are left out.

    Args:
        requests: shape (cells, days).
        failed: shape (cells, days).
        cells: names of the cells.
    """
    day, cell = np.nonzero(requests.T)
    labels = cells.labels
    low, high = wilson(failed[cell, day], requests[cell, day])
    return {
        "day": day + 1,
        "service": [labels[number][0] for number in cell],
        "model": [labels[number][1] for number in cell],
        "requests": requests[cell, day],
        "failed": failed[cell, day],
        "rate": failed[cell, day] / requests[cell, day],
        "low": low,
        "high": high,
    }


def load_rows(cells: Cells) -> Iterator[dict[str, Any]]:
    """Rows of failure_loads: every cell and pool with requests, against its own load and that of the whole trace."""
    all_minutes = (cells.time_s // MINUTE_S).astype(np.int64)
    failed = cells.column("failed")
    for service, model, members in cells.groups():
        rows = cells.rows(members)
        minute = all_minutes[rows]
        for load_of, others in (("own", minute), ("all", all_minutes)):
            for part, found in enumerate(load_bins(minute, loads(minute, others)), 1):
                hits, n = int(failed[rows[found.rows]].sum()), len(found.rows)
                low, high = wilson(hits, n)
                yield {
                    "service": service,
                    "model": model,
                    "load_of": load_of,
                    "part": part,
                    "load_low": found.low,
                    "load_high": found.high,
                    "minutes": found.minutes,
                    "requests": n,
                    "failed": hits,
                    "rate": hits / n,
                    "low": low,
                    "high": high,
                }


def count_failures(trace: Path, settings: dict[str, Any], failures: Path, daily: Path, failure_loads: Path) -> None:
    """Write the three tables.

    Args:
        trace: trace.parquet, with at least one request.
        settings: `start` (ISO date of day 1), `days`.
        failures: failures.parquet.
        daily: daily_failures.parquet.
        failure_loads: failure_loads.parquet.

    Raises:
        UserError: the trace breaks its contract or leaves the calendar.
    """
    calendar = Calendar.of(settings["start"], settings["days"])
    cells = read_cells(trace, "failed", calendar=calendar)
    requests, failed = by_day(cells, calendar.days)
    FAILURES.write(rate_table(requests.sum(axis=1), failed.sum(axis=1), cells), failures)
    DAILY_FAILURES.write(daily_table(requests, failed, cells), daily)
    FAILURE_LOADS.write(pa.Table.from_pylist(list(load_rows(cells)), schema=FAILURE_LOADS.schema), failure_loads)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_settings(parser)
    parser.add_argument("--trace", type=Path, required=True, help="trace.parquet")
    for name in ("failures", "daily-failures", "failure-loads"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="table to write")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    count_failures(args.trace, args.settings, args.failures, args.daily_failures, args.failure_loads)
