"""What the paper and the web page are made of: figures, tables, verdicts, parameters and where each came from.

Both artifacts are views of one value, `Document`. It is read from files only; every number that the texts print comes
out of it.
"""

import argparse
import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from burstbench.cli import settings
from burstbench.contracts import ENGINES, SCORECARD, TRACE_CHECK, TRACES
from burstbench.errors import UserError
from burstbench.files import read_json, sha256
from burstbench.paper import prose

FIGURES = tuple(f"fig{number:02}" for number in range(1, 18))
TABLES = ("table1", "table2", "table3")
CLAIMS = tuple(range(1, 20))
VERDICTS = ("reproduced", "not reproduced", "by construction", "not testable here")
ROMAN = {1: "I", 2: "II", 3: "III"}
FACTS = ("study", "trace", "prompts", "tokenizer", "engine", "start", "days")
GRID = ("models", "gpus", "seeds")

# What stands on every artifact that is not made from the recorded trace or a measured server.
TRACE_MARKS = {
    "twin": ("twin", "a statistical twin of the trace, made from published numbers; not the recorded requests"),
}
ENGINE_MARKS = {
    "simulator": ("simulated", "a simulated engine; no GPU was used"),
    "vllm-cpu": ("tiny on CPU", "measured on CPU with a tiny random model, to test the pipeline; no GPU was used"),
    "vllm-emulated": ("emulated", "a real vLLM whose model steps are emulated; no GPU was used"),
}


@dataclass(frozen=True)
class Artifact:
    """A file that the study made, or one it was made from.

    Attributes:
        name: what it is called where it is used.
        path: as recorded.
        sha256: 64 hexadecimal digits.
    """

    name: str
    path: str
    sha256: str


@dataclass(frozen=True)
class Exhibit:
    """A figure or a table.

    Attributes:
        id: "fig01" or "table1".
        number: as in the paper: "1" to "17", "I" to "III"; "S1" or "V1" and so on beside them.
        title: a few words.
        caption: full sentences.
        badge: what is simulated or twin in it, or "".
        facts: numbers that were found while it was made.
        inputs: what it was made from.
        files: its own files, by suffix without the dot.
        width_pt, height_pt: size of the drawing in points; 0 for a table.
        rows: cells of a table, header first; empty for a figure.
    """

    id: str
    number: str
    title: str
    caption: str
    badge: str
    facts: dict[str, Any]
    inputs: tuple[Artifact, ...]
    files: dict[str, Path]
    width_pt: float = 0.0
    height_pt: float = 0.0
    rows: tuple[tuple[str, ...], ...] = ()

    @property
    def anchor(self) -> str:
        """Its name among figures and tables together: a figure and a table may share an id."""
        return f"table_{self.id}" if self.rows and not self.id.startswith("table") else self.id


@dataclass(frozen=True)
class Document:
    """All that the paper and the page show.

    Attributes:
        facts: what was run, from the configuration.
        marks: (label, explanation) of what is not real in this study; empty when all is.
        figures, tables: in the paper's order.
        scorecard: rows of contract `scorecard`.
        findings: the same parts with their numbers (scorecard.json), for the text; empty when there are none.
        check: rows of contract `trace_check`, empty when there is none.
        parameters: the whole resolved configuration.
        runs: the run records, sorted by experiment, model, GPU and seed.
        sources: the files read beside figures and tables.
    """

    facts: dict[str, Any]
    marks: tuple[tuple[str, str], ...]
    figures: tuple[Exhibit, ...]
    tables: tuple[Exhibit, ...]
    scorecard: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    check: list[dict[str, Any]]
    parameters: dict[str, Any]
    runs: list[dict[str, Any]]
    sources: tuple[Artifact, ...]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a verb the options from which `from_options` collects the document."""
    parser.add_argument("--figures", type=Path, required=True, metavar="DIR", help="folder of fig01 ... fig17")
    parser.add_argument("--tables", type=Path, required=True, metavar="DIR", help="folder of table1 ... table3")
    parser.add_argument("--scorecard", type=Path, required=True, metavar="CSV", help="verdicts on the paper's claims")
    parser.add_argument("--findings", type=Path, metavar="JSON", help="the verdicts with their numbers, for the text")
    parser.add_argument("--check", type=Path, metavar="CSV", help="trace beside published numbers, where it was made")
    parser.add_argument("--parameters", type=Path, required=True, metavar="JSON", help="the resolved configuration")
    parser.add_argument("--run", type=Path, nargs="+", action="extend", default=[], metavar="JSON", help="run records")
    for kind in ("figures", "tables"):
        parser.add_argument(
            f"--more-{kind}", nargs="+", default=[], metavar="ID", help=f"{kind} beside the paper's own, in their order"
        )
    parser.add_argument(
        "--left-out", nargs="+", default=[], metavar="ID", help="figures and tables of the paper that were not made"
    )
    parser.add_argument("--facts", type=settings, required=True, help="what was run: a JSON object, or a file with one")


def from_options(args: argparse.Namespace) -> Document:
    """Collect the document from the options of `add_options`."""
    return collect(
        args.figures,
        args.tables,
        args.scorecard,
        args.parameters,
        args.facts,
        args.check,
        args.run,
        args.more_figures,
        args.more_tables,
        args.findings,
        args.left_out,
    )


def collect(
    figures: Path,
    tables: Path,
    scorecard: Path,
    parameters: Path,
    facts: Mapping[str, Any],
    check: Path | None = None,
    runs: Sequence[Path] = (),
    more_figures: Sequence[str] = (),
    more_tables: Sequence[str] = (),
    findings: Path | None = None,
    left_out: Sequence[str] = (),
) -> Document:
    """Read everything that the paper shows.

    Args:
        figures: folder with ``<id>.svg``, ``.csv`` and ``.json`` of every id in `FIGURES` but those left out.
        tables: folder with ``<id>.csv`` and ``.json`` of every id in `TABLES`, likewise.
        scorecard: CSV of contract `scorecard`.
        parameters: JSON object, the resolved configuration.
        facts: what was run; keys `FACTS`. The grid of cells, keys `GRID`, is taken from the parameters, and
            `repeats`, the most seeds that a number is the mean of.
        check: CSV of contract `trace_check`.
        runs: run records of the benchmark cells.
        more_figures: ids of figures beside the paper's own: "figS01" is numbered S1, others V1, V2 ... in this order.
        more_tables: likewise of tables.
        findings: scorecard.json, from which the text takes its numbers.
        left_out: ids of the paper's figures and tables that the study does not make, as an experiment was left out.

    Raises:
        UserError: a figure, table, claim, key or file is missing or not what it should be.
    """
    sources = [Artifact("scorecard", str(scorecard), _digest(scorecard))]
    rows = SCORECARD.read(scorecard).to_pylist()
    if findings is not None:
        sources.append(Artifact("findings", str(findings), _digest(findings)))
    if missing := sorted(set(CLAIMS) - {row["claim"] for row in rows}):
        raise UserError(f"{scorecard}: no row for claim {', '.join(map(str, missing))}; expected claims 1 to 19")
    checked: list[dict[str, Any]] = []
    if check is not None:
        checked = TRACE_CHECK.read(check).to_pylist()
        sources.append(Artifact("trace check", str(check), _digest(check)))
    configuration = _object(parameters)
    sources.append(Artifact("parameters", str(parameters), _digest(parameters)))
    for key in GRID:
        if not isinstance(configuration.get(key), list):
            raise UserError(f"{parameters}: {key}: found {configuration.get(key)!r}, expected a list")
    facts = check_facts(facts) | {key: configuration[key] for key in GRID}
    # The simulator repeats sweeps with more seeds than those whose runs are kept (`burstbench.metrics.sweep`).
    more = configuration.get("simulation", {}).get("seeds", []) if facts["engine"] == "simulator" else []
    facts["repeats"] = len({*facts["seeds"], *more})
    return Document(
        facts=facts,
        marks=marks(facts),
        figures=tuple(
            [_figure(figures, name, str(int(name[3:]))) for name in FIGURES if name not in left_out]
            + [_figure(figures, name, number) for name, number in _numbered(more_figures)]
        ),
        tables=tuple(
            [_table(tables, name, ROMAN[int(name[5:])]) for name in TABLES if name not in left_out]
            + [_table(tables, name, number) for name, number in _numbered(more_tables)]
        ),
        scorecard=rows,
        findings=_object(findings).get("parts", []) if findings else [],
        check=checked,
        parameters=configuration,
        runs=_runs(runs),
        sources=tuple(sources),
    )


def check_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts, completed by `end` (ISO date of the last day), or say what is missing in them."""
    for key in FACTS:
        if key not in facts:
            raise UserError(f"--facts: key {key!r} is missing; expected {', '.join(FACTS)}")
    if facts["trace"] not in TRACES:
        raise UserError(f"--facts: trace: found {facts['trace']!r}, expected one of {', '.join(TRACES)}")
    if facts["engine"] not in ENGINES:
        raise UserError(f"--facts: engine: found {facts['engine']!r}, expected one of {', '.join(ENGINES)}")
    try:
        end = date.fromisoformat(str(facts["start"])) + timedelta(days=int(facts["days"]) - 1)
    except ValueError as error:
        raise UserError(f"--facts: start and days: {error}; expected an ISO date and a number of days") from error
    return {"trace_files": [], **facts, "end": end.isoformat()}


def marks(facts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return (label, explanation) of what is not real: the twin, a simulated or emulated engine."""
    found = (TRACE_MARKS.get(facts["trace"]), ENGINE_MARKS.get(facts["engine"]))
    return tuple(mark for mark in found if mark)


def claims(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Group scorecard rows by claim.

    The outcome of a claim is the verdict that all its parts share, else "mixed": a claim of several parts is not
    called reproduced because one of them is.

    Returns:
        For each claim `claim`, `title`, `outcome` and `parts` (its rows, in file order).
    """
    grouped: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row["claim"], []).append(row)
    result = []
    for claim, parts in sorted(grouped.items()):
        verdicts = {part["verdict"] for part in parts}
        outcome = verdicts.pop() if len(verdicts) == 1 else "mixed"
        result.append({"claim": claim, "title": parts[0]["title"], "outcome": outcome, "parts": parts})
    return result


def count_verdicts(verdicts: Sequence[str]) -> dict[str, int]:
    """Count verdicts, in the order of `VERDICTS`; "mixed" comes last, where it occurs."""
    counted = {verdict: verdicts.count(verdict) for verdict in VERDICTS}
    return counted | ({"mixed": verdicts.count("mixed")} if "mixed" in verdicts else {})


def summarise_check(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Summarise how far the trace lies from the published numbers, by published table and unit.

    A clipped value is a lower limit: it is off only as far as the trace lies below it. Errors are relative, or
    differences where the unit is "1"; beside a published 0 there is none (contract `trace_check`).

    Returns:
        For each table and unit: `table`, `unit`, `n`, `clipped` (how many), `median`, `p90`, `largest` of the absolute
        errors, `item` that is furthest off (None and "" where no value has an error), and `within`, the share
        that is no further off than it could be read.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["table"], row["unit"]), []).append(row)
    result = []
    for (table, unit), members in groups.items():
        above = [row["clipped"] and row["found"] >= row["published"] for row in members]
        errors = [
            (0.0 if cleared else abs(row["error"]), row["item"])
            for row, cleared in zip(members, above, strict=True)
            if row["error"] is not None
        ]
        sizes = np.array([size for size, _ in errors])
        # One part in 10^9 of rounding between the two readings of one decimal number.
        read = [_shortfall(row) <= row["reading_error"] * (1 + 1e-9) for row in members]
        largest, item = max(errors, default=(None, ""))
        result.append(
            {
                "table": table,
                "unit": unit,
                "n": len(members),
                "clipped": sum(bool(row["clipped"]) for row in members),
                "median": float(np.median(sizes)) if errors else None,
                "p90": float(np.quantile(sizes, 0.9)) if errors else None,
                "largest": largest,
                "item": item,
                "within": float(np.mean(read)),
            }
        )
    return result


def _shortfall(row: Mapping[str, Any]) -> float:
    if row["clipped"]:
        return max(0.0, row["published"] - row["found"])
    return abs(row["found"] - row["published"])


def flatten(value: Any, key: str = "") -> list[tuple[str, str]]:
    """Turn nested parameters into (key, value) lines.

    Keys are joined by dots. A list of plain values, and a mapping inside a list, stand on one line in YAML's flow form.
    """
    if isinstance(value, Mapping) and value:
        lines = []
        for name, part in value.items():
            lines += flatten(part, f"{key}.{name}" if key else str(name))
        return lines
    if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        return [(f"{key}.{index}", _flow(part)) for index, part in enumerate(value)]
    return [(key, _flow(value))]


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_flow(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(part) for part in value) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def run_records(document: Document) -> list[Artifact]:
    """Return the run records as artifacts."""
    return [Artifact("run", run["path"], run["sha256"]) for run in document.runs]


def as_data(document: Document) -> dict[str, Any]:
    """Return the document as plain values, for the templates: what both artifacts print.

    Keys: `facts`, `marks`, `figures` and `tables` (by id), `claims`, `prose` (paragraphs by section), `verdicts` (of
    parts), `outcomes` (of claims), `check` (summary), `checked` (its rows), `parameters` (nested), `parameter_lines`,
    `runs`, `sources` and `inputs`
    (every input once: path, sha256 and what it is used in).
    """
    grouped = claims(document.scorecard)
    tables = {exhibit.id: exhibit.rows for exhibit in document.tables}
    sections = {str(row["claim"]): row["section"] for row in document.findings}
    used: dict[tuple[str, str], dict[str, list[str]]] = {}
    for exhibit in (*document.figures, *document.tables):
        kind = "Table" if exhibit.rows else "Fig."
        for source in exhibit.inputs:
            numbers = used.setdefault((source.path, source.sha256), {}).setdefault(kind, [])
            if exhibit.number not in numbers:
                numbers.append(exhibit.number)
    for source in (*document.sources, *run_records(document)):
        used.setdefault((source.path, source.sha256), {})[source.name] = []
    return {
        "facts": document.facts,
        "marks": [{"label": label, "text": text} for label, text in document.marks],
        "figures": {exhibit.id: _exhibit_data(exhibit, document.facts) for exhibit in document.figures},
        "tables": {exhibit.id: _exhibit_data(exhibit, document.facts) for exhibit in document.tables},
        "claims": [claim | {"section": sections.get(str(claim["claim"]), "")} for claim in grouped],
        "prose": prose.sections(document.findings, document.facts["trace"] == "twin", tables),
        "verdicts": count_verdicts([row["verdict"] for row in document.scorecard]),
        "outcomes": count_verdicts([claim["outcome"] for claim in grouped]),
        "check": summarise_check(document.check),
        "checked": len(document.check),
        "parameters": document.parameters,
        "parameter_lines": [{"key": key, "value": value} for key, value in flatten(document.parameters)],
        "runs": document.runs,
        "inputs": [
            {
                "path": path,
                "sha256": digest,
                "used": "; ".join(f"{kind} {', '.join(numbers)}".strip() for kind, numbers in uses.items()),
            }
            for (path, digest), uses in sorted(used.items())
        ],
    }


def _exhibit_data(exhibit: Exhibit, known: Mapping[str, Any]) -> dict[str, Any]:
    # What holds for the whole study need not be said beside each exhibit.
    own = {key: value for key, value in exhibit.facts.items() if key not in known}
    return {
        "id": exhibit.id,
        "anchor": exhibit.anchor,
        "number": exhibit.number,
        "title": exhibit.title,
        "caption": exhibit.caption,
        "badge": exhibit.badge,
        "facts": [{"key": key, "value": value} for key, value in flatten(own) if key],
        "inputs": [vars(source) for source in exhibit.inputs],
        "width_pt": exhibit.width_pt,
        "height_pt": exhibit.height_pt,
        "header": list(exhibit.rows[0]) if exhibit.rows else [],
        "rows": [list(row) for row in exhibit.rows[1:]],
    }


def _numbered(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return each id with its number: that of the supplement stands in the id, validation is counted."""
    own = re.compile(r"(?:fig|table)S(\d+)")
    counted = [name for name in names if not own.fullmatch(name)]
    return [
        (name, f"S{int(found[1])}" if (found := own.fullmatch(name)) else f"V{counted.index(name) + 1}")
        for name in names
    ]


def _figure(folder: Path, name: str, number: str) -> Exhibit:
    record, files = _record(folder, name, ("svg", "csv"), ("pdf", "png"))
    width, height = _svg_size(files["svg"])
    return _exhibit(record, name, number, files, width_pt=width, height_pt=height)


def _table(folder: Path, name: str, number: str) -> Exhibit:
    record, files = _record(folder, name, ("csv",), ("md", "tex"))
    with open(files["csv"], encoding="utf-8", newline="") as stream:
        rows = tuple(tuple(row) for row in csv.reader(stream))
    if len(rows) < 2 or len({len(row) for row in rows}) != 1:
        raise UserError(f"{files['csv']}: found {len(rows)} lines, expected a header and rows of equal length")
    return _exhibit(record, name, number, files, rows=rows)


def _record(
    folder: Path, name: str, needed: Sequence[str], optional: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Path]]:
    files = {}
    for suffix in (*needed, "json", *optional):
        path = folder / f"{name}.{suffix}"
        if path.is_file():
            files[suffix] = path
        elif suffix not in optional:
            raise UserError(f"{path}: no such file; the paper needs {', '.join(FIGURES)} and {', '.join(TABLES)}")
    return _object(files["json"]), files


def _exhibit(record: Mapping[str, Any], name: str, number: str, files: dict[str, Path], **kwargs: Any) -> Exhibit:
    path = files["json"]
    for key in ("id", "title", "caption", "inputs"):
        if key not in record:
            raise UserError(f"{path}: key {key!r} is missing; expected id, title, caption, inputs, facts, badge")
    if record["id"] != name:
        raise UserError(f"{path}: id: found {record['id']!r}, expected {name!r}")
    inputs = []
    for source in record["inputs"]:
        try:
            inputs.append(Artifact(source["name"], source["path"], source["sha256"]))
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: inputs: found {source!r}, expected name, path and sha256") from error
    return Exhibit(
        id=name,
        number=number,
        title=record["title"],
        caption=record["caption"],
        badge=record.get("badge") or "",
        facts=record.get("facts") or {},
        inputs=tuple(inputs),
        files=files,
        **kwargs,
    )


_LENGTH = re.compile(r"([0-9.]+)(pt|px|in|)")
_POINTS = {"pt": 1.0, "": 0.75, "px": 0.75, "in": 72.0}


def _svg_size(path: Path) -> tuple[float, float]:
    """Return width and height of an SVG in points, from the attributes of its root element."""
    with open(path, encoding="utf-8") as stream:
        head = stream.read(8192)
    root = re.search(r"<svg\b[^>]*>", head)
    sizes = []
    for side in ("width", "height"):
        attribute = re.search(rf'\b{side}="([^"]*)"', root[0]) if root else None
        length = _LENGTH.fullmatch(attribute[1].strip()) if attribute else None
        if length is None:
            raise UserError(f"{path}: not a drawing with a size: expected <svg width=... height=...> in pt, px or in")
        sizes.append(float(length[1]) * _POINTS[length[2]])
    return sizes[0], sizes[1]


def _runs(paths: Sequence[Path]) -> list[dict[str, Any]]:
    runs = []
    for path in paths:
        run = _object(path)
        for key in ("experiment", "model", "gpu", "seed"):
            if key not in run:
                raise UserError(f"{path}: key {key!r} is missing; expected a run record")
        runs.append({**run, "path": str(path), "sha256": sha256(path)})
    return sorted(runs, key=lambda run: (run["experiment"], run["model"], run["gpu"], run["seed"]))


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: found {type(value).__name__}, expected a JSON object")
    return value


def _digest(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return sha256(path)
