"""What a test of a claim reads, and what it finds."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from burstbench.contracts import CELL_METRICS, CONTRACTS, SUMMARY, TIMELINE, TRACE_CHECK, Contract
from burstbench.errors import UserError

_OF_RUNS = {"cells": CELL_METRICS, "summary": SUMMARY, "timeline": TIMELINE}


class NoDataError(Exception):
    """A table lacks the rows that a test needs; the message says which."""


def contract_of(name: str) -> Contract:
    """Return the contract of a table by the name it is given: `daily_counts`, `warmup_summary`, `check` ...

    Raises:
        UserError: no table has that name.
    """
    if name == "check":
        return TRACE_CHECK
    if name in CONTRACTS:
        return CONTRACTS[name]
    rest = name.removeprefix("responses_")
    if rest != name and rest in CONTRACTS:
        return CONTRACTS[rest]
    kind = name.rpartition("_")[2]
    if kind in _OF_RUNS and name != kind:
        return _OF_RUNS[kind]
    raise UserError(f"--table {name}: no table has that name")


def of_a_run(name: str) -> bool:
    """Whether the table comes from a benchmark run: a study may leave those out."""
    return name not in CONTRACTS


class Table:
    """A table to pick rows from."""

    def __init__(self, name: str, table: pa.Table) -> None:
        self.name = name
        self._table = table

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, column: str) -> np.ndarray:
        """A column: float64 with NaN for missing numbers, or objects for labels."""
        values = self._table.column(column)
        if pa.types.is_string(values.type):
            return np.array(values.to_pylist(), dtype=object)
        return pc.cast(values, pa.float64(), safe=False).to_numpy().astype(np.float64)

    def where(self, **equal: Any) -> "Table":
        """The rows whose columns have these values.

        Raises:
            NoDataError: there are none.
        """
        found = self._table
        for column, value in equal.items():
            found = found.filter(pc.equal(found.column(column), value))
        if not found.num_rows:
            wanted = ", ".join(f"{column} {value}" for column, value in equal.items())
            raise NoDataError(
                f"table {self.name} has no row with {wanted}" if wanted else f"table {self.name} is empty"
            )
        return Table(self.name, found)

    def row(self, **equal: Any) -> dict[str, Any]:
        """The first row whose columns have these values.

        Raises:
            NoDataError: there is none.
        """
        return self.where(**equal)._table.slice(0, 1).to_pylist()[0]


class Tables:
    """The tables of a study by name, each read and checked when a test first asks for it.

    Args:
        paths: by name.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths = dict(paths)
        self._read: dict[str, Table] = {}
        for name in self.paths:
            contract_of(name)

    @classmethod
    def of(cls, tables: Mapping[str, Table]) -> "Tables":
        """Tables that are in memory already."""
        made = cls({})
        made._read = dict(tables)
        return made

    def __contains__(self, name: str) -> bool:
        return name in self.paths or name in self._read

    def __getitem__(self, name: str) -> Table:
        if name not in self._read:
            self._read[name] = Table(name, contract_of(name).read(self.paths[name]))
        return self._read[name]


@dataclass(frozen=True)
class Number:
    """One measured number.

    Attributes:
        label: of what.
        value: the number; None where nothing was measured.
        unit: "%" for a share of 100, "" for a pure number.
        low, high: its 95 % interval, where there is one.
    """

    label: str
    value: float | None
    unit: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def text(self) -> str:
        """For example `GPT-4 2.05 % [1.99, 2.11]`."""
        if self.value is None or math.isnan(self.value):
            return f"{self.label} not measured".strip()
        interval = "" if self.low is None or self.high is None else f" [{digits(self.low)}, {digits(self.high)}]"
        return f"{self.label} {digits(self.value)}{' ' if self.unit else ''}{self.unit}{interval}".strip()

    @property
    def record(self) -> dict[str, Any]:
        """As it stands in the JSON file."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        finite = {name: None if at is None or math.isnan(at) else float(at) for name, at in numbers.items()}
        return {"label": self.label, "unit": self.unit, **finite}


@dataclass(frozen=True)
class Finding:
    """What a test found.

    Attributes:
        numbers: what was measured.
        holds: whether the claim holds; None where the data cannot tell.
        reason: why, in one sentence.
    """

    numbers: tuple[Number, ...]
    holds: bool | None
    reason: str

    @property
    def measured(self) -> str:
        """The numbers as one line."""
        return "; ".join(number.text for number in self.numbers)


Test = Callable[[Tables, Mapping[str, Any]], Finding]


def digits(value: float) -> str:
    """Three significant digits; whole numbers from 1000 on in full, with commas."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def p_value(chance: float) -> str:
    """For example `p = 0.031`, or `p < 1e-12` where more digits would say nothing."""
    return f"p = {digits(chance)}" if chance >= 1e-12 else "p < 1e-12"


def verdicts(cases: Mapping[str, bool], claim: str) -> tuple[bool, str]:
    """Whether all cases hold, and a sentence that says for which they do not.

    Args:
        cases: by name, at least one.
        claim: what holds, to be read after the names.
    """
    failing = [name for name, holds in cases.items() if not holds]
    if not failing:
        return True, f"{_listed(cases)}: {claim}"
    if len(failing) == len(cases):
        return False, f"{_listed(cases)}: not so that {claim}"
    return False, f"not so that {claim} for {_listed(failing)} ({len(cases) - len(failing)} of {len(cases)} hold)"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def apart(low: Number, high: Number) -> bool:
    """Whether `high` lies above `low` with no overlap of their intervals (of the values, where one has no interval)."""
    if low.value is None or high.value is None:
        return False
    top = low.value if low.high is None else low.high
    bottom = high.value if high.low is None else high.low
    return bottom > top and high.value > low.value


def sign_test(fewer: int, more: int) -> float:
    """Two-sided exact sign test: probability of a split at least this uneven if both sides were equally likely.

    Ties are left out beforehand. Source: Conover 1999, section 3.4.
    """
    n = fewer + more
    tail = sum(math.comb(n, k) for k in range(min(fewer, more) + 1)) / 2**n
    return min(1.0, 2 * tail)
