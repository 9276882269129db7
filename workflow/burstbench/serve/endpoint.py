"""`burstbench serve endpoint`: run a plan on any server with the interface of OpenAI, and record what its clients see.

The engine behind the URL is not ours: its steps, its schedule and its memory are not recorded. What its `/metrics` tell
(vLLM's names), read once a second by a process of its own, is summarised in run.json.
"""

import argparse
import multiprocessing
import os
import platform
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import uvloop

import burstbench
from burstbench import contracts
from burstbench.cli import add_settings
from burstbench.errors import UserError
from burstbench.files import read_json, sha256, write_json
from burstbench.prompts.pool import Pool
from burstbench.serve import client, delivery

IDENTITY = ("experiment", "model", "gpu", "seed")
# Settings and their defaults; None among the first means that it must be given.
OPTIONS: dict[str, Any] = {
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
GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
COUNTERS = ("vllm:num_preemptions_total", "vllm:prompt_tokens_total", "vllm:generation_tokens_total")
NOT_RECORDED = (
    "not recorded, since the engine is not ours: engine steps (steps.parquet is empty), when a request was first "
    "scheduled, preemptions of each request, KV-cache use at each step, GPU memory, the engine's version and hardware"
)
_EVERY_S = 1.0
_SAMPLE = re.compile(r"([^\s{#]+)(?:\{.*\})?\s+(\S+)")  # a name, its labels, its value; a timestamp may follow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    add_settings(parser)
    parser.add_argument("--plan", type=Path, required=True, help="plan.parquet of the cell")
    parser.add_argument("--plan-record", type=Path, required=True, help="plan.json of the cell")
    parser.add_argument("--pool", type=Path, required=True, help="pool.arrow of the prompts")
    parser.add_argument("--requests", type=Path, required=True, help="requests.parquet to write")
    parser.add_argument("--steps", type=Path, required=True, help="steps.parquet to write, without rows")
    parser.add_argument("--run", dest="run_record", type=Path, required=True, help="run.json to write")
    parser.add_argument("--client", type=Path, help="client.parquet to write: answers and token times")


def run(args: argparse.Namespace) -> None:
    """Run one cell."""
    serve(
        args.settings, args.plan, args.plan_record, args.pool, args.requests, args.steps, args.run_record, args.client
    )


def serve(
    settings: Mapping[str, Any],
    plan_path: Path,
    plan_record_path: Path,
    pool_path: Path,
    requests_path: Path,
    steps_path: Path,
    run_path: Path,
    client_path: Path | None = None,
) -> None:
    """Run a plan on a server and write what became of it, whole or not; then fail if the run is not what was planned.

    Args:
        settings: experiment, model, gpu, seed, url, served_model, and of OPTIONS what differs from the defaults.
        plan_path: table of contract `plan`.
        plan_record_path: plan.json, which names the same cell.
        pool_path: pool.arrow, whose prompts the plan names.
        requests_path: to write, contract `requests`.
        steps_path: to write, contract `steps`, empty.
        run_path: to write, JSON.
        client_path: to write, contract `client`, or None.

    Raises:
        UserError: the settings are wrong, the plan is another cell's, or the pool cannot serve it; nothing was sent.
        DeliveryError: the run was stopped or failed a check; everything is written.
    """
    options, target = _checked(settings)
    plan_record = read_json(plan_record_path)
    for key in IDENTITY:
        if plan_record.get(key) != settings[key]:
            raise UserError(
                f"{plan_record_path}: {key}: found {plan_record.get(key)!r}, expected {settings[key]!r}, this cell's"
            )
    plan = contracts.PLAN.read(plan_path)
    pool = Pool(pool_path)
    title = f"{settings['experiment']} {settings['model']} {settings['gpu']} s{settings['seed']}"
    with client.stopping() as stop, scraped(target.url) as metrics, client.live(title) as report:
        records = client.run_plan(plan, pool, target, options, stop=stop, progress=report)
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
                    "pool.arrow": sha256(pool_path),
                },
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


def _checked(settings: Mapping[str, Any]) -> tuple[client.Options, client.Target]:
    required = (*IDENTITY, "url", "served_model")
    for key in required:
        if key not in settings:
            raise UserError(f"--settings: key {key!r} is missing")
    known = {*required, *OPTIONS, "root_seed"}
    for key in settings:
        if key not in known:
            raise UserError(f"--settings: unknown key {key!r}; known here: {', '.join(sorted(known))}")
    values = {key: settings.get(key, default) for key, default in OPTIONS.items()}
    for key in ("connect_s", "total_s", "lead_s", "lag_limit_s"):
        if isinstance(values[key], bool) or not isinstance(values[key], int | float) or not values[key] > 0:
            raise UserError(f"--settings: {key}: found {values[key]!r}, expected a positive number")
    if isinstance(values["processes"], bool) or not isinstance(values["processes"], int) or values["processes"] < 1:
        raise UserError(f"--settings: processes: found {values['processes']!r}, expected a whole number from 1")
    name = values.pop("api_key_env")
    if name and name not in os.environ:
        raise UserError(f"--settings: api_key_env: the environment has no variable {name!r}")
    run_id = f"{settings['experiment']}-{settings['model']}_{settings['gpu']}_s{settings['seed']}"
    target = client.Target(settings["url"], settings["served_model"], os.environ[name] if name else None)
    return client.Options(run_id=run_id, **values), target


# The server's own metrics -----------------------------------------------------------------------------------------


class Metrics:
    """Collects the samples; called, it ends the collection and returns the summary for run.json."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection, there = multiprocessing.get_context("spawn").Pipe()
        # A process of its own: reading and parsing would make the client late.
        self._process = multiprocessing.get_context("spawn").Process(target=_scrape, args=(url, there), daemon=True)
        self._process.start()
        there.close()

    def __call__(self) -> dict[str, Any]:
        """End it."""
        samples: Any = "the process that reads them died"
        try:
            self._connection.send(None)
            samples = self._connection.recv()
        except (EOFError, OSError):
            pass
        self.close()
        if isinstance(samples, str):
            return {"url": self.url, "available": False, "reason": samples}
        return {"url": self.url, "available": True, **summarise(samples)}

    def close(self) -> None:
        """Leave nothing running."""
        self._connection.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()


@contextmanager
def scraped(url: str) -> Iterator[Metrics]:
    """Read the metrics of a server from now on, once a second.

    Args:
        url: base of its interface; `/metrics` stands beside its `/v1`.
    """
    metrics = Metrics(url.rstrip("/").removesuffix("/v1") + "/metrics")
    try:
        yield metrics
    finally:
        metrics.close()


def _scrape(url: str, there: Connection) -> None:
    """Sample until told to stop; send the samples, or a sentence why there are none."""
    import signal

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent ends it
    samples: list[dict[str, float]] = []
    reason = "no sample in time"
    next_s = time.monotonic()
    try:
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    sample = parse(answer.read().decode("utf-8", "replace"))
                if sample:
                    samples.append(sample)
                else:
                    reason = "none of vLLM's names is there"
            except (urllib.error.URLError, OSError, ValueError) as error:
                reason = str(error)
            next_s = max(next_s + _EVERY_S, time.monotonic())
            if there.poll(max(next_s - time.monotonic(), 0)):
                there.recv()
                there.send(samples or reason)
                return
    except (EOFError, OSError):
        pass  # the parent is gone


def parse(text: str) -> dict[str, float]:
    """The wanted values of a page in the text format of Prometheus; of several with different labels, the sum."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        sample = _SAMPLE.match(line)
        if sample and (sample[1] in GAUGES or sample[1] in COUNTERS):
            found[sample[1]] = found.get(sample[1], 0.0) + float(sample[2])
    return found


def summarise(samples: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and maximum of the gauges over the samples, and by how much the counters grew."""
    summary: dict[str, Any] = {"samples": len(samples), "every_s": _EVERY_S}
    for name in GAUGES:
        values = [sample[name] for sample in samples if name in sample]
        if values:
            summary[name] = {"mean": float(np.mean(values)), "max": max(values)}
    for name in COUNTERS:
        values = [sample[name] for sample in samples if name in sample]
        if values:
            summary[name] = {"increase": values[-1] - values[0]}
    return summary
