"""Tables I, II and III: what stands in their cells. The paper's own values are facts typed in from its pages."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from burstbench.contracts import FAILURES, GAMMA_PROFILE, LENGTH_COUNTS, SUMMARY
from burstbench.errors import UserError
from burstbench.figures.inputs import Artifact, Columns, Inputs, caption, distinct, gamma_cell, number, size, where
from burstbench.files import read_json
from burstbench.tables.made import NONE, Made

TABLE1 = Artifact(
    "table1",
    "Workloads and their properties",
    {},
    {"failures": FAILURES, "length_counts": LENGTH_COUNTS, "gamma_profile": GAMMA_PROFILE},
)
TABLE2 = Artifact("table2", "Hardware", {}, {}, ("engine",))
TABLE3 = Artifact(
    "table3",
    "Initial parameters of the workload, and what they lead to in the warm-up",
    {"warmup_summary": SUMMARY},
    {},
    ("engine",),
)

# Table I of the paper: workload -> properties it has.
PROPERTIES = ("LLM services", "Request lengths", "Response lengths", "Dynamic burstiness", "Failure requests")
WORKLOADS = {
    "BurstGPT": PROPERTIES,
    "MAF1": (),
    "MAF2": ("Dynamic burstiness",),
    "FastServe": ("Request lengths", "Response lengths"),
}
# Table II of the paper, by our name of the GPU.
HARDWARE = ("GPU", "GPU memory", "GPUs", "CPU", "DRAM")
PAPER_HARDWARE = {
    "a800": (
        "NVIDIA A800-SXM4-80GB",
        "80 GB",
        "8",
        "2 × Intel Xeon Platinum 8358P @ 2.60 GHz",
        "32 × 64 GB, 3200 MHz (2 TB)",
    ),
    "a6000": (
        "NVIDIA RTX A6000",
        "48 GB",
        "8",
        "2 × Intel Xeon Gold 6133 @ 2.50 GHz",
        "12 × 32 GB, 2666 MHz (384 GB)",
    ),
}
# Table III of the paper: alpha, beta, theta.
PAPER_INITIAL = {
    ("llama-2-7b-chat", "a6000"): (0.25, 2.0, 1.1),
    ("llama-2-7b-chat", "a800"): (0.25, 1.0, 1.1),
    ("llama-2-13b-chat", "a6000"): (1.0, 5.0, 1.1),
    ("llama-2-13b-chat", "a800"): (0.5, 2.0, 1.1),
}
PAPER_KV_USE = "30–40 %"  # section V-B; section V-1 says 20–50 %


def table1(inputs: Inputs, runs: Sequence[Path]) -> Made:
    """Table I: the paper's, and what the study's trace shows of the same properties, where its tables are given."""
    here = _checked(inputs)
    header = ["Property", *WORKLOADS, *(["This study's trace"] if here else [])]
    rows = [header]
    for name in PROPERTIES:
        row = [name, *("yes" if name in has else "no" for has in WORKLOADS.values())]
        rows.append([*row, here.get(name, NONE)] if here else row)
    origins = ("trace",) if here else ()
    inputs.require(origins)
    extra = "Last column: found in the trace of this study; – where it was not looked at." if here else ""
    text = caption(
        "Which workloads have which properties, as the paper states it: BurstGPT, two traces of Azure Functions (MAF) "
        "and the synthetic workload of FastServe",
        inputs.facts,
        origins,
        "",
        "",
        extra,
    )
    return Made(replace(inputs.artifact, origins=origins), rows, text)


def _checked(inputs: Inputs) -> dict[str, str]:
    """Return what the trace shows of each property, for those whose tables are given."""
    found = {}
    if inputs.has("failures"):
        rates = inputs.read("failures")
        services = [name for name in distinct(rates["service"]) if name != "all"]
        models = [name for name in distinct(rates["model"]) if name != "all"]
        found["LLM services"] = f"yes: {len(services)} services, {len(models)} models"
        total = where(rates, service="all", model="all")
        failed, requests = (int(total[name][0]) if size(total) else 0 for name in ("failed", "requests"))
        found["Failure requests"] = f"{'yes' if failed else 'no'}: {number(failed)} of {number(requests)}"
    if inputs.has("length_counts"):
        counts = inputs.read("length_counts")
        for quantity, name in (("request", "Request lengths"), ("response", "Response lengths")):
            tokens = where(counts, quantity=quantity)["tokens"]
            varied = len(tokens) and tokens.min() < tokens.max()
            found[name] = f"yes: {number(tokens.min())}–{number(tokens.max())} tokens" if varied else "no"
    if inputs.has("gamma_profile"):
        profile = inputs.read("gamma_profile")
        service, model = gamma_cell(profile)
        profile = where(profile, service=service, model=model)
        alpha = profile["alpha"][~np.isnan(profile["alpha"])]
        varied = len(alpha) and alpha.min() < alpha.max()
        found["Dynamic burstiness"] = f"yes: median α {alpha.min():.2f}–{alpha.max():.2f} in a day" if varied else "no"
    return found


def table2(inputs: Inputs, runs: Sequence[Path]) -> Made:
    """Table II: the paper's servers, and the hardware that the runs' records name.

    Raises:
        UserError: no run is given, or a record lacks its GPU or hardware.
    """
    if not runs:
        raise UserError("table2: no run is given; give --run with one or more run.json")
    columns: list[tuple[str, tuple[str, ...]]] = []
    counted: dict[tuple[str, tuple[str, ...]], int] = {}
    for path in runs:
        record = read_json(path)
        if not isinstance(record, dict) or not {"gpu", "hardware"} <= record.keys():
            raise UserError(f"{path}: expected a JSON object with the keys 'gpu' and 'hardware'")
        column = (str(record["gpu"]), hardware(record))
        counted[column] = counted.get(column, 0) + 1
    columns = sorted(counted, key=lambda column: (_rank(column[0], PAPER_HARDWARE), column))
    gpus = [gpu for gpu in PAPER_HARDWARE if any(gpu == found for found, _ in columns)]
    head = [f"{gpu.upper()}, paper" for gpu in gpus]
    here = [f"{gpu.upper()}, this study" for gpu, _ in columns]
    rows = [["Hardware", *head, *here]]
    for index, name in enumerate(HARDWARE):
        rows.append([name, *(PAPER_HARDWARE[gpu][index] for gpu in gpus), *(texts[index] for _, texts in columns)])
    text = caption(
        "The paper's servers, and the hardware of this study as its runs recorded it",
        inputs.facts,
        ("engine",),
        "",
        f"{len(runs)} runs ({', '.join(f'{gpu.upper()} {counted[gpu, texts]}' for gpu, texts in columns)})",
        "A simulated GPU has no CPU and no DRAM beside it." if inputs.facts["engine"] == "simulator" else "",
    )
    return Made(inputs.artifact, rows, text)


def hardware(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a run's hardware as the texts of `HARDWARE`.

    A simulated run names its hardware in one text and holds the GPU's row of the configuration. A measured one holds
    an object with `gpu`, `gpu_memory_gib`, `gpus`, `cpu` and `memory_gib`; what it lacks is "not recorded".
    """
    found = record["hardware"]
    if isinstance(found, str):
        memory = record.get("gpu_row", {}).get("memory_gib")
        return (found, NONE if memory is None else f"{memory:g} GB", "1", NONE, NONE)
    unknown = "not recorded"
    texts = {
        "gpu": str(found.get("gpu", unknown)),
        "gpu_memory_gib": f"{found['gpu_memory_gib']:.0f} GiB" if "gpu_memory_gib" in found else unknown,
        "gpus": str(found.get("gpus", unknown)),
        "cpu": str(found.get("cpu", unknown)),
        "memory_gib": f"{found['memory_gib']:.0f} GiB" if "memory_gib" in found else unknown,
    }
    return tuple(texts.values())


def table3(inputs: Inputs, runs: Sequence[Path]) -> Made:
    """Table III: α, β, θ of each model on each GPU beside the paper's, and KV use and failures in the warm-up."""
    rows = inputs.read("warmup_summary")
    rows = where(rows, phase="warmup", step=-1)
    pairs = sorted(
        set(zip(rows["model"], rows["gpu"], strict=True)),
        key=lambda pair: (_rank(pair, PAPER_INITIAL), pair),
    )
    if not pairs:
        raise UserError(f"{inputs.tables['warmup_summary']}: no rows of phase 'warmup' and step -1")
    header = ["Model", "GPU", "α", "β (s)", "θ", "α, β, θ (paper)", "Mean rate (1/s)"]
    cells = [[*header, "KV use, mean", "KV use, p10–p90", "KV use (paper)", "Failed"]]
    for model, gpu in pairs:
        cell = where(rows, model=model, gpu=gpu)
        alpha, beta, theta = (float(cell[name][0]) for name in ("alpha", "beta", "theta"))
        paper = PAPER_INITIAL.get((model, gpu))
        cells.append(
            [
                model,
                gpu.upper(),
                f"{alpha:g}",
                f"{beta:g}",
                NONE if np.isnan(theta) else f"{theta:g}",
                ", ".join(f"{value:g}" for value in paper) if paper else NONE,
                f"{1 / (alpha * beta):.2f}" if alpha * beta > 0 else NONE,
                _interval(cell, "kv_usage_mean"),
                f"{_percent(cell, 'kv_usage_p10')}–{_percent(cell, 'kv_usage_p90')} %",
                PAPER_KV_USE if paper else NONE,
                _interval(cell, "failure_rate"),
            ]
        )
    seeds = int(rows["seeds"].max())
    text = caption(
        "Initial α, β (scale of the gaps) and θ of each model on each GPU beside the paper's, the planned mean rate "
        "1 / (αβ), and KV-cache use and failures of the warm-up",
        inputs.facts,
        ("engine",),
        "phase warmup, all requests",
        f"{seeds} seeds",
        "In brackets: 95 % bootstrap interval over the seeds; p10, p90: over time. The paper: 30–40 % on average in "
        "the warm-up, with swings of 20 to 50 %.",
    )
    return Made(inputs.artifact, cells, text)


def _percent(cell: Columns, metric: str) -> str:
    """Return a metric's mean in per cent without the sign."""
    value = where(cell, metric=metric)["mean"]
    return NONE if not len(value) or np.isnan(value[0]) else f"{100 * value[0]:.0f}"


def _interval(cell: Columns, metric: str) -> str:
    """Return a share as "35.1 % [33.0, 37.2]"."""
    row = where(cell, metric=metric)
    if not size(row) or np.isnan(row["mean"][0]):
        return NONE
    mean, low, high = (100 * float(row[name][0]) for name in ("mean", "low", "high"))
    return f"{mean:.1f} %" + ("" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]")


def _rank(key: Any, known: Mapping[Any, Any]) -> int:
    """Return the place of a key in the paper's order; the last for others."""
    return list(known).index(key) if key in known else len(known)
