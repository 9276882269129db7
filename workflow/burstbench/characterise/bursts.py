"""`burstbench characterise bursts`: how often the number of requests doubles, under every definition (Fig. 5)."""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from burstbench.characterise.cells import DAY_S, Calendar, Cells, read_cells
from burstbench.cli import add_settings
from burstbench.contracts import BURST_RATIOS, DOUBLINGS
from burstbench.errors import UserError
from burstbench.seeds import generator
from burstbench.stats.intervals import bootstrap_mean

ALIGNMENTS = ("aligned", "sliding")
ZERO_RULES = ("skip", "count")
# Sliding windows move on by this much (or, for widths that it does not divide, by a divisor of both).
SLIDE_S = 60
# The last bin of burst_ratios is open from here.
OPEN_RATIO = 10
RESAMPLES = 2000
# The paper's averages over workdays, by width [s]: ChatGPT; it names no service, no alignment and no rule for zeros.
PUBLISHED = {300: 65.0, 600: 38.0}


class Doublings(NamedTuple):
    """Every doubling found.

    Attributes:
        day: number of the day it falls on, from 0, shape (k,).
        ratio: requests after over requests before, inf after an empty window, shape (k,).
    """

    day: np.ndarray
    ratio: np.ndarray


def find_doublings(time_s: np.ndarray, width_s: int, days: int, alignment: str, zero_rule: str) -> Doublings:
    """Find where a window holds at least twice the requests of the window just before it.

    Aligned: windows lie end to end from 0:00, each compared with the one before; every doubling counts. Sliding: the
    border between the two windows moves on by a minute; neighbouring borders at which the number doubles are one
    doubling, on the day of the first, with the largest of their ratios. The day is that of the later window.

    Args:
        time_s: request times from 0:00 of day 1 [s], never decreasing, shape (n,).
        width_s: width of a window [s], a divisor of a day.
        days: days of the calendar.
        alignment: 'aligned' or 'sliding'.
        zero_rule: 'skip': nothing doubles after an empty window; 'count': any request after one is a doubling.

    Raises:
        UserError: the width does not divide a day, or a rule is unknown.
    """
    if width_s < 1 or DAY_S % width_s:
        raise UserError(f"settings: widths_s has {width_s!r}, expected a divisor of a day ({DAY_S} s)")
    if alignment not in ALIGNMENTS or zero_rule not in ZERO_RULES:
        raise UserError(
            f"settings: alignment {alignment!r}, zero_rule {zero_rule!r}; "
            f"expected one of {', '.join(ALIGNMENTS)} and one of {', '.join(ZERO_RULES)}"
        )
    step = width_s if alignment == "aligned" else math.gcd(width_s, SLIDE_S)
    before_border = np.searchsorted(time_s, np.arange(0, days * DAY_S + 1, step), side="left")
    reach = width_s // step
    before = before_border[reach:-reach] - before_border[: -2 * reach]
    after = before_border[2 * reach :] - before_border[reach:-reach]
    doubled = (after >= 2 * before) & (after > 0) & ((before > 0) | (zero_rule == "count"))
    at = np.flatnonzero(doubled)
    ratio = np.full(len(at), np.inf)
    np.divide(after[at], before[at], out=ratio, where=before[at] > 0)
    if alignment == "sliding" and len(at):
        first = np.flatnonzero(np.diff(at, prepend=at[0] - 2) > 1)
        ratio = np.maximum.reduceat(ratio, first)
        at = at[first]
    return Doublings((at + reach) * step // DAY_S, ratio)


def _times(cells: Cells, members: list[int]) -> np.ndarray:
    return cells.time_s[cells.rows(members)]


def doubling_rows(cells: Cells, calendar: Calendar, widths_s: list[int], seed: int) -> Iterator[dict[str, Any]]:
    """Rows of doublings: every width, alignment, zero rule, cell and pool with requests, and kind of day."""
    workdays = calendar.workdays
    kinds = {"workday": workdays, "weekend": ~workdays, "all": np.ones(calendar.days, dtype=bool)}
    for service, model, members in cells.groups():
        time_s = _times(cells, members)
        if not len(time_s):
            continue
        for width in widths_s:
            for alignment in ALIGNMENTS:
                for zero_rule in ZERO_RULES:
                    found = find_doublings(time_s, width, calendar.days, alignment, zero_rule)
                    per_day = np.bincount(found.day, minlength=calendar.days)
                    for kind, inside in kinds.items():
                        if not inside.any():
                            continue
                        rng = generator(
                            seed, "characterise", "doublings", width, alignment, zero_rule, service, model, kind
                        )
                        low, high = bootstrap_mean(per_day[inside], RESAMPLES, rng)
                        matches = model == "ChatGPT" and kind == "workday"
                        yield {
                            "width_s": width,
                            "alignment": alignment,
                            "zero_rule": zero_rule,
                            "service": service,
                            "model": model,
                            "day_type": kind,
                            "per_day": float(per_day[inside].mean()),
                            "low": low,
                            "high": high,
                            "days": int(inside.sum()),
                            "published": PUBLISHED.get(width) if matches else None,
                        }


def ratio_table(cells: Cells, calendar: Calendar, settings: dict[str, Any]) -> dict[str, npt.ArrayLike]:
    """Columns of burst_ratios: doublings of workdays by ratio, under the configured definition.

    Args:
        cells: the trace.
        calendar: its days.
        settings: `widths_s`, `alignment`, `zero_rule`, `service`, `model` (a name or 'all').

    Raises:
        UserError: the trace has no such service or model, or no workday.
    """
    chosen = [
        members
        for service, model, members in cells.groups()
        if (service, model) == (settings["service"], settings["model"])
    ]
    if not chosen:
        raise UserError(
            f"settings: service {settings['service']!r}, model {settings['model']!r} not in the trace; "
            "characterise.bursts names whose doublings Fig. 5 draws "
            f"(services conversation, api, all; models {', '.join(cells.models)}, all)"
        )
    workdays = calendar.workdays
    if not workdays.any():
        raise UserError(f"settings: no workday in {calendar.days} days from {calendar.start}")
    time_s = _times(cells, chosen[0])
    ratios = np.arange(2, OPEN_RATIO + 1)
    per_day = []
    for width in settings["widths_s"]:
        found = find_doublings(time_s, width, calendar.days, settings["alignment"], settings["zero_rule"])
        inside = found.ratio[workdays[found.day]]
        counts = np.bincount(np.minimum(inside, OPEN_RATIO).astype(np.int64), minlength=OPEN_RATIO + 1)
        per_day.append(counts[2:] / workdays.sum())
    widths = len(settings["widths_s"])
    return {
        "width_s": np.repeat(np.asarray(settings["widths_s"], dtype=np.int64), len(ratios)),
        "ratio": np.tile(ratios, widths),
        "open": np.tile(ratios == OPEN_RATIO, widths),
        "per_day": np.concatenate(per_day) if per_day else np.zeros(0),
    }


def measure_bursts(trace: Path, settings: dict[str, Any], doublings: Path, burst_ratios: Path) -> None:
    """Write both tables.

    Args:
        trace: trace.parquet.
        settings: `start`, `days`, `seed`, and those of `ratio_table`.
        doublings: doublings.parquet.
        burst_ratios: burst_ratios.parquet.

    Raises:
        UserError: the trace breaks its contract or leaves the calendar, or a setting is impossible.
    """
    calendar = Calendar.of(settings["start"], settings["days"])
    cells = read_cells(trace, calendar=calendar)
    BURST_RATIOS.write(ratio_table(cells, calendar, settings), burst_ratios)
    rows = list(doubling_rows(cells, calendar, settings["widths_s"], settings["seed"]))
    DOUBLINGS.write(pa.Table.from_pylist(rows, schema=DOUBLINGS.schema), doublings)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_settings(parser)
    parser.add_argument("--trace", type=Path, required=True, help="trace.parquet")
    for name in ("doublings", "burst-ratios"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="table to write")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    measure_bursts(args.trace, args.settings, args.doublings, args.burst_ratios)
