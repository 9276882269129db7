"""Fitted step times against a real vLLM on this machine's processor: fitted to one run, other loads predicted.

    python tests/benchmarks/validate_cpu.py --out data/validation

vLLM's engine core runs in a process of its environment and computes for real: a Llama of 4 layers with random weights,
on one thread. Its clock is the processor time that this process has used, so that other work on the machine does not
count; while the engine has nothing to do, the clock jumps to the next arrival. Our recorder writes the step log on that
clock. `burstbench serve fit` takes the step times from the log of a run at a middle load; the simulator then predicts
runs at a lower and at a higher load from arrivals and lengths alone. Nothing is fitted to a predicted run. There is no
HTTP and no client here. Each prediction is written beside what was measured: `vllm_cpu.csv` holds the quantities,
`vllm_cpu_series.csv` the requests in the batch over time.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-vllm/bin/python"
REQUESTS = 300
# Requests a second of processor time of each run; gaps are Gamma with shape 0.5.
RATES = {"fitted to": 4.0, "lower load": 2.0, "higher load": 6.0}
SHAPE = {
    "label": "random Llama of 4 layers", "hub": "none", "layers": 4, "hidden": 512, "heads": 8, "kv_heads": 8,
    "head_dim": 64, "intermediate": 1376, "vocab": 32000, "max_model_len": 2048, "parameters": 45424128,
    "bytes_per_parameter": 4, "bytes_per_kv_value": 4,
}  # fmt: skip
# Attention on a processor takes blocks of 32 tokens; the simulator has twice as many of 16.
MAX_SEQUENCES, MAX_TOKENS, BLOCK_TOKENS, BLOCKS = 64, 512, 32, 600


def workload(rate: float, seed: int) -> dict[str, Any]:
    """Arrivals (ns), prompt and response tokens of one run."""
    rng = np.random.default_rng([20240303, seed])
    gaps = rng.gamma(0.5, 2.0 / rate, REQUESTS)
    return {
        "arrival": np.cumsum(gaps * 1e9).astype(np.int64),
        "prompt": np.minimum(1 + rng.geometric(1 / 150, REQUESTS), 1000),
        "response": np.minimum(1 + rng.geometric(1 / 30, REQUESTS), 200),
    }


def engine(folder: Path) -> None:
    """Serve `work.npz` of a folder; runs in vLLM's environment. Leaves the recorder's journal and `requests.npz`."""
    import time
    from types import SimpleNamespace

    os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    os.environ["BURSTBENCH_RECORDER"] = json.dumps({"folder": str(folder), "run_id": "v", "queue_timeout_s": None})
    import torch
    from burstbench.serve import recorder, tiny
    from burstbench.serve.gpus import Model
    from vllm import SamplingParams
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine import EngineCoreRequest
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.executor.abstract import Executor

    torch.set_num_threads(1)
    tiny.write(folder / "model", Model.of(SHAPE), [2])
    arguments = EngineArgs(
        model=str(folder / "model"), skip_tokenizer_init=True, load_format="dummy", enforce_eager=True,
        enable_prefix_caching=False, block_size=BLOCK_TOKENS, max_num_seqs=MAX_SEQUENCES,
        max_num_batched_tokens=MAX_TOKENS, max_model_len=SHAPE["max_model_len"], num_gpu_blocks_override=BLOCKS + 1,
        kv_cache_memory_bytes=1 << 30, distributed_executor_backend="uni", async_scheduling=False,
        scheduler_cls="burstbench.serve.recorder.Recorder", dtype="float32",
    )  # fmt: skip
    settings = arguments.create_engine_config()
    core = EngineCore(settings, Executor.get_class(settings), log_stats=False)
    torch.set_num_threads(1)
    skipped = -time.process_time_ns()

    def now() -> int:
        return time.process_time_ns() + skipped

    recorder.time = SimpleNamespace(monotonic_ns=now, monotonic=time.monotonic)  # type: ignore[assignment]

    def serve(work: Any, first: int, before_ns: int) -> tuple[Any, Any]:
        nonlocal skipped
        size = len(work["arrival"])
        arrival = work["arrival"] + before_ns
        first_token, done = np.full(size, -1, np.int64), np.full(size, -1, np.int64)
        arrived = live = 0
        while arrived < size or live:
            if not live and arrival[arrived] > now():
                skipped += int(arrival[arrived]) - now()
            while arrived < size and arrival[arrived] <= now():
                request = EngineCoreRequest(
                    request_id=f"cmpl-v-{first + arrived}-0", mm_features=None, pooling_params=None, lora_request=None,
                    prompt_token_ids=[100 + (7 * arrived + place) % 30000 for place in range(work["prompt"][arrived])],
                    sampling_params=SamplingParams(
                        max_tokens=int(work["response"][arrived]), ignore_eos=True, detokenize=False, temperature=0.0
                    ),
                    arrival_time=0.0, cache_salt=None, data_parallel_rank=None,
                )  # fmt: skip
                core.add_request(*core.preprocess_add_request(request))
                arrived, live = arrived + 1, live + 1
            outputs, _ = core.step_fn()
            end = now()
            for output in (outputs or {}).values():
                for item in output.outputs:
                    number = int(item.request_id.split("-")[2]) - first
                    if item.new_token_ids and first_token[number] < 0:
                        first_token[number] = end
                    if item.finish_reason is not None:
                        done[number], live = end, live - 1
        return first_token - before_ns, done - before_ns

    # What the first steps of every shape set up is not part of the run.
    serve({"arrival": np.zeros(40, np.int64), "prompt": np.arange(10, 410, 10), "response": np.full(40, 20)}, 10**6, 0)
    start = now()
    work = dict(np.load(folder / "work.npz"))
    first_token, done = serve(work, 0, start)
    core.scheduler._flush()
    np.savez(folder / "requests.npz", first_token=first_token, done=done, start=start)
    core.shutdown()


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
    parser.add_argument("--out", type=Path, help="folder")
    parser.add_argument("--engine", type=Path, help="serve the workload of this folder: how the script calls itself")
    args = parser.parse_args()
    if args.engine:
        engine(args.engine)
        return
    from burstbench import contracts
    from burstbench.files import write_json
    from burstbench.serve import fit, joined, journal, scheduler

    rows: list[dict[str, Any]] = []
    series: list[dict[str, Any]] = []
    fitted_path = Path()
    for seed, (name, rate) in enumerate(RATES.items()):
        folder = Path(tempfile.mkdtemp())
        work = workload(rate, seed)
        np.savez(folder / "work.npz", **work)
        given = os.environ | {"PYTHONPATH": str(ROOT / "workflow"), "OMP_NUM_THREADS": "1"}
        subprocess.run([PYTHON, __file__, "--engine", folder], check=True, env=given)
        served = np.load(folder / "requests.npz")
        log = joined.steps(journal.read(folder / journal.STEPS, journal.STEP), int(served["start"]), BLOCKS)
        contracts.STEPS.write(log, folder / "steps.parquet")
        write_json(folder / "run.json", {"engine_facts": {"blocks": BLOCKS + 1, "block_tokens": BLOCK_TOKENS}})
        if seed == 0:
            fitted_path = folder / "fitted.json"
            subprocess.run(
                [sys.executable, "-m", "burstbench", "serve", "fit", "--steps", folder / "steps.parquet",
                 "--run", folder / "run.json", "--out", fitted_path], check=True,
            )  # fmt: skip
        limits = scheduler.Limits(BLOCKS * BLOCK_TOKENS // 16, MAX_SEQUENCES, MAX_TOKENS)
        times, fitted = fit.of(fitted_path, limits.max_tokens, limits.max_requests)
        arrival, response = work["arrival"], work["response"]
        result = scheduler.simulate("v1", arrival, work["prompt"], response, limits, times)
        measured = quantities(served["first_token"], served["done"], arrival, response)
        simulated = quantities(result.first_token_ns, result.done_ns, arrival, response)
        labels = {"run": name, "requests": REQUESTS, "requests_per_s": rate}

        def add(quantity: str, unit: str, wanted: float, found: float, labels: dict[str, Any] = labels) -> None:
            values = {"measured": f"{wanted:.6g}", "simulated": f"{found:.6g}", "error": f"{found / wanted - 1:.5f}"}
            rows.append(labels | {"quantity": quantity, "unit": unit} | values)

        for quantity in measured:
            for label, value in (("mean", np.mean), ("p50", np.median), ("p90", lambda v: np.quantile(v, 0.9))):
                add(f"{quantity} {label}", "s", value(measured[quantity]), value(simulated[quantity]))
        start, duration, running = (log[key] for key in ("start_ns", "duration_ns", "running"))
        steps = result.steps
        end = max(served["done"].max(), result.done_ns.max())
        grid = np.arange(0, end, 500_000_000)
        over = [
            _at(grid, start, duration, running),
            _at(grid, *(steps[:, column] for column in (scheduler.START, scheduler.DURATION, scheduler.RUNNING))),
        ]
        for time, wanted, found in zip(grid, *over, strict=True):
            series.append(
                {"run": name, "time_s": f"{time / 1e9:.1f}", "measured": int(wanted), "simulated": int(found)}
            )
        add("engine busy", "s", duration.sum() / 1e9, steps[:, scheduler.DURATION].sum() / 1e9)
        add("steps", "1", len(start), len(steps))
        add("running mean over time", "requests", over[0].mean(), over[1].mean())
        add("largest batch", "requests", running.max(), steps[:, scheduler.RUNNING].max())
        print(f"{name}: error of the fit {fitted['error']:.3f}, of its total {fitted['total_error']:.4f}; {folder}")
    for path, table in ((args.out / "vllm_cpu.csv", rows), (args.out / "vllm_cpu_series.csv", series)):
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(table[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
    for row in rows:
        print(f"{row['run']:14}{row['quantity']:28}{row['measured']:>12}{row['simulated']:>12}{row['error']:>10}")


def _at(grid: Any, start: Any, duration: Any, values: Any) -> Any:
    """The value of the step that runs at each moment of the grid; 0 where none has for 20 ms."""
    place = np.searchsorted(start, grid, side="right") - 1
    inside = (place >= 0) & (grid < (start + duration)[np.maximum(place, 0)] + 20_000_000)
    return np.where(inside, values[np.maximum(place, 0)], 0)


if __name__ == "__main__":
    main()
