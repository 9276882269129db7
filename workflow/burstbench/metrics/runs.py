"""The cells of an experiment as arrays: a plan and what became of it, joined and checked."""

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from burstbench.contracts import INTERVALS, PLAN, REQUESTS, STEPS
from burstbench.errors import UserError
from burstbench.files import read_json
from burstbench.metrics.definitions import NS_PER_S, Engine, Requests

ROUNDING_NS = 1000
"""A run's intended times may differ from its plan's by this much: the plan is in seconds, the run in nanoseconds."""


def add_cells(parser: argparse.ArgumentParser) -> None:
    """Give a verb the option `--cell`, once for each cell."""
    parser.add_argument(
        "--cell",
        nargs=2,
        type=Path,
        action="append",
        required=True,
        metavar=("PLAN_DIR", "SERVE_DIR"),
        help="a cell's plan folder and serve folder; once for each cell",
    )


class Cell(NamedTuple):
    """Which run it is."""

    experiment: str
    model: str
    gpu: str
    seed: int


@dataclass(frozen=True)
class Run:
    """One cell.

    Attributes:
        cell: which.
        phase, step: of each planned request, shape (n,); `phase` counts up from 0 in the order of the plan.
        phases: the phases' names.
        alpha, beta, theta: planned for each request; theta is NaN where lengths are not Zipf.
        requests: what became of them.
        engine: its state over time, None where it logged no steps.
        end_ns: end of the last step, or the last request's end if that is later.
    """

    cell: Cell
    phase: NDArray[np.int64]
    step: NDArray[np.int64]
    phases: list[str]
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    theta: NDArray[np.float64]
    requests: Requests
    engine: Engine | None
    end_ns: float


def identity(plan_dir: Path, serve_dir: Path) -> Cell:
    """Read which cell it is from plan.json and run.json.

    Raises:
        UserError: a key is missing, or the two disagree.
    """
    plan, run = read_json(plan_dir / "plan.json"), read_json(serve_dir / "run.json")
    values: list[Any] = []
    for key in Cell._fields:
        for name, record in (("plan.json", plan), ("run.json", run)):
            if key not in record:
                raise UserError(f"{(plan_dir if name == 'plan.json' else serve_dir) / name}: key {key!r} is missing")
        if plan[key] != run[key]:
            raise UserError(
                f"{serve_dir / 'run.json'}: {key} is {run[key]!r}, but {plan_dir / 'plan.json'} says {plan[key]!r}: "
                "the run is not of this plan"
            )
        values.append(plan[key])
    return Cell(*values)


def floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column as float64, with NaN where it has no value."""
    return pc.cast(table.column(name), pa.float64(), safe=False).to_numpy().astype(np.float64)


def join(plan_dir: Path, serve_dir: Path) -> tuple[pa.Table, pa.Table]:
    """Read plan and requests of a cell; the requests come back in the order of the plan.

    Raises:
        UserError: they do not hold the same requests at the same times, or an answered request has no end.
    """
    plan = PLAN.read(plan_dir / "plan.parquet")
    path = serve_dir / "requests.parquet"
    requests = REQUESTS.read(path)
    planned = plan.column("request_id").to_numpy()
    found = requests.column("request_id").to_numpy()
    if len(planned) != len(found) or not np.array_equal(np.sort(planned), np.sort(found)):
        differing = np.setxor1d(planned, found)
        raise UserError(
            f"{path}: {len(found)} requests, expected the {len(planned)} of {plan_dir / 'plan.parquet'}; "
            f"request_id {differing[0]} stands in one of them only"
        )
    order = np.empty(len(planned), np.int64)
    order[np.argsort(planned)] = np.argsort(found)
    requests = requests.take(pa.array(order))
    intended = floats(requests, "intended_ns")
    off = np.flatnonzero(np.abs(intended - plan.column("send_s").to_numpy() * NS_PER_S) > ROUNDING_NS)
    if off.size:
        row = int(off[0])
        raise UserError(
            f"{path}: request_id {planned[row]}: intended_ns is {intended[row]:.0f}, expected the plan's "
            f"{plan.column('send_s')[row].as_py()} s"
        )
    ok = pc.equal(requests.column("outcome"), "ok").to_numpy()
    endless = np.flatnonzero(ok & np.isnan(floats(requests, "done_ns")))
    if endless.size:
        raise UserError(f"{path}: request_id {planned[endless[0]]}: outcome is 'ok' without a done_ns")
    return plan, requests


def read_run(plan_dir: Path, serve_dir: Path) -> Run:
    """Read one cell.

    Args:
        plan_dir: holds plan.parquet and plan.json.
        serve_dir: holds requests.parquet, run.json, and steps.parquet or, of a simulated run, intervals.parquet.

    Raises:
        UserError: the files break their contracts or disagree; the plan is empty; a phase or a step of it comes back
            after another has begun.
    """
    cell = identity(plan_dir, serve_dir)
    plan, table = join(plan_dir, serve_dir)
    if not plan.num_rows:
        raise UserError(f"{plan_dir / 'plan.parquet'}: no requests")
    requests = Requests(
        intended=floats(table, "intended_ns"),
        sent=floats(table, "sent_ns"),
        scheduled=floats(table, "first_scheduled_ns"),
        first_token=floats(table, "first_token_ns"),
        done=floats(table, "done_ns"),
        response_tokens=floats(table, "response_tokens"),
        preemptions=floats(table, "preemptions"),
        ok=pc.equal(table.column("outcome"), "ok").to_numpy(),
    )
    ends = [np.max(requests.intended), np.nanmax(requests.done, initial=0)]
    summed = read_json(serve_dir / "run.json").get("engine") == "simulator"
    steps = INTERVALS.read(serve_dir / "intervals.parquet") if summed else STEPS.read(serve_dir / "steps.parquet")
    engine = None
    if steps.num_rows:
        engine = Engine.of(
            floats(steps, "start_ns"),
            floats(steps, "duration_ns"),
            floats(steps, "prefill_tokens") + floats(steps, "decode_tokens"),
            floats(steps, "kv_usage"),
            floats(steps, "running"),
            floats(steps, "waiting"),
            requests,
        )
        ends.append(engine.edges[-1])
    phases: list[str] = []
    phase = np.empty(plan.num_rows, np.int64)
    encoded = plan.column("phase").combine_chunks().dictionary_encode()
    codes, labels = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    step = plan.column("step").to_numpy()
    starts = [0, *(np.flatnonzero(codes[1:] != codes[:-1]) + 1), len(codes)]
    for first, last in pairwise(starts):
        name = labels[codes[first]]
        if name in phases:
            raise UserError(f"{plan_dir / 'plan.parquet'}, row {first}: phase {name!r} again after {phases[-1]!r}")
        back = np.flatnonzero(np.diff(step[first:last]) < 0)
        if back.size:
            row = first + int(back[0]) + 1
            raise UserError(f"{plan_dir / 'plan.parquet'}, row {row}: step {step[row]} after step {step[row - 1]}")
        phase[first:last] = len(phases)
        phases.append(name)
    return Run(
        cell,
        phase,
        step,
        phases,
        floats(plan, "alpha"),
        floats(plan, "beta"),
        floats(plan, "theta"),
        requests,
        engine,
        float(max(ends)),
    )
