"""What simulated runs are shown with: Table III calibrated, and the claims under other assumptions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burstbench.contracts import CALIBRATION, SENSITIVITY
from burstbench.figures.inputs import Artifact, Inputs, caption, size, where
from burstbench.tables.contents import PAPER_INITIAL
from burstbench.tables.made import NONE, Made

CALIBRATED = Artifact(
    "calibration",
    "Table III on the simulated engine: KV use, and the β that would give the paper's",
    {"calibration": CALIBRATION},
    {},
    ("engine",),
)
SENSITIVE = Artifact(
    "sensitivity",
    "Claims on served models under other assumptions",
    {"sensitivity": SENSITIVITY},
    {},
    ("trace", "engine"),
)
BAND = (0.3, 0.4)
KINDS = {"scale": "β a scale (s)", "mean_gap": "β the mean gap (s)", "rate": "β a rate (1/s)"}


def lengths_text(settings: Mapping[str, Any]) -> str:
    """Return a response model in a few words."""
    if settings["kind"] == "constant":
        return f"{settings['tokens']:,} tokens each"
    if settings["kind"] == "lognormal":
        return f"log-normal (median {settings['median']:g}, σ {settings['sigma']:g})"
    return {"empirical": "ShareGPT replies", "measured": "of a run"}[settings["kind"]]


def calibration(inputs: Inputs, runs: Sequence[Path]) -> Made:
    """KV use at the paper's parameters, for each reading of beta, and the calibrated scale, by response model."""
    table = inputs.read("calibration")
    kinds = list(dict.fromkeys(table["beta_kind"].tolist()))
    rows = [
        ["Model", "GPU", "Responses", "α", "β (paper)", *(f"KV use, {KINDS[kind]}" for kind in kinds),
         f"β for {100 * table['target'][0]:.0f} %", "KV use there"]
    ]  # fmt: skip
    inside = 0
    cases = dict.fromkeys(zip(*(table[name].tolist() for name in ("model", "gpu", "response_lengths")), strict=True))
    # In the order of the paper's table.
    known = list(PAPER_INITIAL)
    for model, gpu, lengths in sorted(
        cases, key=lambda case: known.index(case[:2]) if case[:2] in known else len(known)
    ):
        one = where(table, model=model, gpu=gpu, response_lengths=lengths)
        cells = []
        for kind in kinds:
            row = where(one, beta_kind=kind)
            mean, low, high = (float(row[name][0]) for name in ("kv_usage", "kv_usage_p10", "kv_usage_p90"))
            within = BAND[0] <= mean <= BAND[1]
            inside += within
            cells.append(f"{100 * mean:.1f} % ({100 * low:.0f}–{100 * high:.0f}){'*' if within else ''}")
        first = where(one, beta_kind=kinds[0])
        found, use = float(first["beta_calibrated"][0]), float(first["kv_usage_calibrated"][0])
        out = np.isnan(found)
        rows.append(
            [model, gpu.upper(), lengths_text(json.loads(lengths)), f"{first['alpha'][0]:g}", f"{first['beta'][0]:g}",
             *cells, NONE if out else f"{found:.2f}", NONE if out else f"{100 * use:.1f} %"]
        )  # fmt: skip
    text = caption(
        "Mean share of the simulated KV cache in use over the warm-up (in brackets: 10th to 90th percentile over time) "
        "at Table III's α and β, under each reading of β and each model of the response lengths, and the β, read as "
        f"the first of them, that gives {100 * table['target'][0]:.0f} %",
        inputs.facts,
        ("engine",),
        "phase warmup",
        f"{int(table['seeds'][0])} seeds; {size(table)} cases",
        f"*: inside the paper's band of 30 to 40 % ({inside} of {size(table)}). Nothing else in the study uses a "
        "calibrated β.",
    )
    return Made(inputs.artifact, rows, text)


def sensitivity(inputs: Inputs, runs: Sequence[Path]) -> Made:
    """For each part of a claim: its verdict in the study, and the variants under which it differs."""
    table = inputs.read("sensitivity")
    variants = list(dict.fromkeys(table["variant"].tolist()))
    rows = [["Claim", "Part", "As the study", "Holds under", "Stands", "Under these it is otherwise"]]
    for claim, part in dict.fromkeys(zip(table["claim"].tolist(), table["part"].tolist(), strict=True)):
        one = where(table, claim=claim, part=part)
        verdicts = dict(zip(one["variant"].tolist(), one["verdict"].tolist(), strict=True))
        here = verdicts[variants[0]]
        holds = sum(verdict == "holds" for verdict in verdicts.values())
        tested = sum(verdict != "nothing to test" for verdict in verdicts.values())
        other = [
            name if verdict != "nothing to test" else f"{name} (nothing to test)"
            for name, verdict in verdicts.items()
            if verdict != here
        ]
        stands = "under all" if holds == len(verdicts) else "under none" if not holds else "under some"
        if tested == holds < len(verdicts):
            stands = "wherever it can be tested" if tested else "nothing to test"
        rows.append([str(claim), part, here, f"{holds} of {len(verdicts)}", stands, "; ".join(other) or NONE])
    text = caption(
        "Claims 14 to 19 with the scorecard's own tests, asked of the study's cells simulated again under other "
        "assumptions: kind of timeout, scheduler, host time, response lengths, reading of β",
        inputs.facts,
        ("trace", "engine"),
        "all cells of the study",
        f"{len(variants)} variants, the study included",
        "Step times, capacity and prompts stay as they are, but for v0, whose reserve of memory is its own.",
    )
    return Made(inputs.artifact, rows, text)


TABLES = {artifact.id: (artifact, make) for artifact, make in ((CALIBRATED, calibration), (SENSITIVE, sensitivity))}
