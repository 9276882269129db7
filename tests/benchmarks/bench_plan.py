"""How fast a million requests are planned, beside a plain Python loop that does the same.

    python tests/benchmarks/bench_plan.py [REQUESTS]

The loop draws gap, length and prompt of each request one after the other, with the same generators' scalar calls; its
time is measured on a hundredth of the requests and scaled up.
"""

import sys
import time
from bisect import bisect_left, bisect_right
from itertools import accumulate

import numpy as np
import pyarrow as pa
from burstbench.plan import make

CELL = {
    "experiment": "bench",
    "model": "llama-2-7b-chat",
    "gpu": "a800",
    "seed": 1,
    "root_seed": 20240303,
    "initial": {"alpha": 0.25, "beta": 1.0, "theta": 1.1},
    "max_tokens": 1024,
    "prompt_max_tokens": 3072,
}


def loop(n: int, tokens: list[int], prompt_ids: list[int]) -> float:
    """Return the seconds that the plain loop takes for `n` requests."""
    rng = np.random.default_rng(1)
    start = time.perf_counter()
    cumulated = list(accumulate(k**-1.1 for k in range(1, 3073)))
    now, rows = 0.0, []
    for request in range(n):
        now += rng.gamma(0.25, 1.0)
        length = bisect_right(cumulated, rng.random() * cumulated[-1]) + 1
        prompt = prompt_ids[rng.integers(bisect_left(tokens, length), len(tokens))]
        rows.append((request, "v", 0, now, length, prompt, 0.25, 1.0, 1.1, 1024))
    return time.perf_counter() - start


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rng = np.random.default_rng(1)
    pool = pa.table({"tokens": np.sort(rng.integers(1, 6000, 15_000)), "prompt_id": rng.permutation(15_000)})
    plain = loop(n // 100, pool["tokens"].to_pylist(), pool["prompt_id"].to_pylist()) * 100
    print(f"plain loop: {plain:.2f} s for {n:,} requests")
    quadratic = {"kind": "quadratic", "extreme": 0.25}
    linear = {"kind": "linear", "from": 1.0, "to": 1.5}
    for name, phase in {
        "constant": {"requests": n},
        "alpha in 50 steps": {"requests": n, "every": max(1, n // 50), "alpha": quadratic},
        "alpha with each request": {"requests": n, "alpha": quadratic},
        "theta with each request": {"requests": n, "theta": linear},
        "seconds": {"seconds": n / 4},
        "seconds, beta moves": {"seconds": n / 4, "beta": linear},
    }.items():
        settings = {**CELL, "phases": [{"name": "v", **phase}]}
        make.check_settings(settings)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            _, facts = make.make(settings, pool, None, None)
            times.append(time.perf_counter() - start)
        per_request = min(times) / facts["requests"]
        print(
            f"{name}: {min(times):.3f} s for {facts['requests']:,} requests, {plain / n / per_request:.0f} x the loop"
        )


if __name__ == "__main__":
    main()
