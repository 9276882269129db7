"""`burstbench serve probe`: the beta at which the study's engine uses its KV cache to a target share, by short runs.

The paper chose alpha and beta of Table III so that 30 to 40 % of the KV cache are used in the warm-up (section IV.A).
For a server there is no formula, so it is tried: a probe is a run of its own, with the engine of the study started for
it, of a shortened warm-up in which only beta differs from Table III. What counts is the mean over time of the metric
`kv_usage`, after a share of the probe in which the cache fills.

The search is in the mean rate of requests. It begins at Table III's. While all probes lie on one side of the target,
the next one takes the rate that proportion suggests, at most `STRETCH` times the last; once the target lies between two
probes, their logarithms are interpolated. It ends with the first probe within the target, or fails when the probes are
spent. The cost of a probe is one start of the engine, `seconds`, and the last answers; the record names it.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from burstbench import contracts
from burstbench.cli import add_settings
from burstbench.errors import UserError
from burstbench.files import sha256, write_json
from burstbench.metrics import runs
from burstbench.plan import make
from burstbench.serve import simulate, vllm
from burstbench.serve.claim import Claim

STRETCH = 8.0
# Share of a probe that is left out: the cache fills, since the first requests have not ended yet.
FILLS = 0.25


class ProbeError(UserError):
    """No beta was found."""


class Probe(NamedTuple):
    """One probe: the mean rate as a multiple of Table III's, and the KV use it led to."""

    factor: float
    use: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    add_settings(parser)
    parser.add_argument("--pool", type=Path, required=True, help="pool.arrow")
    parser.add_argument("--pool-index", type=Path, required=True, help="pool_index.parquet")
    parser.add_argument("--replies", type=Path, required=True, help="replies.parquet of the prompt pool")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer of the prompts, for a chat template")
    parser.add_argument("--server-log", type=Path, required=True, help="what the server of the last probe prints")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write: the beta, and every probe")


def run(args: argparse.Namespace) -> None:
    """Probe one model on one GPU."""
    with vllm.sigterm_raises():
        claim = Claim(args.server_log)
        record = probe(args.settings, args.pool, args.pool_index, args.replies, args.server_log, args.tokenizer)
        claim.demand()
    write_json(args.out, record)


def search(use: Callable[[float], float], target: tuple[float, float], most: int) -> list[Probe]:
    """Look for a multiple of the rate at which a rising function lies within a target.

    Args:
        use: KV use at a multiple of the rate.
        target: lower and upper limit of the use looked for.
        most: how often `use` may be called.

    Returns:
        Every probe in turn; the last one is within the target.

    Raises:
        ProbeError: none was, in `most` probes.
    """
    middle = math.sqrt(target[0] * target[1])
    low: Probe | None = None
    high: Probe | None = None
    probes: list[Probe] = []
    factor = 1.0
    while len(probes) < most:
        probes.append(Probe(factor, use(factor)))
        last = probes[-1]
        if target[0] <= last.use <= target[1]:
            return probes
        if last.use < target[0]:
            low = last
        else:
            high = last
        if low and high:
            share = 0.5
            if low.use > 0:
                share = math.log(middle / low.use) / math.log(high.use / low.use)
            # Never all the way to a side: a saturated cache would otherwise hold the search there.
            share = min(max(share, 0.1), 0.9)
            factor = low.factor * (high.factor / low.factor) ** share
        else:
            wanted = middle / last.use if last.use > 0 else STRETCH
            factor *= min(max(wanted, 1 / STRETCH), STRETCH)
    tried = "; ".join(f"{probe.use:.3f} at {probe.factor:.3g} times the rate of Table III" for probe in probes)
    raise ProbeError(f"KV use: found {tried}; expected {target[0]} to {target[1]} within {most} probes")


def probe(
    settings: Mapping[str, Any],
    pool: Path,
    pool_index: Path,
    replies: Path,
    server_log: Path,
    tokenizer: Path | None = None,
) -> dict[str, Any]:
    """Find the beta of one model on one GPU.

    Args:
        settings: of the engine's verb for the experiment "warmup", and initial, beta_kind, max_tokens,
            prompt_max_tokens, target (lower and upper share), seconds (of a probe), probes (at most).
        pool: pool.arrow.
        pool_index: table of contract `pool_index`.
        replies: table of contract `replies`.
        server_log: what the server of the last probe prints.
        tokenizer: the pool's, for a chat template.

    Returns:
        The record: beta, kv_usage, every probe, and what they cost.

    Raises:
        UserError: a setting is wrong, a probe failed, or no beta was found.
    """
    index = contracts.POOL_INDEX.read(pool_index)
    initial, kind = settings["initial"], settings["beta_kind"]
    made: list[dict[str, Any]] = []

    def beta_at(factor: float) -> float:
        return float(initial["beta"] * factor if kind == "rate" else initial["beta"] / factor)

    def use(factor: float) -> float:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="burstbench-probe-") as name:
            folder = Path(name)
            _plan(settings, index, beta_at(factor), folder)
            plan, record = folder / "plan.parquet", folder / "plan.json"
            names = ("requests.parquet", "steps.parquet", "intervals.parquet", "run.json")
            requests, steps, intervals, ran = (folder / name for name in names)
            if settings["engine"] == "simulator":
                simulate.simulate(settings, plan, record, replies, requests, steps, intervals, ran)
            else:
                files = (plan, record, pool, requests, steps, ran, server_log)
                vllm.serve(settings, *files, replies_path=replies, tokenizer_path=tokenizer)
            found = kv_use(folder, settings["seconds"])
        made.append(
            {
                "beta": beta_at(factor),
                "rate_factor": factor,
                **found,
                "wall_s": round(time.monotonic() - begun, 1),
            }
        )
        print(f"beta {beta_at(factor):.4g}: KV use {found['kv_usage']:.3f}", file=sys.stderr)
        return float(found["kv_usage"])

    low, high = settings["target"]
    if not 0 < low < high < 1:
        raise ProbeError(f"target: found {settings['target']!r}, expected two rising shares between 0 and 1")
    probes = search(use, (low, high), settings["probes"])
    return {
        "model": settings["model"],
        "gpu": settings["gpu"],
        "engine": settings["engine"],
        "statement": "beta found by probe runs, not Table III's",
        "beta_kind": kind,
        "beta_before": initial["beta"],
        "beta": beta_at(probes[-1].factor),
        "kv_usage": probes[-1].use,
        "target": [low, high],
        "seconds": settings["seconds"],
        "seconds_left_out": FILLS * settings["seconds"],
        "probes": made,
        "wall_s": round(sum(row["wall_s"] for row in made), 1),
        "pool_index_sha256": sha256(pool_index),
    }


def _plan(settings: Mapping[str, Any], index: Any, beta: float, folder: Path) -> None:
    """Write plan.parquet and plan.json of a warm-up at a beta."""
    cell = {key: settings[key] for key in simulate.IDENTITY}
    shared = {key: settings[key] for key in ("root_seed", "max_tokens", "prompt_max_tokens", "beta_kind")}
    phases = [{"name": "warmup", "seconds": settings["seconds"]}]
    plan, _ = make.make(
        {**cell, **shared, "initial": {**settings["initial"], "beta": beta}, "phases": phases}, index, None, None
    )
    contracts.PLAN.write(plan, folder / "plan.parquet")
    write_json(folder / "plan.json", cell)


def kv_use(folder: Path, seconds: float) -> dict[str, Any]:
    """Return the mean KV use of a probe after the cache has filled, and how its requests ended.

    Args:
        folder: plan and run of the probe.
        seconds: of the probe.
    """
    found = runs.read_run(folder, folder)
    kv = 0.0
    if found.engine is not None:
        values, lasting = found.engine.between(found.engine.kv_usage, FILLS * seconds * 1e9, seconds * 1e9)
        kv = float(np.average(values, weights=lasting))
    ok = found.requests.ok
    return {"kv_usage": kv, "requests": len(ok), "not_answered": int((~ok).sum())}
