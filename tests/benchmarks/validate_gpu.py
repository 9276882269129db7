r"""The simulator with kernel times against a real vLLM on a real GPU: one measured run of this pipeline.

    python tests/benchmarks/validate_gpu.py --run data/validation/h100 --gpu h100 --fractions-of a100 \
        --out data/validation/vllm_gpu.csv

The run is a cell of `engine: vllm` (requests, engine and steps in its folder). The simulator gets each request's
arrival at the engine, its prompt and response tokens, the engine's KV-cache blocks and limits, and nothing else: no
number is fitted to the run. Variants: the GPU's own row of config/gpus.yaml, whose fractions were fitted to kernels
measured apart from any server; and the data sheet of the GPU with another's fractions, all that one knows of a GPU
before one has it. Times are the engine's own, from arrival in it. Beside --out, `..._series.csv` holds requests running
and waiting and KV-cache use every half second.
"""

import argparse
import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from burstbench import contracts
from burstbench.config import ROOT
from burstbench.files import read_json
from burstbench.serve import scheduler, steptime
from burstbench.serve.gpus import Gpu, Model

EVERY_NS = 500_000_000
SUMMARIES: dict[str, Callable[[Any], Any]] = {
    "mean": np.mean,
    "p50": np.median,
    "p90": lambda values: np.quantile(values, 0.9),
    "p99": lambda values: np.quantile(values, 0.99),
}


def columns(contract: contracts.Contract, path: Path) -> dict[str, Any]:
    """Read a table's columns as arrays."""
    table = contract.read(path)
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def quantities(arrived: Any, first: Any, done: Any, response: Any) -> dict[str, Any]:
    """Time to first token, time per output token and latency of each request in s."""
    several = response > 1
    return {
        "ttft": (first - arrived) / 1e9,
        "tpot": (done - first)[several] / 1e9 / (response[several] - 1),
        "latency": (done - arrived) / 1e9,
    }


def main() -> None:
    """Simulate each variant, write what is compared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a measured cell")
    parser.add_argument("--gpu", required=True, help="its row of config/gpus.yaml")
    parser.add_argument("--fractions-of", required=True, help="row whose fractions the data sheet is tried with")
    parser.add_argument("--out", type=Path, required=True, help="contract validation_log, CSV")
    args = parser.parse_args()
    record = read_json(args.run / "run.json")
    if record["simulated"] or record["gpu"] != args.gpu:
        raise SystemExit(f"{args.run}/run.json: expected a measured run on {args.gpu}, found {record['statement']!r}")
    engine = columns(contracts.ENGINE, args.run / "engine.parquet")
    steps = columns(contracts.STEPS, args.run / "steps.parquet")
    order = np.argsort(engine["arrived_ns"], kind="stable")
    arrived, first, done, prompt, response = (
        engine[name][order] for name in ("arrived_ns", "first_token_ns", "ended_ns", "prompt_tokens", "response_tokens")
    )
    facts = record["engine_facts"]
    limits = scheduler.Limits(facts["free_blocks"], facts["max_num_seqs"], facts["max_num_batched_tokens"])
    gpus = {name: Gpu.of(row, name) for name, row in yaml.safe_load((ROOT / "config/gpus.yaml").read_text()).items()}
    model, own, other = Model.of(record["model_row"]), gpus[args.gpu], gpus[args.fractions_of]
    sheet = replace(own, linear=other.linear, attention=other.attention, modern_kernels=other.modern_kernels)
    variants = {"kernel times": own, f"data sheet, fractions of the {other.label}": sheet}
    measured = quantities(arrived, first, done, response)
    grid = np.arange(0, int(done.max()), EVERY_NS)
    rows: list[dict[str, Any]] = []
    series: list[tuple[str, str, str, str]] = []

    def state(start: Any, values: Any) -> Any:
        """The value of the step that runs at each moment of the grid; 0 before the first."""
        place = np.searchsorted(start, grid, side="right") - 1
        return np.where(place < 0, 0.0, values[np.maximum(place, 0)])

    def shown(name: str, gauges: dict[str, Any]) -> None:
        for gauge, values in gauges.items():
            series.extend(
                (f"{at / 1e9:.1f}", gauge, name, f"{value:.6g}") for at, value in zip(grid, values, strict=True)
            )

    log = {
        "running": state(steps["start_ns"], steps["running"]),
        "waiting": state(steps["start_ns"], steps["waiting"]),
        "kv_cache_pct": state(steps["start_ns"], 100 * steps["kv_usage"]),
    }
    shown("measured", log)
    for variant, gpu in variants.items():
        times = steptime.analytic(model, gpu, "modern", limits.max_tokens, limits.max_requests)
        result = scheduler.simulate("v1", arrived, prompt, response, limits, times)
        found = quantities(arrived, result.first_token_ns, result.done_ns, response)
        start = result.steps[:, scheduler.START]
        gauges = {
            "running": state(start, result.steps[:, scheduler.RUNNING]),
            "waiting": state(start, result.steps[:, scheduler.WAITING]),
            "kv_cache_pct": state(start, 100 * result.steps[:, scheduler.USED] / limits.blocks),
        }
        shown(variant, gauges)
        compared = [
            (f"{name} {label}", "s", summary(measured[name]), summary(found[name]))
            for name in measured
            for label, summary in SUMMARIES.items()
        ]
        compared += [
            (f"{name} mean over time", "%" if name == "kv_cache_pct" else "requests", log[name].mean(), values.mean())
            for name, values in gauges.items()
        ]
        compared += [
            ("engine busy", "s", steps["duration_ns"].sum() / 1e9, result.steps[:, scheduler.DURATION].sum() / 1e9),
            ("makespan", "s", done.max() / 1e9, result.done_ns.max() / 1e9),
            ("steps", "1", len(steps["step"]), len(result.steps)),
        ]
        for quantity, unit, wanted, got in compared:
            error = f"{got / wanted - 1:.5f}" if wanted else ""
            rows.append(
                {"variant": variant, "host_us": "0.0", "quantity": quantity, "unit": unit, "measured": f"{wanted:.6g}",
                 "simulated": f"{got:.6g}", "error": error}
            )  # fmt: skip
            print(f"{variant:36}{quantity:26}{wanted:12.5g}{got:12.5g}{error:>10}")
    with args.out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with args.out.with_name(f"{args.out.stem}_series.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("time_s", "quantity", "variant", "value"))
        table.writerows(series)


if __name__ == "__main__":
    main()
