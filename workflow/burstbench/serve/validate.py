"""`burstbench serve validate`: the analytic step times beside measured kernel times and published step times.

The measurements are small tables of `data/validation`; the model is the study's own (`config/gpus.yaml`), so an entry
that is changed there shows its error at once. Nothing is fitted here.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from burstbench import contracts
from burstbench.cli import add_settings
from burstbench.errors import UserError
from burstbench.serve import steptime
from burstbench.serve.gpus import Gpu, Model

LINEAR = ("qkv", "attention output", "gate and up", "down", "element-wise")
DECODE, PREFILL = "decode attention", "prefill attention"
# What the fits saw (config/gpus.yaml): the whole layer up to 4096 tokens; decoding with as many heads as the row's
# `max_kv_heads`, contexts of 128 to 4096; single prompts of up to 4096 tokens.
_FITTED_LAYER, _FITTED_TOKENS = "7b layer", 4096
# The fractions as they were fitted: the other host replaces some.
_HOST = "v0-2024"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    add_settings(parser)
    parser.add_argument("--kernel-times", type=Path, nargs="+", required=True, help="measured kernel times, CSV")
    parser.add_argument("--points", type=Path, required=True, help="published step times, CSV")
    parser.add_argument("--kernels", type=Path, required=True, help="validation_kernels.parquet to write")
    parser.add_argument("--published", type=Path, required=True, help="validation_published.parquet to write")


def run(args: argparse.Namespace) -> None:
    """Compare and write both tables."""
    gpus = {name: Gpu.of(row, name) for name, row in args.settings["gpus"].items()}
    models = {name: Model.of(row, name) for name, row in args.settings["models"].items()}
    # Both are read before one is written.
    tables = [kernels(path, gpus, models) for path in args.kernel_times]
    together = {name: [value for table in tables for value in table[name]] for name in tables[0]}
    compared = together, published(args.points, gpus, models)
    contracts.VALIDATION_KERNELS.write(compared[0], args.kernels)
    contracts.VALIDATION_PUBLISHED.write(compared[1], args.published)


def kernels(path: Path, gpus: Mapping[str, Gpu], models: Mapping[str, Model]) -> dict[str, list[Any]]:
    """Return the columns of contract `validation_kernels` for the measurements of a file of contract `kernel_times`.

    Raises:
        UserError: an operator or a GPU is not known.
    """
    return kernels_of(contracts.KERNEL_TIMES.read(path), path, gpus, models)


def kernels_of(
    times: pa.Table, path: Path, gpus: Mapping[str, Gpu], models: Mapping[str, Model]
) -> dict[str, list[Any]]:
    """Return the same for measurements that were read; the path is named in messages."""
    seven = models["llama-2-7b-chat"]
    names = [column.name for column in contracts.VALIDATION_KERNELS.columns]
    table: dict[str, list[Any]] = {name: [] for name in names}
    for row in times.to_pylist():
        gpu = gpus.get(row["gpu"])
        if gpu is None:
            raise UserError(f"{path}: gpu: found {row['gpu']!r}, expected one of {', '.join(gpus)}")
        operator, size, batch, shape = row["operator"], row["size"], row["batch"], row["shape"]
        n = np.array([float(size)])
        if operator == "element-wise":
            # A shard has its part of the heads and of the MLP, and all of the hidden state; a whole layer of a larger
            # model has a wider one.
            hidden = max(seven.hidden, row["n"])
            found, fitted = steptime.elementwise_s(n, hidden, 2 * row["n"], row["k"], gpu), _FITTED_LAYER
        elif operator in LINEAR:
            found, fitted = steptime.gemm_s(n, row["n"], row["k"], gpu), _FITTED_LAYER
        elif operator in (DECODE, PREFILL):
            one = replace(seven, layers=1, heads=row["n"], kv_heads=row["k"])
            constants = steptime.analytic(one, gpu, _HOST, 1, 1).attention
            constants[:2] = 0
            nothing = np.zeros(2)
            decode = operator == DECODE
            work = 0.0 if decode else batch * steptime.prefill_work(size, 0)
            rows: tuple[int, int, int, int] = (batch, batch * size, size, 0) if decode else (0, 0, 0, batch)
            found = np.array([steptime.seconds(nothing, nothing, constants, 0, 0, *rows, work)])
            most = gpu.attention.max_kv_heads
            fitted = f"{most} heads, {most} KV heads" if decode else shape
        else:
            raise UserError(
                f"{path}: operator: found {operator!r}, expected one of {', '.join((*LINEAR, DECODE, PREFILL))}"
            )
        simulated = 1e6 * float(found[0])
        use = "fitted" if shape == fitted and size <= _FITTED_TOKENS else "predicted"
        values = (
            row["gpu"],
            operator,
            shape,
            use,
            batch,
            size,
            row["time_us"],
            simulated,
            simulated / row["time_us"] - 1,
        )
        for name, value in zip(names, values, strict=True):
            table[name].append(value)
    return table


def published(path: Path, gpus: Mapping[str, Gpu], models: Mapping[str, Model]) -> dict[str, list[Any]]:
    """Return the columns of contract `validation_published` for the points of a file of contract `published_points`.

    Raises:
        UserError: a GPU or model is not known.
    """
    table: dict[str, list[Any]] = {column.name: [] for column in contracts.VALIDATION_PUBLISHED.columns}
    for row in contracts.PUBLISHED_POINTS.read(path).to_pylist():
        for kind, known in (("gpu", gpus), ("model", models)):
            if row[kind] not in known:
                raise UserError(f"{path}: {kind}: found {row[kind]!r}, expected one of {', '.join(known)}")
        times = steptime.analytic(models[row["model"]], gpus[row["gpu"]], row["host"], 16384, 1024)
        if row["quantity"] == "decode":
            seconds = steptime.decode_step_s(times, row["requests"], row["tokens"])
        else:
            seconds = steptime.prefill_step_s(times, row["tokens"])
        values = {**row, "simulated_ms": 1e3 * seconds, "error": 1e3 * seconds / row["published_ms"] - 1}
        for name, column in table.items():
            column.append(values[name])
    return table
