"""`burstbench plan make`: every request of one cell, before anything runs."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from burstbench import cli, seeds
from burstbench.contracts import GAMMA_PROFILE, LENGTH_COUNTS, PLAN, POOL_INDEX, TRACE
from burstbench.files import read_json, sha256, write_json
from burstbench.plan import arrivals, functions, lengths, phases, replay
from burstbench.plan import mirror as mirrored
from burstbench.plan.checks import PlanError, choice, fail, mapping, number, text, whole
from burstbench.prompts.draw import draw

Real = NDArray[np.float64]
Whole = NDArray[np.int64]

# A phase of `seconds` without `every_s` whose parameters move holds them for a thousandth of its length at a time.
HOLDS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    cli.add_settings(parser)
    parser.add_argument("--pool-index", type=Path, required=True, help="pool_index.parquet")
    parser.add_argument("--gamma-profile", type=Path, help="gamma_profile.parquet, for mirrored phases")
    parser.add_argument("--length-counts", type=Path, help="length_counts.parquet, for lengths of kind trace")
    parser.add_argument("--probe", type=Path, help="record of `serve probe`, whose beta replaces the initial one")
    parser.add_argument("--trace", type=Path, help="trace.parquet, for replayed phases and lengths of kind joint")
    parser.add_argument("--plan", type=Path, required=True, help="plan.parquet to write")
    parser.add_argument("--record", type=Path, required=True, help="plan.json to write: all that determined the plan")


def run(args: argparse.Namespace) -> None:
    """Plan one cell and write its table and its record."""
    inputs = {
        "pool_index": args.pool_index,
        "gamma_profile": args.gamma_profile,
        "length_counts": args.length_counts,
        "trace": args.trace,
        "probe": args.probe,
    }
    settings = probed(args.settings, args.probe)
    check_settings(settings)
    columns, facts = make(
        settings,
        POOL_INDEX.read(args.pool_index),
        GAMMA_PROFILE.read(args.gamma_profile) if args.gamma_profile else None,
        LENGTH_COUNTS.read(args.length_counts) if args.length_counts else None,
        TRACE.read(args.trace) if args.trace else None,
    )
    PLAN.write(columns, args.plan)
    tables = {str(path): sha256(path) for path in phases.files(settings["phases"])}
    write_json(
        args.record,
        {key: settings[key] for key in ("experiment", "model", "gpu", "seed")}
        | {
            "settings": settings,
            "inputs_sha256": {name: sha256(path) for name, path in inputs.items() if path} | tables,
            "plan_sha256": sha256(args.plan),
        }
        | facts,
    )


def probed(settings: dict[str, Any], path: Path | None) -> dict[str, Any]:
    """Return the settings with the beta that a probe has found, if there was one.

    Raises:
        PlanError: the probe was of another model or GPU.
    """
    if path is None:
        return settings
    record = read_json(path)
    for key in ("model", "gpu"):
        if record.get(key) != settings.get(key):
            raise PlanError(f"{path}: {key}: found {record.get(key)!r}, expected {settings.get(key)!r}, this cell's")
    return settings | {"initial": settings["initial"] | {"beta": record["beta"]}}


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse settings of a cell that are not right.

    Raises:
        PlanError: naming the key, what was found and what was expected.
    """
    required = [
        "experiment",
        "model",
        "gpu",
        "seed",
        "root_seed",
        "initial",
        "phases",
        "max_tokens",
        "prompt_max_tokens",
    ]
    mapping(settings, "settings", required, ["beta_kind"])
    for key in ("experiment", "model", "gpu"):
        text(settings[key], key)
    whole(settings["seed"], "seed", least=0)
    whole(settings["root_seed"], "root_seed", least=0)
    whole(settings["max_tokens"], "max_tokens")
    whole(settings["prompt_max_tokens"], "prompt_max_tokens")
    initial = mapping(settings["initial"], "initial", phases.PARAMETERS)
    for key in phases.PARAMETERS:
        number(initial[key], f"initial.{key}", above=0)
    choice(settings.get("beta_kind", "scale"), "beta_kind", phases.BETA_KINDS)
    phases.validate(settings["phases"], "phases", settings["prompt_max_tokens"])


def make(
    settings: dict[str, Any],
    pool_index: pa.Table,
    gamma_profile: pa.Table | None,
    length_counts: pa.Table | None,
    trace: pa.Table | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plan every request of one cell.

    Args:
        settings: a cell's settings that `check_settings` accepted.
        pool_index: table of the contract POOL_INDEX.
        gamma_profile: table of the contract GAMMA_PROFILE; needed by mirrored phases.
        length_counts: table of the contract LENGTH_COUNTS; needed by lengths of kind "trace".
        trace: table of the contract TRACE; needed by replayed phases and lengths of kind "joint".

    Returns:
        The columns of the contract PLAN, and the facts of the plan's record: requests, length and mean rate of the
        whole and of each phase.

    Raises:
        PlanError: the pool cannot serve the lengths, a table is missing, or a phase cannot be planned.
    """
    n_max = settings["prompt_max_tokens"]
    index_tokens, prompt_ids = pool_index["tokens"].to_numpy(), pool_index["prompt_id"].to_numpy()
    longest = int(index_tokens[-1]) if len(index_tokens) else 0
    if n_max > longest:
        raise fail("prompt_max_tokens", n_max, f"at most {longest}, the tokens of the longest prompt of the pool")

    start_ns = 0
    parts: list[dict[str, Any]] = []
    facts: list[dict[str, Any]] = []
    for place, phase in enumerate(settings["phases"]):
        part, fact, seconds = _phase(settings, phase, f"phases[{place}]", gamma_profile, length_counts, trace)
        rng = _generator(settings, "prompts", phase)
        part["prompt_id"] = draw(index_tokens, prompt_ids, part["prompt_tokens"], rng)
        part["send_ns"] += start_ns
        n = len(part["send_ns"])
        end_ns = start_ns + round(seconds * arrivals.NS)
        facts.append(
            {
                "name": phase["name"],
                "start_s": start_ns / arrivals.NS,
                "end_s": end_ns / arrivals.NS,
                "requests": n,
                "mean_rate_per_s": n / seconds if seconds > 0 else None,
                "mean_prompt_tokens": float(part["prompt_tokens"].mean()) if n else None,
            }
            | fact
        )
        parts.append(part)
        start_ns = end_ns
    columns = parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    n = len(columns["send_ns"])
    if n == 0:
        raise PlanError("phases: no request falls into them; alpha or beta is far too large for their length")
    send_s = columns.pop("send_ns") / arrivals.NS
    theta = columns.pop("theta")
    names = pa.array([phase["name"] for phase in settings["phases"]])
    which = np.repeat(np.arange(len(parts), dtype=np.int32), [fact["requests"] for fact in facts])
    table = {
        "request_id": np.arange(n),
        "phase": pa.DictionaryArray.from_arrays(which, names).cast(pa.string()),
        "send_s": send_s,
        **columns,
        "theta": pa.array(theta, mask=np.isnan(theta)),
    }
    duration = start_ns / arrivals.NS
    whole_facts = {"requests": n, "duration_s": duration, "mean_rate_per_s": n / duration if duration > 0 else None}
    return table, whole_facts | {"phases": facts}


@dataclass(frozen=True)
class _Parameters:
    """The parameters of one phase at each of its points (requests, or stretches of time), shape (n,)."""

    step: Whole
    alpha: Real
    scale: Real
    theta: Real
    edges_ns: Whole | None
    record: dict[str, Any]


def _phase(
    settings: dict[str, Any],
    phase: dict[str, Any],
    where: str,
    gamma_profile: pa.Table | None,
    length_counts: pa.Table | None,
    trace: pa.Table | None,
) -> tuple[dict[str, Any], dict[str, Any], float]:
    """Plan one phase: its columns with times from its start [ns], its facts, and how long it lasts [s]."""
    if phases.needs_trace(phase) and trace is None:
        raise PlanError(f"{where}: replay and lengths of kind 'joint' need the trace; give --trace")
    if "replay" in phase:
        assert trace is not None
        return _replay(settings, phase, f"{where}.replay", trace)
    if "mirror" in phase:
        parameters = _mirror(settings, phase, where, gamma_profile)
    else:
        parameters = _functions(settings, phase, where)
    rng = _generator(settings, "gaps", phase)
    try:
        if parameters.edges_ns is None:
            send_ns = arrivals.by_request(parameters.alpha, parameters.scale, rng)
            point = np.arange(len(send_ns))
            seconds = float(send_ns[-1]) / arrivals.NS
        else:
            send_ns, point = arrivals.by_time(parameters.edges_ns, parameters.alpha, parameters.scale, rng)
            seconds = float(parameters.edges_ns[-1]) / arrivals.NS
    except PlanError as error:
        raise PlanError(f"{where}: {error}") from error
    theta = parameters.theta[point]
    limits = np.full(len(send_ns), settings["max_tokens"])
    if phases.lengths_kind(phase) == "joint":
        assert trace is not None
        tokens, limits, length_facts = _joint(settings, phase, f"{where}.lengths", len(send_ns), trace)
    else:
        tokens, length_facts = _lengths(settings, phase, where, theta, len(send_ns), length_counts)
    part = {
        "step": parameters.step[point],
        "send_ns": send_ns,
        "prompt_tokens": tokens,
        "alpha": parameters.alpha[point],
        "beta": parameters.scale[point],
        "theta": theta,
        "max_tokens": limits,
    }
    # What the parameters ask for: over time the mean of the rates, over requests the reciprocal of the mean gap.
    mean_gap = parameters.alpha * parameters.scale
    planned = (
        1 / mean_gap.mean()
        if parameters.edges_ns is None
        else np.average(1 / mean_gap, weights=np.diff(parameters.edges_ns))
    )
    return part, {"parameters_rate_per_s": float(planned), "lengths": length_facts} | parameters.record, seconds


def _functions(settings: dict[str, Any], phase: dict[str, Any], where: str) -> _Parameters:
    """Evaluate the functions of a phase of `seconds` or `requests`."""
    initial, beta_kind = settings["initial"], settings.get("beta_kind", "scale")
    edges: Whole | None = None
    record: dict[str, Any] = {}
    if "requests" in phase:
        n, every = phase["requests"], phase.get("every")
        if n > arrivals.MOST_REQUESTS:
            raise fail(f"{where}.requests", n, f"at most {arrivals.MOST_REQUESTS}")
        held = np.arange(n) // (every or 1)
        step = held if every else np.zeros(n, dtype=np.int64)
        position = held * np.float64(every or 1)
        points = functions.Points(_progress(held, int(held[-1]) + 1), position, "request")
    else:
        every = phase.get("every_s")
        moving = [key for key in phases.PARAMETERS if phase.get(key, {}).get("kind", "constant") != "constant"]
        width = every if every else phase["seconds"] / (HOLDS if moving else 1)
        n = functions.steps_of(phase["seconds"], width)
        held = np.arange(n)
        step = held if every else np.zeros(n, dtype=np.int64)
        position = held * np.float64(width)
        points = functions.Points(_progress(held, n), position, "time")
        edges = np.rint(np.append(position, phase["seconds"]) * arrivals.NS).astype(np.int64)
        if moving:
            record["parameters_held_s"] = width

    def value(parameter: str) -> Real:
        start = float(initial[parameter])
        if parameter not in phase:
            return np.full(n, start)
        return functions.evaluate(phase[parameter], f"{where}.{parameter}", points, start, every)

    alpha, beta = value("alpha"), value("beta")
    scale = _scale(alpha, beta, beta_kind)
    if phase.get("alpha", {}).get("reading") == "mean_rate" and beta_kind != "mean_gap":
        scale *= initial["alpha"] / alpha
    theta = value("theta") if phases.lengths_kind(phase) == "zipf" else np.full(n, np.nan)
    return _Parameters(step, alpha, scale, theta, edges, record)


def _mirror(settings: dict[str, Any], phase: dict[str, Any], where: str, profile: pa.Table | None) -> _Parameters:
    """Take the windows of a mirrored phase; each is a step."""
    if profile is None:
        raise PlanError(f"{where}.mirror: needs gamma_profile; give --gamma-profile")
    initial = settings["initial"]
    alpha, beta = np.array([float(initial["alpha"])]), np.array([float(initial["beta"])])
    warmup_gap = float((alpha * _scale(alpha, beta, settings.get("beta_kind", "scale")))[0])
    windows = mirrored.windows(profile, phase["mirror"], 1 / warmup_gap, f"{where}.mirror")
    n = len(windows.alpha)
    step = np.arange(n)
    edges = np.rint(np.arange(n + 1) * windows.seconds * arrivals.NS).astype(np.int64)
    theta = np.full(n, np.nan)
    if phases.lengths_kind(phase) == "zipf":
        theta = np.full(n, float(initial["theta"]))
        if "theta" in phase:
            points = functions.Points(_progress(step, n), step * np.float64(windows.seconds), "time")
            theta = functions.evaluate(phase["theta"], f"{where}.theta", points, float(initial["theta"]), None)
    return _Parameters(step, windows.alpha, windows.scale, theta, edges, {"mirror": windows.record})


def _progress(held: Whole, n: int) -> Real:
    return held / max(n - 1, 1)


def _scale(alpha: Real, beta: Real, beta_kind: str) -> Real:
    """Return the Gamma scale [s] that beta stands for (`phases.BETA_KINDS`)."""
    if beta_kind == "rate":
        return 1.0 / beta
    if beta_kind == "mean_gap":
        return beta / alpha
    return beta.copy()


def _lengths(
    settings: dict[str, Any], phase: dict[str, Any], where: str, theta: Real, n: int, counts: pa.Table | None
) -> tuple[Whole, dict[str, Any]]:
    """Draw the prompts' lengths of one phase, and tell where they come from."""
    kind = phases.lengths_kind(phase)
    rng = _generator(settings, "lengths", phase)
    n_max = settings["prompt_max_tokens"]
    if kind == "zipf":
        return lengths.zipf(theta, n_max, rng), {"kind": kind, "n_max": n_max}
    if kind == "constant":
        tokens = phase["lengths"]["tokens"]
        return np.full(n, tokens), {"kind": kind, "tokens": tokens}
    if counts is None:
        raise PlanError(f"{where}.lengths: needs length_counts; give --length-counts")
    wanted = phase["lengths"]
    seen = lengths.empirical(counts, wanted["service"], wanted["model"], n_max, f"{where}.lengths")
    return seen.draw(n, rng), {
        "kind": kind,
        "n_max": n_max,
        "requests_in_trace": int(seen.requests.sum()),
        "share_empty_left_out": seen.empty_share,
        "share_above_n_max_left_out": seen.above_share,
    }


def _joint(
    settings: dict[str, Any], phase: dict[str, Any], where: str, n: int, trace: pa.Table
) -> tuple[Whole, Whole, dict[str, Any]]:
    """Draw request and response of one request of the trace together: prompts' lengths, limits of responses, facts."""
    n_max, most = settings["prompt_max_tokens"], settings["max_tokens"]
    rows = replay.select(trace, phase["lengths"]["service"], phase["lengths"]["model"], where)
    request, response = rows["request_tokens"].to_numpy(), rows["response_tokens"].to_numpy()
    served = np.flatnonzero((request >= 1) & (request <= n_max) & (response >= 1) & (response <= most))
    if not served.size:
        raise PlanError(f"{where}: no request of the trace has 1 to {n_max} tokens and a response of 1 to {most}")
    chosen = served[_generator(settings, "lengths", phase).integers(served.size, size=n)]
    facts = {
        "kind": "joint",
        "n_max": n_max,
        "requests_in_trace": int(served.size),
        "share_left_out": 1 - served.size / len(request),
    }
    return request[chosen], response[chosen], facts


def _replay(
    settings: dict[str, Any], phase: dict[str, Any], where: str, trace: pa.Table
) -> tuple[dict[str, Any], dict[str, Any], float]:
    """Plan a replayed phase, as `_phase` does. Lengths beyond the limits are cut to them, and the record says how many.

    alpha and beta are the moments of the gaps that are sent: nothing was drawn from a Gamma.
    """
    spec = phase["replay"]
    n_max, most = settings["prompt_max_tokens"], settings["max_tokens"]
    made = replay.stream(trace, spec, _generator(settings, "gaps", phase), where)
    n, seconds = len(made.send_ns), spec["seconds"] / spec.get("speed", 1)
    gaps = np.diff(made.send_ns, prepend=0) / arrivals.NS
    mean, variance = float(gaps.mean()), float(gaps.var())
    alpha, beta = (mean**2 / variance, variance / mean) if mean > 0 and variance > 0 else (1.0, max(mean, 1e-9))
    wanted = spec.get("responses", "model") == "trace"
    part = {
        "step": np.zeros(n, np.int64),
        "send_ns": made.send_ns,
        "prompt_tokens": np.clip(made.request_tokens, 1, n_max),
        "alpha": np.full(n, alpha),
        "beta": np.full(n, beta),
        "theta": np.full(n, np.nan),
        "max_tokens": np.clip(made.response_tokens, 1, most) if wanted else np.full(n, most),
    }
    length_facts = {
        "kind": "replay",
        "n_max": n_max,
        "share_empty_sent_as_one_token": float(np.mean(made.request_tokens < 1)),
        "share_above_n_max_cut": float(np.mean(made.request_tokens > n_max)),
        "responses": spec.get("responses", "model"),
    }
    return part, {"parameters_rate_per_s": n / seconds, "lengths": length_facts} | made.record, seconds


def _generator(settings: dict[str, Any], purpose: str, phase: dict[str, Any]) -> np.random.Generator:
    """Return the stream of one purpose in one phase: a longer warm-up moves no draw of the phase after it."""
    cell = (settings["experiment"], settings["model"], settings["gpu"], settings["seed"])
    return seeds.generator(settings["root_seed"], "plan", *cell, purpose, phase["name"])
