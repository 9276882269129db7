"""The claims under other assumptions: tables that are made in memory, and what is asked of them."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from burstbench.config import ROOT
from burstbench.errors import UserError
from burstbench.metrics.runs import Cell
from burstbench.metrics.summarise import parts
from burstbench.metrics.sweep import World
from burstbench.paper import sensitivity
from burstbench.paper.scorecard import read_claims
from simulated_cells import GPU, MODEL, small_settings, write_inputs

CLAIMS = read_claims(ROOT / "config/claims.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def settings():
    return small_settings()


def test_every_table_that_the_claims_read_is_made():
    read = {name for claim in CLAIMS if claim.number >= 14 for part in claim.parts for name in part.tables}
    assert {name.rpartition("_")[0] for name in read} == set(sensitivity.METRICS)


def test_variants_are_asked_the_same_questions(folder, settings):
    more = settings | {
        "variants": [{"label": "no timeout", "timeout": {"kind": "none", "seconds": 30}}], "interval_s": 10,
    }  # fmt: skip
    world = World(more, folder / "pool_index.parquet", folder / "replies.parquet")
    found = sensitivity.sensitivity(more, world, CLAIMS)
    pairs = [(variant, part) for variant, part in zip(found["variant"], found["part"], strict=True)]
    assert [part for variant, part in pairs if variant == "as the study"] == [
        part for variant, part in pairs if variant == "no timeout"
    ]
    verdicts = {
        (variant, part): verdict
        for variant, part, verdict in zip(found["variant"], found["part"], found["verdict"], strict=True)
    }
    # Three steps are too few for any test of a variation, and there is no other experiment.
    assert set(verdicts.values()) == {sensitivity.UNTESTED}
    with pytest.raises(UserError, match="found the label 'a' twice"):
        sensitivity.sensitivity(more | {"variants": [{"label": "a"}, {"label": "a"}]}, world, CLAIMS)


def test_a_verdict_is_that_of_the_test(folder, settings):
    phases = {"warmup": [{"name": "warmup", "seconds": 60}]}
    more = settings | {"phases": phases, "cells": [["warmup", MODEL, GPU]], "variants": [], "interval_s": 10}
    world = World(more, folder / "pool_index.parquet", folder / "replies.parquet")
    (claim,) = (claim for claim in CLAIMS if claim.number == 14)
    (part,) = (part for part in claim.parts if part.parameters["model"] == MODEL and part.parameters["gpu"] == GPU)
    runs = [world.run(Cell("warmup", MODEL, GPU, seed), more["simulator"], "scale") for seed in more["seeds"]]
    tables = [pa.table(one) for run in runs for one in parts(run, 1.0, 0.1, ("kv_usage_mean",))]
    use = float(np.mean([row["value"] for table in tables for row in table.to_pylist() if row["step"] == -1]))
    assert 0 < use < 1
    asked = {
        "inside": (0.9 * use, 1.1 * use), "below": (1.1 * use, 1.2 * use), "above": (0.8 * use, 0.9 * use),
    }  # fmt: skip
    asking = [replace(part, name=name, parameters=part.parameters | {"band": band}) for name, band in asked.items()]
    gone = replace(part, name="another GPU", parameters=part.parameters | {"gpu": "none"})
    found = sensitivity.sensitivity(more, world, (replace(claim, parts=(*asking, gone)),))
    assert dict(zip(found["part"], found["verdict"], strict=True)) == {
        "inside": "holds", "below": "does not hold", "above": "does not hold", "another GPU": "nothing to test",
    }  # fmt: skip
    # The claim as it is asked, by the mean computed above.
    found = sensitivity.sensitivity(more, world, (replace(claim, parts=(part,)),))
    low, high = part.parameters["band"]
    assert found["verdict"] == ["holds" if low <= use <= high else "does not hold"]


def test_another_reading_of_beta_is_another_load(folder, settings):
    initial = {MODEL: {GPU: {"alpha": 0.5, "beta": 4.0, "theta": 1.1}}}
    world = World(settings | {"initial": initial}, folder / "pool_index.parquet", folder / "replies.parquet")
    cell = Cell("vary_alpha", MODEL, GPU, 4)
    spans = {
        kind: world.run(cell, settings["simulator"], kind).requests.intended[-1]
        for kind in ("scale", "mean_gap", "rate")
    }
    # Gaps of 2 s, 4 s and 1/8 s on average in the warm-up.
    assert spans["rate"] < spans["scale"] < spans["mean_gap"]
