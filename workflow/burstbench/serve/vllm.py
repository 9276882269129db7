"""`burstbench serve vllm`: run a plan on a real vLLM server, which this job starts, watches and stops.

Its timeouts and its records are ours, put in by vLLM's own options: the middleware `burstbench.serve.autotimeout`, the
scheduler `burstbench.serve.recorder`, and, with the engine `vllm-emulated`, the executor `burstbench.serve.emulated`,
which sleeps the modelled time of a GPU that is not there. vLLM is installed in an environment of its own.
"""

import argparse
import functools
import http.client
import importlib
import json
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pyarrow as pa

import burstbench
from burstbench import contracts
from burstbench.cli import add_settings
from burstbench.errors import UserError
from burstbench.files import read_json, sha256, write_json
from burstbench.prompts.pool import Pool
from burstbench.serve import client, delivery, joined, journal, machine, tiny, weights
from burstbench.serve.claim import Claim
from burstbench.serve.gpus import GIB, Model
from burstbench.serve.server import HOST, Server
from burstbench.serve.template import Template

IDENTITY = ("experiment", "model", "gpu", "seed")
PACKAGE = Path(burstbench.__file__).parent
# vLLM's default on GPUs, said aloud.
BLOCK_TOKENS = 16
# vLLM's attention on a CPU takes blocks of 16 or of 32 tokens, by the instructions that the CPU has.
CPU_BLOCK_TOKENS = 32
# Of the server's own counters, as a second count of what the recorder saw.
_COUNTERS = ("prompt_tokens_total", "generation_tokens_total", "num_preemptions_total")


class RunError(UserError):
    """The run cannot be made, or did not end as it should."""


@dataclass(frozen=True)
class Limits:
    """What bounds a batch, all of it told to the server."""

    max_num_seqs: int
    max_num_batched_tokens: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    add_settings(parser)
    parser.add_argument("--plan", type=Path, required=True, help="plan.parquet of the cell")
    parser.add_argument("--plan-record", type=Path, required=True, help="plan.json of the cell")
    parser.add_argument("--pool", type=Path, required=True, help="pool.arrow")
    parser.add_argument("--replies", type=Path, help="replies.parquet, for the emulated GPU")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer of the prompts, for a chat template")
    parser.add_argument("--requests", type=Path, required=True, help="requests.parquet to write")
    parser.add_argument("--steps", type=Path, required=True, help="steps.parquet to write")
    parser.add_argument("--engine", type=Path, help="engine.parquet to write: the scheduler's own row of each request")
    parser.add_argument("--run", dest="run_record", type=Path, required=True, help="run.json to write")
    parser.add_argument("--server-log", type=Path, required=True, help="what the server prints")


def run(args: argparse.Namespace) -> None:
    """Run one cell."""
    with sigterm_raises():
        record = serve(
            args.settings,
            args.plan,
            args.plan_record,
            args.pool,
            args.requests,
            args.steps,
            args.run_record,
            args.server_log,
            replies_path=args.replies,
            tokenizer_path=args.tokenizer,
            engine_path=args.engine,
            claim=Claim(args.server_log),
        )
    said = record["join"]
    outcomes = ", ".join(f"{count} {name}" for name, count in said["outcomes"].items())
    print(
        f"joined {said['joined']} of {said['client_rows']} requests with their engine rows; {outcomes}; "
        f"{record['steps']} steps",
        file=sys.stderr,
    )


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Make SIGTERM an exception, so that the server is stopped on the way out."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def serve(
    settings: Mapping[str, Any],
    plan_path: Path,
    plan_record_path: Path,
    pool_path: Path,
    requests_path: Path,
    steps_path: Path,
    run_path: Path,
    log_path: Path,
    *,
    replies_path: Path | None = None,
    tokenizer_path: Path | None = None,
    engine_path: Path | None = None,
    claim: Claim | None = None,
    recorded: bool = True,
) -> dict[str, Any]:
    """Run a plan on a vLLM server and write what became of it; then fail if the load was not delivered as planned.

    The files appear only when the run is whole.

    Args:
        settings: experiment, model, gpu, seed, root_seed, engine ("vllm" or "vllm-emulated"), model_row, gpu_row (none
            with `device: cpu`), vllm (engines.vllm of the study), and for the emulated GPU simulator
            (engines.simulator).
        plan_path: contract `plan`.
        plan_record_path: plan.json, which names the same cell.
        pool_path: pool.arrow.
        requests_path: to write, contract `requests`.
        steps_path: to write, contract `steps`.
        run_path: to write, JSON: what the run was made with.
        log_path: what the server prints.
        replies_path: contract `replies`: response lengths of the emulated GPU are drawn from them.
        tokenizer_path: the pool's, for a chat template.
        engine_path: to write, contract `engine`; None writes none.
        claim: to the cell; None writes in any case.
        recorded: False leaves recorder and timeout out, to measure what they cost; nothing but the client's records
            comes back then, and no file is written.

    Returns:
        The run's record, as written.

    Raises:
        UserError: the plan is another cell's, vLLM is not installed, the server did not start or ended before its time,
            the run was stopped, client and engine disagree, or a later run has the cell.
        DeliveryError: the client was later than `lag_limit_s`, or another check of `delivery` failed; everything is
            written.
    """
    check_identity(settings, plan_record_path)
    vllm, model = settings["vllm"], Model.of(settings["model_row"], settings["model"])
    emulated, cpu = settings["engine"] == "vllm-emulated", vllm["device"] == "cpu"
    python = Path(os.environ.get("BURSTBENCH_VLLM_PYTHON") or vllm["python"])
    installed = machine.environment(python)
    hardware = machine.hardware(gpu=not (cpu or emulated))
    if not (cpu or emulated):
        check_gpu(settings["gpu_row"], str(hardware["gpu"]))
    pool = Pool(pool_path)
    template = Template.of(vllm.get("chat_template"), pool, tokenizer_path)
    plan = contracts.PLAN.read(plan_path)
    planned_tokens = plan.column("prompt_tokens").to_numpy()
    sent_tokens = template.lengths(planned_tokens)
    plan = plan.set_column(plan.column_names.index("prompt_tokens"), "prompt_tokens", pa.array(sent_tokens))
    check_plan(plan_path, plan, model)
    run_id = secrets.token_hex(6)
    timeout = settings["simulator"]["timeout"] if emulated else vllm["timeout"]
    # By name: a change of the modelled GPU is no reason to measure a real one again (`burstbench.fingerprint`).
    modelled = (
        importlib.import_module("burstbench.serve.modelled").of(settings, plan, replies_path) if emulated else None
    )
    limits = Limits(vllm["max_num_seqs"], vllm["max_num_batched_tokens"])
    if modelled:
        limits = Limits(modelled.max_num_seqs, modelled.max_num_batched_tokens)
    source: weights.Source | None = None  # None: the model is made here
    if not modelled and vllm["weights"] != "dummy":
        cached = machine.hub_folder(python, model.hub) if vllm["weights"] == "hub" else None
        source = weights.find(settings["model"], model.hub, vllm["weights"], cached)
    extras: dict[str, Any] = {}

    def folder(server: Server) -> Path:
        return server.folder / "model"

    def command(server: Server) -> list[str]:
        if modelled:
            tiny.write(folder(server), model, [tiny.EOS])
            np.savez(server.folder / "tables.npz", **modelled.arrays)
        elif not source:
            tiny.write(folder(server), model, tiny.random_ends(model))
        served = source.model if source else str(folder(server))
        found = flags(settings, limits, served, server.port, recorded)
        extras["flags"] = [flag.replace(str(server.folder), "<folder>") for flag in found]
        return [str(python), "-m", "vllm.entrypoints.launchers.api_server.entry", *found]

    def environment(server: Server) -> dict[str, str]:
        given = {
            "PYTHONPATH": str(PACKAGE.parent),
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "BURSTBENCH_TIMEOUT": json.dumps(timeout),
            "BURSTBENCH_RECORDER": json.dumps(
                {
                    "folder": str(server.folder),
                    "run_id": run_id,
                    "queue_timeout_s": timeout["seconds"] if timeout["kind"] == "queue" else None,
                }
            ),
        }
        if cpu or emulated:
            # The model gets one core, in the engine's own process and not in a worker below it (which is what the name
            # of the first variable comes to here); another core is for the API server and the client.
            given |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"}
        if not source or source.folder:
            # What needs no token gets none.
            given |= {"HF_HUB_OFFLINE": "1", "HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": ""}
        if modelled:
            given["BURSTBENCH_EMULATED"] = json.dumps(
                {
                    "model_row": settings["model_row"],
                    "blocks": modelled.blocks,
                    "tables": str(server.folder / "tables.npz"),
                    "run_id": run_id,
                }
            )
        extras["environment"] = {
            name: text.replace(str(server.folder), "<folder>").replace(str(PACKAGE.parent), "<package>")
            for name, text in given.items()
        }
        return given

    with Server(command, environment, log_path, vllm["startup_s"]) as server:
        print(f"the server answers on {HOST}:{server.port} after {server.startup_s:.1f} s", file=sys.stderr)
        wake(server, settings["model"])
        target = client.Target(server.url, settings["model"], server.api_key)
        options = client.Options(
            run_id=run_id,
            lag_limit_s=vllm["lag_limit_s"],
            temperature=vllm.get("temperature"),
            # The server times requests out; this only ends the wait for one that is dead.
            total_s=timeout["seconds"] + 60.0 if timeout["kind"] == "total" else 3600.0,
        )
        with client.stopping() as stop, client.live(f"{settings['experiment']} {settings['model']}") as report:
            server.on_end = stop.set
            server.check()
            records = client.run_plan(
                plan, functools.partial(template.around, pool), target, options, stop=stop, progress=report
            )
        try:
            server.check()
        except UserError as error:
            kept = salvage(server, records, log_path)
            raise RunError(f"{error}\n{_so_far(records)}; the engine's steps until then: {kept}") from error
        if records.partial:
            raise RunError(f"the run was stopped; {_so_far(records)}; nothing is kept")
        if not recorded:
            return {"records": records}
        settle(server)
        counters = read_counters(server)
        source_folder = (source.folder or machine.hub_folder(python, model.hub)) if source else folder(server)
        model_files = machine.model_files(source_folder) if source_folder else {}
        server.stop()
        engine_facts = read_json(server.folder / journal.ENGINE)
        events = journal.read(server.folder / journal.EVENTS, journal.EVENT)
        step_rows = journal.read(server.folder / journal.STEPS, journal.STEP)

    rows = joined.EngineRows.of(events, plan.num_rows)
    columns, join = joined.join(records, sent_tokens, rows)
    steps = joined.steps(step_rows, records.start_monotonic_ns, engine_facts["free_blocks"])
    arrived_ns = np.where(rows.added_ns < 0, -1, rows.added_ns - records.start_monotonic_ns)
    record: dict[str, Any] = {
        **{key: settings[key] for key in IDENTITY},
        "engine": settings["engine"],
        "simulated": False,
        "emulated_gpu": emulated,
        "hardware": f"emulated {settings['gpu_row']['name']}" if emulated else hardware,
        "statement": statement(settings, source.origin if source else "dummy"),
        "machine": hardware,
        "job": machine.job(),
        "device": "emulated" if emulated else vllm["device"],
        "weights": "none" if emulated else source.origin if source else "dummy",
        "model_files": model_files,
        "model_row": dict(settings["model_row"]),
        "gpu_row": dict(settings["gpu_row"] or {}),
        "tokenizer_of_the_prompts": pool.tokenizer_sha256,
        "flags": extras["flags"],
        "environment": extras["environment"],
        "settings": dict(vllm),
        "chat_template": {
            "tokens": template.tokens,
            "requests_lengthened": int((sent_tokens > planned_tokens).sum()),
        },
        "engine_facts": engine_facts,
        "timeout": dict(timeout),
        "prefix_caching": vllm["prefix_caching"],
        "startup_s": round(server.startup_s, 2),
        "root_seed": settings["root_seed"],
        "inputs": {
            "plan.parquet": sha256(plan_path),
            "plan.json": sha256(plan_record_path),
            "pool.arrow": sha256(pool_path),
        },
        "join": join,
        "requests": plan.num_rows,
        "steps": len(steps["step"]),
        "preemptions": int(step_rows["preempted"].sum()),
        "outcomes": join["outcomes"],
        "server_counters": counters,
        "delivery": delivery.proof(records, options, sent_tokens)
        | {"at_the_scheduler": delivery.timeliness(records.intended_ns, arrived_ns)},
        "client": {
            "cpu_s": records.cpu_s,
            "wall_s": records.wall_s,
            "messages": _messages(records),
        },
        "versions": {
            "burstbench": burstbench.__version__,
            "server": {key: installed[key] for key in ("python", "vllm", "vllm_distribution")},
            "server_packages": installed["packages"],
            "client_python": sys.version.split()[0],
            "client_packages": machine.packages(),
        },
        "revision": machine.revision(PACKAGE),
    }
    if modelled:
        record |= modelled.record
        if engine_facts["blocks"] != modelled.blocks:
            raise RunError(
                f"vLLM made {engine_facts['blocks']} KV-cache blocks, expected the modelled {modelled.blocks}"
            )
    if claim:
        claim.demand()
    with all_or_none(requests_path, steps_path, engine_path, run_path):
        contracts.REQUESTS.write(columns, requests_path)
        contracts.STEPS.write(steps, steps_path)
        if engine_path:
            contracts.ENGINE.write(joined.engine(rows, records.start_monotonic_ns), engine_path)
        write_json(run_path, record)
    written = (requests_path, steps_path, engine_path, run_path)
    delivery.demand(record["delivery"], [path for path in written if path])
    return record


@contextmanager
def all_or_none(*paths: Path | None) -> Iterator[None]:
    """Remove files of a run if not all of them can be written.

    Raises:
        RunError: the disk is full, for example.
    """
    try:
        yield
    except BaseException as error:
        for path in filter(None, paths):
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RunError(f"the run's files could not be written: {error}; nothing is kept") from error
        raise


def flags(settings: Mapping[str, Any], limits: Limits, source: str, port: int, recorded: bool = True) -> list[str]:
    """Return every option the server is started with; what matters is set, not left to a default.

    Args:
        settings: of `serve`.
        limits: of a batch.
        source: the model: a folder or a name on the hub.
        port: on 127.0.0.1.
        recorded: whether recorder and timeout are put in.
    """
    vllm, row = settings["vllm"], settings["model_row"]
    emulated, cpu = settings["engine"] == "vllm-emulated", vllm["device"] == "cpu"
    asynchronous = vllm["scheduling"] == "async" and not emulated
    found: dict[str, Any] = {
        "--model": source,
        "--served-model-name": settings["model"],
        "--host": HOST,
        "--port": port,
        "--max-model-len": row["max_model_len"],
        "--max-num-seqs": limits.max_num_seqs,
        "--max-num-batched-tokens": limits.max_num_batched_tokens,
        "--block-size": CPU_BLOCK_TOKENS if cpu and not emulated else BLOCK_TOKENS,
        "--dtype": "float32" if row["bytes_per_parameter"] == 4 else "float16",
        "--seed": settings["seed"],
        "--uvicorn-log-level": "warning",
    }
    switches = [
        "--enable-prefix-caching" if vllm["prefix_caching"] else "--no-enable-prefix-caching",
        "--async-scheduling" if asynchronous else "--no-async-scheduling",
        "--no-enable-log-requests",
        "--disable-uvicorn-access-log",
        "--no-trust-remote-code",
    ]
    if emulated:
        found |= {"--distributed-executor-backend": "burstbench.serve.emulated.ModelledExecutor"}
        switches += ["--skip-tokenizer-init", "--enforce-eager"]
    elif cpu:
        found |= {
            "--distributed-executor-backend": "uni",
            "--kv-cache-memory-bytes": round(vllm["kv_cache_gib"] * GIB),
        }
        switches += ["--enforce-eager"]
    else:
        found |= {"--gpu-memory-utilization": vllm["memory_utilization"]}
    bounds = settings["simulator"] if emulated else vllm
    found |= {
        f"--{key.replace('_', '-')}": bounds[key]
        for key in ("max_num_queued_reqs", "max_num_queued_tokens")
        if key in bounds
    }
    if not emulated and vllm["weights"] == "dummy":
        found |= {"--load-format": "dummy"}
        switches += ["--skip-tokenizer-init"]
    if recorded:
        kind = "AsyncRecorder" if asynchronous else "Recorder"
        found |= {
            "--scheduler-cls": f"burstbench.serve.recorder.{kind}",
            "--middleware": "burstbench.serve.autotimeout.AutoTimeout",
        }
    return [text for name, value in found.items() for text in (name, str(value))] + switches


def check_identity(settings: Mapping[str, Any], path: Path) -> None:
    """Refuse the plan of another cell."""
    record = read_json(path)
    for key in IDENTITY:
        if record.get(key) != settings[key]:
            raise RunError(f"{path}: {key}: found {record.get(key)!r}, expected {settings[key]!r}, this cell's")


def check_plan(path: Path, plan: pa.Table, model: Model) -> None:
    """Refuse a plan whose requests the server would refuse."""
    if not plan.num_rows:
        raise RunError(f"{path}: no requests")
    numbers = plan.column("request_id").to_numpy()
    if not np.array_equal(numbers, np.arange(plan.num_rows)):
        raise RunError(f"{path}: request_id: expected 0, 1, 2 … in the order of sending")
    whole = plan.column("prompt_tokens").to_numpy() + plan.column("max_tokens").to_numpy()
    long = np.flatnonzero(whole > model.max_model_len)
    if long.size:
        row = int(long[0])
        raise RunError(
            f"{path}: row {row}: found {plan.column('prompt_tokens')[row]} prompt tokens and max_tokens "
            f"{plan.column('max_tokens')[row]}, expected at most {model.max_model_len} together: the server would "
            f"refuse the request ({model.label})"
        )


def check_gpu(row: Mapping[str, Any], found: str) -> None:
    """Refuse to measure one GPU under the name of another."""

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower().replace("nvidia", ""))

    if plain(found) != plain(row["name"]):
        raise RunError(
            f"this job's GPU is {found!r}, expected {row['name']!r} (config/gpus.yaml, {row['label']}): the cell would "
            "carry the wrong name; send the job to the right partition, or give the study a row for this GPU"
        )


def statement(settings: Mapping[str, Any], origin: str) -> str:
    """Return, in one sentence, what these numbers are.

    Args:
        settings: of `serve`.
        origin: of the weights: "dummy", "hub" or a folder, of which nobody but its owner knows what is in it.
    """
    if settings["engine"] == "vllm-emulated":
        return "a real vLLM server whose model steps are emulated: their times are modelled, their answers are empty"
    model = settings["model_row"]["label"]
    weights = {"dummy": "random weights", "hub": "the hub's weights"}.get(origin, f"the weights in {origin}")
    where = "the CPU; no GPU was used" if settings["vllm"]["device"] == "cpu" else "a GPU"
    return f"measured: a real vLLM server with {model}, {weights}, on {where}"


def wake(server: Server, model: str) -> None:
    """Make one request of one token, before the run: what the first request prepares is not the run's."""
    body = json.dumps({"model": model, "prompt": [5] * 8, "max_tokens": 1})
    headers = {"Authorization": f"Bearer {server.api_key}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(HOST, server.port, timeout=120)
    try:
        connection.request("POST", "/v1/completions", body, headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        server.check()
        raise RunError(f"the server did not answer the first request: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise RunError(f"the server refused the first request: {answer.status}: {text[:300]}")


def read_metrics(server: Server) -> dict[str, float]:
    """Return the sums of the server's own metrics by name, without labels."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    found: dict[str, float] = {}
    for name, value in re.findall(r"^vllm:(\w+)(?:\{.*\})? (\S+)$", text, flags=re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def read_counters(server: Server) -> dict[str, float]:
    """Return the server's own counts, as a second opinion on ours; they count the waking request, too."""
    found = read_metrics(server)
    return {name: found[name] for name in _COUNTERS if name in found}


def settle(server: Server, within_s: float = 10.0) -> None:
    """Wait until the engine has nothing left: what the client gave up is aborted a moment later."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        found = read_metrics(server)
        if not found.get("num_requests_running", 0) and not found.get("num_requests_waiting", 0):
            return
        time.sleep(0.2)


def salvage(server: Server, records: client.ClientRecords, log_path: Path) -> Path | str:
    """Keep the steps of an engine that died, beside its log, where no rule looks for them.

    The journal lacks at most what was not flushed yet (`journal.FLUSH_S`).

    Returns:
        The path of a table of contract `steps`, or why there is none.
    """
    try:
        usable = read_json(server.folder / journal.ENGINE)["free_blocks"]
        rows = journal.read(server.folder / journal.STEPS, journal.STEP)
        path = log_path.with_suffix(".steps.parquet")
        contracts.STEPS.write(joined.steps(rows, records.start_monotonic_ns, usable), path)
    except (OSError, UserError) as error:
        return f"lost ({error})"
    return path


def _messages(records: client.ClientRecords) -> dict[str, int]:
    """What went wrong, each text once with its count; the commonest ten."""
    texts, counts = np.unique(records.message[records.outcome != "ok"].astype(str), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:10]
    return {str(texts[place]): int(counts[place]) for place in order}


def _so_far(records: client.ClientRecords) -> str:
    sent = records.sent_ns >= 0
    names, counts = np.unique(records.outcome[sent].astype(str), return_counts=True)
    text = ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True))
    return f"of {len(sent)} requests {int(sent.sum())} had been sent ({text or 'none'})"
