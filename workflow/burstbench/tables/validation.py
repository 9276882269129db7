"""How well the simulated engine does, as tables: scheduler, server log, kernels, vLLM here, published times."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from burstbench.contracts import (
    VALIDATION_CPU,
    VALIDATION_KERNELS,
    VALIDATION_LOG,
    VALIDATION_PUBLISHED,
    VALIDATION_SCHEDULER,
)
from burstbench.figures.inputs import Artifact, Columns, Inputs, caption, distinct, number, size, where
from burstbench.tables.made import NONE, Made

SCHEDULER = Artifact(
    "validation_scheduler",
    "The simulator's scheduler against vLLM's own",
    {"validation_scheduler": VALIDATION_SCHEDULER, "validation_scheduler_prefix_caching": VALIDATION_SCHEDULER},
)
GPU = Artifact("validation_gpu", "The simulator against a real vLLM on an H100", {"validation_gpu": VALIDATION_LOG})
LOG = Artifact("validation_log", "The simulator against the log of a real server", {"validation_log": VALIDATION_LOG})
KERNELS = Artifact(
    "validation_kernels",
    "Errors of the analytic step times by operator and size",
    {"validation_kernels": VALIDATION_KERNELS},
)
CPU = Artifact(
    "validation_cpu",
    "Step times fitted to one run of a real vLLM on a processor predict another",
    {"validation_cpu": VALIDATION_CPU},
)
PUBLISHED = Artifact(
    "validation_published", "Published step times and the simulator's", {"validation_published": VALIDATION_PUBLISHED}
)
LINEAR = ("qkv", "attention output", "gate and up", "down", "element-wise")
RANGES = ((1, 64), (65, 256), (257, 1024), (1025, 4096), (4097, 16384))


def percent(error: float) -> str:
    """Return "+1.1 %" for 0.011."""
    return NONE if np.isnan(error) else f"{100 * error:+.1f} %"


def scheduler(inputs: Inputs, runs: Sequence[Path]) -> Made:
    """Steps and requests that differ, by set of cases: the goal is none."""
    rows = [
        ["Prefix caching", "Cases", "Load", "Requests", "Steps", "Steps that differ", "Requests that differ",
         "Preemptions", "Timeouts", "Largest difference of a time"]
    ]  # fmt: skip
    cases = 0
    for name, caching in (("validation_scheduler", "off"), ("validation_scheduler_prefix_caching", "on")):
        table = inputs.read(name)
        cases += size(table)
        for kind in distinct(table["lengths"], ("short", "growing", "long", "uniform")):
            one = where(table, lengths=kind)
            loads = one["load"][~np.isnan(one["load"])]
            apart = np.nanmax([one[f"{what}_max_difference_s"] for what in ("first_scheduled", "first_token", "done")])
            rows.append(
                [caching, f"{size(one)}, {'random' if kind == 'uniform' else kind} lengths",
                 f"{loads.min():g}–{loads.max():g}" if loads.size else "random",
                 *(number(one[key].sum()) for key in ("requests", "steps", "steps_different", "requests_different",
                   "preemptions", "timeouts")), f"{apart:g} s"]
            )  # fmt: skip
    text = caption(
        "The simulator's v1 scheduler and vLLM 0.32's own (EngineCore in virtual time) given the same requests and "
        "step times: every step (start, duration, prompt and decoded tokens, running, waiting, preemptions, blocks) "
        "and every request (first scheduled, first token, end, tokens, preemptions, outcome) compared",
        inputs.facts,
        (),
        "none",
        f"{cases} cases",
        "Load: of the rate at which the engine works the requests off; pools of 300 and 3,677 blocks; without timeout, "
        "with one of 10 s in the queue and with one of 30 s in total. vLLM scheduled synchronously; v0 of early 2024 "
        "cannot be run here and was checked by hand-made cases alone.",
    )
    return Made(inputs.artifact, rows, text)


def _with_unit(value: float, unit: str) -> str:
    if unit == "s" and value < 1:
        return f"{1e3 * value:.1f} ms"
    return number(value) if unit == "1" else f"{value:.1f} {unit}".removesuffix(" requests")


def _against(table: Columns, gauges: Mapping[str, str]) -> tuple[list[list[str]], tuple[float, str]]:
    """Return the rows of a comparison with a server, what was measured first, and the first variant's largest error."""
    columns = {
        **{
            f"{what} {how}": f"{name}, {how}"
            for what, name in (("ttft", "TTFT"), ("tpot", "TPOT"), ("latency", "Latency"))
            for how in ("mean", "p90")
        },
        **gauges,
    }  # fmt: skip
    first = where(table, variant=table["variant"][0])
    measured = ["measured", NONE]
    for quantity in columns:
        cell = where(first, quantity=quantity)
        value, unit = float(cell["measured"][0]), str(cell["unit"][0])
        measured.append(_with_unit(value, unit))
    rows = [["Variant", "Host time", *columns.values()], measured]
    for name in dict.fromkeys(table["variant"].tolist()):
        one = where(table, variant=name)
        host = float(one["host_us"][0])
        errors = [percent(float(where(one, quantity=quantity)["error"][0])) for quantity in columns]
        rows.append([name, f"{host:+.0f} µs" if host else "0", *errors])
    worst = max(
        (abs(float(error)), quantity)
        for quantity, error in zip(first["quantity"], first["error"], strict=True)
        if not np.isnan(error)
    )
    return rows, worst


def gpu(inputs: Inputs, runs: Sequence[Path]) -> Made:
    """What was measured on a GPU, and the error of each variant: a row each."""
    gauges = {
        "running mean over time": "Running", "kv_cache_pct mean over time": "KV use", "makespan": "Makespan",
        "steps": "Steps",
    }  # fmt: skip
    rows, worst = _against(inputs.read("validation_gpu"), gauges)
    text = caption(
        "A real vLLM 0.32 on an H100, started, loaded and recorded by this pipeline (Llama-2-7b's shape with random "
        "weights, 790 requests, 20 a second, Gamma gaps of shape 0.5, 200 tokens an answer), and the errors, simulated "
        "/ measured - 1, of the simulator. TTFT: time to first token; TPOT: time per output token; both from arrival "
        "at the engine, by its own clock",
        inputs.facts,
        (),
        "all requests",
        "790 requests",
        "Nothing is fitted to the run. Kernel times: the H100's row of config/gpus.yaml, fitted to kernels measured "
        "apart from any server. Data sheet: the H100's peak, bandwidth and memory with the A100's fractions of them. "
        "CUDA graphs without torch.compile; scheduling was asynchronous, so that a first token comes about a step "
        "later than the simulator, which schedules synchronously, has it. Largest error of the first variant: "
        f"{100 * worst[0]:.1f} % ({worst[1]}).",
    )
    return Made(inputs.artifact, rows, text)


def log(inputs: Inputs, runs: Sequence[Path]) -> Made:
    """What was measured, and the error of each variant: a row each."""
    gauges = {
        "running mean over time": "Running", "waiting mean over time": "Waiting",
        "kv_cache_pct mean over time": "KV use", "makespan": "Makespan",
    }  # fmt: skip
    rows, worst = _against(inputs.read("validation_log"), gauges)
    text = caption(
        "A real server (vLLM 0.19, Llama-3.1-8B on an RTX 4090, 300 requests, saturated) and the errors, simulated / "
        "measured - 1, of the simulator with the kernel times of the same GPU. TTFT: time to first token; TPOT: time "
        "per output token; running, waiting (requests) and KV use: means over the log's gauges",
        inputs.facts,
        (),
        "all requests",
        "300 requests",
        "Where the host time of a step is not 0, this one number is fitted to the log's mean TPOT; nothing else is. "
        "Aimed at: means within 2 %, 90th percentiles within 5 %. The largest error of the first variant in any "
        f"compared quantity, medians and 99th percentiles included, is {100 * worst[0]:.1f} % ({worst[1]}). The server "
        "had prefix caching on. Log and kernel times: LLMServingSim (casys-kaist/LLMServingSim, MIT), whose own "
        "simulator reports +0.6, +0.2 and +0.5 % on the means of TTFT, TPOT and latency.",
    )
    return Made(inputs.artifact, rows, text)


def kernels(inputs: Inputs, runs: Sequence[Path]) -> Made:
    """Mean absolute error, and mean error, by operator, shape and range of sizes."""
    table = inputs.read("validation_kernels")
    operators = distinct(table["operator"], (*LINEAR, "prefill attention", "decode attention"))
    rows = [["GPU", "Operator", "Shape", *(f"{low:,}–{high:,} tokens" for low, high in RANGES), "Measurements"]]
    layer = {name: values[np.isin(table["operator"], LINEAR)] for name, values in table.items()}
    for gpu in distinct(table["gpu"]):
        for operator in operators:
            one = where(table, gpu=gpu, operator=operator)
            for shape in distinct(one["shape"], ("7b layer", "8 heads, 8 KV heads")):
                # Of the shards, the whole: their operators stand in the table that this one is made from.
                if operator not in LINEAR or shape == "7b layer":
                    rows.append([gpu.upper(), operator, shape, *_ranges(where(one, shape=shape))])
        whole = where(layer, gpu=gpu)
        for shape in distinct(whole["shape"], ("7b layer",)):
            rows.append([gpu.upper(), "sum of the linear", shape, *_ranges(_summed(where(whole, shape=shape)))])
    text = caption(
        "Mean absolute relative error of the analytic kernel times and, in brackets, mean error (simulated / measured "
        "- 1), by range of tokens: of the step, of the prompt, or of the context",
        inputs.facts,
        (),
        "sizes evenly spread as ratios",
        f"{size(table)} measurements",
        "*: the fit saw these (the whole layer; single prompts, and decoding with 8 heads, on the H100 with 32, of up "
        "to 4,096 tokens); all others are predicted. The layer of Llama-2-13b was measured on the H100 alone; "
        "elsewhere shards of the 7b layer and prompts with 40 heads, as 13b has, stand for how well the model carries "
        "to other shapes. No public measurement of attention on an A6000 exists. Sources as in the figure.",
    )
    return Made(inputs.artifact, rows, text)


def _summed(rows: Columns) -> Columns:
    """The sum over the operators at each size."""
    sizes, place = np.unique(rows["size"], return_inverse=True)
    measured, simulated = (np.bincount(place, rows[name]) for name in ("measured", "simulated"))
    use = np.full(len(sizes), rows["use"][0], object)
    return {"size": sizes, "error": simulated / measured - 1, "use": use}


def _ranges(rows: Columns) -> list[str]:
    cells = []
    for low, high in RANGES:
        inside = (rows["size"] >= low) & (rows["size"] <= high)
        error = rows["error"][inside]
        star = "*" if inside.any() and (rows["use"][inside] == "fitted").all() else ""
        cells.append(f"{100 * np.abs(error).mean():.1f} % ({100 * error.mean():+.1f}){star}" if error.size else NONE)
    return [*cells, number(size(rows))]


def cpu(inputs: Inputs, runs: Sequence[Path]) -> Made:
    """Measured, simulated and error of each quantity, a group of columns a run."""
    table = inputs.read("validation_cpu")
    names = list(dict.fromkeys(table["run"].tolist()))
    quantities = list(dict.fromkeys(table["quantity"].tolist()))
    header = ["Quantity"]
    for name in names:
        one = where(table, run=name)
        rate = f"{float(one['requests_per_s'][0]):g}/s, {int(one['requests'][0])} requests"
        header += [f"{name} ({rate}), measured", f"{name}, simulated", f"{name}, error"]
    rows = [header]
    short = {"ttft": "time to first token", "tpot": "time per output token"}
    for quantity in quantities:
        first, _, rest = quantity.partition(" ")
        cells = [f"{short.get(first, first)} {rest}".strip()]
        for name in names:
            one = where(table, run=name, quantity=quantity)
            unit = str(one["unit"][0])
            for key in ("measured", "simulated"):
                value = float(one[key][0])
                per_request = first in ("ttft", "tpot", "latency")
                cells.append(f"{1e3 * value:.1f} ms" if per_request else f"{value:.4g} {unit}".removesuffix(" 1"))
            cells.append(percent(float(one["error"][0])))
        rows.append(cells)
    text = caption(
        "The engine core of a real vLLM 0.32 that serves a random model of 4 layers on one thread of a processor, and "
        "the simulator with step times fitted (serve fit) to the step log of the first run",
        inputs.facts,
        (),
        "all requests; times from arrival, in processor time of the engine",
        f"{', '.join(number(where(table, run=name)['requests'][0]) for name in names)} requests",
        "The other runs are predicted from arrivals and lengths alone; nothing is fitted to them. No HTTP, no client.",
    )
    return Made(inputs.artifact, rows, text)


def published(inputs: Inputs, runs: Sequence[Path]) -> Made:
    """One published step time a row."""
    table = inputs.read("validation_published")
    rows = [["Model", "GPU", "Step", "Requests", "Tokens", "Published", "Simulated", "Error", "Source"]]
    for at in range(size(table)):
        rows.append(
            [table["model"][at], table["gpu"][at].upper(), table["quantity"][at], number(table["requests"][at]),
             number(table["tokens"][at]), f"{table['published_ms'][at]:.1f} ms", f"{table['simulated_ms'][at]:.1f} ms",
             percent(float(table["error"][at])), table["source"][at]]
        )  # fmt: skip
    text = caption(
        "Step times that others published beside those of the analytic model, hits and misses alike",
        inputs.facts,
        (),
        "all points that we know with their batch and length",
        f"{size(table)} points",
        "Nothing was fitted to them. OPT's MLP has no gate; it is simulated as a gated one of equal size.",
    )
    return Made(inputs.artifact, rows, text)


TABLES = {
    artifact.id: (artifact, make)
    for artifact, make in (
        (SCHEDULER, scheduler), (GPU, gpu), (LOG, log), (KERNELS, kernels), (CPU, cpu), (PUBLISHED, published)
    )
}  # fmt: skip
