"""`burstbench serve calibrate`: the beta at which the simulated engine's KV cache is used to a target share.

The paper chose alpha and beta of Table III so that some 30 to 40 % of the KV cache are used in the warm-up. Here each
row is probed with the study's own warm-up plans, only beta differs: KV use is the mean over time and over the seeds,
and a bisection of log beta between 1/32 and 32 times the paper's value looks for the target. The random streams of the
plans do not depend on beta, so the KV use of neighbouring probes differs by beta alone. Simulated; never a measurement.
"""

import argparse
import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from burstbench import contracts
from burstbench.cli import add_settings
from burstbench.errors import UserError
from burstbench.plan import make
from burstbench.seeds import generator
from burstbench.serve import responses, scheduler, simulate
from burstbench.serve.gpus import Gpu, Model

RANGE = 32.0
# The search ends when KV use is as near as this to the target, or after so many halvings.
TOLERANCE = 0.002
HALVINGS = 14


class CalibrationError(UserError):
    """The settings cannot be calibrated."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    add_settings(parser)
    parser.add_argument("--pool-index", type=Path, required=True, help="pool_index.parquet")
    parser.add_argument("--replies", type=Path, required=True, help="replies.parquet of the prompt pool")
    parser.add_argument("--out", type=Path, required=True, help="calibration.parquet or .csv to write")


def run(args: argparse.Namespace) -> None:
    """Calibrate every row under every response model."""
    contracts.CALIBRATION.write(calibrate(args.settings, args.pool_index, args.replies), args.out)


def bisect(use: Callable[[float], float], target: float, start: float, rising: bool) -> tuple[float | None, int]:
    """Find where a monotone function of beta takes a value.

    Args:
        use: KV use at a beta.
        target: the use looked for.
        start: beta in the middle (of logarithms) of the range, which goes from start / 32 to 32 start.
        rising: whether a larger beta means more load.

    Returns:
        beta: within `TOLERANCE` of the target's use or `HALVINGS` halvings; None where the range does not reach it.
        probes: how often `use` was called.
    """
    light, heavy = (start / RANGE, start * RANGE) if rising else (start * RANGE, start / RANGE)
    if use(light) > target or use(heavy) < target:
        return None, 2
    for probe in range(HALVINGS):
        middle = math.sqrt(light * heavy)
        found = use(middle)
        if abs(found - target) < TOLERANCE:
            return middle, probe + 3
        light, heavy = (middle, heavy) if found < target else (light, middle)
    return math.sqrt(light * heavy), HALVINGS + 2


def use_over_time(steps: npt.NDArray[np.int64], blocks: int, seconds: float) -> tuple[float, float, float]:
    """Return mean, 10th and 90th percentile over time of the KV use of a step log; an idle engine uses nothing."""
    end = seconds * 1e9
    start = steps[:, scheduler.START]
    held = np.clip(np.minimum(start + steps[:, scheduler.DURATION], end) - start, 0, None)
    use = steps[:, scheduler.USED] / blocks
    order = np.argsort(use, kind="stable")
    idle = max(0.0, end - held.sum())
    levels = np.concatenate([[0.0], use[order]])
    reached = np.cumsum(np.concatenate([[idle], held[order]])) / end
    low, high = (float(levels[min(int(np.searchsorted(reached, share)), levels.size - 1)]) for share in (0.1, 0.9))
    return float((use * held).sum() / end), low, high


class _Row:
    """One row of Table III on the simulated engine."""

    def __init__(
        self, settings: Mapping[str, Any], model: str, gpu: str, pool_index: pa.Table, replies: pa.Table
    ) -> None:
        self.settings, self.simulator = settings, settings["simulator"]
        self.names = {"experiment": "warmup", "model": model, "gpu": gpu}
        self.initial = settings["initial"][model][gpu]
        rows = settings["models"][model], settings["gpus"][gpu]
        self.model = Model.of(rows[0], model)
        _, self.limits = simulate.limits_of(*rows, self.simulator)
        self.times = simulate.step_times(self.simulator, self.model, Gpu.of(rows[1], gpu), self.limits).times
        self.pool_index = pool_index
        self.asked, self.replied = (replies.column(name).to_numpy() for name in ("request_tokens", "reply_tokens"))

    def use(self, lengths: Mapping[str, Any], beta: float) -> tuple[float, float, float]:
        """KV use at a beta: mean, 10th and 90th percentile over time, each the mean over the seeds."""
        found = [self._run({**self.names, "seed": seed}, lengths, beta) for seed in self.settings["seeds"]]
        mean, low, high = np.mean(found, axis=0).tolist()
        return mean, low, high

    def _run(self, cell: dict[str, Any], lengths: Mapping[str, Any], beta: float) -> tuple[float, float, float]:
        shared = {key: self.settings[key] for key in ("root_seed", "max_tokens", "prompt_max_tokens", "beta_kind")}
        phases = [{"name": "warmup", "seconds": self.settings["seconds"]}]
        own = {"initial": {**self.initial, "beta": beta}, "phases": phases}
        plan, _ = make.make(cell | shared | own, self.pool_index, None, None)
        prompt = plan["prompt_tokens"]
        rng = generator(shared["root_seed"], "serve", *cell.values(), "responses")
        natural = responses.draw(lengths, prompt, self.asked, self.replied, rng)
        timeout = self.simulator["timeout"]
        result = scheduler.simulate(
            self.simulator["scheduler"],
            np.rint(plan["send_s"] * 1e9).astype(np.int64),
            prompt,
            np.minimum(natural, np.minimum(shared["max_tokens"], self.model.max_model_len - prompt)),
            self.limits,
            self.times,
            timeout["kind"],
            round(timeout.get("seconds", 0) * 1e9),
            bool(self.simulator.get("prefix_caching", False)),
        )
        return use_over_time(result.steps, self.limits.blocks, self.settings["seconds"])


def calibrate(settings: Mapping[str, Any], pool_index_path: Path, replies_path: Path) -> dict[str, list[Any]]:
    """Calibrate every row of `initial` under every response model.

    Args:
        settings: root_seed, seeds, initial (model, GPU: alpha, beta, theta), models and gpus (rows by name), simulator
            (engines.simulator), response_lengths (a list of settings like the simulator's), target, seconds of the
            warm-up, max_tokens, prompt_max_tokens, beta_kind.
        pool_index_path: table of contract `pool_index`.
        replies_path: table of contract `replies`.

    Returns:
        Columns of contract `calibration`.

    Raises:
        CalibrationError: the target is not between 0 and 1.
    """
    if not 0 < settings["target"] < 1:
        raise CalibrationError(f"target: found {settings['target']!r}, expected a share between 0 and 1")
    pool_index, replies = contracts.POOL_INDEX.read(pool_index_path), contracts.REPLIES.read(replies_path)
    seeds, rising = len(settings["seeds"]), settings["beta_kind"] == "rate"
    table: dict[str, list[Any]] = {column.name: [] for column in contracts.CALIBRATION.columns}
    for model, by_gpu in settings["initial"].items():
        for gpu, initial in by_gpu.items():
            row = _Row(settings, model, gpu, pool_index, replies)
            for lengths in settings["response_lengths"]:
                use = functools.partial(row.use, lengths)
                paper = use(initial["beta"])

                def mean(beta: float, use: Callable[[float], tuple[float, float, float]] = use) -> float:
                    return use(beta)[0]

                beta, probes = bisect(mean, settings["target"], initial["beta"], rising)
                values = {
                    "model": model, "gpu": gpu, "response_lengths": json.dumps(lengths, sort_keys=True),
                    "alpha": initial["alpha"], "beta": initial["beta"], "kv_usage": paper[0], "kv_usage_p10": paper[1],
                    "kv_usage_p90": paper[2], "target": settings["target"], "beta_calibrated": beta,
                    "kv_usage_calibrated": None if beta is None else use(beta)[0], "seeds": seeds,
                    "probes": (1 + probes + (beta is not None)) * seeds,
                }  # fmt: skip
                for name, value in values.items():
                    table[name].append(value)
    return table
