"""Our simulator against Vidur's event loop: the same trace, the same step times, one run.

    python tests/benchmarks/bench_vidur.py --vidur PYTHON_WITH_VIDUR

Vidur (Microsoft Research and Georgia Tech, MIT) is installed in an environment of its own (`pip install vidur`). Its
random forests and their tables are left out: both engines take a step time that is linear in the batch, so what is
compared is the event loop, the scheduler and the cache. Vidur runs its scheduler `vllm`, ours `v0`, which it models;
metrics are off in Vidur. Times are processor seconds of one process; prints, asserts nothing.
"""

import argparse
import csv
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

# Table III's 7b on an A800: blocks of v0 (0.2.5 to 0.3.3), alpha and beta of the gaps.
BLOCKS, ALPHA, BETA, REQUESTS = 6833, 0.25, 1.0, 1000
# A step: seconds, per prompt token, per request that decodes, per token of its context.
STEP_S = (9e-3, 1e-4, 1e-4, 1.2e-7)

THEIRS = r"""
import json, sys, time
from vidur._native.entities import ExecutionTime
from vidur.config import SimulationConfig
from vidur.execution_time_predictor import BaseExecutionTimePredictor, ExecutionTimePredictorRegistry
from vidur.types import ExecutionTimePredictorType

STEP_S, trace, blocks = json.loads(sys.argv[1])

class Linear(BaseExecutionTimePredictor):
    def get_execution_time(self, batch, pipeline_stage):
        prompt = decodes = context = 0
        for new, held in zip(batch.num_q_tokens, batch.num_kv_tokens):
            if new > 1:
                prompt += new
            else:
                decodes += 1
                context += held
        seconds = STEP_S[0] + STEP_S[1] * prompt + STEP_S[2] * decodes + STEP_S[3] * context
        return execution_time(1e3 * seconds)

def execution_time(milliseconds):
    # Of all parts of a step one is not 0; of one layer.
    values = [1] + [0.0] * (COUNT - 1)
    values[PLACE] = milliseconds
    return ExecutionTime(*values)

COUNT = PLACE = None
for count in range(10, 25):
    try:
        ExecutionTime(*([1] + [0.0] * (count - 1)))
    except TypeError:
        continue
    COUNT = count
    break
for PLACE in range(1, COUNT):
    if abs(execution_time(5.0).total_time - 5e-3) < 1e-9:
        break
else:
    raise SystemExit("no part of the step time counts once")

Linear.__abstractmethods__ = frozenset()  # their parts of a step are not asked for
ExecutionTimePredictorRegistry._registry[ExecutionTimePredictorType.RANDOM_FORREST] = Linear
sys.argv = ["vidur", "--replica_config_model_name", "meta-llama/Llama-2-7b-hf", "--replica_config_device", "a100",
    "--replica_scheduler_config_type", "vllm", "--vllm_scheduler_config_batch_size_cap", "256",
    "--vllm_scheduler_config_max_tokens_in_batch", "4096", "--cache_config_num_blocks", str(blocks),
    "--cache_config_block_size", "16", "--cache_config_watermark_blocks_fraction", "0.01",
    "--request_generator_config_type", "trace_replay", "--trace_request_generator_config_max_tokens",
    "4097",
    "--trace_request_generator_config_time_scale_factor", "1",
    "--trace_request_generator_config_prefill_scale_factor", "1",
    "--trace_request_generator_config_decode_scale_factor", "1", "--trace_request_generator_config_trace_file", trace,
    "--trace_request_generator_config_date", "2024-01-01", "--no-metrics_config_write_metrics",
    "--no-metrics_config_write_json_trace", "--no-metrics_config_enable_chrome_trace", "--log_level", "error"]
config = SimulationConfig.create_from_cli_args()
from vidur.simulator import Simulator
simulator = Simulator(config)
steps = 0
schedule = Linear.get_execution_time
def counted(self, batch, stage):
    global steps
    steps += 1
    return schedule(self, batch, stage)
Linear.get_execution_time = counted
began = time.process_time()
simulator.run()
print(json.dumps({"seconds": time.process_time() - began, "steps": steps, "simulated_s": simulator._time}))
"""


def main() -> None:
    """Run both on one trace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vidur", required=True, help="interpreter of the environment that has Vidur")
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    arrival_s = np.cumsum(rng.gamma(ALPHA, BETA, REQUESTS))
    weights = 1 / np.arange(1, 3073) ** 1.1
    prompt = 1 + rng.choice(weights.size, REQUESTS, p=weights / weights.sum())
    response = np.clip(np.exp(rng.normal(5.3, 1.1, REQUESTS)), 2, 1000).astype(np.int64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.csv"
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("Date", "Time", "PromptTokenCount", "CompletionTokenCount"))
            writer.writerows(
                ("2024-01-01", f"{t:.6f}", p, r) for t, p, r in zip(arrival_s, prompt, response, strict=True)
            )
        given = json.dumps([STEP_S, str(path), BLOCKS])
        done = subprocess.run([args.vidur, "-c", THEIRS, given], capture_output=True, text=True, cwd=folder)
        if done.returncode:
            raise SystemExit(done.stderr[-1500:])
        theirs = json.loads(done.stdout.splitlines()[-1])

    from burstbench.serve import scheduler
    from burstbench.serve.steptime import ANALYTIC, StepTime

    tokens = np.arange(4097)
    constants = np.zeros(ANALYTIC)
    constants[0], constants[3], constants[6] = STEP_S[0], STEP_S[3], 1.0
    times = StepTime(STEP_S[2] * tokens, np.zeros(257), constants)
    limits = scheduler.Limits(BLOCKS, 256, 4096)
    given_ns = (arrival_s * 1e9).astype(np.int64)
    scheduler.simulate("v0", given_ns, prompt, response, limits, times)
    took, repeats = 0.0, 20
    for _ in range(repeats):
        began = time.process_time()
        run = scheduler.simulate("v0", given_ns, prompt, response, limits, times)
        took += (time.process_time() - began) / repeats
    end = run.steps[-1]
    ours = {
        "seconds": took, "steps": len(run.steps),
        "simulated_s": float(end[scheduler.START] + end[scheduler.DURATION]) / 1e9,
    }  # fmt: skip
    for name, found in (("Vidur", theirs), ("ours", ours)):
        print(
            f"{name:8}{REQUESTS} requests, {found['simulated_s']:.0f} simulated s in {found['seconds']:.4f} s: "
            f"{found['simulated_s'] / found['seconds']:,.0f} simulated s per s; {found['steps']} step times asked for"
        )
    print(f"Vidur takes {theirs['seconds'] / ours['seconds']:.0f} times as long")


if __name__ == "__main__":
    main()
