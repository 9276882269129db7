"""The published numbers of BurstGPT, from the small tables of `data/published`."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from burstbench.errors import UserError

FIRST_DAY = date(2023, 11, 1)
SERVICE_NAMES = {"Conversation": "conversation", "API": "api"}
STREAMS = (("conversation", "ChatGPT"), ("conversation", "GPT-4"), ("api", "ChatGPT"), ("api", "GPT-4"))
BOX = ("whisker_low", "q1", "median", "q3", "whisker_high")
QUANTITIES = ("hourly_request_count", "hourly_request_tokens", "hourly_response_tokens")
RESPONSE = ("response_p05", "response_median", "response_mean", "response_p95")

Stream = tuple[str, str]
Floats = NDArray[np.float64]


class PublishedError(UserError):
    """A published table is missing, incomplete or contradicts itself."""


@dataclass(frozen=True)
class Moment:
    """One published number.

    Attributes:
        group, item: what it is, for example "gaps", "median".
        unit: of `value` and `reading_error`.
        value: the number.
        reading_error: how far the true value may be away; of the cells, how much was cut off.
        source: where it stands.
    """

    group: str
    item: str
    unit: str
    value: float
    reading_error: float
    source: str


@dataclass(frozen=True)
class Published:
    """Everything that is published about the trace.

    Attributes:
        moments: single numbers by (group, item).
        daily: by stream (service, model): requests of each published day and whether the colour bar clipped it. A
            blank cell of the heat map is NaN.
        boxes: by (quantity, service, model): shape (24, 5), the columns of `BOX` at each hour; NaN where unreadable.
        responses: by model: shape (n, 5), request tokens and then the columns of `RESPONSE`; NaN where unreadable.
        reading_errors: by (table, quantity, service, model).
    """

    moments: dict[tuple[str, str], Moment]
    daily: dict[Stream, dict[date, tuple[float, bool]]]
    boxes: dict[tuple[str, str, str], Floats]
    responses: dict[str, Floats]
    reading_errors: dict[tuple[str, str, str, str], float]

    def value(self, group: str, item: str) -> float:
        """Return one published number.

        Raises:
            PublishedError: `moments.csv` does not hold it.
        """
        try:
            return self.moments[group, item].value
        except KeyError:
            raise PublishedError(f"moments.csv: no row {group!r}, {item!r}") from None

    def count(self, group: str, item: str) -> int:
        """Return a published number that is a whole number."""
        return int(self.value(group, item))

    def truncated(self, group: str, item: str) -> tuple[int, int]:
        """Return the smallest and the largest whole number that a value with its last digits cut off stands for."""
        moment = self.moments[group, item]
        return int(moment.value), int(moment.value + moment.reading_error) - 1


def read_published(folder: Path) -> Published:
    """Read the tables of `data/published`.

    Args:
        folder: holds moments.csv, daily_requests.csv, hourly_boxes.csv, response_by_request_tokens.csv and
            reading_errors.csv.

    Raises:
        PublishedError: a table is missing, or a column of it.
    """
    moments = {
        (group, item): Moment(group, item, unit, value, reading_error, source)
        for group, item, unit, value, reading_error, source in _rows(
            folder / "moments.csv",
            group=pa.string(),
            item=pa.string(),
            unit=pa.string(),
            value=pa.float64(),
            reading_error=pa.float64(),
            source=pa.string(),
        )
    }
    daily: dict[Stream, dict[date, tuple[float, bool]]] = {stream: {} for stream in STREAMS}
    for day, service, model, requests, clipped in _rows(
        folder / "daily_requests.csv",
        date=pa.date32(),
        service=pa.string(),
        model=pa.string(),
        requests=pa.float64(),
        clipped=pa.int64(),
    ):
        daily[SERVICE_NAMES[service], model][day] = (_number(requests), bool(clipped))
    boxes = {(quantity, *stream): np.full((24, len(BOX)), np.nan) for quantity in QUANTITIES for stream in STREAMS}
    for quantity, service, model, hour, *box in _rows(
        folder / "hourly_boxes.csv",
        quantity=pa.string(),
        service=pa.string(),
        model=pa.string(),
        hour=pa.int64(),
        **dict.fromkeys(BOX, pa.float64()),
    ):
        boxes[quantity, SERVICE_NAMES[service], model][hour] = [_number(value) for value in box]
    responses: dict[str, list[list[float]]] = {}
    for model, *values in _rows(
        folder / "response_by_request_tokens.csv",
        model=pa.string(),
        request_tokens=pa.float64(),
        **dict.fromkeys(RESPONSE, pa.float64()),
    ):
        responses.setdefault(model, []).append([_number(value) for value in values])
    reading_errors = {
        (table, quantity, SERVICE_NAMES[service], model): value
        for table, quantity, service, model, value in _rows(
            folder / "reading_errors.csv",
            table=pa.string(),
            quantity=pa.string(),
            service=pa.string(),
            model=pa.string(),
            reading_error=pa.float64(),
        )
    }
    return Published(
        moments, daily, boxes, {model: np.array(rows) for model, rows in responses.items()}, reading_errors
    )


def _rows(path: Path, **columns: pa.DataType) -> Iterator[tuple]:
    try:
        table = csv.read_csv(
            path, convert_options=csv.ConvertOptions(column_types=columns, include_columns=list(columns))
        )
    except (OSError, pa.ArrowException) as error:
        raise PublishedError(f"{path}: {error}") from error
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
