"""`burstbench characterise counts`: requests and tokens by day and hour; their periodicity (Figs. 1-4, 10-13)."""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from burstbench.characterise.cells import Calendar, Cells, read_cells
from burstbench.cli import add_settings
from burstbench.contracts import DAILY_COUNTS, HOURLY_COUNTS, PERIODICITY
from burstbench.seeds import generator
from burstbench.stats.periodicity import daily_statistics, hourly_statistics

HOUR_S = 3600


def hourly(cells: Cells, calendar: Calendar) -> dict[str, np.ndarray]:
    """Requests, failures and tokens of every hour of every cell.

    Args:
        cells: a trace with failed, request_tokens and response_tokens.
        calendar: its days.

    Returns:
        `requests`, `failed`, `request_tokens`, `response_tokens`: whole numbers of shape (cells, days, 24). Tokens are
        of all requests, failed ones included.
    """
    hours = calendar.days * 24
    slot = cells.cell * hours + (cells.time_s // HOUR_S).astype(np.int64)
    shape = (len(cells.labels), calendar.days, 24)

    def total(weights: np.ndarray | None) -> np.ndarray:
        return np.bincount(slot, weights=weights, minlength=math.prod(shape)).astype(np.int64).reshape(shape)

    return {
        "requests": total(None),
        "failed": total(cells.column("failed")),
        "request_tokens": total(cells.column("request_tokens")),
        "response_tokens": total(cells.column("response_tokens")),
    }


def daily_table(counts: dict[str, np.ndarray], cells: Cells, calendar: Calendar) -> dict[str, npt.ArrayLike]:
    """Columns of daily_counts: days in order, within a day the cells."""
    labels = cells.labels
    dates = calendar.dates
    return {
        "day": np.repeat(np.arange(1, calendar.days + 1), len(labels)),
        "date": [day.isoformat() for day in dates for _ in labels],
        "iso_week": np.repeat([day.isocalendar().week for day in dates], len(labels)),
        "weekday": np.repeat(calendar.weekdays, len(labels)),
        "service": [service for service, _ in labels] * calendar.days,
        "model": [model for _, model in labels] * calendar.days,
        "requests": counts["requests"].sum(axis=2).T.ravel(),
        "failed": counts["failed"].sum(axis=2).T.ravel(),
    }


def hourly_table(counts: dict[str, np.ndarray], cells: Cells, calendar: Calendar) -> dict[str, npt.ArrayLike]:
    """Columns of hourly_counts: days in order, within a day the hours, within an hour the cells."""
    labels = cells.labels
    per_day = 24 * len(labels)
    return {
        "day": np.repeat(np.arange(1, calendar.days + 1), per_day),
        "weekday": np.repeat(calendar.weekdays, per_day),
        "hour": np.tile(np.repeat(np.arange(24), len(labels)), calendar.days),
        "service": [service for service, _ in labels] * (24 * calendar.days),
        "model": [model for _, model in labels] * (24 * calendar.days),
        **{name: values.transpose(1, 2, 0).ravel() for name, values in counts.items()},
    }


def periodicity_rows(
    counts: dict[str, np.ndarray], cells: Cells, calendar: Calendar, seed: int
) -> list[dict[str, Any]]:
    """Rows of periodicity, for every cell and pool with requests.

    Statistics of the number of requests stand under their own names, those of tokens behind 'request_tokens_' and
    'response_tokens_'; see `burstbench.stats.periodicity` for what each means. Each group and statistic has its own
    random stream.
    """
    rows = []
    for service, model, members in cells.groups():
        if not counts["requests"][members].sum():
            continue
        for quantity in ("requests", "request_tokens", "response_tokens"):
            values = counts[quantity][members].sum(axis=0)
            rng = generator(seed, "characterise", "periodicity", service, model, quantity)
            found = hourly_statistics(values, rng)
            found |= daily_statistics(values.sum(axis=1), calendar.weekdays, rng)
            prefix = "" if quantity == "requests" else f"{quantity}_"
            for name, (value, low, high, p_value, n) in found.items():
                rows.append(
                    {
                        "service": service,
                        "model": model,
                        "statistic": prefix + name,
                        "value": value,
                        "low": low,
                        "high": high,
                        "p_value": p_value,
                        "n": n,
                    }
                )
    return rows


def count(trace: Path, settings: dict[str, Any], daily: Path, hours: Path, periodicity: Path) -> None:
    """Write the three tables.

    Args:
        trace: trace.parquet.
        settings: `start` (ISO date of day 1), `days`, `seed`.
        daily: daily_counts.parquet.
        hours: hourly_counts.parquet.
        periodicity: periodicity.parquet.

    Raises:
        UserError: the trace breaks its contract or leaves the calendar.
    """
    import pyarrow as pa

    calendar = Calendar.of(settings["start"], settings["days"])
    cells = read_cells(trace, "failed", "request_tokens", "response_tokens", calendar=calendar)
    counts = hourly(cells, calendar)
    DAILY_COUNTS.write(daily_table(counts, cells, calendar), daily)
    HOURLY_COUNTS.write(hourly_table(counts, cells, calendar), hours)
    rows = periodicity_rows(counts, cells, calendar, settings["seed"])
    PERIODICITY.write(pa.Table.from_pylist(rows, schema=PERIODICITY.schema), periodicity)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_settings(parser)
    parser.add_argument("--trace", type=Path, required=True, help="trace.parquet")
    for name in ("daily-counts", "hourly-counts", "periodicity"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="table to write")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    count(args.trace, args.settings, args.daily_counts, args.hourly_counts, args.periodicity)
