"""Tables of a made-up study, from the few columns that a test looks at."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from burstbench.paper.claims.evidence import Tables, contract_of


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    """Write a table; columns that the rows leave out get the least value, the first label, or none."""
    contract = contract_of(name)
    columns = {}
    for column in contract.columns:
        if column.nullable:
            default = None
        elif pa.types.is_string(column.type):
            default = column.allowed[0] if column.allowed else "x"
        elif pa.types.is_boolean(column.type):
            default = False
        else:
            default = column.minimum or 0
        columns[column.name] = [row.get(column.name, default) for row in rows]
    for row in rows:
        assert row.keys() <= columns.keys(), row.keys() - columns.keys()
    path = folder / f"{name}.parquet"
    contract.write(pa.table(columns, schema=contract.schema), path)
    return path


def study(folder: Path, **tables: list[dict[str, Any]]) -> Tables:
    """The tables of a study."""
    return Tables({name: write(folder, name, rows) for name, rows in tables.items()})


CASE = {"model": "llama", "gpu": "a800"}


def steps(metric: str, values: list[float], alpha: list[float] | None = None, **case: str) -> list[dict[str, Any]]:
    """Rows of a summary: one metric over the steps of a variation, shuffled, with the whole phase among them."""
    alpha = alpha or [1.0] * len(values)
    rows = [
        CASE | {"phase": "variation", "step": step, "metric": metric, "mean": value, "alpha": at} | case
        for step, (value, at) in enumerate(zip(values, alpha, strict=True))
    ]
    whole = CASE | {"phase": "variation", "step": -1, "metric": metric, "mean": 1e6, "alpha": 9.0} | case
    warmup = CASE | {"phase": "warmup", "step": -1, "metric": metric, "mean": 1e6, "alpha": 9.0} | case
    return [*rows[::-1], whole, warmup]


def whole(metric: str, mean: float, low: float | None = None, high: float | None = None, **more: Any) -> dict[str, Any]:
    """A row of a summary: one metric of a whole phase."""
    return CASE | {"phase": "warmup", "step": -1, "metric": metric, "mean": mean, "low": low, "high": high} | more
