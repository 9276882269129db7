"""What every figure and table takes in and gives back: named tables, facts, and captions that state their origin."""

import argparse
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from burstbench.contracts import ENGINES, TRACES, Contract, label, real, whole
from burstbench.errors import UserError
from burstbench.files import sha256

# Tables read off the published figures (data/published). Their labels are the paper's: "Conversation", "API".
PUBLISHED_SERVICES = {"conversation": "Conversation", "api": "API"}
PUBLISHED_DAILY_REQUESTS = Contract(
    "published_daily_requests",
    "Requests per day, read off the published heat maps (Figs. 1, 2).",
    (
        label("date", "ISO date"),
        whole("iso_week", "1", "ISO week", 1),
        label("weekday", "Mon to Sun"),
        label("service", "Conversation or API", allowed=tuple(PUBLISHED_SERVICES.values())),
        label("model", "model"),
        whole("requests", "requests", "empty where the cell is blank", nullable=True),
        whole("clipped", "1", "1 where the colour bar ends: the value is a lower limit", 0, maximum=1, nullable=True),
    ),
    key=("date", "service", "model"),
)
PUBLISHED_HOURLY_BOXES = Contract(
    "published_hourly_boxes",
    "Quartiles and whiskers over the days by hour, read off the published box plots (Figs. 3, 4, 10-13).",
    (
        label(
            "quantity",
            "what is counted",
            allowed=("hourly_request_count", "hourly_request_tokens", "hourly_response_tokens"),
        ),
        label("service", "Conversation or API", allowed=tuple(PUBLISHED_SERVICES.values())),
        label("model", "model"),
        whole("hour", "h", "hour of the day", 0, maximum=23),
        *(
            real(name, "requests or tokens", "empty where not readable", nullable=True)
            for name in ("whisker_low", "q1", "median", "q3", "whisker_high")
        ),
    ),
    key=("quantity", "service", "model", "hour"),
)
PUBLISHED_RESPONSE_BY_REQUEST = Contract(
    "published_response_by_request",
    "Response tokens at every 10 request tokens, read off the published figure (Fig. 8).",
    (
        label("service", "Conversation or API", allowed=tuple(PUBLISHED_SERVICES.values())),
        label("model", "model"),
        real("request_tokens", "tokens", "request tokens", 0),
        *(
            real(f"response_{name}", "tokens", "of the response tokens", nullable=True)
            for name in ("median", "mean", "p05", "p95")
        ),
    ),
    key=("service", "model", "request_tokens"),
)

PUBLISHED_READING_ERRORS = Contract(
    "published_reading_errors",
    "How far the true value may lie from one that was read off a published figure.",
    (
        label("table", "file of data/published"),
        label("quantity", "what is counted"),
        label("service", "Conversation or API", allowed=tuple(PUBLISHED_SERVICES.values())),
        label("model", "model"),
        label("unit", "unit of the error"),
        real("reading_error", "as `unit`", "one pixel or one step of colour", 0),
    ),
    key=("table", "quantity", "service", "model"),
)

# What must be known of an artifact's origins: of the trace it shows, of the engine whose runs it shows.
FACTS = {"trace": ("trace", "start", "days"), "engine": ("engine",)}
# What an artifact is marked with when its numbers are not recorded or measured ones.
BADGES = {"twin": "twin", "simulator": "simulated", "vllm-cpu": "tiny on CPU", "vllm-emulated": "emulated"}
GAMMA_CELL = ("conversation", "ChatGPT")  # the paper's; of a trace without it, the one with the most fitted windows
Columns = dict[str, np.ndarray]


class InputError(UserError):
    """A figure or table was called without a table it needs, with one it does not use, or with wrong facts."""


@dataclass(frozen=True)
class Artifact:
    """What a figure or table is made from.

    Attributes:
        id: fig01 … fig17, table1 … table3.
        title: one line, without a full stop.
        required, optional: tables by the name they are given under.
        origins: "trace" where the trace's data are shown, "engine" where runs' data are.
    """

    id: str
    title: str
    required: Mapping[str, Contract] = field(default_factory=dict)
    optional: Mapping[str, Contract] = field(default_factory=dict)
    origins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """The tables and facts given to one figure or table.

    Attributes:
        artifact: what is made.
        tables: paths by name, checked against the artifact's needs.
        facts: the study's facts (trace, engine, start, days, models, gpus, seeds ...).
    """

    artifact: Artifact
    tables: Mapping[str, Path]
    facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        name = self.artifact.id
        for needed in self.artifact.required:
            if needed not in self.tables:
                raise InputError(f"{name}: table {needed!r} is missing; give --table {needed}=PATH")
        known = [*self.artifact.required, *self.artifact.optional]
        for given in self.tables:
            if given not in known:
                raise InputError(f"{name}: table {given!r} is not used here; expected {', '.join(known) or 'none'}")
        self.require(self.artifact.origins)

    def require(self, origins: Sequence[str]) -> None:
        """Check that the facts say what must be said of these origins ("trace", "engine").

        Raises:
            InputError: a fact is missing or not one of the known values.
        """
        name = self.artifact.id
        for origin in origins:
            for fact in FACTS[origin]:
                if fact not in self.facts:
                    found = ", ".join(sorted(self.facts)) or "nothing"
                    raise InputError(f"{name}: --facts: key {fact!r} is missing; found {found}")
            allowed = {"trace": TRACES, "engine": ENGINES}[origin]
            if self.facts[origin] not in allowed:
                found = self.facts[origin]
                raise InputError(f"{name}: --facts: {origin}: found {found!r}, expected one of {', '.join(allowed)}")

    def has(self, name: str) -> bool:
        """Whether an optional table was given."""
        return name in self.tables

    def read(self, name: str) -> Columns:
        """Read a table as NumPy columns: null becomes NaN in numbers and "" in labels.

        Raises:
            ContractError: the file is missing or breaks its contract.
        """
        contract = self.artifact.required.get(name) or self.artifact.optional[name]
        return as_columns(contract.read(self.tables[name]))

    def record(self, badge: str, title: str, caption: str) -> dict[str, Any]:
        """Return the JSON object that stands beside the artifact."""
        return {
            "id": self.artifact.id,
            "title": title,
            "caption": caption,
            "badge": badge,
            "facts": dict(self.facts),
            "inputs": [
                {"name": name, "path": str(path), "sha256": sha256(path)} for name, path in sorted(self.tables.items())
            ],
        }


def as_columns(table: pa.Table) -> Columns:
    """Return a table's columns as arrays: labels as objects, whole numbers without gaps as integers, else floats."""
    result: Columns = {}
    for name in table.column_names:
        values = table.column(name)
        if pa.types.is_string(values.type):
            result[name] = np.array([value or "" for value in values.to_pylist()], dtype=object)
        elif values.null_count:
            result[name] = values.cast(pa.float64()).to_numpy()
        else:
            result[name] = values.to_numpy()
    return result


def where(columns: Columns, **values: Any) -> Columns:
    """Return the rows in which each named column has the given value."""
    keep = np.ones(len(next(iter(columns.values()))), dtype=bool)
    for name, value in values.items():
        keep &= columns[name] == value
    return {name: array[keep] for name, array in columns.items()}


def size(columns: Columns) -> int:
    """Return the number of rows."""
    return len(next(iter(columns.values())))


def in_order(columns: Columns, name: str) -> Columns:
    """Return the rows in rising order of one column."""
    order = np.argsort(columns[name], kind="stable")
    return {key: array[order] for key, array in columns.items()}


def distinct(values: np.ndarray, first: Sequence[str] = ()) -> list[str]:
    """Return the labels that occur: those of `first` in their order, then the others by name."""
    found = set(values.tolist())
    return [*(value for value in first if value in found), *sorted(found - set(first))]


def gamma_cell(profile: Columns) -> tuple[str, str]:
    """Return the service and model whose burstiness is shown: Fig. 6 is of it."""
    fitted: dict[tuple[str, str], int] = {}
    for service, model, n in zip(profile["service"], profile["model"], profile["windows"], strict=True):
        fitted[service, model] = fitted.get((service, model), 0) + int(n)
    if GAMMA_CELL in fitted:
        return GAMMA_CELL
    return max(sorted(fitted), key=lambda cell: fitted[cell], default=GAMMA_CELL)


# Captions -------------------------------------------------------------------------------------------------------------


def badge(artifact: Artifact, facts: Mapping[str, Any]) -> str:
    """Return what the artifact is marked with: "twin", "simulated", both, or "".

    Args:
        artifact: its `origins` say which of the two concern it.
        facts: `trace` and `engine` decide.
    """
    keys = [facts[origin] for origin in ("trace", "engine") if origin in artifact.origins]
    return " · ".join(BADGES[key] for key in keys if key in BADGES)


def day(date: str) -> str:
    """Return "1 November 2023" for "2023-11-01"."""
    value = datetime.date.fromisoformat(date)
    return f"{value.day} {value:%B %Y}"


def window_text(facts: Mapping[str, Any]) -> str:
    """Return the trace's period: first and last day, and how many."""
    try:
        start = datetime.date.fromisoformat(str(facts["start"]))
        last = start + datetime.timedelta(days=int(facts["days"]) - 1)
    except ValueError as error:
        raise InputError(f"--facts: start {facts['start']!r}, days {facts['days']!r}: {error}") from error
    return f"{day(start.isoformat())} to {day(last.isoformat())} ({facts['days']} days, local time)"


def trace_text(facts: Mapping[str, Any]) -> str:
    """Return where the trace's numbers come from."""
    if facts["trace"] == "twin":
        return "statistical twin of BurstGPT, generated from published numbers (no recorded request is in it)"
    files = ", ".join(Path(file).name for file in facts.get("trace_files", [])) or "a trace"
    checksum = facts.get("trace_sha256")
    return f"{files} (SHA-256 {str(checksum)[:12]}…)" if checksum else files


def engine_text(facts: Mapping[str, Any]) -> str:
    """Return what served the requests of the runs."""
    engines = {
        "simulator": "simulated engine (analytic step times, no GPU)",
        "vllm": "vLLM",
        "vllm-cpu": "measured on CPU with a tiny random model (vLLM; no GPU, not the paper's models)",
        "vllm-emulated": "vLLM with an emulated GPU",
        "endpoint": "an OpenAI-compatible server",
    }
    text = engines[facts["engine"]]
    if prompts := facts.get("prompts"):
        text += f"; prompts: {str(prompts).replace('_', ' ').replace('sharegpt', 'ShareGPT')}"
    if seeds := facts.get("seeds"):
        text += f"; seeds {', '.join(map(str, seeds))}"
    return text


def replies_text(facts: Mapping[str, Any]) -> str:
    """Return the warning about response lengths of a simulated run, or ""."""
    if facts["engine"] != "simulator":
        return ""
    return (
        "The run's response lengths are drawn from ShareGPT replies by the simulated engine; "
        "Llama-2 itself produced none of them."
    )


def caption(what: str, facts: Mapping[str, Any], origins: Sequence[str], filters: str, n: str, extra: str = "") -> str:
    """Return a caption: what it shows, its source, window, filter and n, and remarks."""
    parts = [what.rstrip(".") + "."]
    if "trace" in origins:
        parts.append(f"Trace: {trace_text(facts)}; window: {window_text(facts)}.")
    if "engine" in origins:
        parts.append(f"Runs: {engine_text(facts)}.")
    if filters:
        parts.append(f"Filter: {filters}.")
    if n:
        parts.append(f"n: {n}.")
    if extra:
        parts.append(extra.strip())
    return " ".join(parts)


def reading_error(inputs: Inputs, table: str, quantity: str, service: str, model: str) -> float:
    """Return how exactly a figure's published values of one service and model could be read; NaN where nobody said."""
    if not inputs.has("published_reading_errors"):
        return np.nan
    rows = where(inputs.read("published_reading_errors"), table=table, quantity=quantity)
    rows = where(rows, service=PUBLISHED_SERVICES[service], model=model)
    return float(rows["reading_error"][0]) if len(rows["reading_error"]) else np.nan


def reading_error_text(inputs: Inputs, table: str, quantity: str, service: str, models: Sequence[str]) -> str:
    """Return how exactly a figure's published values could be read: "read to within 0.6 requests (ChatGPT), ..."."""
    if not inputs.has("published_reading_errors"):
        return ""
    rows = where(inputs.read("published_reading_errors"), table=table, quantity=quantity)
    rows = where(rows, service=PUBLISHED_SERVICES[service])
    texts = [
        f"{value:,g} {unit} ({model})"
        for model, unit, value in zip(rows["model"], rows["unit"], rows["reading_error"], strict=True)
        if model in models
    ]
    return f"They could be read to within {', '.join(texts)}." if texts else ""


def number(value: float) -> str:
    """Return a count with thousands separators: 1,429,737."""
    return f"{int(value):,}"


# Command line ---------------------------------------------------------------------------------------------------------


def named_path(text: str) -> tuple[str, Path]:
    """Parse NAME=PATH."""
    name, found, path = text.partition("=")
    if not found or not name or not path:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected NAME=PATH")
    return name, Path(path)


def facts_object(text: str) -> dict[str, Any]:
    """Parse the value of `--facts`: a JSON object."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("a JSON object is expected")
    return value


def by_name(pairs: Sequence[tuple[str, Path]] | None) -> dict[str, Path]:
    """Return the tables by name; the same name twice is an error."""
    tables: dict[str, Path] = {}
    for name, path in pairs or ():
        if name in tables:
            raise InputError(f"table {name!r} is given twice: {tables[name]} and {path}")
        tables[name] = path
    return tables
