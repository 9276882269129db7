"""What one room hands to the next: every table with its columns, units and limits.

A contract is checked when its file is written and when it is read. Units and descriptions travel inside the Parquet
file, as metadata of its fields.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from burstbench.errors import UserError
from burstbench.files import replaced

TEXT = pa.string()
INT = pa.int64()
FLOAT = pa.float64()
BOOL = pa.bool_()


class ContractError(UserError):
    """A table breaks its contract; the message names file, column, row, value and what was expected."""


@dataclass(frozen=True)
class Column:
    """One column: its type, unit, meaning and limits (inclusive).

    Attributes:
        name: as in the file.
        type: Arrow type.
        unit: "s", "ns", "tokens", "1" for a pure number, "" for a label.
        description: one sentence.
        nullable: whether a value may be missing.
        minimum, maximum: inclusive limits of a number; NaN is never allowed.
        allowed: the only values of a label.
    """

    name: str
    type: pa.DataType
    unit: str
    description: str
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] = ()

    @property
    def is_limited(self) -> bool:
        """Whether it has a least or a largest value."""
        return self.minimum is not None or self.maximum is not None

    @property
    def field(self) -> pa.Field:
        """The Arrow field, with unit and description as metadata."""
        return pa.field(self.name, self.type, self.nullable, {"unit": self.unit, "description": self.description})


@dataclass(frozen=True)
class Contract:
    """One table.

    Attributes:
        name: what it is called in messages.
        description: one sentence.
        columns: in the order of the file.
        ascending: a column whose values never decrease, or "".
        key: columns whose values together name a row once.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    ascending: str = ""
    key: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the file."""
        return pa.schema([column.field for column in self.columns], {"contract": self.name})

    def validate(self, table: pa.Table, source: str | Path) -> pa.Table:
        """Return `table` with the contract's types, or say where it breaks the contract.

        Raises:
            ContractError: a column is missing, unknown or of another type; a value is missing, not finite, out of its
                limits or not allowed; the order or the key is broken. Rows count from 0.
        """
        return self._validate(table, source, encoded=False)

    def _validate(self, table: pa.Table, source: str | Path, encoded: bool) -> pa.Table:
        """As `validate`; with `encoded`, labels that come as a dictionary stay one, where nothing is wrong with it."""
        wanted = [column.name for column in self.columns]
        for name in wanted:
            if name not in table.column_names:
                raise ContractError(
                    f"{source}: column {name!r} is missing (contract {self.name!r}: {', '.join(wanted)})"
                )
        for name in table.column_names:
            if name not in wanted:
                raise ContractError(f"{source}: column {name!r} is not in contract {self.name!r}")
        arrays = []
        for column in self.columns:
            values = table.column(column.name)
            if encoded and not self.key and column.type == TEXT and _is_right_dictionary(values, column):
                arrays.append(values)
                continue
            try:
                values = values.cast(column.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise ContractError(
                    f"{source}: column {column.name!r}: found {values.type}, expected {column.type}: {error}"
                ) from error
            self._check_column(column, values, source)
            arrays.append(values.combine_chunks() if values.num_chunks != 1 else values)
        fields = [field.with_type(array.type) for field, array in zip(self.schema, arrays, strict=True)]
        checked = pa.Table.from_arrays(arrays, schema=pa.schema(fields, self.schema.metadata))
        if self.ascending:
            self._check_order(checked, source)
        if self.key:
            self._check_key(checked, source)
        return checked

    def write(self, table: pa.Table | Mapping[str, Any], path: str | Path) -> None:
        """Validate and write a table; the suffix `.parquet` or `.csv` decides the format.

        Args:
            table: an Arrow table, or a mapping of columns (lists, NumPy arrays, Arrow arrays).
            path: the file; written beside its place and renamed.
        """
        path = Path(path)
        if not isinstance(table, pa.Table):
            table = self._from_mapping(table, path)
        checked = self._validate(table, path, encoded=path.suffix == ".parquet")
        with replaced(path) as temporary:
            if path.suffix == ".parquet":
                self._write_parquet(checked, temporary)
            elif path.suffix == ".csv":
                from pyarrow import csv

                csv.write_csv(checked, temporary, csv.WriteOptions(quoting_style="needed"))
            else:
                raise ValueError(f"{path}: a table is a .parquet or a .csv file")

    def _write_parquet(self, table: pa.Table, path: Path) -> None:
        """Write a checked table: by dictionary, but real numbers that seldom repeat split by bytes.

        That is smaller and faster than a dictionary that is given up. The file says the contract's types, whether a
        label was a dictionary here or not.
        """
        split = []
        for column in self.columns:
            start = table.column(column.name).slice(0, 10_000)
            if column.type == FLOAT and pc.count_distinct(start, mode="all").as_py() > len(start) / 4:
                split.append(column.name)
        with pq.ParquetWriter(
            path,
            table.schema,
            compression="zstd",
            use_dictionary=[name for name in table.column_names if name not in split],
            column_encoding=dict.fromkeys(split, "BYTE_STREAM_SPLIT"),
            store_schema=False,
        ) as writer:
            schema = base64.b64encode(self.schema.serialize().to_pybytes()).decode()
            writer.add_key_value_metadata({"contract": self.name, "ARROW:schema": schema})
            writer.write_table(table)

    def read(self, path: str | Path, columns: Sequence[str] | None = None, encoded: Sequence[str] = ()) -> pa.Table:
        """Read and validate a table; the suffix `.csv` means CSV, any other Parquet.

        Args:
            path: the file.
            columns: only these, of the contract's; the whole file is validated nevertheless unless given.
            encoded: labels of a Parquet file that shall come as dictionaries, which is faster by far.

        Raises:
            ContractError: as `validate`; or the file is missing or not readable.
        """
        if Path(path).is_dir():
            raise ContractError(f"{path}: found a folder, expected a file (contract {self.name!r})")
        try:
            if Path(path).suffix == ".csv":
                table = self._read_csv(Path(path), columns)
            else:
                table = pq.read_table(
                    path, columns=list(columns) if columns else None, partitioning=None, read_dictionary=list(encoded)
                )
        except FileNotFoundError as error:
            raise ContractError(f"{path}: no such file (contract {self.name!r})") from error
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            kind = "CSV" if Path(path).suffix == ".csv" else "Parquet"
            says = " ".join(str(error).split())
            raise ContractError(f"{path}: not a readable {kind} file (contract {self.name!r}): {says}") from error
        if columns:
            part = Contract(self.name, self.description, tuple(c for c in self.columns if c.name in columns))
            return part._validate(table, path, bool(encoded))
        return self._validate(table, path, bool(encoded))

    def empty(self) -> pa.Table:
        """A table of no rows."""
        return self.schema.empty_table()

    def _read_csv(self, path: Path, columns: Sequence[str] | None) -> pa.Table:
        from pyarrow import csv

        return csv.read_csv(
            path,
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types={column.name: column.type for column in self.columns},
                include_columns=list(columns) if columns else None,
                # `write` quotes an empty text and leaves a missing one bare.
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def _from_mapping(self, columns: Mapping[str, Any], path: Path) -> pa.Table:
        arrays = {}
        for name, values in columns.items():
            try:
                # Without the contract's type: Arrow would cut 1.5 down to 1 in silence; `validate` casts safely.
                arrays[name] = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise ContractError(f"{path}: column {name!r}: {error}") from error
        return pa.table(arrays)

    def _check_column(self, column: Column, values: pa.ChunkedArray, source: str | Path) -> None:
        def refuse(bad: pa.ChunkedArray, expected: str) -> None:
            if pc.any(bad).as_py():
                row = pc.index(bad, True).as_py()
                unit = f" [{column.unit}]" if column.unit not in {"", "1"} else ""
                raise ContractError(
                    f"{source}: column {column.name!r}, row {row}: found {values[row].as_py()!r}, "
                    f"expected {expected}{unit} (contract {self.name!r})"
                )

        if not column.nullable and values.null_count:
            refuse(pc.is_null(values), "a value")
        # A sum is quick, and not finite if any number is not; only then are they looked at one by one.
        if pa.types.is_floating(column.type) and not math.isfinite(pc.sum(values).as_py() or 0):
            refuse(pc.fill_null(pc.invert(pc.is_finite(values)), False), "a finite number")
        lowest, highest = pc.min_max(values).as_py().values() if column.is_limited else (None, None)
        if column.minimum is not None and lowest is not None and lowest < column.minimum:
            refuse(pc.fill_null(pc.less(values, column.minimum), False), f">= {column.minimum:g}")
        if column.maximum is not None and highest is not None and highest > column.maximum:
            refuse(pc.fill_null(pc.greater(values, column.maximum), False), f"<= {column.maximum:g}")
        if column.allowed:
            known = pc.is_in(values, value_set=pa.array(column.allowed, pa.string()))
            refuse(pc.and_(pc.invert(known), pc.is_valid(values)), f"one of {', '.join(column.allowed)}")

    def _check_order(self, table: pa.Table, source: str | Path) -> None:
        values = table.column(self.ascending).to_numpy()
        back = np.flatnonzero(values[1:] < values[:-1])
        if back.size:
            row = int(back[0]) + 1
            raise ContractError(
                f"{source}: column {self.ascending!r}, row {row}: found {values[row]!s} after {values[row - 1]!s}, "
                f"expected never to decrease (contract {self.name!r})"
            )

    def _check_key(self, table: pa.Table, source: str | Path) -> None:
        counted = table.select(self.key).group_by(list(self.key), use_threads=False).aggregate([([], "count_all")])
        twice = counted.filter(pc.greater(counted.column("count_all"), 1))
        if twice.num_rows:
            found = ", ".join(f"{name} = {twice.column(name)[0].as_py()!r}" for name in self.key)
            raise ContractError(f"{source}: {found} stands in more than one row (contract {self.name!r})")


def _is_right_dictionary(values: pa.ChunkedArray, column: Column) -> bool:
    """Whether labels are a dictionary whose words all are allowed, with none missing that must not be."""
    if not pa.types.is_dictionary(values.type) or values.type.value_type != TEXT:
        return False
    if values.null_count and not column.nullable:
        return False
    words = {word for chunk in values.chunks for word in chunk.dictionary.to_pylist()}
    return None not in words and (not column.allowed or words <= set(column.allowed))


# Columns that many tables share ---------------------------------------------------------------------------------------

SERVICES = ("conversation", "api")
MODELS = ("ChatGPT", "GPT-4")
OUTCOMES = ("ok", "timeout", "rejected", "server_error", "connection", "malformed", "aborted")


def service(**kwargs: Any) -> Column:
    """The service of the trace."""
    return Column("service", TEXT, "", "which interface was used", allowed=SERVICES, **kwargs)


def model(**kwargs: Any) -> Column:
    """The model that answered."""
    return Column("model", TEXT, "", "which model answered", **kwargs)


def whole(name: str, unit: str, description: str, minimum: float | None = 0, **kwargs: Any) -> Column:
    """A whole number, by default at least 0."""
    return Column(name, INT, unit, description, minimum=minimum, **kwargs)


def real(name: str, unit: str, description: str, minimum: float | None = None, **kwargs: Any) -> Column:
    """A real number."""
    return Column(name, FLOAT, unit, description, minimum=minimum, **kwargs)


def label(name: str, description: str, **kwargs: Any) -> Column:
    """A label."""
    return Column(name, TEXT, "", description, **kwargs)


def yes(name: str, description: str) -> Column:
    """A truth value."""
    return Column(name, BOOL, "", description)


GROUP_SERVICE = label("service", "service, or 'all'", allowed=(*SERVICES, "all"))
GROUP_MODEL = label("model", "model, or 'all'")
CELL = (
    label("experiment", "experiment of the study"),
    label("model", "served model"),
    label("gpu", "GPU"),
)
SEED = whole("seed", "1", "which repeat, from 1", 1)
# Where an artifact's numbers come from, in every figure, table and verdict.
TRACES = ("real", "twin", "other")
# vllm-cpu: the engine vllm with `device: cpu`, which serves a tiny model of random weights.
ENGINES = ("simulator", "vllm", "vllm-cpu", "vllm-emulated", "endpoint")

# trace ----------------------------------------------------------------------------------------------------------------

TRACE = Contract(
    "trace",
    "One row per request of the trace, in the order of the file.",
    (
        real("time_s", "s", "seconds from 0:00 local time of day 1, as recorded (whole seconds in BurstGPT)", 0),
        service(),
        label("model", "model that answered: ChatGPT, GPT-4 in BurstGPT"),
        whole("request_tokens", "tokens", "tokens of the request"),
        whole("response_tokens", "tokens", "tokens of the response; 0 where the request failed"),
        yes("failed", "whether the request failed (BurstGPT: a response of 0 tokens)"),
        label("session_id", "session, where the trace has one", nullable=True),
        real("elapsed_s", "s", "time from request to answer, where the trace has one", 0, nullable=True),
    ),
    ascending="time_s",
)
TRACE_CHECK = Contract(
    "trace_check",
    "A published number beside the same number of the trace.",
    (
        label("table", "published table it stands in"),
        label("item", "what it is, for example '2023-11-06 conversation ChatGPT requests'"),
        label("unit", "unit of both values"),
        real("published", "as `unit`", "the published value"),
        real("found", "as `unit`", "the trace's value"),
        real(
            "error",
            "1",
            "relative error (found - published) / published; a difference for unit '1'; null where published is 0",
            nullable=True,
        ),
        real("reading_error", "as `unit`", "how exactly the published value could be read", 0),
        yes("clipped", "whether the published value is a lower limit only"),
    ),
    key=("table", "item"),
)

TRACE_WINDOW = Contract(
    "trace_window",
    "The days that are characterised beside the whole trace, by service and model.",
    (
        whole("from_day", "d", "first day of the window, from 1", 1),
        whole("to_day", "d", "its last day, included", 1),
        whole("of_days", "d", "days of the whole trace", 1),
        GROUP_SERVICE,
        GROUP_MODEL,
        label("quantity", "requests_per_day, failed_mean, request_tokens_mean, response_tokens_mean"),
        label("unit", "unit of both values"),
        real("whole", "as `unit`", "of the whole trace", 0),
        real("window", "as `unit`", "of the window; null where it has no such request", 0, nullable=True),
        real("ratio", "1", "window / whole; null where one of them is nothing", 0, nullable=True),
        yes("unlike", "whether the window is more than 1.5 times larger or smaller"),
    ),
    key=("service", "model", "quantity"),
)

# characterise ---------------------------------------------------------------------------------------------------------

DAILY_COUNTS = Contract(
    "daily_counts",
    "Requests of each day; days without requests count 0 (Figs. 1, 2).",
    (
        whole("day", "d", "day of the trace, from 1", 1),
        label("date", "ISO date"),
        whole("iso_week", "1", "ISO week", 1),
        whole("weekday", "1", "1 Monday to 7 Sunday", 1, maximum=7),
        service(),
        model(),
        whole("requests", "requests", "all requests of the day"),
        whole("failed", "requests", "those that failed"),
    ),
    key=("day", "service", "model"),
)
HOURLY_COUNTS = Contract(
    "hourly_counts",
    "Requests and tokens of each hour of each day (Figs. 3, 4, 10-13); hours without requests count 0.",
    (
        whole("day", "d", "day of the trace, from 1", 1),
        whole("weekday", "1", "1 Monday to 7 Sunday", 1, maximum=7),
        whole("hour", "h", "hour of the day", 0, maximum=23),
        service(),
        model(),
        whole("requests", "requests", "all requests of the hour"),
        whole("failed", "requests", "those that failed"),
        whole("request_tokens", "tokens", "their request tokens"),
        whole("response_tokens", "tokens", "their response tokens"),
    ),
    key=("day", "hour", "service", "model"),
)
PERIODICITY = Contract(
    "periodicity",
    "How periodic the hourly and daily counts are.",
    (
        GROUP_SERVICE,
        GROUP_MODEL,
        label("statistic", "autocorrelation_24h, autocorrelation_168h, daily_cv, weekday_ratio, ..."),
        real("value", "1", "the statistic"),
        real("low", "1", "lower end of its 95 % interval", nullable=True),
        real("high", "1", "upper end", nullable=True),
        real("p_value", "1", "of the permutation test, where there is one", 0, maximum=1, nullable=True),
        whole("n", "1", "number of hours or days it rests on"),
    ),
    key=("service", "model", "statistic"),
)
DOUBLINGS = Contract(
    "doublings",
    "How often the number of requests at least doubles from one window to the next, by definition (Fig. 5).",
    (
        whole("width_s", "s", "width of a window", 1),
        label("alignment", "how windows lie", allowed=("aligned", "sliding")),
        label("zero_rule", "what counts after a window of 0 requests", allowed=("skip", "count")),
        GROUP_SERVICE,
        GROUP_MODEL,
        label("day_type", "which days", allowed=("workday", "weekend", "all")),
        real("per_day", "1/d", "mean number of doublings a day", 0),
        real("low", "1/d", "lower end of its 95 % bootstrap interval over days", 0),
        real("high", "1/d", "upper end", 0),
        whole("days", "d", "days it rests on"),
        real("published", "1/d", "the paper's number, where it names one", 0, nullable=True),
    ),
    key=("width_s", "alignment", "zero_rule", "service", "model", "day_type"),
)
BURST_RATIOS = Contract(
    "burst_ratios",
    "Growth from one window to the next, counted by ratio on workdays, under the definition of Fig. 5 (configured).",
    (
        whole("width_s", "s", "width of a window", 1),
        whole("ratio", "1", "times the number of the window before, rounded down; the last bin is open", 2),
        yes("open", "whether the bin holds all larger ratios too"),
        real("per_day", "1/d", "mean number a workday", 0),
    ),
    key=("width_s", "ratio"),
)
GAMMA_WINDOWS = Contract(
    "gamma_windows",
    "Gamma fit of the gaps of each window; windows with too few gaps are listed with no fit.",
    (
        service(),
        model(),
        whole("day", "d", "day of the trace, from 1", 1),
        whole("weekday", "1", "1 Monday to 7 Sunday", 1, maximum=7),
        real("window_s", "s", "start of the window within its day", 0),
        whole("requests", "requests", "requests in the window"),
        whole("gaps", "1", "gaps fitted"),
        label("estimator", "how", allowed=("seconds", "jitter", "moments")),
        real("rate_per_s", "1/s", "requests divided by the window's width", 0),
        real("alpha", "1", "shape", 0, nullable=True),
        real("alpha_low", "1", "lower end of its 95 % interval", 0, nullable=True),
        real("alpha_high", "1", "upper end", 0, nullable=True),
        real("beta_scale_s", "s", "beta read as scale of the gaps: mean gap = alpha * beta", 0, nullable=True),
        real("beta_rate_per_s", "1/s", "beta read as rate: 1 / scale", 0, nullable=True),
        real("cv", "1", "coefficient of variation of the fit, 1 / sqrt(alpha)", 0, nullable=True),
        real("log_likelihood", "1", "at the optimum", nullable=True),
        yes("converged", "whether the optimum was found"),
    ),
    key=("service", "model", "day", "window_s", "estimator"),
)
GAMMA_PROFILE = Contract(
    "gamma_profile",
    "Gamma parameters by time of day, over the workdays' windows (Fig. 6; what the mirrored streams follow).",
    (
        service(),
        model(),
        real("window_s", "s", "start of the window within the day", 0),
        real("width_s", "s", "width of the window", 0),
        whole("windows", "1", "fitted windows"),
        real("rate_per_s", "1/s", "mean request rate over the workdays, windows without a fit included", 0),
        real("alpha", "1", "median shape", 0, nullable=True),
        real("alpha_q1", "1", "lower quartile", 0, nullable=True),
        real("alpha_q3", "1", "upper quartile", 0, nullable=True),
        real("beta_scale_s", "s", "median scale", 0, nullable=True),
        real("beta_scale_q1_s", "s", "lower quartile", 0, nullable=True),
        real("beta_scale_q3_s", "s", "upper quartile", 0, nullable=True),
        real("beta_rate_per_s", "1/s", "median rate", 0, nullable=True),
        real("beta_rate_q1_per_s", "1/s", "lower quartile", 0, nullable=True),
        real("beta_rate_q3_per_s", "1/s", "upper quartile", 0, nullable=True),
    ),
    key=("service", "model", "window_s"),
)
GAMMA_SUMMARY = Contract(
    "gamma_summary",
    "The windows' Gamma fits by kind of day and estimator, and how the estimators differ.",
    (
        service(),
        model(),
        label("day_type", "which days", allowed=("workday", "weekend", "all")),
        label("estimator", "how", allowed=("seconds", "jitter", "moments")),
        real("width_s", "s", "width of a window", 0),
        real("offset_s", "s", "start of the first window of a day", 0),
        real("resolution_s", "s", "what the timestamps are taken as known to", 0),
        whole("windows", "1", "windows with at least one request"),
        whole("few", "1", "those with too few gaps for a fit"),
        whole("fitted", "1", "those whose fit converged"),
        real("rate_per_s", "1/s", "mean request rate over all windows of those days, empty ones included", 0),
        real("alpha", "1", "median shape", 0, nullable=True),
        real("alpha_q1", "1", "lower quartile", 0, nullable=True),
        real("alpha_q3", "1", "upper quartile", 0, nullable=True),
        real("beta_scale_s", "s", "median scale", 0, nullable=True),
        real("beta_rate_per_s", "1/s", "median of beta read as rate, 1 / scale", 0, nullable=True),
        real("cv", "1", "median coefficient of variation", 0, nullable=True),
        real("alpha_ratio", "1", "median of alpha / alpha by 'seconds', over windows fitted by both", 0, nullable=True),
        real("alpha_ratio_p05", "1", "its 5th percentile", 0, nullable=True),
        real("alpha_ratio_p95", "1", "its 95th percentile", 0, nullable=True),
        real(
            "inside_share",
            "1",
            "share of those windows whose alpha lies within the 95 % interval by 'seconds'",
            0,
            maximum=1,
            nullable=True,
        ),
    ),
    key=("service", "model", "day_type", "estimator"),
)
GAMMA_COUNTS = Contract(
    "gamma_counts",
    "The other reading of Fig. 6: Gamma as the distribution of the number of requests in a window, over the workdays.",
    (
        service(),
        model(),
        real("window_s", "s", "start of the window within the day", 0),
        real("width_s", "s", "width of the window", 0),
        whole("days", "d", "workdays", 1),
        real("mean", "requests", "mean number of requests", 0),
        real("variance", "requests²", "variance over the workdays", 0, nullable=True),
        real("alpha", "1", "shape by moments, mean² / variance; null where all days are alike", 0, nullable=True),
        real("beta_scale", "requests", "scale by moments, variance / mean: 1 for a Poisson stream", 0, nullable=True),
        real("beta_rate", "1/requests", "beta read as rate: 1 / scale", 0, nullable=True),
    ),
    key=("service", "model", "window_s"),
)
GAMMA_FAMILIES = Contract(
    "gamma_families",
    "Which family of gaps wins, over the windows of one service and model.",
    (
        service(),
        model(),
        label("family", "gamma, exponential, weibull, lognormal, pareto"),
        whole("windows", "1", "windows compared"),
        real("aic_best_share", "1", "share of windows in which it has the lowest AIC", 0, maximum=1),
        real("aic_delta_median", "1", "median AIC minus Gamma's"),
        real(
            "test_pass_share",
            "1",
            "share of windows not rejected at 5 % by the goodness-of-fit test",
            0,
            maximum=1,
            nullable=True,
        ),
        real(
            "test_power",
            "1",
            "power of that test against the family named in `power_against`",
            0,
            maximum=1,
            nullable=True,
        ),
        label("power_against", "alternative for which the power is stated", nullable=True),
    ),
    key=("service", "model", "family"),
)
LENGTH_COUNTS = Contract(
    "length_counts",
    "How many requests have how many tokens.",
    (
        label("source", "'trace <service> <model>', or 'run <model> <gpu>'"),
        label("quantity", "which length", allowed=("request", "response")),
        whole("tokens", "tokens", "the length"),
        whole("requests", "requests", "how many have it", 1),
    ),
    key=("source", "quantity", "tokens"),
)
LENGTH_FITS = Contract(
    "length_fits",
    "Families fitted to lengths of at least 1 token, by maximum likelihood on the same truncated support.",
    (
        label("source", "as in length_counts"),
        label("quantity", "which length", allowed=("request", "response")),
        label("family", "zipf, lognormal, exponential, powerlaw_cutoff, ..."),
        whole("n", "requests", "lengths fitted"),
        whole("n_max", "tokens", "upper end of the support", 1),
        label("parameters", "JSON object of the fitted parameters"),
        real("log_likelihood", "1", "at the optimum"),
        real("aic", "1", "Akaike's criterion"),
        real("ratio", "1", "log-likelihood minus zipf's"),
        real("p_value", "1", "Vuong's test of that ratio, two-sided", 0, maximum=1, nullable=True),
        real("ks", "1", "Kolmogorov-Smirnov distance to the data", 0, maximum=1),
    ),
    key=("source", "quantity", "family"),
)
LENGTH_TESTS = Contract(
    "length_tests",
    "One statistic of lengths a row: dip, correlation, slope, mean, share near the limit.",
    (
        label("source", "as in length_counts"),
        label("statistic", "for example response_dip, pearson, spearman, slope, response_mean, share_near_limit"),
        real("value", "1", "the statistic, tokens for means and quantiles"),
        real("low", "1", "lower end of its 95 % interval", nullable=True),
        real("high", "1", "upper end", nullable=True),
        real("p_value", "1", "where it is a test", 0, maximum=1, nullable=True),
        whole("n", "requests", "requests it rests on"),
    ),
    key=("source", "statistic"),
)
RESPONSE_BY_REQUEST = Contract(
    "response_by_request",
    "Response tokens of answered requests by bins of request tokens (Fig. 8).",
    (
        label("source", "as in length_counts"),
        real("request_low", "tokens", "lower edge of the bin, inclusive", 0),
        real("request_high", "tokens", "upper edge, exclusive", 0),
        whole("n", "requests", "answered requests in the bin", 1),
        real("response_median", "tokens", "median", 0),
        real("response_mean", "tokens", "mean", 0),
        real("response_p05", "tokens", "5th percentile", 0),
        real("response_p95", "tokens", "95th percentile", 0),
    ),
    key=("source", "request_low"),
)
RESPONSE_BINS = Contract(
    "response_bins",
    "Histogram of response tokens within coarse bins of request tokens (Fig. 9).",
    (
        label("source", "as in length_counts"),
        real("request_low", "tokens", "lower edge of the request bin, inclusive", 0),
        real("request_high", "tokens", "upper edge, exclusive", 0),
        real("response_low", "tokens", "lower edge of the response bin, inclusive", 0),
        real("response_high", "tokens", "upper edge, exclusive", 0),
        whole("n", "requests", "answered requests"),
    ),
    key=("source", "request_low", "response_low"),
)
FAILURES = Contract(
    "failures",
    "Failure rates with Wilson intervals: cells (service x model) and pools ('all') side by side (Fig. 14).",
    (
        GROUP_SERVICE,
        GROUP_MODEL,
        whole("requests", "requests", "all requests"),
        whole("failed", "requests", "those that failed"),
        real("rate", "1", "failed / requests", 0, maximum=1),
        real("low", "1", "lower end of the 95 % Wilson interval", 0, maximum=1),
        real("high", "1", "upper end", 0, maximum=1),
    ),
    key=("service", "model"),
)
LOAD_OF = label("load_of", "load of which requests: of the same service and model, or of all", allowed=("own", "all"))
FAILURE_LOADS = Contract(
    "failure_loads",
    "Failure rates by the load of the request's minute, in fifths of the requests by load.",
    (
        GROUP_SERVICE,
        GROUP_MODEL,
        LOAD_OF,
        whole("part", "1", "which fifth, from the least load; equal loads stay together, so there may be fewer", 1),
        whole("load_low", "requests", "smallest number of requests in the minute", 1),
        whole("load_high", "requests", "largest", 1),
        whole("minutes", "1", "distinct minutes", 1),
        whole("requests", "requests", "requests of these minutes", 1),
        whole("failed", "requests", "those that failed"),
        real("rate", "1", "failed / requests", 0, maximum=1),
        real("low", "1", "lower end of the 95 % Wilson interval, as if requests failed independently", 0, maximum=1),
        real("high", "1", "upper end", 0, maximum=1),
    ),
    key=("service", "model", "load_of", "part"),
)
SESSIONS = Contract(
    "sessions",
    "Turns, think time and speed, where the trace has sessions and elapsed times; no rows where it has not.",
    (
        service(),
        model(),
        label("quantity", "turns, session_s, gap_s, think_s, elapsed_s, tokens_per_s"),
        label("unit", "unit of the values"),
        whole("n", "1", "values", 1),
        real("mean", "as `unit`", "mean"),
        real("p05", "as `unit`", "5th percentile"),
        real("q1", "as `unit`", "lower quartile"),
        real("median", "as `unit`", "median"),
        real("q3", "as `unit`", "upper quartile"),
        real("p95", "as `unit`", "95th percentile"),
    ),
    key=("service", "model", "quantity"),
)
SPEED_LOADS = Contract(
    "speed_loads",
    "Tokens a second by the load of the request's minute, where the trace has elapsed times; no rows where it has not.",
    (
        service(),
        model(),
        LOAD_OF,
        whole("part", "1", "which fifth of the requests, from the least load", 1),
        whole("load_low", "requests", "smallest number of requests in the minute", 1),
        whole("load_high", "requests", "largest", 1),
        whole("requests", "requests", "answered requests with an elapsed time above 0", 1),
        real("tokens_per_s_q1", "1/s", "lower quartile of response tokens / elapsed time", 0),
        real("tokens_per_s", "1/s", "median", 0),
        real("tokens_per_s_q3", "1/s", "upper quartile", 0),
        real("elapsed_s", "s", "median time from request to answer", 0),
    ),
    key=("service", "model", "load_of", "part"),
)
DAILY_FAILURES = Contract(
    "daily_failures",
    "Failure rate of each day with at least one request (the spread in Fig. 14).",
    (
        whole("day", "d", "day of the trace, from 1", 1),
        service(),
        model(),
        whole("requests", "requests", "all requests", 1),
        whole("failed", "requests", "those that failed"),
        real("rate", "1", "failed / requests", 0, maximum=1),
        real("low", "1", "lower end of the 95 % Wilson interval, as if requests failed independently", 0, maximum=1),
        real("high", "1", "upper end", 0, maximum=1),
    ),
    key=("day", "service", "model"),
)

RECOVERY_GAMMA = Contract(
    "recovery_gamma",
    "What the estimators make of samples of a known Gamma distribution, cut to whole seconds (data/validation).",
    (
        real("alpha", "1", "true shape", 0),
        real("mean_s", "s", "true mean gap", 0),
        whole("n", "1", "gaps of a sample", 1),
        whole("samples", "1", "samples", 1),
        label("estimator", "seconds, jitter or moments"),
        real("ratio", "1", "median of the estimate over the truth; null without a fit", 0, nullable=True),
        real("log_error", "1", "mean of log(estimate / truth)", nullable=True),
        real("coverage", "1", "share of 95 % intervals that hold the truth", 0, maximum=1, nullable=True),
        real("fitted_share", "1", "share of samples with a fit", 0, maximum=1),
    ),
    key=("alpha", "mean_s", "n", "estimator"),
)

# prompts --------------------------------------------------------------------------------------------------------------

POOL_INDEX = Contract(
    "pool_index",
    "The prompts of the pool by length, equals by prompt_id: a prompt serves every length up to its own, cut to it.",
    (
        whole("tokens", "tokens", "tokens of the dialogue, cut to the study's max_tokens", 1),
        whole("prompt_id", "1", "row of pool.arrow"),
    ),
    ascending="tokens",
    key=("prompt_id",),
)
REPLIES = Contract(
    "replies",
    "Real dialogues' turns: tokens of what was asked (that turn alone) and of the reply that followed.",
    (
        whole("request_tokens", "tokens", "tokens of the human turn", 1),
        whole("reply_tokens", "tokens", "tokens of the assistant's reply", 1),
    ),
)

# plan -----------------------------------------------------------------------------------------------------------------

PLAN = Contract(
    "plan",
    "Every request of one run, in the order of sending.",
    (
        whole("request_id", "1", "0, 1, 2 ..."),
        label("phase", "phase of the experiment: warmup, variation, mirrored ..."),
        whole("step", "1", "which step of a stepwise variation, from 0; 0 in a phase without steps"),
        real("send_s", "s", "when to send it, from the start of the run", 0),
        whole("prompt_tokens", "tokens", "exact length of the prompt", 1),
        whole("prompt_id", "1", "row of the pool whose first tokens are sent"),
        real("alpha", "1", "Gamma shape in force when the gap before it was drawn", 0),
        real("beta", "s", "Gamma scale of that gap (mean gap = alpha * beta)", 0),
        real("theta", "1", "Zipf exponent of its length; null where lengths are not Zipf", 0, nullable=True),
        whole("max_tokens", "tokens", "limit of the response", 1),
    ),
    ascending="send_s",
    key=("request_id",),
)

# serve ----------------------------------------------------------------------------------------------------------------

REQUESTS = Contract(
    "requests",
    "What became of every planned request; times from the start of the run.",
    (
        whole("request_id", "1", "as in the plan"),
        whole("intended_ns", "ns", "when it should have been sent"),
        whole("sent_ns", "ns", "when it was sent", nullable=True),
        whole("first_scheduled_ns", "ns", "when the engine first scheduled it", nullable=True),
        whole("first_token_ns", "ns", "when its first token came", nullable=True),
        whole("done_ns", "ns", "when its last token, or its failure, came", nullable=True),
        whole("prompt_tokens", "tokens", "tokens of the prompt as the engine counted them", nullable=True),
        whole("response_tokens", "tokens", "tokens of the response, whole or not"),
        whole("preemptions", "1", "how often the engine preempted it", nullable=True),
        label("outcome", "how it ended", allowed=OUTCOMES),
    ),
    key=("request_id",),
)
CLIENT = Contract(
    "client",
    "What the load client saw beyond `requests`: answers and the time of every token. Times from the start of the run.",
    (
        whole("request_id", "1", "as in the plan"),
        whole("first_byte_ns", "ns", "when the answer's headers had come", nullable=True),
        whole("status", "1", "HTTP status of the answer", 100, nullable=True),
        label("message", "why it failed; empty where it did not"),
        Column("chunk_ns", pa.list_(INT), "ns", "when each event with tokens came"),
        Column("chunk_tokens", pa.list_(INT), "tokens", "response tokens until and with it; -1 where not told"),
    ),
    key=("request_id",),
)
ENGINE = Contract(
    "engine",
    "What a server's scheduler wrote of every planned request, beside `requests`. Times from the start of the run.",
    (
        whole("request_id", "1", "as in the plan"),
        whole(
            "arrived_ns", "ns", "when the scheduler got it; the time in its queue ends with scheduled_ns", nullable=True
        ),
        whole("scheduled_ns", "ns", "when it was first scheduled", nullable=True),
        whole("first_token_ns", "ns", "when the step with its first token ended", nullable=True),
        whole("ended_ns", "ns", "when the scheduler was done with it", nullable=True),
        whole("prompt_tokens", "tokens", "tokens of the prompt", nullable=True),
        whole("response_tokens", "tokens", "tokens of the response until its end", nullable=True),
        whole("preemptions", "1", "how often it was preempted", nullable=True),
        label(
            "ending", "how it ended in the engine, whatever the client heard (`serve.journal.ENDINGS`)", nullable=True
        ),
    ),
    key=("request_id",),
)
CALIBRATION = Contract(
    "calibration",
    "Table III on the simulated engine: KV use at the paper's beta, and the beta that gives the target.",
    (
        label("model", "served model"),
        label("gpu", "GPU"),
        label("response_lengths", "how response lengths were drawn, as JSON"),
        label("beta_kind", "how beta is read", allowed=("scale", "rate", "mean_gap")),
        real("alpha", "1", "Gamma shape of the gaps", 0),
        real("beta", "as beta_kind", "beta of Table III", 0),
        real(
            "kv_usage",
            "1",
            "mean share of the KV cache in use over the warm-up at that beta, mean over seeds",
            0,
            maximum=1,
        ),
        real("kv_usage_p10", "1", "10th percentile over time", 0, maximum=1),
        real("kv_usage_p90", "1", "90th percentile over time", 0, maximum=1),
        real("target", "1", "the KV use that was looked for", 0, maximum=1),
        real(
            "beta_calibrated",
            "as beta_kind",
            "beta that gives it; null where none in the searched range does",
            0,
            nullable=True,
        ),
        real("kv_usage_calibrated", "1", "KV use there", 0, maximum=1, nullable=True),
        whole("seeds", "1", "repeats behind each KV use", 1),
        whole("probes", "1", "runs that the search took", 1),
    ),
    key=("model", "gpu", "response_lengths", "beta_kind"),
)
STEPS = Contract(
    "steps",
    "Every step of the engine.",
    (
        whole("step", "1", "0, 1, 2 ..."),
        whole("start_ns", "ns", "from the start of the run"),
        whole("duration_ns", "ns", "of the step"),
        whole("prefill_tokens", "tokens", "prompt tokens processed (recomputed ones included)"),
        whole("decode_tokens", "tokens", "tokens decoded"),
        whole("running", "requests", "requests in the batch"),
        whole("waiting", "requests", "requests waiting after scheduling"),
        whole("preempted", "requests", "requests preempted by this step"),
        real("kv_usage", "1", "share of the KV-cache blocks in use after scheduling", 0, maximum=1),
        whole("free_blocks", "blocks", "KV-cache blocks that no request holds after scheduling"),
        whole("gpu_memory_bytes", "B", "GPU memory in use; null where the engine cannot know", nullable=True),
    ),
    ascending="start_ns",
    key=("step",),
)
INTERVALS = Contract(
    "intervals",
    "The simulated engine summed up over intervals while it runs, whatever the number of its steps.",
    (
        whole("start_ns", "ns", "from the start of the run"),
        whole("duration_ns", "ns", "of the interval", 1),
        whole("steps", "1", "steps that started in it"),
        real(
            "prefill_tokens",
            "tokens",
            "prompt tokens processed (recomputed ones included); a step over an edge by its share of time",
            0,
        ),
        real("decode_tokens", "tokens", "tokens decoded, likewise", 0),
        real(
            "running", "requests", "mean over the interval of requests in the batch; none while the engine is idle", 0
        ),
        real("waiting", "requests", "likewise of requests waiting", 0),
        whole("preempted", "requests", "requests preempted by those steps"),
        real("kv_usage", "1", "likewise of the share of KV-cache blocks in use", 0, maximum=1),
    ),
    ascending="start_ns",
    key=("start_ns",),
)

# metrics --------------------------------------------------------------------------------------------------------------

CELL_METRICS = Contract(
    "cell_metrics",
    "One metric of one part of one cell a row. Parts: a whole phase (step -1), or one step of its variation.",
    (
        *CELL,
        SEED,
        label("phase", "phase of the experiment"),
        whole("step", "1", "step of the variation, or -1 for the whole phase", -1),
        real("alpha", "1", "mean planned alpha of the part", 0),
        real("beta", "s", "mean planned beta (scale)", 0),
        real("theta", "1", "mean planned theta", 0, nullable=True),
        label("metric", "name, as in burstbench.metrics.definitions"),
        label("unit", "unit of the value"),
        real("value", "as `unit`", "null where the part holds nothing to measure", nullable=True),
        whole("n", "1", "requests or steps it rests on"),
    ),
    key=("experiment", "model", "gpu", "seed", "phase", "step", "metric"),
)
SUMMARY = Contract(
    "summary",
    "The same over the seeds: mean and 95 % bootstrap interval.",
    (
        *CELL,
        label("phase", "phase of the experiment"),
        whole("step", "1", "step of the variation, or -1 for the whole phase", -1),
        real("alpha", "1", "mean planned alpha of the part", 0),
        real("beta", "s", "mean planned beta (scale)", 0),
        real("theta", "1", "mean planned theta", 0, nullable=True),
        label("metric", "name"),
        label("unit", "unit of the values"),
        real("mean", "as `unit`", "over the seeds that have a value", nullable=True),
        real("low", "as `unit`", "lower end; null with fewer than two seeds", nullable=True),
        real("high", "as `unit`", "upper end; null with fewer than two seeds", nullable=True),
        whole("seeds", "1", "seeds with a value"),
    ),
    key=("experiment", "model", "gpu", "phase", "step", "metric"),
)
TIMELINE = Contract(
    "timeline",
    "Instantaneous metrics of each cell on a fixed grid (Fig. 16).",
    (
        *CELL,
        SEED,
        real("time_s", "s", "start of the interval, from the start of the run", 0),
        real("width_s", "s", "its width", 0),
        label("phase", "phase of the requests that should start in it", nullable=True),
        real("alpha", "1", "planned, of the last request intended before its end", 0, nullable=True),
        real("beta", "s", "planned (scale)", 0, nullable=True),
        whole("arrivals", "requests", "requests intended in it"),
        whole("completed", "requests", "requests answered in it"),
        whole("failed", "requests", "requests intended in it that failed"),
        real("failure_rate", "1", "failed / arrivals; null without arrivals", 0, maximum=1, nullable=True),
        real(
            "latency_s",
            "s",
            "mean latency from intended to last token of the requests intended in it that succeeded",
            0,
            nullable=True,
        ),
        real("token_latency_s", "s", "the same divided by each one's response tokens", 0, nullable=True),
        real(
            "throughput_tokens_per_s",
            "tokens/s",
            "prompt and response tokens processed in it by engine steps; null where the engine logs none",
            0,
            nullable=True,
        ),
        real("kv_usage", "1", "time-weighted mean of the KV-cache use", 0, maximum=1, nullable=True),
        real("running", "requests", "time-weighted mean of running requests", 0, nullable=True),
        real("waiting", "requests", "time-weighted mean of waiting requests", 0, nullable=True),
    ),
    key=("experiment", "model", "gpu", "seed", "time_s"),
)

# validation -----------------------------------------------------------------------------------------------------------

_COMPARED = (
    real("measured", "as unit", "what the server, or the other engine, did; null where it does not say", nullable=True),
    real("simulated", "as unit", "what the simulator did"),
    real("error", "1", "simulated / measured - 1", nullable=True),
)
VALIDATION_SCHEDULER = Contract(
    "validation_scheduler",
    "The simulator's v1 scheduler against vLLM's own in virtual time, one case a row.",
    (
        whole("case", "1", "0, 1, 2 ..."),
        label("set", "of loads, pools and timeouts chosen (grid) or drawn (random)", allowed=("grid", "random")),
        label("lengths", "kind of the lengths"),
        real("load", "1", "share of the rate at which the engine works the requests off", 0, nullable=True),
        whole("blocks", "1", "usable KV-cache blocks", 1),
        whole("max_num_seqs", "requests", "limit of a batch", 1),
        whole("max_num_batched_tokens", "tokens", "limit of a step", 1),
        label("timeout", "kind of the timeout"),
        real("timeout_s", "s", "its limit", 0, nullable=True),
        whole("requests", "requests", "served", 1),
        whole("steps", "1", "engine steps of vLLM"),
        whole("steps_simulator", "1", "engine steps of the simulator"),
        whole("steps_different", "1", "steps that differ in any logged quantity"),
        whole("first_different_step", "1", "the first of them", nullable=True),
        whole("preemptions", "1", "of vLLM"),
        whole("preemptions_simulator", "1", "of the simulator"),
        whole("timeouts", "1", "of vLLM"),
        whole("timeouts_simulator", "1", "of the simulator"),
        real("mean_kv_usage", "1", "mean share of the KV cache in use", 0, maximum=1),
        whole("requests_different", "requests", "requests that differ in any logged quantity"),
        *(
            real(f"{name}_{what}", "s" if what.endswith("_s") else "1", "of all requests", nullable=True)
            for name in ("first_scheduled", "first_token", "done")
            for what in ("mean_error", "p99_error", "max_difference_s")
        ),
    ),
    key=("case",),
)
VALIDATION_LOG = Contract(
    "validation_log",
    "The simulator with kernel times against the log of a real server, one quantity of one variant a row.",
    (
        label("variant", "what the simulator knew"),
        real("host_us", "µs", "host time of a step, of either sign; 0 where none was fitted"),
        label("quantity", "what is compared"),
        label("unit", "of the values"),
        *_COMPARED,
    ),
    key=("variant", "quantity"),
)
VALIDATION_LOG_SERIES = Contract(
    "validation_log_series",
    "Requests and KV-cache use over time: the server's gauges and the simulator's state at the same moments.",
    (
        real("time_s", "s", "from the first request", 0),
        label("quantity", "which gauge", allowed=("running", "waiting", "kv_cache_pct")),
        label("variant", "'measured', or what the simulator knew"),
        real("value", "requests or %", "of the gauge", 0),
    ),
    key=("quantity", "variant", "time_s"),
)
VALIDATION_CPU = Contract(
    "validation_cpu",
    "The simulator with step times fitted to one run of a real vLLM on a processor against other runs.",
    (
        label("run", "which load"),
        whole("requests", "requests", "served", 1),
        real("requests_per_s", "1/s", "mean rate of the load", 0),
        label("quantity", "what is compared"),
        label("unit", "of the values"),
        *_COMPARED,
    ),
    key=("run", "quantity"),
)
VALIDATION_CPU_SERIES = Contract(
    "validation_cpu_series",
    "Requests in the batch over time, of the real vLLM on a processor and of the simulator.",
    (
        label("run", "which load"),
        real("time_s", "s", "from the start of the run", 0),
        real("measured", "requests", "in the server's batch", 0),
        real("simulated", "requests", "in the simulated batch", 0),
    ),
    key=("run", "time_s"),
)
KERNEL_TIMES = Contract(
    "kernel_times",
    "Measured kernel times, a part of public profiles.",
    (
        label("gpu", "key of gpus.yaml"),
        label("operator", "kernel, or sum of kernels"),
        label("shape", "of the model or its shard"),
        whole("n", "1", "columns the operator reads: hidden size, heads ...", 1),
        whole("k", "1", "columns it writes; KV heads", 1),
        whole("batch", "requests", "rows of attention; 1 for linear kernels", 1),
        whole("size", "tokens", "tokens of the step, of the prompt, or of the context", 1),
        real("time_us", "µs", "median", 0),
    ),
    key=("gpu", "operator", "shape", "batch", "size"),
)
VALIDATION_KERNELS = Contract(
    "validation_kernels",
    "Kernel times of the analytic model beside measured ones.",
    (
        label("gpu", "key of gpus.yaml"),
        label("operator", "kernel, or sum of kernels"),
        label("shape", "of the model or its shard"),
        label("use", "whether the fit saw this shape", allowed=("fitted", "predicted")),
        whole("batch", "requests", "rows of attention; 1 for linear kernels", 1),
        whole("size", "tokens", "tokens of the step, of the prompt, or of the context", 1),
        real("measured", "µs", "median", 0),
        real("simulated", "µs", "of the analytic model", 0),
        real("error", "1", "simulated / measured - 1"),
    ),
    key=("gpu", "operator", "shape", "batch", "size"),
)
PUBLISHED_POINTS = Contract(
    "published_points",
    "Step times that others published.",
    (
        label("model", "key of models.yaml beside it"),
        label("gpu", "key of gpus.yaml"),
        label("host", "which software of the simulator is nearest"),
        label("quantity", "what was timed", allowed=("decode", "prefill")),
        whole("requests", "requests", "in the batch", 1),
        whole("tokens", "tokens", "context of each request, or length of the prompt", 1),
        real("published_ms", "ms", "step time", 0),
        label("source", "whose, and what of it was read how"),
    ),
    key=("model", "gpu", "quantity", "requests", "tokens"),
)
VALIDATION_PUBLISHED = Contract(
    "validation_published",
    "Step times of the analytic model beside published ones.",
    (
        *PUBLISHED_POINTS.columns,
        real("simulated_ms", "ms", "step time of the analytic model", 0),
        real("error", "1", "simulated / published - 1"),
    ),
    key=PUBLISHED_POINTS.key,
)

# paper ----------------------------------------------------------------------------------------------------------------

SCORECARD = Contract(
    "scorecard",
    "One part of one of the paper's claims a row, with its verdict.",
    (
        whole("claim", "1", "number of the claim, 1 to 19", 1, maximum=19),
        label("title", "what the claim is about, in a few words"),
        label("part", "short name of the part tested"),
        label("statement", "what is claimed"),
        label("measured", "what was found, with unit and interval"),
        label("published", "the paper's value, or ''"),
        label("test", "how it was tested"),
        label("tolerance", "what is allowed, and why"),
        label(
            "verdict", "the outcome", allowed=("reproduced", "not reproduced", "not testable here", "by construction")
        ),
        label("input", "what it was tested on: real trace, twin, measured server, simulated server ..."),
        label("evidence", "the table that holds the number, relative to the study's folder"),
        label("reason", "why this verdict, in one sentence"),
    ),
    key=("claim", "part"),
)

SENSITIVITY = Contract(
    "sensitivity",
    "The claims on served models under other assumptions of the simulator, one part of a claim and one variant a row.",
    (
        label("variant", "what was changed; the first is the study as it is"),
        whole("claim", "1", "number of the claim", 1, maximum=19),
        label("part", "short name of the part tested"),
        label("verdict", "the outcome", allowed=("holds", "does not hold", "nothing to test")),
        label("measured", "what was found, with unit and interval"),
        label("reason", "why, in one sentence"),
    ),
    key=("variant", "claim", "part"),
)

CONTRACTS: dict[str, Contract] = {
    contract.name: contract for contract in list(globals().values()) if isinstance(contract, Contract)
}
