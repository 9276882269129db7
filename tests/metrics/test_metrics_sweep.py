"""Cells simulated in memory: the same numbers as the study's own three jobs give."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from burstbench import contracts
from burstbench.files import write_json
from burstbench.metrics import sweep
from burstbench.metrics.runs import Cell, read_run
from burstbench.metrics.summarise import parts
from burstbench.plan import make
from burstbench.serve import simulate

CONFIG = Path(__file__).parents[2] / "config"
MODEL, GPU, SEED = "llama-2-13b-chat", "a6000", 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    rng = np.random.default_rng(1)
    tokens = np.sort(rng.integers(1, 901, 2000))
    tokens[-1] = 900
    table = {column.name: np.zeros(2000, dtype=np.int64) for column in contracts.POOL_INDEX.columns}
    contracts.POOL_INDEX.write(table | {"tokens": tokens, "prompt_id": np.arange(2000)}, folder / "pool_index.parquet")
    replies = {name: rng.integers(1, 700, 500) for name in ("request_tokens", "reply_tokens")}
    contracts.REPLIES.write(replies, folder / "replies.parquet")
    return folder


@pytest.fixture(scope="module")
def settings():
    files = {name: yaml.safe_load((CONFIG / f"{name}.yaml").read_text()) for name in ("models", "gpus", "study")}
    simulator = files["study"]["engines"]["simulator"]
    phases = [
        {"name": "warmup", "seconds": 60},
        {"name": "variation", "requests": 90, "every": 30, "alpha": {"kind": "quadratic", "extreme": 0.25}},
    ]
    return {
        "root_seed": 3, "initial": {MODEL: {GPU: {"alpha": 1.0, "beta": 1.0, "theta": 1.1}}}, "seeds": [SEED, 5],
        "phases": {"vary_alpha": phases}, "max_tokens": 1024, "prompt_max_tokens": 900, "models": files["models"],
        "gpus": files["gpus"], "simulator": simulator, "beta_kind": "scale", "cells": [["vary_alpha", MODEL, GPU]],
        "goodput": {"ttft_s": 1.0, "tpot_s": 0.1}, "bootstrap": 100,
    }  # fmt: skip


def test_a_cell_has_the_numbers_of_its_files(folder, settings):
    cell = Cell("vary_alpha", MODEL, GPU, SEED)
    world = sweep.World(settings, folder / "pool_index.parquet", folder / "replies.parquet")
    found = world.run(cell, settings["simulator"], "scale")
    # As the study's jobs do it.
    shared = {**cell._asdict(), "root_seed": 3}
    plan, _ = make.make(
        shared
        | {
            "initial": settings["initial"][MODEL][GPU], "phases": settings["phases"]["vary_alpha"], "max_tokens": 1024,
            "prompt_max_tokens": 900, "beta_kind": "scale",
        },
        contracts.POOL_INDEX.read(folder / "pool_index.parquet"), None, None,
    )  # fmt: skip
    contracts.PLAN.write(plan, folder / "plan.parquet")
    write_json(folder / "plan.json", cell._asdict())
    rows = {"model_row": settings["models"][MODEL], "gpu_row": settings["gpus"][GPU]}
    simulate.simulate(
        shared | rows | {"simulator": settings["simulator"]},
        *(folder / name for name in ("plan.parquet", "plan.json", "replies.parquet", "requests.parquet")),
        *(folder / name for name in ("steps.parquet", "intervals.parquet", "run.json")),
    )
    wanted = read_run(folder, folder)
    # The plan rounds its times to the nanosecond.
    for one, other in zip(parts(found, 1.0, 0.1), parts(wanted, 1.0, 0.1), strict=True):
        assert one == other


def test_the_verb_writes_the_summary_of_its_seeds(folder, settings, tmp_path):
    import json

    from burstbench.cli import main

    main(
        ["metrics", "sweep", "--settings", json.dumps(settings), "--pool-index", str(folder / "pool_index.parquet"),
         "--replies", str(folder / "replies.parquet"), "--out", str(tmp_path / "bands.parquet")]
    )  # fmt: skip
    rows = contracts.SUMMARY.read(tmp_path / "bands.parquet").to_pylist()
    assert {row["metric"] for row in rows} == set(sweep.METRICS)
    assert {row["step"] for row in rows} == {-1, 0, 1, 2}
    assert {row["seeds"] for row in rows} == {2}
