"""`burstbench serve simulate`: run a plan on the simulated engine. Nothing here is measured; run.json says so."""

import argparse
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

import burstbench
from burstbench import contracts
from burstbench.cli import add_settings
from burstbench.errors import UserError
from burstbench.files import read_json, sha256, write_json
from burstbench.seeds import generator
from burstbench.serve import capacity, fit, kerneltable, responses, scheduler, steptime
from burstbench.serve.gpus import Gpu, Model

INTERVAL_NS = 1_000_000_000  # of what is summed up while the engine runs
IDENTITY = ("experiment", "model", "gpu", "seed")
_SIMULATOR_KEYS = ("scheduler", "host", "memory_utilization", "timeout", "response_lengths")
_LIMITS = ("max_num_seqs", "max_num_batched_tokens")  # of a batch; without them those of the card
_BOUNDS = ("max_num_queued_reqs", "max_num_queued_tokens")  # beyond which requests are refused; without them none is
_OPTIONAL_KEYS = ("step_time", *_LIMITS, *_BOUNDS, "prefix_caching", "step_log")
_STEP_TIMES = {"analytic": set(), "table": {"folder"}, "fitted": {"file"}}


class SimulationError(UserError):
    """The plan or the settings cannot be simulated."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    add_settings(parser)
    parser.add_argument("--plan", type=Path, required=True, help="plan.parquet of the cell")
    parser.add_argument("--plan-record", type=Path, required=True, help="plan.json of the cell")
    parser.add_argument("--replies", type=Path, required=True, help="replies.parquet of the prompt pool")
    parser.add_argument("--requests", type=Path, required=True, help="requests.parquet to write")
    parser.add_argument("--steps", type=Path, required=True, help="steps.parquet to write; no rows without step_log")
    parser.add_argument("--intervals", type=Path, required=True, help="intervals.parquet to write")
    parser.add_argument("--run", dest="run_record", type=Path, required=True, help="run.json to write")


def run(args: argparse.Namespace) -> None:
    """Simulate one cell."""
    simulate(
        args.settings,
        args.plan,
        args.plan_record,
        args.replies,
        args.requests,
        args.steps,
        args.intervals,
        args.run_record,
    )


def simulate(
    settings: Mapping[str, Any],
    plan_path: Path,
    plan_record_path: Path,
    replies_path: Path,
    requests_path: Path,
    steps_path: Path,
    intervals_path: Path,
    run_path: Path,
) -> None:
    """Run a plan on the simulated engine and write what became of it.

    Args:
        settings: experiment, model, gpu, seed, root_seed, model_row, gpu_row and simulator (engines.simulator of the
            study).
        plan_path: table of contract `plan`.
        plan_record_path: plan.json, which names the same cell.
        replies_path: table of contract `replies`.
        requests_path: to write, contract `requests`.
        steps_path: to write, contract `steps`; without rows unless the simulator's `step_log` is true.
        intervals_path: to write, contract `intervals`: the same as sums, whose memory does not grow with the steps.
        run_path: to write, JSON: what the run was made with.

    Raises:
        SimulationError: the plan is another cell's, a prompt can never be served, or a setting is wrong.
        CapacityError: the model does not fit on the GPU.
        RowError: a row of models.yaml or gpus.yaml is wrong.
    """
    simulator = settings["simulator"]
    server = Server.of(settings, simulator)
    model, gpu, clock, limits = server.model, server.gpu, server.clock, server.limits
    _check_identity(settings, plan_record_path)
    kind, host, timeout = simulator["scheduler"], simulator["host"], simulator["timeout"]
    usable, caching = limits.blocks, bool(simulator.get("prefix_caching", False))

    plan = contracts.PLAN.read(plan_path, ["request_id", "phase", "step", "send_s", "prompt_tokens", "max_tokens"])
    prompt = plan.column("prompt_tokens").to_numpy()
    _check_prompts(plan_path, plan.column("request_id").to_numpy(), prompt, model)
    rng = generator(settings["root_seed"], "serve", *(settings[key] for key in IDENTITY), "responses")
    drawn_as, asked, replied, measured = replies(simulator["response_lengths"], replies_path)
    natural = responses.draw(drawn_as, prompt, asked, replied, rng)
    allowed = np.minimum(plan.column("max_tokens").to_numpy(), model.max_model_len - prompt)
    response = np.minimum(natural, allowed)
    arrival_ns = nanoseconds(plan.column("send_s").to_numpy())

    parts = begins(plan.column("phase").combine_chunks(), plan.column("step").to_numpy(), arrival_ns)
    result = server.serve(arrival_ns, prompt, response, parts)
    # Twice where the log is asked for: the sums are the same with it and without.
    logged = server.serve(arrival_ns, prompt, response) if simulator.get("step_log") else result

    contracts.REQUESTS.write(_requests(plan, arrival_ns, prompt, result), requests_path)
    contracts.STEPS.write(_steps(logged, usable), steps_path)
    contracts.INTERVALS.write(intervals(result, usable), intervals_path)
    outcomes = np.bincount(result.outcomes, minlength=len(scheduler.OUTCOMES))
    record = {
        **{key: settings[key] for key in IDENTITY},
        "engine": "simulator",
        "simulated": True,
        "hardware": f"simulated {gpu.name}",
        "scheduler": kind,
        "host": host,
        "step_time": clock.record,
        "capacity": {
            "block_tokens": capacity.BLOCK_TOKENS,
            "blocks": server.blocks,
            "usable_blocks": usable,
            "memory_utilization": simulator["memory_utilization"],
            "reserved_gib": capacity.RESERVED_GIB[kind],
            "kv_bytes_per_token": model.kv_bytes_per_token,
            "weight_bytes": model.weight_bytes,
        },
        "limits": {
            "max_num_seqs": limits.max_requests,
            "max_num_batched_tokens": limits.max_tokens,
            "max_num_queued_reqs": limits.max_inside,
            "max_num_queued_tokens": limits.max_pending_tokens,
            "max_model_len": model.max_model_len,
        },
        "timeout": dict(timeout),
        "response_lengths": {
            **simulator["response_lengths"],
            "statement": "response lengths drawn, not generated",
            **(
                {"neighbours": responses.NEIGHBOURS}
                if simulator["response_lengths"]["kind"] in {"empirical", "measured"}
                else {}
            ),
            "mean_tokens": float(response.mean()) if response.size else None,
            "cut_by_limit": int((natural > allowed).sum()),
        },
        "prefix_caching": caching,
        "root_seed": settings["root_seed"],
        "gpu_row": dict(settings["gpu_row"]),
        "model_row": dict(settings["model_row"]),
        "inputs": {
            "plan.parquet": sha256(plan_path),
            "plan.json": sha256(plan_record_path),
            "replies.parquet": sha256(replies_path),
            **({"response_lengths.file": sha256(measured)} if measured else {}),
            **clock.inputs,
        },
        "requests": len(prompt),
        "steps": int(result.totals[scheduler.STEP_COUNT]),
        "step_log": bool(simulator.get("step_log", False)),
        "preemptions": int(result.preemptions.sum()),
        "outcomes": dict(zip(scheduler.OUTCOMES, outcomes.tolist(), strict=True)),
        "warnings": clock.warnings(result.totals),
        "versions": {
            "burstbench": burstbench.__version__,
            "numpy": np.__version__,
            "numba": numba.__version__,
            "python": platform.python_version(),
        },
    }
    write_json(run_path, record)


@dataclass(frozen=True)
class Server:
    """One simulated server: a model on a GPU under the settings of the simulator.

    Attributes:
        model, gpu: their rows.
        blocks: KV-cache blocks, those included that requests cannot use.
        limits: of a batch.
        clock: step times.
        simulator: engines.simulator of the study.
    """

    model: Model
    gpu: Gpu
    blocks: int
    limits: scheduler.Limits
    clock: "Clock"
    simulator: Mapping[str, Any]

    @classmethod
    def of(cls, names: Mapping[str, Any], simulator: Mapping[str, Any]) -> "Server":
        """Start it.

        Args:
            names: model, gpu, model_row, gpu_row.
            simulator: engines.simulator of the study.

        Raises:
            SimulationError: a setting is wrong.
            CapacityError: the model does not fit on the GPU.
            RowError: a row of models.yaml or gpus.yaml is wrong.
        """
        model = Model.of(names["model_row"], names["model"])
        gpu = Gpu.of(names["gpu_row"], names["gpu"])
        _check_settings(simulator)
        count, limits = limits_of(names["model_row"], names["gpu_row"], simulator)
        return cls(model, gpu, count, limits, step_times(simulator, model, gpu, limits), simulator)

    def serve(
        self,
        arrival_ns: npt.NDArray[np.int64],
        prompt: npt.NDArray[np.int64],
        response: npt.NDArray[np.int64],
        parts: npt.NDArray[np.int64] | None = None,
    ) -> scheduler.Run:
        """Run requests, in the order of their arrival; see `scheduler.simulate`.

        Args:
            arrival_ns: [requests].
            prompt: [requests] tokens.
            response: [requests] tokens.
            parts: [parts] times (ns) at which a part of the plan begins: sum up between them and over `INTERVAL_NS`;
                None: log every step.
        """
        timeout = self.simulator["timeout"]
        return scheduler.simulate(
            self.simulator["scheduler"],
            arrival_ns,
            prompt,
            response,
            self.limits,
            self.clock.times,
            timeout["kind"],
            round(timeout.get("seconds", 0) * 1e9),
            bool(self.simulator.get("prefix_caching", False)),
            0 if parts is None else INTERVAL_NS,
            parts,
        )


def nanoseconds(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return a plan's times in the simulator's unit."""
    return np.rint(seconds * 1e9).astype(np.int64)


def begins(
    phase: pa.StringArray, step: npt.NDArray[np.int64], arrival_ns: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the times at which the parts of a plan begin, from its columns."""
    codes = phase.dictionary_encode().indices.to_numpy()
    first = np.flatnonzero((np.diff(codes) != 0) | (np.diff(step) != 0)) + 1
    return np.unique(arrival_ns[first])


def limits_of(
    model_row: Mapping[str, Any], gpu_row: Mapping[str, Any], simulator: Mapping[str, Any]
) -> tuple[int, scheduler.Limits]:
    """Return the KV-cache blocks of a simulated engine and the limits of its batches.

    Raises:
        CapacityError: the model does not fit on the GPU.
        SimulationError: the limits contradict each other.
    """
    model, gpu, kind = Model.of(model_row), Gpu.of(gpu_row), simulator["scheduler"]
    count = capacity.blocks(model_row, gpu_row, simulator["memory_utilization"], kind)
    default = scheduler.Limits.of_card(kind, capacity.pool(count, kind), gpu.name, gpu.memory_gib, model.max_model_len)
    limits = replace(
        default,
        max_requests=simulator.get("max_num_seqs", default.max_requests),
        max_tokens=simulator.get("max_num_batched_tokens", default.max_tokens),
        max_inside=simulator.get("max_num_queued_reqs"),
        max_pending_tokens=simulator.get("max_num_queued_tokens"),
    )
    if limits.max_requests > limits.max_tokens:
        raise SimulationError(
            f"simulator.max_num_batched_tokens: found {limits.max_tokens}, expected at least max_num_seqs "
            f"({limits.max_requests}), as vLLM does"
        )
    return count, limits


@dataclass(frozen=True)
class Clock:
    """The step times of a run.

    Attributes:
        times: the model.
        record: what run.json says of it.
        inputs: checksums of its files.
        warnings: where a run, by its totals, went beyond what was measured.
    """

    times: steptime.StepTime
    record: dict[str, Any]
    inputs: dict[str, str]
    warnings: Callable[[scheduler.Ints], list[str]]


def step_times(simulator: Mapping[str, Any], model: Model, gpu: Gpu, limits: scheduler.Limits) -> Clock:
    """Return the step times that the settings name; without `step_time`, the analytic ones.

    Raises:
        SimulationError: the settings name none.
        FitError, ProfileError: their file is wrong.
    """
    settings = simulator.get("step_time", {"kind": "analytic"})
    kind = settings.get("kind")
    if kind not in _STEP_TIMES or set(settings) != _STEP_TIMES[kind] | {"kind"}:
        raise SimulationError(
            f"simulator.step_time: found {dict(settings)!r}, expected {{kind: analytic}}, {{kind: table, folder: ...}} "
            "or {kind: fitted, file: ...}"
        )
    near_saturation = (
        "near saturation small step errors grow, and latencies and failures there are good to a factor, not to a "
        "percentage"
    )

    if kind == "fitted":
        path = Path(settings["file"])
        times, fitted = fit.of(path, limits.max_tokens, limits.max_requests)
        record = {
            "kind": kind,
            **{key: fitted.get(key) for key in ("error", "error_p90", "total_error", "range", "source")},
        }
        record["statement"] = f"fitted to the steps of another run; {near_saturation}"
        return Clock(
            times,
            record,
            {"step_time.file": sha256(path)},
            lambda totals: fit.validity(
                fitted,
                int(totals[scheduler.PEAK_TOKENS]),
                int(totals[scheduler.PEAK_RUNNING]),
                int(totals[scheduler.PEAK_USED]) * capacity.BLOCK_TOKENS,
            ),
        )
    if kind == "table":
        folder = Path(settings["folder"])
        profile = kerneltable.read(folder)
        times = kerneltable.table(profile, model.layers, limits.max_tokens, limits.max_requests, skew=False)
        record = {"kind": kind, "extrapolated_cells": profile.extrapolated}
        record["statement"] = f"measured kernel times of one layer, interpolated; {near_saturation}"
        inputs = {name: sha256(folder / name) for name in kerneltable.FILES if (folder / name).exists()}
        peaks = [scheduler.PEAK_TOKENS, scheduler.PEAK_RUNNING, scheduler.PEAK_CONTEXT]
        return Clock(times, record, inputs, lambda totals: kerneltable.validity(profile, *map(int, totals[peaks])))
    record = {
        "kind": "analytic",
        "linear_error": gpu.linear.error,
        "decode_attention_error": gpu.attention.decode_error,
        "prefill_attention_error": gpu.attention.prefill_error,
        "attention_measured": gpu.attention_measured,
        "statement": "mean absolute relative errors of the fits to kernel times of a 7b layer; carried to other models "
        f"by shape; {near_saturation}",
    }
    times = steptime.analytic(model, gpu, simulator["host"], limits.max_tokens, limits.max_requests)
    return Clock(times, record, {}, lambda totals: steptime.validity(model, gpu, int(totals[scheduler.PEAK_TOKENS])))


def replies(
    settings: Mapping[str, Any], replies_path: Path
) -> tuple[Mapping[str, Any], npt.NDArray[np.int64], npt.NDArray[np.int64], Path | None]:
    """How to draw response lengths, and from which pairs of lengths: of the dialogues, or of a run (`measured`)."""
    if settings.get("kind") != "measured":
        table = contracts.REPLIES.read(replies_path)
        return settings, table.column("request_tokens").to_numpy(), table.column("reply_tokens").to_numpy(), None
    if set(settings) != {"kind", "file"}:
        raise SimulationError(
            f"simulator.response_lengths: found {dict(settings)!r}, expected {{kind: measured, file: ...}}"
        )
    path = Path(settings["file"])
    table = contracts.REQUESTS.read(path, ["prompt_tokens", "response_tokens", "outcome"])
    ok = np.asarray(table.column("outcome").to_pylist()) == "ok"
    if not ok.any():
        raise SimulationError(f"{path}: no request was served; expected some to draw response lengths from")
    asked, replied = (table.column(name).to_numpy()[ok] for name in ("prompt_tokens", "response_tokens"))
    return {"kind": "empirical"}, asked, replied, path


def _check_settings(simulator: Mapping[str, Any]) -> None:
    """The study's schema has checked them already; a caller by hand gets the same sentences."""
    known = (*_SIMULATOR_KEYS, *_OPTIONAL_KEYS)
    for key in simulator:
        if key not in known:
            raise SimulationError(f"simulator: unknown key {key!r}; known here: {', '.join(known)}")
    for key in (*_LIMITS, *_BOUNDS):
        value = simulator.get(key, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SimulationError(f"simulator.{key}: found {value!r}, expected a whole number of at least 1")
    if not isinstance(simulator.get("step_log", False), bool):
        raise SimulationError(f"simulator.step_log: found {simulator['step_log']!r}, expected true or false")
    if simulator.get("prefix_caching") and simulator.get("scheduler") != "v1":
        raise SimulationError("simulator.prefix_caching: found true, expected false with the scheduler v0")
    for key in _SIMULATOR_KEYS:
        if key not in simulator:
            raise SimulationError(f"simulator: key {key!r} is missing")
    if simulator["scheduler"] not in scheduler.SCHEDULERS:
        raise SimulationError(
            f"simulator.scheduler: found {simulator['scheduler']!r}, expected one of {', '.join(scheduler.SCHEDULERS)}"
        )
    timeout = simulator["timeout"]
    if timeout.get("kind") not in scheduler.TIMEOUTS:
        raise SimulationError(
            f"simulator.timeout.kind: found {timeout.get('kind')!r}, expected one of {', '.join(scheduler.TIMEOUTS)}"
        )
    if timeout["kind"] != "none" and not timeout.get("seconds", 0) > 0:
        raise SimulationError(
            f"simulator.timeout.seconds: found {timeout.get('seconds')!r}, expected a positive number"
        )


def _check_identity(settings: Mapping[str, Any], path: Path) -> None:
    record = read_json(path)
    for key in IDENTITY:
        if record.get(key) != settings[key]:
            raise SimulationError(f"{path}: {key}: found {record.get(key)!r}, expected {settings[key]!r}, this cell's")


def _check_prompts(path: Path, request_ids: npt.NDArray[np.int64], prompt: npt.NDArray[np.int64], model: Model) -> None:
    """Refuse a prompt that leaves no room for one token of response, as vLLM does.

    Every shorter one fits: `capacity.blocks` has made sure that a request of the model's full length does.
    """
    long = np.flatnonzero(prompt >= model.max_model_len)
    if long.size:
        row = int(long[0])
        raise SimulationError(
            f"{path}: row {row} (request_id {request_ids[row]}): found a prompt of {prompt[row]} tokens, expected at "
            f"most {model.max_model_len - 1}: {model.label} takes {model.max_model_len} tokens with the response; "
            "it can never be served"
        )


def _happened(values: npt.NDArray[np.int64]) -> pa.Array:
    """An Arrow array in which -1 is missing."""
    return pa.array(values, pa.int64(), mask=values < 0)


def _requests(
    plan: pa.Table, arrival_ns: npt.NDArray[np.int64], prompt: npt.NDArray[np.int64], result: scheduler.Run
) -> dict[str, Any]:
    """Columns of contract `requests`. Nothing is late here: a request is sent when it is intended."""
    names = pa.array(scheduler.OUTCOMES, pa.string())
    return {
        "request_id": plan.column("request_id"),
        "intended_ns": arrival_ns,
        "sent_ns": arrival_ns,
        "first_scheduled_ns": _happened(result.first_scheduled_ns),
        "first_token_ns": _happened(result.first_token_ns),
        "done_ns": _happened(result.done_ns),
        "prompt_tokens": prompt,
        "response_tokens": result.response_tokens,
        "preemptions": result.preemptions,
        "outcome": names.take(pa.array(result.outcomes)),
    }


def intervals(result: scheduler.Run, usable: int) -> dict[str, npt.NDArray[Any]]:
    """Columns of contract `intervals`. The last interval ends with the last step."""
    sums = result.timeline
    start = sums[:, scheduler.SINCE].astype(np.int64)
    duration = np.diff(start, append=result.totals[scheduler.END])
    return {
        "start_ns": start,
        "duration_ns": duration,
        "steps": sums[:, scheduler.STEPS].astype(np.int64),
        "prefill_tokens": sums[:, scheduler.PREFILL_SUM],
        "decode_tokens": sums[:, scheduler.DECODE_SUM],
        "running": sums[:, scheduler.RUNNING_NS] / duration,
        "waiting": sums[:, scheduler.WAITING_NS] / duration,
        "preempted": sums[:, scheduler.PREEMPTIONS].astype(np.int64),
        # A sum of products may exceed the whole by a rounding error.
        "kv_usage": np.minimum(sums[:, scheduler.USED_NS] / duration / usable, 1),
    }


def _steps(result: scheduler.Run, usable: int) -> dict[str, Any]:
    """Columns of contract `steps`. Memory of the GPU is not modelled: null."""
    log = result.steps
    return {
        "step": np.arange(len(log)),
        "start_ns": log[:, scheduler.START],
        "duration_ns": log[:, scheduler.DURATION],
        "prefill_tokens": log[:, scheduler.PREFILL],
        "decode_tokens": log[:, scheduler.DECODE],
        "running": log[:, scheduler.RUNNING],
        "waiting": log[:, scheduler.WAITING],
        "preempted": log[:, scheduler.PREEMPTED],
        "kv_usage": log[:, scheduler.USED] / usable,
        "free_blocks": usable - log[:, scheduler.USED],
        "gpu_memory_bytes": pa.nulls(len(log), pa.int64()),
    }
