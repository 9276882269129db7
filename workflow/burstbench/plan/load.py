"""`burstbench plan load`: plan a load that is given by options, for a server outside of any study.

What a study writes into its configuration stands here in a few options: Gamma gaps by their mean rate and burstiness
(or alpha and beta), lengths by Zipf (or one constant), so many requests or seconds.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from burstbench.contracts import PLAN, POOL_INDEX
from burstbench.errors import UserError
from burstbench.files import read_json, replaced, sha256, write_json
from burstbench.plan import make
from burstbench.prompts.pool import Pool
from burstbench.prompts.synthetic import Synthetic

CELL = {"experiment": "load", "model": "endpoint", "gpu": "unknown"}
REQUESTS = 200
VOCABULARY = 30_000
# What an option that is not given stands for; None until then, so that a plan made before can refuse it.
DEFAULTS = {"seed": 1, "max_tokens": 128, "max_input_tokens": 1024}
CHOICES = ("rate", "cv", "alpha", "beta", "requests", "seconds", "theta", "input_tokens")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    add_load(parser)
    parser.add_argument("--plan", type=Path, required=True, help="plan.parquet to write")
    parser.add_argument("--record", type=Path, required=True, help="plan.json to write: all that determined the plan")


def add_load(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a load; those left out have sane defaults."""
    arrivals = parser.add_argument_group("arrivals (Gamma gaps)")
    arrivals.add_argument("--rate", type=float, help="mean requests/s (default 1)")
    arrivals.add_argument("--cv", type=float, help="coefficient of variation of the gaps, 1/sqrt(alpha) (default 2)")
    arrivals.add_argument("--alpha", type=float, help="shape of the gaps, instead of --cv")
    arrivals.add_argument("--beta", type=float, help="scale of the gaps in s, instead of --rate")
    arrivals.add_argument("--requests", type=int, help=f"requests to send (default {REQUESTS})")
    arrivals.add_argument("--seconds", type=float, help="how long to send, instead of --requests")
    lengths = parser.add_argument_group("lengths (tokens)")
    lengths.add_argument("--theta", type=float, help="Zipf exponent of the prompts' lengths (default 1.1)")
    lengths.add_argument("--max-input-tokens", type=int, help=f"longest prompt ({DEFAULTS['max_input_tokens']})")
    lengths.add_argument("--input-tokens", type=int, help="all prompts have this length, instead of Zipf")
    lengths.add_argument("--max-tokens", type=int, help=f"limit of an answer ({DEFAULTS['max_tokens']})")
    prompts = parser.add_argument_group("prompts")
    prompts.add_argument("--pool", type=Path, help="pool.arrow of real dialogues; without it random token ids")
    prompts.add_argument(
        "--vocabulary", type=int, default=VOCABULARY, help="random ids are below this number (%(default)s)"
    )
    parser.add_argument("--seed", type=int, help=f"same seed, same load ({DEFAULTS['seed']})")


def run(args: argparse.Namespace) -> None:
    """Plan the load and write it."""
    write(args, prompts(args), args.plan, args.record)


def prompts(args: argparse.Namespace) -> Pool | Synthetic:
    """Return where the load's prompts come from."""
    if args.pool:
        return Pool(args.pool)
    settings = load_settings(args)
    return Synthetic(settings["root_seed"], settings["prompt_max_tokens"], args.vocabulary)


def given(args: argparse.Namespace, plan: Path) -> tuple[dict[str, Any], Pool | Synthetic]:
    """Return the record of a plan that was made before, and its prompts.

    Args:
        args: of `add_load`; none may say of the load what the plan says.
        plan: plan.parquet, with its plan.json beside it.

    Raises:
        UserError: an option of the load is given, the record is another plan's, or the pool is not the plan's.
    """
    for name in (*CHOICES, *DEFAULTS):
        if getattr(args, name) is not None:
            raise UserError(f"--plan and --{name.replace('_', '-')}: found both, but a plan that is made has its load")
    beside = plan.with_name("plan.json")
    record = read_json(beside)
    if (found := sha256(plan)) != record.get("plan_sha256"):
        raise UserError(f"{plan}: SHA-256 {found[:12]}..., but {beside} is of {str(record.get('plan_sha256'))[:12]}...")
    settings, used = record["settings"], record["inputs_sha256"]
    kind = next((kind for kind in ("pool", "pool_index") if kind in used), None)
    if kind is None:
        if args.pool:
            raise UserError(f"--pool: {plan} has random prompts, not those of a pool")
        return record, Synthetic(settings["root_seed"], settings["prompt_max_tokens"], args.vocabulary)
    if not args.pool:
        raise UserError(f"--plan: the prompts of {plan} are of a pool; give it as --pool")
    # A study's plan knows the pool by its index, which lies beside it.
    known = args.pool if kind == "pool" else args.pool.with_name("pool_index.parquet")
    if not known.is_file() or sha256(known) != used[kind]:
        raise UserError(f"--pool: {known} is not that of {plan}, whose SHA-256 is {used[kind][:12]}...")
    return record, Pool(args.pool)


def copy(source: Path, plan: Path, record: Path) -> None:
    """Copy plan.parquet and the plan.json beside it, unless they lie there."""
    for one, other in ((source, plan), (source.with_name("plan.json"), record)):
        if one.resolve() != other.resolve():
            with replaced(other) as part:
                shutil.copyfile(one, part)


def write(args: argparse.Namespace, source: Pool | Synthetic, plan: Path, record: Path) -> dict[str, Any]:
    """Plan a load and write plan.parquet and plan.json.

    Args:
        args: of `add_load`.
        source: of the prompts.
        plan: to write, contract PLAN.
        record: to write, JSON.

    Returns:
        The record.

    Raises:
        UserError: an option is wrong, or two of them say the same, or the prompts cannot serve the lengths.
    """
    settings = load_settings(args)
    make.check_settings(settings)
    if isinstance(source, Pool):
        order = np.argsort(source.lengths, kind="stable")
        index = pa.table({"tokens": source.lengths[order], "prompt_id": order}, schema=POOL_INDEX.schema)
        used: dict[str, Any] = {"pool": sha256(source.path)}
    else:
        index, used = source.index(), {}
    columns, facts = make.make(settings, index, None, None)
    PLAN.write(columns, plan)
    made = {key: settings[key] for key in ("experiment", "model", "gpu", "seed")}
    made |= {"settings": settings, "inputs_sha256": used, "plan_sha256": sha256(plan)} | facts
    write_json(record, made)
    return made


def load_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of `plan make` that the options stand for."""
    for one, other in (("cv", "alpha"), ("rate", "beta"), ("requests", "seconds"), ("theta", "input_tokens")):
        if getattr(args, one) is not None and getattr(args, other) is not None:
            names = [f"--{name.replace('_', '-')}" for name in (one, other)]
            raise UserError(f"{names[0]} and {names[1]}: found both, expected one of them")
    for name in ("rate", "cv", "alpha", "beta", "seconds", "theta"):
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{name}: found {value:g}, expected a number > 0")
    alpha = args.alpha if args.alpha is not None else (2.0 if args.cv is None else args.cv) ** -2.0
    beta = args.beta if args.beta is not None else 1.0 / ((args.rate or 1.0) * alpha)
    phase: dict[str, Any] = {"name": "load"}
    if args.seconds is not None:
        phase["seconds"] = args.seconds
    else:
        phase["requests"] = REQUESTS if args.requests is None else args.requests
    seed, max_tokens, longest = (
        default if getattr(args, name) is None else getattr(args, name) for name, default in DEFAULTS.items()
    )
    if args.input_tokens is not None:
        phase["lengths"] = {"kind": "constant", "tokens": args.input_tokens}
        longest = args.input_tokens
    theta = 1.1 if args.theta is None else args.theta
    return {
        **CELL,
        "seed": seed,
        "root_seed": seed,
        "initial": {"alpha": alpha, "beta": beta, "theta": theta},
        "phases": [phase],
        "max_tokens": max_tokens,
        "prompt_max_tokens": longest,
    }
