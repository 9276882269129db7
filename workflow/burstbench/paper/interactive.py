"""What the page's charts, runs and graph of provenance are drawn from: plain values for its script, no drawing.

A chart is drawn in the browser from the very CSV that the page offers for download; here stands only which columns mean
what. The runs come from the tables of the metrics room, the graph from the layout of the study and the files it names.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from burstbench.contracts import CELL_METRICS, SUMMARY, TIMELINE
from burstbench.files import read_json

# Seeds of each cell that are shown one by one, the first of them: ten would double the page.
SEEDS = 2

MODEL = {"column": "model"}
_HOURS = {"x": "hour", "x_name": "hour of the day", "choose": [MODEL]}


def _boxes(name: str) -> list[dict[str, Any]]:
    return [{"kind": "boxes", "y_name": name, **_HOURS}]


_CALENDAR = [{"kind": "calendar", "y": "requests", "published": "published", "y_name": "requests", "choose": [MODEL]}]
_RATE = {"y": "rate", "scale": 100, "low": "low", "high": "high", "y_name": "failed (%)"}
# By figure the views that its twin offers. `choose` are columns to choose a value of; `all`: or all of them at once;
# `start`: the one to begin with, "*" for all, else the first; `series`: columns whose values are lines of their own;
# `scale` multiplies y; `where` fixes columns.
VIEWS: dict[str, list[dict[str, Any]]] = {
    "fig01": _CALENDAR,
    "fig02": _CALENDAR,
    "fig03": _boxes("requests per hour"),
    "fig04": _boxes("requests per hour"),
    "fig05": [
        {
            "title": "by factor",
            "kind": "bars",
            "where": {"panel": "ratios"},
            "x": ["ratio"],
            "x_name": "factor from one window to the next",
            "y": "per_day",
            "y_name": "times a workday",
            "series": ["width_s"],
        },
        {
            "title": "doublings by definition",
            "kind": "bars",
            "where": {"panel": "definitions"},
            "x": ["alignment", "zero_rule"],
            "x_name": "windows, after an empty window",
            "y": "per_day",
            "low": "low",
            "high": "high",
            "y_name": "times a workday",
            "published": "published",
            "series": ["width_s"],
            "choose": [{"column": "service", "start": "all"}, {"column": "model", "start": "ChatGPT"}],
        },
    ],
    "fig06": [
        {
            "kind": "lines",
            "x": "window_s",
            "x_scale": 1 / 3600,
            "x_name": "time of day (h)",
            "y": "median",
            "low": "q1",
            "high": "q3",
            "y_name": "median, band: quartiles over workdays",
            "choose": [{"column": "parameter"}],
        }
    ],
    "fig07": [
        {
            "kind": "lines",
            "x": "tokens_low",
            "x_name": "tokens",
            "x_log": True,
            "y": "density",
            "y_name": "share of requests per decade",
            "series": ["curve"],
            "choose": [{"column": "source", "all": True}, {"column": "quantity"}],
        }
    ],
    "fig08": [
        {
            "title": title,
            "kind": "lines",
            "x": "request_low",
            "x_name": "request tokens",
            "y": y,
            "low": "p05",
            "high": "p95",
            "y_name": f"response tokens, {title}, band 5–95 %",
            "choose": [{"column": "source", "all": True}, {"column": "curve", "all": True, "start": "*"}],
        }
        for title, y in (("median", "median"), ("mean", "mean"))
    ],
    "fig09": [
        {
            "kind": "lines",
            "x": "response_low",
            "x_name": "response tokens",
            "y": "density",
            "y_name": "share per token",
            "series": ["request_low"],
            "series_name": "from {} request tokens",
            "choose": [{"column": "source"}],
        }
    ],
    "fig10": _boxes("request tokens per hour"),
    "fig11": _boxes("request tokens per hour"),
    "fig12": _boxes("response tokens per hour"),
    "fig13": _boxes("response tokens per hour"),
    "fig14": [
        {"title": "whole trace", "kind": "bars", "where": {"day": "0"}, "x": ["service", "model"], **_RATE},
        {
            "title": "by day",
            "kind": "lines",
            "where_not": {"day": "0"},
            "x": "day",
            "x_name": "day of the trace",
            **(_RATE | {"low": None, "high": None}),
            "choose": [
                {"column": "service", "all": True, "start": "*"},
                {"column": "model", "all": True, "start": "*"},
            ],
        },
    ],
    "fig16": [
        {
            "kind": "lines",
            "x": "time_s",
            "x_name": "time from the start of the run (s)",
            "y": "value",
            "y_of": "quantity",
            "y_names": {"kv_usage": "KV cache in use (%)", "failure_rate": "failed (%)", "beta": "β (s)"},
            "choose": [
                {"column": "quantity", "start": "kv_usage"},
                {"column": "stream", "all": True, "start": "*"},
                {"column": "model", "all": True, "start": "*"},
                {"column": "gpu", "all": True, "start": "*"},
                {"column": "seed", "all": True, "start": "mean"},
            ],
        }
    ],
    "fig17": [
        {
            "kind": "lines",
            "x": "step",
            "x_name": "step of the variation (−1: warm-up)",
            "y": "mean",
            "low": "low",
            "high": "high",
            "y_of": "metric",
            "y_names": {
                "latency_mean": "mean latency (s)",
                "latency_p90": "90th percentile of latency (s)",
                "token_latency_mean": "latency per token (s)",
                "throughput_tokens": "tokens/s",
                "failure_rate": "failed (share of 1)",
            },
            "choose": [
                {"column": "varied"},
                {"column": "metric"},
                {"column": "model", "all": True, "start": "*"},
                {"column": "gpu", "all": True, "start": "*"},
                {"column": "seed", "all": True, "start": "mean"},
            ],
        }
    ],
}
_SIMULATED_TIMES = {"y": "simulated_ms", "y_name": "simulated (ms)", "x": "published_ms", "x_name": "published (ms)"}
_GAUGES = [
    {
        "kind": "lines",
        "x": "time_s",
        "x_name": "time from the start of the log (s)",
        "y": "value",
        "y_of": "quantity",
        "y_names": {},
        "series": ["variant"],
        "choose": [{"column": "quantity"}],
    }
]
VIEWS |= {
    "validation_gpu": _GAUGES,
    "validation_log": _GAUGES,
    "validation_kernels": [
        {
            "kind": "lines",
            "x": "size",
            "x_name": "size (tokens)",
            "x_log": True,
            "y": "error",
            "y_name": "error of the analytic time (%)",
            "series": ["series"],
            "choose": [{"column": "panel"}, {"column": "gpu"}],
        }
    ],
    "validation_published": [
        {
            "kind": "lines",
            "points": True,
            **_SIMULATED_TIMES,
            "choose": [
                {"column": "quantity", "all": True, "start": "*"},
                {"column": "model", "all": True, "start": "*"},
                {"column": "gpu", "all": True, "start": "*"},
            ],
        }
    ],
    "figS01": [
        {
            "kind": "lines",
            "points": True,
            "x": "published",
            "x_log": True,
            "x_name": "published number",
            "y": "error",
            "scale": 100,
            "y_name": "error of the trace (%)",
            "choose": [{"column": "panel"}],
        }
    ],
}
# Figures that show no data.
NO_TWIN = ("fig15",)
_MOST_CHOICES = 24
# Per window of a run: column, what it is called, factor.
SERIES = (
    ("kv_usage", "KV cache in use (%)", 100.0),
    ("running", "running requests", 1.0),
    ("waiting", "waiting requests", 1.0),
    ("failed", "failed requests", 1.0),
    ("throughput_tokens_per_s", "tokens/s", 1.0),
    ("latency_s", "latency (s)", 1.0),
)


def generic(path: Path) -> list[dict[str, Any]]:
    """Return views for a figure that has none of its own: one for each column of numbers, against the first of them.

    Columns of words with few values can be chosen from.
    """
    with open(path, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    numbers, choose = [], []
    for column in rows[0] if rows else ():
        values = {row[column] for row in rows} - {""}
        if values and all(map(_is_number, values)):
            numbers.append(column)
        elif 1 < len(values) <= _MOST_CHOICES:
            choose.append({"column": column, "all": True, "start": "*"})
    if len(numbers) < 2:
        return []
    x, *others = numbers
    return [
        {
            "title": _words(y),
            "kind": "lines",
            "x": x,
            "x_name": _words(x),
            "y": y,
            "y_name": _words(y),
            # Rows of a table that is not known need not follow each other.
            "points": True,
            "choose": choose,
        }
        for y in others
    ]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _words(name: str) -> str:
    return name.replace("_", " ")


def views(figures: Mapping[str, Path]) -> dict[str, list[dict[str, Any]]]:
    """Return the views of each figure's twin.

    Args:
        figures: CSV of each figure, by id.
    """
    found = {name: VIEWS[name] if name in VIEWS else generic(path) for name, path in figures.items()}
    return {name: of for name, of in found.items() if of and name not in NO_TWIN}


def seeds_of(tables: Mapping[str, Path], path: Path | None) -> list[list[Any]]:
    """Return the lines of Fig. 17 once more for each seed alone: the figure's own table holds their means.

    Args:
        tables: tables of the metrics room by name.
        path: CSV of the figure; None where it was left out.

    Returns:
        (varied, model, gpu, seed, step, value, metric, mean) of each.
    """
    if path is None or not any(name.endswith("_cells") for name in tables):
        return []
    with open(path, encoding="utf-8", newline="") as stream:
        metrics = {(row["experiment"], row["varied"], row["metric"]) for row in csv.DictReader(stream)}
    found = []
    for experiment, varied, metric in sorted(metrics):
        if f"{experiment}_cells" not in tables:
            continue
        for row in _of_first_seeds(CELL_METRICS.read(tables[f"{experiment}_cells"])):
            if row["metric"] == metric and row["value"] is not None:
                key = [varied, row["model"], row["gpu"], str(row["seed"]), row["step"], row[varied], metric]
                found.append([*key, _short(row["value"])])
    return found


def runs(tables: Mapping[str, Path]) -> dict[str, Any]:
    """Return what the page shows of single runs: over time, and by step.

    Args:
        tables: tables of the metrics room: `<experiment>_timeline`, `_cells` and `_summary`.

    Returns:
        `series` (column, name, factor); `metrics` (name, unit); and `cells`, each with `experiment`, `model`, `gpu`,
        `seed`, `time` (s, middle of each window), `phases` (name, from, s), one list of numbers a column, and `steps`:
        `label`, the values of the metrics, and their lows and highs over the seeds.
    """
    experiments = sorted(name.removesuffix("_timeline") for name in tables if name.endswith("_timeline"))
    metrics: dict[str, str] = {}
    cells: dict[tuple[Any, ...], dict[str, Any]] = {}
    for experiment in experiments:
        for row in _of_first_seeds(TIMELINE.read(tables[f"{experiment}_timeline"])):
            key = (experiment, row["model"], row["gpu"], row["seed"])
            if key not in cells:
                named = dict(zip(("experiment", "model", "gpu", "seed"), key, strict=True))
                cells[key] = named | {"time": [], "phases": [], "steps": []} | {column: [] for column, _, _ in SERIES}
            cell = cells[key]
            cell["time"].append(_short(row["time_s"] + row["width_s"] / 2, 6))
            if not cell["phases"] or cell["phases"][-1][0] != row["phase"]:
                cell["phases"].append([row["phase"], _short(row["time_s"], 6)])
            for column, _, factor in SERIES:
                value = row[column]
                cell[column].append(None if value is None else _short(value * factor))
        spans: dict[tuple[Any, ...], tuple[Any, Any]] = {}
        for row in _rows(SUMMARY.read(tables[f"{experiment}_summary"])):
            spans[row["model"], row["gpu"], row["phase"], row["step"], row["metric"]] = (row["low"], row["high"])
        steps: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in _of_first_seeds(CELL_METRICS.read(tables[f"{experiment}_cells"])):
            metrics.setdefault(row["metric"], row["unit"])
            key = (experiment, row["model"], row["gpu"], row["seed"])
            at = (*key, row["phase"], row["step"])
            if at not in steps:
                label = row["phase"] if row["step"] < 0 else f"{row['phase']}, step {row['step'] + 1}"
                steps[at] = {"label": label, "alpha": _short(row["alpha"]), "beta": _short(row["beta"]), "values": {}}
                steps[at]["theta"] = _short(row["theta"])
                cells[key]["steps"].append(steps[at])
            low, high = spans.get((row["model"], row["gpu"], row["phase"], row["step"], row["metric"]), (None, None))
            steps[at]["values"][row["metric"]] = [_short(row["value"]), _short(low), _short(high)]
    names = list(metrics)
    for cell in cells.values():
        for step in cell["steps"]:
            step["values"] = [step["values"].get(name, [None] * 3) for name in names]
    return {
        "series": [[column, name] for column, name, _ in SERIES],
        "metrics": [[name, unit] for name, unit in metrics.items()],
        "cells": list(cells.values()),
    }


def _of_first_seeds(table: pa.Table) -> Iterable[dict[str, Any]]:
    """The rows of the first seeds of an experiment."""
    shown = sorted(set(table.column("seed").to_pylist()))[:SEEDS]
    return _rows(table.filter(pc.is_in(table.column("seed"), pa.array(shown, pa.int64()))))


def _rows(table: pa.Table) -> Iterable[dict[str, Any]]:
    yield from table.to_pylist()


def _short(value: float | None, digits: int = 4) -> float | None:
    """Round to significant digits; what is missing or not finite is None."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


# The graph's columns: rooms, one below the other.
COLUMNS = (
    ("sources",),
    ("trace", "prompts"),
    ("characterise",),
    ("plan",),
    ("serve",),
    ("metrics",),
    ("figures", "tables"),
    ("paper",),
)
NODE, GAP, LINE = 122, 14, 27  # width of a node, space between columns, height of a line, in px


def graph(
    jobs: Sequence[Mapping[str, Any]], files: Mapping[str, Mapping[str, Any]], pages: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the graph of provenance, laid out in columns by room.

    The jobs of one rule on one experiment are one step.

    Args:
        jobs: of `provenance.trace_back`.
        files: by path their `sha256`.
        pages: what is made of all figures, tables and verdicts; without a checksum of its own.

    Returns:
        `width`, `height` (px); `rooms` (name, `x`, `y`); `nodes`, each with `id`, `room`, `rule`, `title`, place (`x`,
        `y`), `files` and `inputs` (path, sha256), `needs` (ids), `seconds` of all its `jobs` (None where there are
        none), `versions` that its run records name; and `edges` (from, to, path).
    """
    steps: dict[str, dict[str, Any]] = {}
    for job in jobs:
        room, title = _step(job)
        step = steps.setdefault(
            f"{room}-{title}".replace(" ", "-").replace("_", "-"),
            {"room": room, "title": title, "rule": job["rule"], "files": [], "inputs": [], "seconds": [], "jobs": 0},
        )
        step["files"] += job["outputs"]
        step["inputs"] += [path for path in job["inputs"] if path not in step["inputs"]]
        step["seconds"] += [job["seconds"]] if job["seconds"] is not None else []
        step["jobs"] += 1
    ends = [path for step in steps.values() if step["room"] in ("figures", "tables", "paper") for path in step["files"]]
    for page in pages:
        made: dict[str, Any] = {"files": [], "inputs": ends, "seconds": [], "jobs": 1}
        steps[f"paper-{page}".replace(".", "-")] = {"room": "paper", "title": page, "rule": "paper"} | made
    makers = {path: name for name, step in steps.items() for path in step["files"]}
    heads, lines, height = _places(steps)
    nodes: dict[str, dict[str, Any]] = {}
    for name, step in steps.items():
        run = next((path for path in step["files"] if path.endswith("run.json")), None)
        nodes[name] = {key: step[key] for key in ("room", "rule", "title", "jobs")} | {
            "id": name,
            "files": [{"path": path, "sha256": files[path]["sha256"]} for path in step["files"]],
            "inputs": [{"path": path, "sha256": files[path]["sha256"]} for path in step["inputs"]],
            "needs": sorted({makers[path] for path in step["inputs"] if path in makers} - {name}),
            "seconds": round(sum(step["seconds"]), 2) if step["seconds"] else None,
            "versions": read_json(Path(run)).get("versions", {}) if run else {},
            "x": heads[step["room"]][0],
            "y": lines[name],
        }
    edges = [
        {"from": need, "to": name, "path": _curve(nodes[need], node)}
        for name, node in nodes.items()
        for need in node["needs"]
    ]
    return {
        "rooms": [{"name": room, "x": x, "y": y} for room, (x, y) in heads.items()],
        "nodes": list(nodes.values()),
        "edges": edges,
        "node_width": NODE,
        "width": 16 + len(COLUMNS) * (NODE + GAP) - GAP,
        "height": height,
    }


def _step(job: Mapping[str, Any]) -> tuple[str, str]:
    """Return room and title of the step that a job belongs to, from its rule and the folder of what it made."""
    folders = job["outputs"][0].split("/")[:-1]
    room = "sources" if folders[:2] == ["data", "raw"] else job["rule"].partition("_")[0]
    room = {"figure": "figures", "table": "tables", "scorecard": "paper", "parameters": "paper"}.get(room, room)
    if room == "sources":
        return room, folders[2]
    if room in ("figures", "tables"):
        return room, Path(job["outputs"][0]).stem
    verb = job["rule"].partition("_")[2] or job["rule"]
    if room in ("plan", "serve", "metrics") and len(folders) > 3:
        return room, folders[3] if verb != "lengths" else f"{folders[3]}, lengths"
    return room, verb


def _places(steps: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, tuple[int, int]], dict[str, int], int]:
    """Return where each room's name stands (x, y), the y of each step, and the height of the whole, in px.

    Columns are centred on one another.
    """
    of_room = {
        room: sorted(name for name, step in steps.items() if step["room"] == room)
        for column in COLUMNS
        for room in column
    }
    tall = [sum(len(of_room[room]) + 1 for room in column if of_room[room]) for column in COLUMNS]
    heads, lines = {}, {}
    for index, column in enumerate(COLUMNS):
        y = 8 + (max(tall) - tall[index]) * LINE // 2
        for room in column:
            if not of_room[room]:
                continue
            heads[room] = (8 + index * (NODE + GAP), y + 16)
            for step in of_room[room]:
                y += LINE
                lines[step] = y
            y += LINE
    return heads, lines, 16 + max(tall) * LINE


def _curve(start: Mapping[str, Any], end: Mapping[str, Any]) -> str:
    """Return an SVG path from the right side of one node to the left side of another (below it, in the same room)."""
    y, to = start["y"] + 10, end["y"] + 10
    if start["x"] == end["x"]:
        right = start["x"] + NODE
        return f"M{right} {y}C{right + 18} {y} {right + 18} {to} {right} {to}"
    x, until = start["x"] + NODE, end["x"]
    bend = max(30, (until - x) / 2)
    return f"M{x} {y}C{x + bend:g} {y} {until - bend:g} {to} {until} {to}"
