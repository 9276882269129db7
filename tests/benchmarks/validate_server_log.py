"""The simulator with kernel times against a real server's log (vLLM 0.19, Llama-3.1-8B, RTX 4090, 300 requests).

    BURSTBENCH_SHARED_DATA=... python tests/benchmarks/validate_server_log.py --out data/validation/rtx4090.csv

Requests, their arrivals and lengths, the number of KV-cache blocks and the limits of a batch are the log's; kernel
times are the same GPU's profile. Both come from LLMServingSim's repository (casys-kaist/LLMServingSim, MIT) and stay
outside this one. Nothing is fitted, but for the rows "host fitted": a constant host time per step (of either sign) that
gives the log's mean time per output token. Prefix caching matters: the server had it on, and of the 190 preempted
requests many find part of their blocks again. A second table beside --out, `..._series.csv`, holds requests running and
waiting and KV-cache use at each second of the log's gauges, measured and simulated. Times are counted from the server's
own queue time, as its metrics do.
"""

import argparse
import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from burstbench.serve import kerneltable, scheduler

LAYERS = 32
# Over time: the log, and the variants without and with the fitted host time.
SHOWN = ("measured", "kernel times", "kernel times, host fitted")


def main() -> None:
    """Compare each variant with the log and write one row per quantity."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    folder = Path(os.environ["BURSTBENCH_SHARED_DATA"]) / "serving_logs/rtx4090_llama-3.1-8b"
    meta = json.loads((folder / "vllm_meta.json").read_text())
    graphs = tuple(meta["resolved_config"]["compilation_config"]["cudagraph_capture_sizes"])
    # One block of the pool is the null block.
    limits = scheduler.Limits(
        meta["kv_cache"]["num_gpu_blocks"] - 1,
        meta["engine_kwargs"]["max_num_seqs"],
        meta["engine_kwargs"]["max_num_batched_tokens"],
    )
    rows = sorted(
        map(json.loads, (folder / "vllm_requests.jsonl").read_text().splitlines()), key=lambda r: r["queued_ts"]
    )
    log = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "request_id"}
    start = log["queued_ts"][0]
    arrival = np.round((log["queued_ts"] - start) * 1e9).astype(np.int64)
    decoded = log["output_toks"] - 1
    measured = {
        "ttft": log["first_token_ts"] - log["queued_ts"],
        "tpot": (log["last_token_ts"] - log["first_token_ts"]) / decoded,
        "latency": log["last_token_ts"] - log["queued_ts"],
    }
    with (folder / "vllm_timeseries.csv").open() as stream:
        series = {name: np.array(values, float) for name, *values in zip(*csv.reader(stream), strict=True)}
    profile = kerneltable.read(folder)

    def run(host: float, caching: bool, **options: Any) -> scheduler.Run:
        times = kerneltable.table(profile, LAYERS, limits.max_tokens, limits.max_requests, (host, 0.0), **options)
        return scheduler.simulate(
            "v1", arrival, log["input_toks"], log["output_toks"], limits, times, prefix_caching=caching
        )

    def quantities(result: scheduler.Run) -> dict[str, Any]:
        return {
            "ttft": (result.first_token_ns - arrival) / 1e9,
            "tpot": (result.done_ns - result.first_token_ns) / 1e9 / decoded,
            "latency": (result.done_ns - arrival) / 1e9,
        }

    def fitted(**options: Any) -> float:
        low, high = -2e-3, 2e-3
        for _ in range(30):
            middle = (low + high) / 2
            too_slow = quantities(run(middle, True, **options))["tpot"].mean() > measured["tpot"].mean()
            low, high = (low, middle) if too_slow else (middle, high)
        return (low + high) / 2

    plain, full = {"skew": False}, {"graph_sizes": graphs, "skew": True}
    variants = {
        "kernel times": (0.0, True, plain),
        "kernel times, no prefix caching": (0.0, False, plain),
        "kernel times, graph padding": (0.0, True, plain | {"graph_sizes": graphs}),
        "kernel times, graph padding, unequal contexts": (0.0, True, full),
        "kernel times, host fitted": (fitted(**plain), True, plain),
        "kernel times, graph padding, unequal contexts, host fitted": (fitted(**full), True, full),
    }
    out = []
    over_time: dict[str, Any] = {}

    def add(variant: str, host: float, quantity: str, unit: str, found: float, wanted: float | None) -> None:
        error = "" if wanted is None else f"{found / wanted - 1:.5f}"
        out.append(
            {
                "variant": variant, "host_us": f"{host * 1e6:.1f}", "quantity": quantity, "unit": unit,
                "measured": "" if wanted is None else f"{wanted:.6g}", "simulated": f"{found:.6g}", "error": error,
            }
        )  # fmt: skip

    for variant, (host, caching, options) in variants.items():
        result = run(host, caching, **options)
        for name, values in quantities(result).items():
            for label, value in (
                ("mean", np.mean), ("p50", np.median), ("p90", lambda v: np.quantile(v, 0.9)),
                ("p99", lambda v: np.quantile(v, 0.99)),
            ):  # fmt: skip
                add(variant, host, f"{name} {label}", "s", value(values), value(measured[name]))
        steps = result.steps
        place = np.searchsorted(steps[:, scheduler.START], series["t"] * 1e9, side="right") - 1
        inside = (series["t"] * 1e9 <= result.done_ns.max()) & (place >= 0)
        for name, column, scale in (
            ("running", scheduler.RUNNING, 1.0),
            ("waiting", scheduler.WAITING, 1.0),
            ("kv_cache_pct", scheduler.USED, 100.0 / limits.blocks),
        ):
            found, wanted = steps[place[inside], column] * scale, series[name][inside]
            over_time[name, "measured"] = dict(zip(series["t"][inside], wanted, strict=True))
            over_time[name, variant] = dict(zip(series["t"][inside], found, strict=True))
            add(variant, host, f"{name} mean over time", "%" if scale != 1 else "requests", found.mean(), wanted.mean())
            add(variant, host, f"{name} mean absolute difference", "%" if scale != 1 else "requests",
                np.abs(found - wanted).mean(), None)  # fmt: skip
        add(variant, host, "makespan", "s", result.done_ns.max() / 1e9, log["last_token_ts"].max() - start)
        add(variant, host, "preemptions", "1", int(result.preemptions.sum()), None)
        add(variant, host, "steps", "1", len(steps), None)
        add(variant, host, "prompt tokens computed", "tokens", int(steps[:, scheduler.PREFILL].sum()), None)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(out[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(out)
    with args.out.with_name(f"{args.out.stem}_series.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("time_s", "quantity", "variant", "value"))
        for (name, variant), values in over_time.items():
            if variant in SHOWN:
                writer.writerows((f"{t:.1f}", name, variant, f"{value:.6g}") for t, value in values.items())
    for row in out:
        if "mean" in row["quantity"] or "p90" in row["quantity"] or not row["measured"]:
            print(
                f"{row['variant']:60}{row['quantity']:36}{row['measured']:>10}{row['simulated']:>10}{row['error']:>10}"
            )


if __name__ == "__main__":
    main()
