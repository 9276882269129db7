"""`burstbench run --endpoint URL`: load any OpenAI-compatible server, without a study.

Plans a load from options, or takes a plan made before (`--plan`), sends it open loop, writes plan.parquet, plan.json,
requests.parquet, steps.parquet (without rows: the engine is not ours), client.parquet and run.json into one folder, and
prints a summary. The exit status is 2 if the run was stopped, or if what was delivered is not what was planned; its
files are left. Until the server has named its model and the key is found, no file of an earlier run is touched.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from burstbench.errors import UserError
from burstbench.files import read_json
from burstbench.metrics import definitions, runs
from burstbench.plan import load
from burstbench.prompts.text import Texts
from burstbench.serve import client, endpoint

FILES = ("requests.parquet", "steps.parquet", "run.json", "client.parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--endpoint", required=True, help="base of the interface, for example http://127.0.0.1:8000/v1")
    parser.add_argument("--out", type=Path, default=Path("load"), help="folder to write (%(default)s)")
    parser.add_argument("--model", help="name of the served model (default: the one that the server names)")
    parser.add_argument("--api-key-env", metavar="NAME", help="environment variable that holds the key")
    parser.add_argument(
        "--plan",
        type=Path,
        help="send this plan.parquet, its plan.json beside it: of `plan load`, or a study's cell with --pool; no other "
        "option of the load then",
    )
    load.add_load(parser)
    parser.add_argument(
        "--tokenizer",
        type=Path,
        help="of --pool: prompts are sent as text that re-encodes to the planned length",
    )
    sending = parser.add_argument_group("sending")
    sending.add_argument("--ignore-eos", action="store_true", help="ask for exactly --max-tokens tokens (vLLM)")
    sending.add_argument("--temperature", type=float, help="of the sampling (default: the server's)")
    sending.add_argument(
        "--plain", action="store_true", help="ask for nothing beyond OpenAI's interface; tokens are not timed each"
    )
    sending.add_argument("--processes", type=int, default=1, help="split the load over so many (%(default)s)")
    sending.add_argument(
        "--give-up-s", type=float, default=client.Options.total_s, help="give a request up after this (%(default)g)"
    )
    sending.add_argument(
        "--lag-limit-s", type=float, default=client.Options.lag_limit_s, help="fail if p99 is above (%(default)g)"
    )
    sending.add_argument("--quiet", action="store_true", help="no progress and no summary")


def run(args: argparse.Namespace) -> None:
    """Plan, send, write, and print the summary."""
    if args.plain and args.ignore_eos:
        raise UserError("--plain and --ignore-eos: found both, but --ignore-eos is not of OpenAI's interface")
    plan, record = args.out / "plan.parquet", args.out / "plan.json"
    requests, steps, run_record, answers = (args.out / name for name in FILES)
    cell, source = load.given(args, args.plan) if args.plan else (load.load_settings(args), load.prompts(args))
    if args.tokenizer and not args.pool:
        raise UserError("--tokenizer: needs --pool, whose prompts are to be sent as text")
    prompts = Texts(args.pool, args.tokenizer) if args.tokenizer else source
    settings = {key: cell[key] for key in endpoint.IDENTITY} | {
        "url": args.endpoint,
        "served_model": args.model,
        "api_key_env": args.api_key_env,
        "ignore_eos": args.ignore_eos,
        "temperature": args.temperature,
        "continuous_usage": not args.plain,
        "extra_body": endpoint.NO_MARKS if args.tokenizer and not args.plain else {},
        "processes": args.processes,
        "total_s": args.give_up_s,
        "lag_limit_s": args.lag_limit_s,
    }
    _, target = endpoint.checked(settings)
    settings["served_model"] = target.model
    if args.plan:
        load.copy(args.plan, plan, record)
    else:
        load.write(args, source, plan, record)
    for path in (requests, steps, run_record, answers):
        path.unlink(missing_ok=True)  # of an earlier run: must not stand beside this run's plan
    try:
        endpoint.serve(settings, plan, record, prompts, requests, steps, run_record, answers, quiet=args.quiet)
    finally:
        if not args.quiet and run_record.exists():
            print(summary(args.out), file=sys.stdout)


def summary(folder: Path) -> str:
    """Return what a run was, as a table of text.

    Args:
        folder: that `run` wrote.
    """
    measured, record = runs.read_run(folder, folder), read_json(folder / "run.json")
    requests, found = measured.requests, record["delivery"]
    part = definitions.Part(
        requests, None, 0, len(requests.ok), float(requests.intended[0]), measured.end_ns, np.inf, np.inf
    )
    counts = ", ".join(f"{name} {count:,}" for name, count in record["outcomes"].items() if count)
    lines = [
        f"{record['served_model']} at {record['url']}",
        f"{record['requests']:,} requests in {part.span_s:.1f} s: {counts}",
        "",
        f"{'':24}{'mean':>10}{'p50':>10}{'p90':>10}{'p99':>10}",
    ]
    for title, quantity, factor in (
        ("time to first token, ms", definitions.ttft, 1e3),
        ("time per token, ms", definitions.tpot, 1e3),
        ("latency, ms", definitions.latency, 1e3),
        ("lag of the client, ms", definitions.lag, 1e3),
    ):
        values = quantity(part) * factor
        shown = [np.mean(values), *np.percentile(values, (50, 90, 99))] if values.size else []
        lines.append(f"{title:24}" + ("".join(f"{value:10.2f}" for value in shown) or f"{'-':>10}" * 4))
    sent = found["achieved_rate_per_s"]
    lines += [
        "",
        "sent, requests/s        "
        + (f"{sent:.3f}, {100 * found['rate_error']:+.3f} % of what was planned" if sent else "-"),
    ]
    for title, scalar in (
        ("answered, requests/s", definitions.throughput_requests),
        ("answered, tokens/s", definitions.throughput_output_tokens),
    ):
        value, _ = scalar(part)
        lines.append(f"{title:24}" + ("-" if value is None else f"{value:.3f}"))
    counted, exact = found["prompts_counted_by_server"], found["prompts_of_planned_length"]
    lines.append(f"{'prompts as planned':24}{exact:,} of {counted:,} that the server counted")
    lines += [f"{'failures':24}{one['requests']:,} x {one['message']}" for one in record["failure_messages"][:3]]
    lines += ["", f"written to {folder}/"]
    return "\n".join(lines)
