"""Probing: the search on functions with known answers, and a whole probe on the simulated engine."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from burstbench import contracts
from burstbench.plan import make
from burstbench.serve import probe
from burstbench.serve.probe import ProbeError

CONFIG = Path(__file__).parents[2] / "config"
TARGET = (0.3, 0.4)


def saturating(scale, sharpness):
    """KV use that grows in proportion to the rate and then jumps to the whole cache."""
    return lambda factor: 1 - math.exp(-((factor / scale) ** sharpness))


@pytest.mark.parametrize("scale", [0.02, 0.7, 1.5, 3.0, 40.0])
@pytest.mark.parametrize("sharpness", [1.0, 4.0])
def test_the_search_ends_within_the_target(scale, sharpness):
    use = saturating(scale, sharpness)
    probes = probe.search(use, TARGET, 12)
    assert TARGET[0] <= probes[-1].use <= TARGET[1]
    assert all(found.use == use(found.factor) for found in probes)
    assert not any(TARGET[0] <= found.use <= TARGET[1] for found in probes[:-1]), "it stops at once"


def test_no_second_probe_where_table_3_meets_the_target():
    assert probe.search(lambda factor: 0.35 * factor, TARGET, 8) == [(1.0, 0.35)]


def test_an_idle_engine_gets_more_and_a_full_one_less():
    assert [round(found.factor) for found in probe.search(lambda factor: 0.35 * (factor > 60), TARGET, 3)] == [1, 8, 64]
    full = probe.search(lambda factor: 1.0 if factor > 0.2 else 0.35, TARGET, 4)
    assert all(after.factor < before.factor for before, after in pairwise(full))


def test_a_target_out_of_reach_is_said_with_every_probe():
    with pytest.raises(ProbeError, match=r"found 1\.000 at 1 times .*; 1\.000 at 0\.\d+ times .*expected 0\.3 to 0\.4"):
        probe.search(lambda factor: 1.0, TARGET, 3)


@pytest.fixture
def probed(tmp_path):
    """Probe 13b on an A6000, simulated."""
    tokens = np.sort(np.random.default_rng(1).integers(1, 900, 3000))
    tokens[-1] = 900
    table = {column.name: np.zeros(3000, dtype=np.int64) for column in contracts.POOL_INDEX.columns}
    contracts.POOL_INDEX.write(table | {"tokens": tokens, "prompt_id": np.arange(3000)}, tmp_path / "index.parquet")
    contracts.REPLIES.write({"request_tokens": [10, 20], "reply_tokens": [200, 300]}, tmp_path / "replies.parquet")
    files = {name: yaml.safe_load((CONFIG / f"{name}.yaml").read_text()) for name in ("models", "gpus", "study")}
    model, gpu = "llama-2-13b-chat", "a6000"

    def run(**changes):
        settings = {
            "experiment": "warmup", "model": model, "gpu": gpu, "seed": 1, "root_seed": 3, "engine": "simulator",
            "model_row": files["models"][model], "gpu_row": files["gpus"][gpu],
            "simulator": files["study"]["engines"]["simulator"], "initial": files["study"]["initial"][model][gpu],
            "beta_kind": "scale", "max_tokens": 1024, "prompt_max_tokens": 900,
            "target": [0.3, 0.4], "seconds": 200, "probes": 8,
        }  # fmt: skip
        names = ("pool.arrow", "index.parquet", "replies.parquet", "server.log")
        return probe.probe(settings | changes, *(tmp_path / name for name in names))

    return run


def test_a_whole_probe(probed):
    record = probed()
    assert 0.3 <= record["kv_usage"] <= 0.4
    assert record["beta"] < record["beta_before"] == 5.0, "the paper's rate uses too little"
    assert record["probes"][0]["beta"] == 5.0
    assert record["probes"][-1]["beta"] == record["beta"]
    again = probed()
    assert [row["kv_usage"] for row in again["probes"]] == [row["kv_usage"] for row in record["probes"]]


def test_beta_may_be_a_rate(probed):
    scale, rate = probed(), probed(beta_kind="rate", initial={"alpha": 1.0, "beta": 0.2, "theta": 1.1})
    assert rate["beta"] == pytest.approx(1 / scale["beta"])


@pytest.mark.parametrize("target", [[0.4, 0.3], [0.0, 0.4], [0.3, 1.0]])
def test_a_target_that_is_none_is_refused(probed, target):
    with pytest.raises(ProbeError, match="two rising shares"):
        probed(target=target)


def test_a_plan_takes_the_beta_of_its_own_probe(tmp_path):
    record = tmp_path / "probe.json"
    record.write_text(json.dumps({"model": "m", "gpu": "g", "beta": 0.7}))
    cell = {"model": "m", "gpu": "g", "initial": {"alpha": 0.5, "beta": 2.0, "theta": 1.1}}
    assert make.probed(cell, record)["initial"] == {"alpha": 0.5, "beta": 0.7, "theta": 1.1}
    assert make.probed(cell, None) == cell
    with pytest.raises(make.PlanError, match="gpu: found 'g', expected 'other'"):
        make.probed(cell | {"gpu": "other"}, record)
