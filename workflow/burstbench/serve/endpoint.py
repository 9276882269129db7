"""`burstbench serve endpoint`: run a plan on any server with the interface of OpenAI, and record what its clients see.

The engine behind the URL is not ours: its steps, its schedule and its memory are not recorded. What its `/metrics` tell
(vLLM's names), read once a second by a process of its own, is summarised in run.json.
"""

import argparse
import json
import os
import platform
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

import burstbench
from burstbench import contracts
from burstbench.cli import add_settings
from burstbench.errors import UserError
from burstbench.files import read_json, sha256, write_json
from burstbench.prompts.pool import Pool
from burstbench.prompts.synthetic import Synthetic
from burstbench.prompts.text import Texts
from burstbench.serve import client, delivery
from burstbench.serve.scrape import scraped

IDENTITY = ("experiment", "model", "gpu", "seed")
# Settings and their defaults. Without served_model, the one model that the server names is asked for.
OPTIONS: dict[str, Any] = {
    "served_model": None,
    "api_key_env": None,
    "temperature": None,
    "ignore_eos": False,
    "extra_body": {},
    "continuous_usage": True,
    "connect_s": client.Options.connect_s,
    "total_s": client.Options.total_s,
    "lead_s": client.Options.lead_s,
    "lag_limit_s": client.Options.lag_limit_s,
    "processes": 1,
}
NO_MARKS = {"add_special_tokens": False}  # of a text: the server adds no mark of its begin (an extension of vLLM)
NOT_RECORDED = (
    "not recorded, since the engine is not ours: engine steps (steps.parquet is empty), when a request was first "
    "scheduled, preemptions of each request, KV-cache use at each step, GPU memory, the engine's version and hardware"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    add_settings(parser)
    parser.add_argument("--plan", type=Path, required=True, help="plan.parquet of the cell")
    parser.add_argument("--plan-record", type=Path, required=True, help="plan.json of the cell")
    parser.add_argument("--pool", type=Path, required=True, help="pool.arrow of the prompts")
    parser.add_argument(
        "--tokenizer", type=Path, help="of the pool: prompts are sent as text that re-encodes to the planned length"
    )
    parser.add_argument("--requests", type=Path, required=True, help="requests.parquet to write")
    parser.add_argument("--steps", type=Path, required=True, help="steps.parquet to write, without rows")
    parser.add_argument("--run", dest="run_record", type=Path, required=True, help="run.json to write")
    parser.add_argument("--client", type=Path, help="client.parquet to write: answers and token times")


def run(args: argparse.Namespace) -> None:
    """Run one cell."""
    settings, pool = args.settings, Texts(args.pool, args.tokenizer) if args.tokenizer else Pool(args.pool)
    if args.tokenizer:
        settings = settings | {"extra_body": NO_MARKS | settings.get("extra_body", {})}
    serve(settings, args.plan, args.plan_record, pool, args.requests, args.steps, args.run_record, args.client)


def serve(
    settings: Mapping[str, Any],
    plan_path: Path,
    plan_record_path: Path,
    prompts: Pool | Synthetic | Texts,
    requests_path: Path,
    steps_path: Path,
    run_path: Path,
    client_path: Path | None = None,
    *,
    quiet: bool = False,
) -> None:
    """Run a plan on a server and write what became of it, whole or not; then fail if the run is not what was planned.

    Args:
        settings: experiment, model, gpu, seed, url, and of OPTIONS what differs from the defaults.
        plan_path: table of contract `plan`.
        plan_record_path: plan.json, which names the same cell.
        prompts: that the plan names.
        requests_path: to write, contract `requests`.
        steps_path: to write, contract `steps`, empty.
        run_path: to write, JSON.
        client_path: to write, contract `client`, or None.
        quiet: show no progress.

    Raises:
        UserError: the settings are wrong, the plan is another cell's, or the pool cannot serve it; nothing was sent.
        DeliveryError: the run was stopped or failed a check; everything is written.
    """
    options, target = checked(settings)
    plan_record = read_json(plan_record_path)
    for key in IDENTITY:
        if plan_record.get(key) != settings[key]:
            raise UserError(
                f"{plan_record_path}: {key}: found {plan_record.get(key)!r}, expected {settings[key]!r}, this cell's"
            )
    plan = contracts.PLAN.read(plan_path)
    pool, said = _described(prompts)
    title = f"{settings['experiment']} {settings['model']} {settings['gpu']} s{settings['seed']}"
    with (
        client.stopping() as stop,
        scraped(target.url) as metrics,
        client.live(title, metrics.text) as report,
    ):
        source = prompts.tokens if isinstance(prompts, Synthetic) else prompts
        records = client.run_plan(plan, source, target, options, stop=stop, progress=None if quiet else report)
        found = delivery.proof(records, options, plan.column("prompt_tokens").to_numpy())
        contracts.REQUESTS.write(client.requests_table(records), requests_path)
        contracts.STEPS.write(contracts.STEPS.empty(), steps_path)
        if client_path:
            contracts.CLIENT.write(client.client_table(records), client_path)
        write_json(
            run_path,
            {
                **{key: settings[key] for key in IDENTITY},
                "engine": "endpoint",
                "simulated": False,
                "hardware": "unknown: the server is not ours",
                "url": target.url,
                "served_model": target.model,
                "options": {key: settings.get(key, default) for key, default in OPTIONS.items()},
                "statement": NOT_RECORDED,
                "server_metrics": metrics(),
                "requests": len(records.request_id),
                **delivery.outcomes(records),
                "delivery": found,
                "inputs": {
                    "plan.parquet": sha256(plan_path),
                    "plan.json": sha256(plan_record_path),
                    **pool,
                },
                "prompts": said,
                "versions": {
                    "burstbench": burstbench.__version__,
                    "aiohttp": aiohttp.__version__,
                    "uvloop": uvloop.__version__,
                    "python": platform.python_version(),
                },
            },
        )
    written = [requests_path, steps_path, run_path, *([client_path] if client_path else [])]
    delivery.demand(found, written)


def checked(settings: Mapping[str, Any]) -> tuple[client.Options, client.Target]:
    """Return how and to which server a plan is sent; without `served_model` the server is asked for its model.

    Args:
        settings: of `serve`.

    Raises:
        UserError: a setting is wrong, the key is not in the environment, or the server does not name its model.
    """
    required = (*IDENTITY, "url")
    for key in required:
        if key not in settings:
            raise UserError(f"--settings: key {key!r} is missing")
    known = {*required, *OPTIONS, "root_seed"}
    for key in settings:
        if key not in known:
            raise UserError(f"--settings: unknown key {key!r}; known here: {', '.join(sorted(known))}")
    values = {key: settings.get(key, default) for key, default in OPTIONS.items()}
    for key in ("connect_s", "total_s", "lead_s", "lag_limit_s"):
        if key == "lag_limit_s" and values[key] is None:
            continue
        if isinstance(values[key], bool) or not isinstance(values[key], int | float) or not values[key] > 0:
            raise UserError(f"--settings: {key}: found {values[key]!r}, expected a positive number")
    if isinstance(values["processes"], bool) or not isinstance(values["processes"], int) or values["processes"] < 1:
        raise UserError(f"--settings: processes: found {values['processes']!r}, expected a whole number from 1")
    name = values.pop("api_key_env")
    if name and name not in os.environ:
        raise UserError(f"--settings: api_key_env: the environment has no variable {name!r}")
    api_key = os.environ[name] if name else None
    url, named = settings["url"], values.pop("served_model")
    model = only_model(url, api_key) if named is None else named
    run_id = f"{settings['experiment']}-{settings['model']}_{settings['gpu']}_s{settings['seed']}"
    return client.Options(run_id=run_id, **values), client.Target(url, model, api_key)


def _described(prompts: Pool | Synthetic | Texts) -> tuple[dict[str, str], str]:
    """Checksums of the prompts' files, and what was sent, for run.json."""
    if isinstance(prompts, Synthetic):
        return {}, f"random token ids below {prompts.vocabulary}, seed {prompts.seed}"
    if isinstance(prompts, Pool):
        return {"pool.arrow": sha256(prompts.path)}, "token ids of pool.arrow"
    checksums = {"pool.arrow": sha256(prompts.pool_path), "tokenizer": prompts.tokenizer.sha256}
    return checksums, "text of pool.arrow that the tokenizer encodes to the planned length"


def only_model(url: str, api_key: str | None = None) -> str:
    """Ask a server which model it serves.

    Args:
        url: base of its interface; `{url}/models` lists them.
        api_key: sent as a bearer token, or None.

    Raises:
        UserError: it does not say, or serves several.
    """
    address = url.rstrip("/") + "/models"
    if not address.startswith(("http://", "https://")):
        raise UserError(f"url: found {url!r}, expected http://host:port/v1 or https://...")
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {api_key}"} if api_key else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            names = [str(model["id"]) for model in json.load(answer)["data"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{address}: the server does not name its model ({error}); give the name") from error
    if len(names) != 1:
        raise UserError(f"{address}: found {len(names)} models ({', '.join(names[:10])}), expected one; give its name")
    return names[0]
