"""The trace as arrays: every request with the number of its cell (service × model), on the study's calendar."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from burstbench.contracts import SERVICES, TRACE
from burstbench.errors import UserError

DAY_S = 86_400
# ISO weekdays from here on are the weekend.
SATURDAY = 6


@dataclass(frozen=True)
class Calendar:
    """The days of the trace.

    Attributes:
        start: date of day 1.
        days: number of days.
    """

    start: date
    days: int

    @classmethod
    def of(cls, start: str, days: int) -> "Calendar":
        """The calendar of two settings.

        Raises:
            UserError: `start` is no ISO date, or there is no day.
        """
        try:
            first = date.fromisoformat(start)
        except (TypeError, ValueError) as error:
            raise UserError(f"settings: start is {start!r}, expected a date such as 2023-11-01") from error
        if days < 1:
            raise UserError(f"settings: days is {days!r}, expected at least 1")
        return cls(first, int(days))

    @property
    def dates(self) -> list[date]:
        """The date of each day."""
        return [self.start + timedelta(days=day) for day in range(self.days)]

    @property
    def weekdays(self) -> np.ndarray:
        """ISO weekday of each day, 1 Monday to 7 Sunday, shape (days,)."""
        return (self.start.weekday() + np.arange(self.days)) % 7 + 1

    @property
    def workdays(self) -> np.ndarray:
        """Whether each day is Monday to Friday, shape (days,). Public holidays are not known."""
        return self.weekdays < SATURDAY


@dataclass(frozen=True)
class Cells:
    """A trace by cell.

    Attributes:
        models: names found in the trace, sorted; every service × model is a cell, also one without requests.
        cell: number of each request's cell, service-major, shape (n,).
        time_s: from 0:00 of day 1, never decreasing, shape (n,).
        table: the other columns that were asked for.
    """

    models: tuple[str, ...]
    cell: np.ndarray
    time_s: np.ndarray
    table: pa.Table

    @property
    def labels(self) -> list[tuple[str, str]]:
        """Service and model of each cell."""
        return [(service, model) for service in SERVICES for model in self.models]

    def column(self, name: str) -> np.ndarray:
        """One of the other columns, shape (n,)."""
        return self.table.column(name).to_numpy()

    def rows(self, members: list[int]) -> np.ndarray:
        """Places of the requests of some cells, rising, shape (k,)."""
        chosen = np.zeros(len(self.labels), dtype=bool)
        chosen[members] = True
        return np.flatnonzero(chosen[self.cell])

    def groups(self) -> Iterator[tuple[str, str, list[int]]]:
        """Every cell and every pool: service or 'all', model or 'all', and the numbers of its cells."""
        for service in (*SERVICES, "all"):
            for model in (*self.models, "all"):
                members = [
                    number for number, (s, m) in enumerate(self.labels) if service in {s, "all"} and model in {m, "all"}
                ]
                yield service, model, members


def read_cells(path: str | Path, *columns: str, calendar: Calendar | None = None) -> Cells:
    """Read a trace.

    Args:
        path: trace.parquet.
        columns: which columns to read besides time, service and model.
        calendar: where given, every request must lie in it.

    Raises:
        UserError: the file breaks its contract, or a request lies after the calendar's last day.
    """
    labels = ["service", "model"]
    table = TRACE.read(path, ["time_s", *labels, *columns], labels)
    time_s = table.column("time_s").to_numpy()
    if calendar and len(time_s) and time_s[-1] >= calendar.days * DAY_S:
        row = int(np.searchsorted(time_s, calendar.days * DAY_S))
        raise UserError(
            f"{path}: column 'time_s', row {row}: found {time_s[row]:.10g} s, expected less than "
            f"{calendar.days * DAY_S} s (settings: {calendar.days} days from {calendar.start})"
        )
    service, model = (table.column(name).combine_chunks() for name in labels)
    models = tuple(sorted(model.unique().cast(pa.string()).to_pylist()))
    cell = _numbers(service, SERVICES) * len(models) + _numbers(model, models)
    return Cells(models, cell, time_s, table)


def _numbers(labels: pa.DictionaryArray, names: tuple[str, ...]) -> np.ndarray:
    """The place of each label among the names, shape (n,)."""
    place = [names.index(word) if word in names else -1 for word in labels.dictionary.to_pylist()]
    return np.array(place, dtype=np.int64)[labels.indices.to_numpy()]
