"""The claims under other assumptions: tables that are made in memory, and what is asked of them."""

import pytest
from burstbench.config import ROOT
from burstbench.errors import UserError
from burstbench.metrics.runs import Cell
from burstbench.metrics.sweep import World
from burstbench.paper import sensitivity
from burstbench.paper.scorecard import read_claims

from tests.metrics.test_metrics_sweep import GPU, MODEL, folder, settings  # noqa: F401

CLAIMS = read_claims(ROOT / "config/claims.yaml")


def test_every_table_that_the_claims_read_is_made():
    read = {name for claim in CLAIMS if claim.number >= 14 for part in claim.parts for name in part.tables}
    assert {name.rpartition("_")[0] for name in read} == set(sensitivity.METRICS)


def test_variants_are_asked_the_same_questions(folder, settings):  # noqa: F811
    more = settings | {
        "variants": [{"label": "no timeout", "timeout": {"kind": "none", "seconds": 30}}], "interval_s": 10,
    }  # fmt: skip
    world = World(more, folder / "pool_index.parquet", folder / "replies.parquet")
    found = sensitivity.sensitivity(more, world, CLAIMS)
    parts = [(variant, part) for variant, part in zip(found["variant"], found["part"], strict=True)]
    assert [part for variant, part in parts if variant == "as the study"] == [
        part for variant, part in parts if variant == "no timeout"
    ]
    verdicts = {
        (variant, part): verdict
        for variant, part, verdict in zip(found["variant"], found["part"], found["verdict"], strict=True)
    }
    # Three steps are too few for any test of a variation, and there is no other experiment.
    assert set(verdicts.values()) == {sensitivity.UNTESTED}
    with pytest.raises(UserError, match="found the label 'a' twice"):
        sensitivity.sensitivity(more | {"variants": [{"label": "a"}, {"label": "a"}]}, world, CLAIMS)


def test_another_reading_of_beta_is_another_load(folder, settings):  # noqa: F811
    initial = {MODEL: {GPU: {"alpha": 0.5, "beta": 4.0, "theta": 1.1}}}
    world = World(settings | {"initial": initial}, folder / "pool_index.parquet", folder / "replies.parquet")
    cell = Cell("vary_alpha", MODEL, GPU, 4)
    spans = {
        kind: world.run(cell, settings["simulator"], kind).requests.intended[-1]
        for kind in ("scale", "mean_gap", "rate")
    }
    # Gaps of 2 s, 4 s and 1/8 s on average in the warm-up.
    assert spans["rate"] < spans["scale"] < spans["mean_gap"]
