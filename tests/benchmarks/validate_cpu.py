"""Fitted step times against a real vLLM on this machine's processor: fitted to one run, another one predicted.

    python tests/benchmarks/validate_cpu.py --out data/validation

Serves a small model of random weights by `burstbench serve vllm` three times: at a middle load, from whose step log
`burstbench serve fit` takes the step times, and at a lower and a higher load, which the simulator then predicts from
arrivals and lengths alone (as many response tokens as the server gave, since random weights end an answer by chance).
Nothing is fitted to a predicted run. Each prediction is written beside what was measured: `vllm_cpu.csv` holds the
quantities, `vllm_cpu_series.csv` the requests in the batch over time. Needs vLLM in .venv-vllm, a quiet machine and
four minutes.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from burstbench import contracts
from burstbench.files import read_json, write_json
from burstbench.serve import fit, scheduler
from burstbench.serve.capacity import BLOCK_TOKENS

ROOT = Path(__file__).parents[2]
SECONDS = 50.0
# Requests a second of each run; gaps are Gamma with shape 0.5. The machine serves about 12 a second.
RATES = {"fitted to": 4.0, "lower load": 2.0, "higher load": 7.0}
ROW = yaml.safe_load((ROOT / "config/models.yaml").read_text())["tiny"] | {
    "label": "random Llama of 4 layers", "layers": 4, "hidden": 512, "heads": 8, "kv_heads": 8, "head_dim": 64,
    "intermediate": 1376, "max_model_len": 2048, "parameters": 45_424_128,
}  # fmt: skip
VLLM: dict[str, Any] = {
    "python": ".venv-vllm/bin/python", "device": "cpu", "weights": "dummy", "max_num_seqs": 64,
    "max_num_batched_tokens": 1024, "memory_utilization": 0.9, "kv_cache_gib": 0.3, "prefix_caching": False,
    "scheduling": "sync", "timeout": {"kind": "none"}, "temperature": 1.0, "startup_s": 240,
}  # fmt: skip


def serve(folder: Path, rate: float, seed: int) -> dict[str, Any]:
    """Run one load on the real server; return its requests, steps and record."""
    rng = np.random.default_rng([20240303, seed])
    count = round(rate * SECONDS)
    send = np.cumsum(rng.gamma(0.5, 2.0 / rate, count))
    lengths = np.minimum(1 + rng.geometric(1 / 250, count), 1000)
    folder.mkdir(parents=True)
    identity = {"experiment": "validation", "model": "tiny", "gpu": "cpu", "seed": seed}
    contracts.PLAN.write(
        {
            "request_id": np.arange(count), "phase": ["load"] * count, "step": np.zeros(count, int), "send_s": send,
            "prompt_tokens": lengths, "prompt_id": np.zeros(count, int), "alpha": np.full(count, 0.5),
            "beta": np.full(count, 2.0 / rate), "theta": np.ones(count), "max_tokens": np.full(count, 200),
        },
        folder / "plan.parquet",
    )  # fmt: skip
    write_json(folder / "plan.json", identity)
    ids = rng.integers(300, ROW["vocab"], 1000).astype(np.uint16)
    column = pa.LargeListArray.from_arrays(pa.array([0, 1000], pa.int64()), pa.array(ids))
    schema = pa.schema(
        [pa.field("tokens", column.type, False), pa.field("conversation", pa.int64(), False)],
        {"contract": "pool", "vocabulary": str(ROW["vocab"]), "tokenizer_sha256": "0" * 64, "format": "validation"},
    )
    with pa.OSFile(str(folder / "pool.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([column, pa.array([0], pa.int64())], schema=schema))
    settings = identity | {
        "root_seed": 1, "engine": "vllm", "model_row": ROW, "gpu_row": None, "vllm": VLLM,
    }  # fmt: skip
    files = {
        "--plan": "plan.parquet", "--plan-record": "plan.json", "--pool": "pool.arrow",
        "--requests": "requests.parquet", "--steps": "steps.parquet", "--run": "run.json", "--server-log": "server.log",
    }  # fmt: skip
    command = [sys.executable, "-m", "burstbench", "serve", "vllm", "--settings", json.dumps(settings)]
    command += [text for flag, name in files.items() for text in (flag, str(folder / name))]
    subprocess.run(command, check=True, cwd=ROOT)
    return {
        "requests": contracts.REQUESTS.read(folder / "requests.parquet"),
        "steps": contracts.STEPS.read(folder / "steps.parquet"),
        "record": read_json(folder / "run.json"),
    }


def quantities(first: Any, done: Any, arrival: Any, response: Any) -> dict[str, Any]:
    """Time to first token, time per output token and latency of each request in s."""
    several = response > 1
    return {
        "ttft": (first - arrival) / 1e9,
        "tpot": ((done - first)[several] / 1e9) / (response[several] - 1),
        "latency": (done - arrival) / 1e9,
    }


def main() -> None:
    """Serve, fit, predict, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--keep", type=Path, help="folder of the runs, used again where they are there")
    args = parser.parse_args()
    work = args.keep or Path(tempfile.mkdtemp())
    fitted_path = work / "fitted.json"
    rows, series = [], []
    for seed, (name, rate) in enumerate(RATES.items()):
        folder = work / name.replace(" ", "_")
        if folder.exists():
            run = {
                "requests": contracts.REQUESTS.read(folder / "requests.parquet"),
                "steps": contracts.STEPS.read(folder / "steps.parquet"), "record": read_json(folder / "run.json"),
            }  # fmt: skip
        else:
            run = serve(folder, rate, seed)
        if seed == 0:
            subprocess.run(
                [sys.executable, "-m", "burstbench", "serve", "fit", "--steps", folder / "steps.parquet",
                 "--run", folder / "run.json", "--out", fitted_path], check=True,
            )  # fmt: skip
        cache = fit.cache_of(run["record"], folder)
        blocks = cache.blocks * cache.block_tokens // BLOCK_TOKENS
        limits = scheduler.Limits(blocks, VLLM["max_num_seqs"], VLLM["max_num_batched_tokens"])
        times, fitted = fit.of(fitted_path, limits.max_tokens, limits.max_requests)
        table = run["requests"]
        assert set(table.column("outcome").to_pylist()) == {"ok"}, "the load is not one that all requests survive"
        arrival, first, done, prompt, response = (
            table.column(column).to_numpy()
            for column in ("sent_ns", "first_token_ns", "done_ns", "prompt_tokens", "response_tokens")
        )
        order = np.argsort(arrival, kind="stable")
        arrival, first, done, prompt, response = (values[order] for values in (arrival, first, done, prompt, response))
        result = scheduler.simulate("v1", arrival, prompt, response, limits, times)
        measured = quantities(first, done, arrival, response)
        simulated = quantities(result.first_token_ns, result.done_ns, arrival, response)
        labels = {"run": name, "requests": len(arrival), "requests_per_s": rate}
        for quantity in measured:
            for label, value in (
                ("mean", np.mean), ("p50", np.median), ("p90", lambda v: np.quantile(v, 0.9)),
                ("p99", lambda v: np.quantile(v, 0.99)),
            ):  # fmt: skip
                found, wanted = value(simulated[quantity]), value(measured[quantity])
                rows.append(
                    labels | {"quantity": f"{quantity} {label}", "unit": "s", "measured": f"{wanted:.6g}",
                              "simulated": f"{found:.6g}", "error": f"{found / wanted - 1:.5f}"}
                )  # fmt: skip
        real = {key: run["steps"].column(key).to_numpy() for key in ("start_ns", "duration_ns", "running", "kv_usage")}
        worked = real["running"] > 0
        steps = result.steps
        grid = np.arange(0, max(done.max(), result.done_ns.max()), 500_000_000)
        over = [
            _at(grid, real["start_ns"][worked], real["duration_ns"][worked], real["running"][worked]),
            _at(grid, steps[:, scheduler.START], steps[:, scheduler.DURATION], steps[:, scheduler.RUNNING]),
        ]
        for time, wanted, found in zip(grid, *over, strict=True):
            series.append(
                {"run": name, "time_s": f"{time / 1e9:.1f}", "measured": int(wanted), "simulated": int(found)}
            )
        for quantity, wanted, found, unit in (
            ("engine busy", real["duration_ns"][worked].sum() / 1e9, steps[:, scheduler.DURATION].sum() / 1e9, "s"),
            ("steps", worked.sum(), len(steps), "1"),
            ("running mean over time", over[0].mean(), over[1].mean(), "requests"),
        ):
            rows.append(
                labels | {"quantity": quantity, "unit": unit, "measured": f"{wanted:.6g}", "simulated": f"{found:.6g}",
                          "error": f"{found / wanted - 1:.5f}"}
            )  # fmt: skip
        gaps = real["start_ns"][worked][1:] - (real["start_ns"] + real["duration_ns"])[worked][:-1]
        print(name, "gap between steps, ms:", np.quantile(gaps, (0.1, 0.5, 0.9)) / 1e6, "fit error", fitted["error"])
    for path, table in ((args.out / "vllm_cpu.csv", rows), (args.out / "vllm_cpu_series.csv", series)):
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(table[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
    for row in rows:
        print(f"{row['run']:14}{row['quantity']:28}{row['measured']:>12}{row['simulated']:>12}{row['error']:>10}")


def _at(grid: Any, start: Any, duration: Any, values: Any) -> Any:
    """The value of the step that runs at each moment of the grid; 0 between steps that are far apart."""
    place = np.searchsorted(start, grid, side="right") - 1
    inside = (place >= 0) & (grid < (start + duration)[np.maximum(place, 0)] + 20_000_000)
    return np.where(inside, values[np.maximum(place, 0)], 0)


if __name__ == "__main__":
    main()
