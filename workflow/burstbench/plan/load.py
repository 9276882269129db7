"""`burstbench plan load`: plan a load that is given by options, for a server outside of any study.

What a study writes into its configuration stands here in a few options: Gamma gaps by their mean rate and burstiness
(or alpha and beta), lengths by Zipf (or one constant), so many requests or seconds.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from burstbench.contracts import PLAN, POOL_INDEX
from burstbench.errors import UserError
from burstbench.files import sha256, write_json
from burstbench.plan import make
from burstbench.prompts.pool import Pool
from burstbench.prompts.synthetic import Synthetic

CELL = {"experiment": "load", "model": "endpoint", "gpu": "unknown"}
SEED = 1
REQUESTS = 200
MAX_TOKENS = 128
MAX_INPUT_TOKENS = 1024
VOCABULARY = 30_000


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
    lengths.add_argument("--max-input-tokens", type=int, default=MAX_INPUT_TOKENS, help="longest prompt (%(default)s)")
    lengths.add_argument("--input-tokens", type=int, help="all prompts have this length, instead of Zipf")
    lengths.add_argument("--max-tokens", type=int, default=MAX_TOKENS, help="limit of an answer (%(default)s)")
    prompts = parser.add_argument_group("prompts")
    prompts.add_argument("--pool", type=Path, help="pool.arrow of real dialogues; without it random token ids")
    prompts.add_argument(
        "--vocabulary", type=int, default=VOCABULARY, help="random ids are below this number (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="same seed, same load (%(default)s)")


def run(args: argparse.Namespace) -> None:
    """Plan the load and write it."""
    write(args, prompts(args), args.plan, args.record)


def prompts(args: argparse.Namespace) -> Pool | Synthetic:
    """Return where the load's prompts come from."""
    if args.pool:
        return Pool(args.pool)
    return Synthetic(args.seed, args.input_tokens or args.max_input_tokens, args.vocabulary)


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
    longest = args.max_input_tokens
    if args.input_tokens is not None:
        phase["lengths"] = {"kind": "constant", "tokens": args.input_tokens}
        longest = args.input_tokens
    theta = 1.1 if args.theta is None else args.theta
    return {
        **CELL,
        "seed": args.seed,
        "root_seed": args.seed,
        "initial": {"alpha": alpha, "beta": beta, "theta": theta},
        "phases": [phase],
        "max_tokens": args.max_tokens,
        "prompt_max_tokens": longest,
    }
