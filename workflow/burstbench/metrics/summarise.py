"""Failure rate, latency and throughput of one experiment's cells: by part, over the seeds, and over time.

A simulated cell takes a tenth of a second, its three jobs and their files much longer. Those of a study's `seeds` have
files; of more seeds (`simulation.seeds`) the same runs are made here without (`burstbench.metrics.sweep`), so that all
numbers rest on all of them.
"""

import argparse
import importlib
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from burstbench.cli import add_settings
from burstbench.contracts import CELL_METRICS, SUMMARY, TIMELINE
from burstbench.errors import UserError
from burstbench.metrics import definitions
from burstbench.metrics.definitions import NS_PER_S, Floats, Part
from burstbench.metrics.runs import Cell, Run, add_cells, read_run
from burstbench.progress import progress
from burstbench.seeds import generator

Columns = dict[str, list[Any]]

CONFIDENCE = 0.95
"""Coverage of the intervals over the seeds."""
WHOLE_PHASE = -1
"""The step that stands for a whole phase."""
MAX_INTERVALS = 1_000_000
"""A finer timeline is refused: it is an interval of milliseconds by mistake."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `burstbench metrics summarise`."""
    add_settings(parser)
    add_cells(parser)
    parser.add_argument("--cells", type=Path, required=True, help="metrics of each cell, to write")
    parser.add_argument("--summary", type=Path, required=True, help="the same over the seeds, to write")
    parser.add_argument("--timeline", type=Path, required=True, help="metrics over time, to write")
    parser.add_argument("--pool-index", type=Path, help="pool_index.parquet, to simulate the settings' `repeat`")
    parser.add_argument("--replies", type=Path, help="replies.parquet of the prompt pool, for the same")
    parser.add_argument("--gamma-profile", type=Path, help="gamma_profile.parquet, where that mirrors the trace")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    settings = args.settings
    more: Iterable[Run] = ()
    repeat = settings.get("repeat")
    if repeat:
        if not args.pool_index or not args.replies:
            raise UserError(
                "--pool-index and --replies are missing: the settings ask to simulate more seeds (`repeat`)"
            )
        # By name: the metrics of measured runs do not change with the simulator (`burstbench.fingerprint`).
        sweep = importlib.import_module("burstbench.metrics.sweep")
        more = sweep.repeats(repeat, args.pool_index, args.replies, args.gamma_profile)
    summarise(
        args.cell,
        args.cells,
        args.summary,
        args.timeline,
        interval_s=settings["interval_s"],
        resamples=settings["bootstrap"],
        good_ttft_s=settings["goodput"]["ttft_s"],
        good_tpot_s=settings["goodput"]["tpot_s"],
        seed=settings["seed"],
        more=more,
        more_count=len(repeat["cells"]) * len(repeat["seeds"]) if repeat else 0,
    )


def summarise(
    folders: Sequence[tuple[Path, Path]],
    cells_path: Path,
    summary_path: Path,
    timeline_path: Path,
    *,
    interval_s: float,
    resamples: int,
    good_ttft_s: float,
    good_tpot_s: float,
    seed: int,
    more: Iterable[Run] = (),
    more_count: int = 0,
) -> None:
    """Measure every cell and write the three tables; the order of `folders` does not matter.

    Args:
        folders: plan folder and serve folder of each cell.
        cells_path: metrics of each cell, to write.
        summary_path: the same over the seeds, to write.
        timeline_path: metrics over time, to write.
        interval_s: grid of the timeline [s].
        resamples: bootstrap resamples behind each interval.
        good_ttft_s: longest TTFT of a good answer [s].
        good_tpot_s: longest time per output token of a good answer [s/token].
        seed: root seed of the study.
        more: cells without files.
        more_count: how many.

    Raises:
        UserError: a cell's files are wrong or disagree, a cell stands twice, or two seeds of a cell differ in parts.
    """
    if not interval_s > 0:
        raise UserError(f"metrics.interval_s: found {interval_s}, expected more than 0")
    cells: Columns = defaultdict(list)
    timeline: list[dict[str, Any]] = []
    seen: dict[Cell, Path] = {}
    made_here = Path("repeat")
    filed = ((read_run(plan_dir, serve_dir), serve_dir) for plan_dir, serve_dir in folders)
    with progress("Measuring cells", len(folders) + more_count, "cells") as report:
        for number, (measured, where) in enumerate(itertools.chain(filed, ((run, made_here) for run in more)), 1):
            if measured.cell in seen:
                raise UserError(f"{where}: cell {tuple(measured.cell)} again, first in {seen[measured.cell]}")
            seen[measured.cell] = where
            for part in parts(measured, good_ttft_s, good_tpot_s):
                for name, values in part.items():
                    cells[name].extend(values)
            timeline.append(timeline_of(measured, interval_s))
            report(number)
    order = sorted(range(len(timeline)), key=lambda index: list(seen)[index])
    names = list(timeline[0])
    CELL_METRICS.write(_sorted(cells), cells_path)
    SUMMARY.write(over_seeds(_sorted(cells), resamples, seed), summary_path)
    columns: dict[str, Any] = {}
    for name in names:
        pieces = [timeline[index][name] for index in order]
        columns[name] = [value for piece in pieces for value in piece]
    TIMELINE.write(columns, timeline_path)


def parts(
    measured: Run, good_ttft_s: float, good_tpot_s: float, only: Collection[str] | None = None
) -> Iterator[Columns]:
    """Yield the CELL_METRICS rows of each part: every phase, and each step of a phase that has several.

    Args:
        measured: one cell.
        good_ttft_s: longest TTFT of a good answer [s].
        good_tpot_s: longest time per output token of a good answer [s/token].
        only: the metrics wanted; None for all.
    """
    intended, step = measured.requests.intended, measured.step
    for number, name in enumerate(measured.phases):
        rows = np.flatnonzero(measured.phase == number)
        first, last = int(rows[0]), int(rows[-1]) + 1
        edges = [first, *(first + 1 + np.flatnonzero(np.diff(step[first:last]))), last]
        pieces = [(WHOLE_PHASE, first, last)]
        if len(edges) > 2:
            pieces += [(int(step[a]), int(a), int(b)) for a, b in pairwise(edges)]
        for which, a, b in pieces:
            end = intended[b] if b < len(intended) else measured.end_ns
            part = Part(
                measured.requests, measured.engine, a, b, float(intended[a]), float(end), good_ttft_s, good_tpot_s
            )
            metrics = list(definitions.measure(part, only))
            theta = measured.theta[a:b][~np.isnan(measured.theta[a:b])]
            constant = {
                **measured.cell._asdict(),
                "phase": name,
                "step": which,
                "alpha": float(np.mean(measured.alpha[a:b])),
                "beta": float(np.mean(measured.beta[a:b])),
                "theta": float(np.mean(theta)) if theta.size else None,
            }
            columns = {key: [value] * len(metrics) for key, value in constant.items()}
            yield columns | {
                key: [metric[index] for metric in metrics] for index, key in enumerate(("metric", "unit", "value", "n"))
            }


def over_seeds(cells: Mapping[str, Sequence[Any]], resamples: int, seed: int) -> Columns:
    """Average CELL_METRICS over the seeds: mean and 95 % percentile-bootstrap interval of that mean.

    The bootstrap draws as many seeds as there are, with replacement, `resamples` times; the interval lies between the
    2.5th and the 97.5th percentile of their means (Efron & Tibshirani 1993, chapter 13). With two seeds that is the
    range of the two: it understates the uncertainty, as any interval from two values would.

    Returns:
        The columns of SUMMARY, in the order of the cells.

    A step that lasts a time (a mirrored window, say) may hold no request in some seed: it is averaged over the others,
    and `seeds` says how many they are.

    Raises:
        UserError: a seed lacks a whole phase that another has.
    """
    keys = ("experiment", "model", "gpu", "phase", "step", "metric")
    rows: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(zip(*(cells[name] for name in keys), strict=True)):
        rows.setdefault(key, []).append(row)
    repeats: dict[tuple[Any, ...], set[int]] = defaultdict(set)
    for key, found in rows.items():
        repeats[key[:3]].update(cells["seed"][row] for row in found)
    for key, found in rows.items():
        missing = repeats[key[:3]] - {cells["seed"][row] for row in found}
        if missing and key[4] == -1:
            raise UserError(f"{' '.join(key[:3])}: seed {min(missing)} has no phase {key[3]!r}")
    columns: Columns = {name: [key[index] for key in rows] for index, name in enumerate(keys)}
    firsts = [found[0] for found in rows.values()]
    columns["unit"] = [cells["unit"][row] for row in firsts]
    for name in ("alpha", "beta", "theta"):
        known = [[cells[name][row] for row in found if cells[name][row] is not None] for found in rows.values()]
        columns[name] = [float(np.mean(values)) if values else None for values in known]
    samples = [[cells["value"][row] for row in found if cells["value"][row] is not None] for found in rows.values()]
    columns["seeds"] = [len(values) for values in samples]
    columns["mean"] = [float(np.mean(values)) if values else None for values in samples]
    columns["low"], columns["high"] = [None] * len(samples), [None] * len(samples)
    for size in sorted({len(values) for values in samples if len(values) >= 2}):
        which = [index for index, values in enumerate(samples) if len(values) == size]
        rng = generator(seed, "metrics", "bootstrap", size)
        low, high = bootstrap_means(np.array([samples[index] for index in which]), resamples, rng)
        for index, lower, upper in zip(which, low.tolist(), high.tolist(), strict=True):
            columns["low"][index], columns["high"][index] = lower, upper
    return columns


def bootstrap_means(samples: Floats, resamples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Percentile-bootstrap interval of the mean of each row.

    All rows use the same resamples, so that a table does not depend on how many rows it has.

    Args:
        samples: shape (m, n), n >= 2.
        resamples: how many.
        rng: source of the resamples.

    Returns:
        Lower and upper ends, shape (m,) each.
    """
    count, size = samples.shape
    drawn = rng.integers(size, size=(resamples, size))
    weights = np.stack([(drawn == index).sum(axis=1) for index in range(size)]) / size  # (n, resamples)
    low, high = np.empty(count), np.empty(count)
    tail = 100 * (1 - CONFIDENCE) / 2
    for start in range(0, count, 1000):
        block = samples[start : start + 1000]
        # A plain sum over the few seeds: a matrix product may round differently from machine to machine.
        means = sum(block[:, index, None] * weights[index] for index in range(size))
        low[start : start + 1000], high[start : start + 1000] = np.percentile(means, [tail, 100 - tail], axis=1)
    return low, high


def timeline_of(measured: Run, interval_s: float) -> dict[str, list[Any]]:
    """Measure one cell on a grid of `interval_s` from the start of the run to its end: the columns of TIMELINE."""
    requests, engine = measured.requests, measured.engine
    count = max(int(np.ceil(measured.end_ns / (interval_s * NS_PER_S))), 1)
    if count > MAX_INTERVALS:
        raise UserError(f"metrics.interval_s: {interval_s} s makes {count} intervals, expected at most {MAX_INTERVALS}")
    edges: Floats = np.arange(count + 1, dtype=np.float64) * (interval_s * NS_PER_S)
    last = np.searchsorted(requests.intended, edges[1:], side="left")
    cell = np.clip(np.searchsorted(edges, requests.intended, side="right") - 1, 0, count - 1)
    last[-1] = len(requests.intended)
    ended = np.clip(np.searchsorted(edges, requests.done[requests.ok], side="right") - 1, 0, count - 1)
    arrivals = np.bincount(cell, minlength=count)
    failed = np.bincount(cell[~requests.ok], minlength=count)
    lasting = (requests.done - requests.intended) / NS_PER_S
    words = requests.response_tokens > 0
    per_token = np.divide(lasting, requests.response_tokens, out=np.zeros_like(lasting), where=words)
    before = np.maximum(last - 1, 0)
    started = last > 0

    def mean_of(values: Floats, chosen: NDArray[np.bool_]) -> list[float | None]:
        n = np.bincount(cell[chosen], minlength=count)
        total = np.bincount(cell[chosen], weights=values[chosen], minlength=count)
        return _nullable(np.divide(total, n, out=np.zeros(count), where=n > 0), n > 0)

    columns: dict[str, list[Any]] = {name: [value] * count for name, value in measured.cell._asdict().items()}
    columns |= {
        "time_s": (np.arange(count) * interval_s).tolist(),
        "width_s": [interval_s] * count,
        "phase": [
            measured.phases[code] if known else None
            for code, known in zip(measured.phase[before].tolist(), started.tolist(), strict=True)
        ],
        "alpha": _nullable(measured.alpha[before], started),
        "beta": _nullable(measured.beta[before], started),
        "arrivals": arrivals.tolist(),
        "completed": np.bincount(ended, minlength=count).tolist(),
        "failed": failed.tolist(),
        "failure_rate": _nullable(failed / np.maximum(arrivals, 1), arrivals > 0),
        "latency_s": mean_of(lasting, requests.ok),
        "token_latency_s": mean_of(per_token, requests.ok & words),
        "throughput_tokens_per_s": [None] * count,
        "kv_usage": [None] * count,
        "running": [None] * count,
        "waiting": [None] * count,
    }
    if engine is not None:
        columns["throughput_tokens_per_s"] = (np.diff(engine.tokens_until(edges)) / interval_s).tolist()
        # A sum of many shares may exceed 1 by a rounding error.
        columns["kv_usage"] = np.clip(engine.average(engine.kv_usage, edges), 0, 1).tolist()
        columns["running"] = np.maximum(engine.average(engine.running, edges), 0).tolist()
        columns["waiting"] = np.maximum(engine.average(engine.waiting, edges), 0).tolist()
    return columns


def _nullable(values: NDArray, known: NDArray[np.bool_]) -> list[Any]:
    return [value if valid else None for value, valid in zip(values.tolist(), known.tolist(), strict=True)]


def _sorted(cells: Columns) -> Columns:
    """The rows by cell; the parts and metrics of a cell keep their order."""
    keys = list(zip(cells["experiment"], cells["model"], cells["gpu"], cells["seed"], strict=True))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return {name: [values[index] for index in order] for name, values in cells.items()}
