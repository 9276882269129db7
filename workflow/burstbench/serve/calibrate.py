"""`burstbench serve calibrate`: the beta at which the simulated engine's KV cache is used to a target share.

The paper chose alpha and beta of Table III so that some 30 to 40 % of the KV cache are used in the warm-up. Here each
row is probed with the study's own warm-up plans, only beta differs: KV use is the mean over time and over the seeds,
and a search between 1/32 and 32 times the paper's value looks for the target. The random streams of the
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
from burstbench.progress import progress
from burstbench.seeds import generator
from burstbench.serve import responses, scheduler, simulate

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


def search(use: Callable[[float], float], target: float, start: float) -> tuple[float | None, int]:
    """Find where KV use, which falls with the scale of the gaps, takes a value.

    Args:
        use: KV use at a scale.
        target: the use looked for.
        start: where to begin; the answer lies between start / 32 and 32 start.

    Returns:
        scale: within `TOLERANCE` of the target's use or after `HALVINGS` halvings; None where the range does not reach
            it.
        probes: how often `use` was called.
    """
    light = heavy = start
    found, probes = use(start), 1
    # Half or double until the target lies between: loads far above it would take the longest to simulate.
    factor = 0.5 if found < target else 2.0
    while (found < target) == (factor < 1):
        light, heavy = heavy, heavy * factor
        if not start / RANGE <= heavy <= start * RANGE:
            return None, probes
        found, probes = use(heavy), probes + 1
    for _ in range(HALVINGS):
        middle = math.sqrt(light * heavy)
        found, probes = use(middle), probes + 1
        if abs(found - target) < TOLERANCE:
            return middle, probes
        light, heavy = (middle, heavy) if (found < target) == (factor < 1) else (light, middle)
    return math.sqrt(light * heavy), probes


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

    def __init__(self, settings: Mapping[str, Any], model: str, gpu: str, pool_index: pa.Table, replies: Path) -> None:
        self.settings = settings
        self.names = {"experiment": "warmup", "model": model, "gpu": gpu}
        self.initial = settings["initial"][model][gpu]
        names = {**self.names, "model_row": settings["models"][model], "gpu_row": settings["gpus"][gpu]}
        self.server = simulate.Server.of(names, settings["simulator"])
        self.pool_index, self.replies = pool_index, replies

    def use(self, lengths: Mapping[str, Any], scale: float) -> tuple[float, float, float]:
        """KV use at a scale of the gaps: mean, 10th and 90th percentile over time, each the mean over the seeds."""
        found = [self._run({**self.names, "seed": seed}, lengths, scale) for seed in self.settings["seeds"]]
        mean, low, high = np.mean(found, axis=0).tolist()
        return mean, low, high

    def _run(self, cell: dict[str, Any], lengths: Mapping[str, Any], scale: float) -> tuple[float, float, float]:
        shared = {key: self.settings[key] for key in ("root_seed", "max_tokens", "prompt_max_tokens")}
        phases = [{"name": "warmup", "seconds": self.settings["seconds"]}]
        own = {"initial": {**self.initial, "beta": scale}, "phases": phases, "beta_kind": "scale"}
        plan, _ = make.make(cell | shared | own, self.pool_index, None, None)
        prompt = plan["prompt_tokens"]
        rng = generator(shared["root_seed"], "serve", *cell.values(), "responses")
        drawn_as, asked, replied, _ = simulate.replies(lengths, self.replies)
        natural = responses.draw(drawn_as, prompt, asked, replied, rng)
        longest = np.minimum(shared["max_tokens"], self.server.model.max_model_len - prompt)
        result = self.server.serve(simulate.nanoseconds(plan["send_s"]), prompt, np.minimum(natural, longest))
        return use_over_time(result.steps, self.server.limits.blocks, self.settings["seconds"])


# By beta_kind: the scale of the gaps that beta stands for, and beta of a scale; alpha is the shape.
_SCALE: Mapping[str, Callable[[float, float], float]] = {
    "scale": lambda alpha, beta: beta,
    "rate": lambda alpha, beta: 1 / beta,
    "mean_gap": lambda alpha, beta: beta / alpha,
}
_BETA: Mapping[str, Callable[[float, float], float]] = {
    "scale": lambda alpha, scale: scale,
    "rate": lambda alpha, scale: 1 / scale,
    "mean_gap": lambda alpha, scale: scale * alpha,
}


def calibrate(settings: Mapping[str, Any], pool_index_path: Path, replies_path: Path) -> dict[str, list[Any]]:
    """Calibrate every row of `initial` under every response model and reading of beta.

    Args:
        settings: root_seed, seeds, initial (model, GPU: alpha, beta, theta), models and gpus (rows by name), simulator
            (engines.simulator), response_lengths (a list of settings like the simulator's), beta_kinds, target, seconds
            of the warm-up, max_tokens, prompt_max_tokens.
        pool_index_path: table of contract `pool_index`.
        replies_path: table of contract `replies`.

    Returns:
        Columns of contract `calibration`.

    Raises:
        CalibrationError: the target is not between 0 and 1.
    """
    if not 0 < settings["target"] < 1:
        raise CalibrationError(f"target: found {settings['target']!r}, expected a share between 0 and 1")
    pool_index = contracts.POOL_INDEX.read(pool_index_path)
    seeds = len(settings["seeds"])
    table: dict[str, list[Any]] = {column.name: [] for column in contracts.CALIBRATION.columns}
    cases = [
        (model, gpu, lengths)
        for model, by_gpu in settings["initial"].items()
        for gpu in by_gpu
        for lengths in settings["response_lengths"]
    ]
    with progress("Calibrating", len(cases), "rows") as report:
        for number, (model, gpu, lengths) in enumerate(cases, 1):
            row = _Row(settings, model, gpu, pool_index, replies_path)
            alpha, beta = row.initial["alpha"], row.initial["beta"]
            use = functools.cache(functools.partial(row.use, lengths))

            def mean(scale: float, use: Callable[[float], tuple[float, float, float]] = use) -> float:
                return use(scale)[0]

            # The same scale gives the target whatever beta is called.
            found, probes = search(mean, settings["target"], beta)
            for kind in settings["beta_kinds"]:
                paper = use(_SCALE[kind](alpha, beta))
                values = {
                    "model": model, "gpu": gpu, "response_lengths": json.dumps(lengths, sort_keys=True),
                    "beta_kind": kind, "alpha": alpha, "beta": beta, "kv_usage": paper[0], "kv_usage_p10": paper[1],
                    "kv_usage_p90": paper[2], "target": settings["target"],
                    "beta_calibrated": None if found is None else _BETA[kind](alpha, found),
                    "kv_usage_calibrated": None if found is None else use(found)[0], "seeds": seeds,
                    "probes": probes * seeds,
                }  # fmt: skip
                for name, value in values.items():
                    table[name].append(value)
            report(number)
    return table
