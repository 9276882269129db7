"""`burstbench serve fit`: step times from the step log of an engine that ran: the fitted kind.

With T the tokens of a step, r its requests, P its prompt tokens and K the tokens that its decoding requests have in the
KV cache::

    seconds = level(T) + per_request r + per_context K + (launch + per_pair P (P + 542) / 2, where P > 0)

`level` is linear between knots and never falls; no coefficient is negative. The spread of a step grows with its time,
so squared errors are divided by the square of the expected time, in rounds (quasi-likelihood: McCullagh and Nelder,
Generalized Linear Models, 1989, section 9.2). The fitted total is then the log's; errors relative to the measured times
would miss it by their variance. Steps that the machine held up for long count less (Huber). A log knows K only through
the blocks in use, less what the step's prompts hold and half a block a request. Outside the range of the log the
simulator warns.
"""

import argparse
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from burstbench import contracts
from burstbench.errors import UserError
from burstbench.files import read_json, sha256, write_json
from burstbench.serve.steptime import ANALYTIC, PREFILL_RAMP, Floats, StepTime

FEWEST_STEPS = 100
ROUNDS = 10
# A step counts less from this many times the (robust) standard deviation on.
HELD_UP = 5.0
_KNOTS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_NUMBERS = ("per_request_s", "per_context_s", "launch_s", "per_pair_s")


class FitError(UserError):
    """A log from which no step times can be fitted, or a file that holds none."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    parser.add_argument("--steps", type=Path, required=True, help="steps.parquet of a run")
    parser.add_argument("--run", dest="run_record", type=Path, required=True, help="run.json of the same run")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")


def run(args: argparse.Namespace) -> None:
    """Fit and write the coefficients."""
    record = read_json(args.run_record)
    fitted = fit(read_steps(args.steps), cache_of(record, args.run_record), args.steps)
    fitted["source"] = {
        "steps_sha256": sha256(args.steps),
        **{key: record.get(key) for key in ("engine", "simulated", "hardware", "model", "gpu", "experiment", "seed")},
    }
    write_json(args.out, fitted)


@dataclass(frozen=True)
class Cache:
    """A KV cache: usable blocks, and tokens in one."""

    blocks: int
    block_tokens: int


def cache_of(record: Mapping[str, Any], where: Path) -> Cache:
    """The KV cache of a run, as its run.json says.

    Raises:
        FitError: it does not say.
    """
    capacity, facts = record.get("capacity") or {}, record.get("engine_facts") or {}
    if "usable_blocks" in capacity:
        return Cache(int(capacity["usable_blocks"]), int(capacity["block_tokens"]))
    if "blocks" in facts and "block_tokens" in facts:
        # One block of the engine's is the null block.
        return Cache(int(facts["blocks"]) - 1, int(facts["block_tokens"]))
    raise FitError(f"{where}: found no capacity.usable_blocks and no engine_facts.blocks: the size of the KV cache")


def read_steps(path: Path) -> dict[str, Floats]:
    """Read the columns of a step log that a fit needs, as floats; steps that computed nothing are left out."""
    names = ("step", "duration_ns", "prefill_tokens", "decode_tokens", "running", "kv_usage")
    table = contracts.STEPS.read(path, names)
    columns = {name: table.column(name).to_numpy().astype(np.float64) for name in names}
    number = columns.pop("step")
    gaps = np.flatnonzero(np.diff(number) != 1)
    if gaps.size:
        raise FitError(
            f"{path}: row {gaps[0] + 1}: found step {number[gaps[0] + 1]:g} after step {number[gaps[0]]:g}, expected "
            "every step: the log has a hole"
        )
    instant = np.flatnonzero(columns["duration_ns"] <= 0)
    if instant.size:
        raise FitError(
            f"{path}: row {instant[0]}: found a duration of {columns['duration_ns'][instant[0]]:g} ns, expected more"
        )
    if not table.num_rows:
        raise FitError(f"{path}: found no steps: a simulated run keeps them if engines.simulator.step_log is true")
    worked = columns["prefill_tokens"] + columns["decode_tokens"] > 0
    return {name: values[worked] for name, values in columns.items()}


def _context(steps: Mapping[str, Floats], cache: Cache) -> Floats:
    half_blocks = (cache.block_tokens - 1) / 2 * steps["running"]
    held = steps["kv_usage"] * cache.blocks * cache.block_tokens - half_blocks - steps["prefill_tokens"]
    return np.where(steps["decode_tokens"] > 0, np.maximum(held, steps["decode_tokens"]), 0.0)


def _design(steps: Mapping[str, Floats], cache: Cache, knots: Floats) -> Floats:
    """[steps, knots + 4] what each coefficient is multiplied with: a constant, a slope for each piece, and the rest."""
    total, prefill = steps["prefill_tokens"] + steps["decode_tokens"], steps["prefill_tokens"]
    pieces = [np.clip(total, low, high) - low for low, high in itertools.pairwise(knots)]
    return np.stack(
        [
            np.ones_like(total),
            *pieces,
            steps["running"],
            _context(steps, cache),
            (prefill > 0).astype(np.float64),
            prefill * (prefill + PREFILL_RAMP) / 2,
        ],
        axis=1,
    )


def fit(steps: Mapping[str, Floats], cache: Cache, where: str | Path = "steps") -> dict[str, Any]:
    """Fit the coefficients to a step log.

    Args:
        steps: columns of `read_steps`.
        cache: the KV cache of that engine.
        where: named in messages.

    Returns:
        What `of` reads: knots (tokens) and level_s, the other coefficients, `range` of the log, `error` (mean absolute
        relative error) and its quantiles, over all steps.

    Raises:
        FitError: too few steps.
    """
    from scipy.optimize import nnls

    duration = steps["duration_ns"] * 1e-9
    if duration.size < FEWEST_STEPS:
        raise FitError(f"{where}: found {duration.size} steps, expected at least {FEWEST_STEPS}")
    total = steps["prefill_tokens"] + steps["decode_tokens"]
    # A piece needs some steps of its own; the last knot is the largest step.
    knots = [0.0]
    for knot in _KNOTS[1:]:
        if knot < total.max() and ((total > knots[-1]) & (total <= knot)).sum() >= 20 and (total > knot).sum() >= 20:
            knots.append(float(knot))
    knots.append(float(total.max()))
    nodes = np.array(knots)
    design = _design(steps, cache, nodes)
    scale = np.maximum(np.abs(design).max(axis=0), 1e-12)
    weights = np.ones_like(duration)
    coefficients = np.zeros(design.shape[1])
    expected = duration
    for _ in range(ROUNDS):
        rows = (weights / expected)[:, None] * design / scale
        coefficients = nnls(rows, weights * duration / expected)[0] / scale
        expected = np.maximum(design @ coefficients, 1e-9)
        relative = duration / expected - 1
        spread = max(1.4826 * float(np.median(np.abs(relative))), 1e-6)
        weights = np.sqrt(np.minimum(1.0, HELD_UP * spread / np.maximum(np.abs(relative), 1e-12)))
    pieces = nodes.size - 1
    level = coefficients[0] + np.concatenate([[0.0], np.cumsum(coefficients[1 : 1 + pieces] * np.diff(nodes))])
    error = np.abs(relative)
    context = _context(steps, cache)
    return {
        "kind": "fitted",
        "knots": nodes.tolist(),
        "level_s": level.tolist(),
        **dict(zip(_NUMBERS, coefficients[1 + pieces :].tolist(), strict=True)),
        "range": {
            "tokens": float(total.max()),
            "requests": float(steps["running"].max()),
            "context": float(context.max()),
        },
        "steps": int(duration.size),
        "error": float(error.mean()),
        "error_p50": float(np.median(error)),
        "error_p90": float(np.quantile(error, 0.9)),
        "total_error": float((design @ coefficients).sum() / duration.sum() - 1),
    }


def predicted_s(fitted: Mapping[str, Any], steps: Mapping[str, Floats], cache: Cache) -> Floats:
    """Return the fitted time of each step of a log in s."""
    total, prefill = steps["prefill_tokens"] + steps["decode_tokens"], steps["prefill_tokens"]
    return (
        _level(fitted, total)
        + fitted["per_request_s"] * steps["running"]
        + fitted["per_context_s"] * _context(steps, cache)
        + np.where(prefill > 0, fitted["launch_s"] + fitted["per_pair_s"] * prefill * (prefill + PREFILL_RAMP) / 2, 0.0)
    )


def _level(fitted: Mapping[str, Any], total: Floats) -> Floats:
    """Linear between the knots; beyond the last in proportion to the tokens."""
    knots, level = np.array(fitted["knots"]), np.array(fitted["level_s"])
    return np.where(total > knots[-1], level[-1] * total / knots[-1], np.interp(total, knots, level))


def of(path: Path, max_tokens: int, max_requests: int) -> tuple[StepTime, dict[str, Any]]:
    """Read fitted step times as the simulator wants them.

    Args:
        path: JSON of `fit`.
        max_tokens: most tokens a step may have.
        max_requests: most requests a batch may have.

    Returns:
        times: the step-time model.
        fitted: what the file holds.

    Raises:
        FitError: the file does not hold finite coefficients of at least 0.
    """
    fitted = read_json(path)
    try:
        numbers = [
            *fitted["knots"],
            *fitted["level_s"],
            *(fitted[name] for name in _NUMBERS),
            *fitted["range"].values(),
        ]
        right = fitted["kind"] == "fitted" and len(fitted["knots"]) == len(fitted["level_s"]) >= 2
        right = right and all(isinstance(n, (int, float)) and np.isfinite(n) and n >= 0 for n in numbers)
        right = (
            right and (np.diff(fitted["knots"]) > 0).all() and set(fitted["range"]) >= {"tokens", "requests", "context"}
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise FitError(f"{path}: not the fitted step times of `burstbench serve fit`: {error!r}") from error
    if not right:
        raise FitError(f"{path}: expected finite coefficients of at least 0 and ascending knots")
    linear_s = _level(fitted, np.arange(max_tokens + 1, dtype=np.float64))
    constants = np.zeros(ANALYTIC)
    constants[1] = fitted["per_request_s"]
    constants[3] = fitted["per_context_s"]
    constants[6] = 1.0
    constants[7], constants[8] = fitted["launch_s"], fitted["per_pair_s"]
    return StepTime(linear_s, np.zeros(max_requests + 1), constants), fitted


def validity(fitted: Mapping[str, Any], tokens: float, requests: float, context: float) -> list[str]:
    """Say where a run went beyond the log: most tokens of a step, most requests, most tokens of the KV cache."""
    found = {
        "tokens": (tokens, "tokens in a step"),
        "requests": (requests, "requests in a batch"),
        "context": (context, "tokens in the KV cache"),
    }
    return [
        f"{value:g} {what}; the fitted step times' log had at most {fitted['range'][key]:g}: extrapolated"
        for key, (value, what) in found.items()
        if value > fitted["range"][key]
    ]
