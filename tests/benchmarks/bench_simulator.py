"""Speed of the simulated engine: `python tests/benchmarks/bench_simulator.py`. Prints; asserts nothing.

Times are CPU time of this process, one core.
"""

import resource
import time
from pathlib import Path

import numpy as np
import yaml
from burstbench.serve import capacity, scheduler, steptime
from burstbench.serve.gpus import Gpu, Model

CONFIG = Path(__file__).parents[2] / "config"
# Table III: alpha and beta of the gaps; lengths like a pool's (Zipf, 1.1) and like ShareGPT's replies.
TABLE_3 = {
    ("llama-2-7b-chat", "a6000"): (0.25, 2.0),
    ("llama-2-7b-chat", "a800"): (0.25, 1.0),
    ("llama-2-13b-chat", "a6000"): (1.0, 5.0),
    ("llama-2-13b-chat", "a800"): (0.5, 2.0),
}


def main() -> None:
    """Time both schedulers at the loads of Table III and far above them."""
    gpus = yaml.safe_load((CONFIG / "gpus.yaml").read_text())
    models = yaml.safe_load((CONFIG / "models.yaml").read_text())
    study = yaml.safe_load((CONFIG / "study.yaml").read_text())
    weights = 1 / np.arange(1, study["prompts"]["max_tokens"] + 1) ** 1.1
    began = time.process_time()
    scheduler._compiled()
    print(f"compile or load: {time.process_time() - began:.2f} s")
    names = ("requests", "steps", "Msteps/s", "sim s/s", "batch")
    print(f"{'scheduler':10}{'cell':26}{'load':>6}" + "".join(f"{name:>10}" for name in names))
    for kind in scheduler.SCHEDULERS:
        for (model_name, gpu_name), (alpha, beta) in TABLE_3.items():
            model, gpu = Model.of(models[model_name]), Gpu.of(gpus[gpu_name])
            count = capacity.blocks(models[model_name], gpus[gpu_name], 0.9, kind)
            usable = capacity.pool(count, kind)
            limits = scheduler.Limits.of_card(kind, usable, gpu.name, gpu.memory_gib, model.max_model_len)
            times = steptime.analytic(model, gpu, "modern", limits.max_tokens, limits.max_requests)
            for load in (1, 4):
                rng = np.random.default_rng(1)
                size = 100_000
                arrival = np.cumsum(rng.gamma(alpha, beta / load, size) * 1e9).astype(np.int64)
                prompt = 1 + rng.choice(weights.size, size, p=weights / weights.sum())
                response = np.clip(np.exp(rng.normal(5.3, 1.1, size)), 1, 1000).astype(np.int64)
                began = time.process_time()
                run = scheduler.simulate(kind, arrival, prompt, response, limits, times, "queue", 30_000_000_000)
                took = time.process_time() - began
                steps = run.steps
                simulated = (steps[-1, scheduler.START] + steps[-1, scheduler.DURATION]) / 1e9
                speeds = f"{len(steps) / took / 1e6:>10.2f}{simulated / took:>10.0f}"
                print(
                    f"{kind:10}{model_name + ' ' + gpu_name:26}{load:>5}x{size:>10}{len(steps):>10}{speeds}"
                    f"{steps[:, scheduler.RUNNING].mean():>10.1f}"
                )
    rng = np.random.default_rng(1)
    model, gpu = Model.of(models["llama-2-7b-chat"]), Gpu.of(gpus["a800"])
    usable = capacity.pool(capacity.blocks(models["llama-2-7b-chat"], gpus["a800"], 0.9, "v1"), "v1")
    limits = scheduler.Limits.of_card("v1", usable, gpu.name, gpu.memory_gib, model.max_model_len)
    times = steptime.analytic(model, gpu, "modern", limits.max_tokens, limits.max_requests)
    arrival = np.cumsum(rng.gamma(0.25, 1.0, 1_000_000) * 1e9).astype(np.int64)
    prompt = 1 + rng.choice(weights.size, arrival.size, p=weights / weights.sum())
    response = np.clip(np.exp(rng.normal(5.3, 1.1, arrival.size)), 1, 1000).astype(np.int64)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    run = scheduler.simulate(
        "v1", arrival, prompt, response, limits, times, "queue", 30_000_000_000, interval_ns=10_000_000_000
    )
    took, grown = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(
        f"a million requests, sums over 10 s: {took:.1f} s, {run.timeline[:, scheduler.STEPS].sum():.0f} steps, "
        f"{len(run.timeline)} intervals, peak memory + {grown / 1024:.0f} MiB"
    )
    for caching in (False, True):
        began = time.process_time()
        run = scheduler.simulate(
            "v1", arrival, prompt, response, limits, times, "queue", 30_000_000_000, prefix_caching=caching
        )
        print(
            f"a million requests, prefix caching {caching}: {time.process_time() - began:.1f} s, {len(run.steps)} "
            f"steps, step log {run.steps.nbytes / 2**20:.0f} MiB"
        )


if __name__ == "__main__":
    main()
