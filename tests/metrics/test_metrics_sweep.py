"""Cells simulated in memory: the same numbers as the study's own three jobs give."""

import json

import pytest
from burstbench import contracts
from burstbench.cli import main
from burstbench.files import write_json
from burstbench.metrics import sweep
from burstbench.metrics.runs import Cell, read_run
from burstbench.metrics.summarise import parts
from burstbench.plan import make
from burstbench.serve import simulate
from simulated_cells import GPU, MODEL, SEED, small_settings, write_inputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def settings():
    return small_settings()


def simulated(folder, settings):
    """Plan and simulate the cell as the study's jobs do."""
    cell = Cell("vary_alpha", MODEL, GPU, SEED)
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


def test_a_cell_has_the_numbers_of_its_files(folder, settings):
    cell = Cell("vary_alpha", MODEL, GPU, SEED)
    world = sweep.World(settings, folder / "pool_index.parquet", folder / "replies.parquet")
    found = world.run(cell, settings["simulator"], "scale")
    simulated(folder, settings)
    wanted = read_run(folder, folder)
    # The plan rounds its times to the nanosecond.
    for one, other in zip(parts(found, 1.0, 0.1), parts(wanted, 1.0, 0.1), strict=True):
        assert one == other


def test_the_metrics_rest_on_cells_with_files_and_without(folder, settings, tmp_path, capsys):
    seeds = {"filed": SEED, "repeated": 5}
    assert settings["seeds"] == list(seeds.values())
    simulated(folder, settings)
    metrics = {"interval_s": 10, "bootstrap": 100, "goodput": {"ttft_s": 1.0, "tpot_s": 0.1}, "seed": 3}
    words = ["metrics", "summarise", "--settings"]
    files = [f"--{name}={tmp_path / name}.parquet" for name in ("cells", "summary", "timeline")]
    tables = [f"--pool-index={folder / 'pool_index.parquet'}", f"--replies={folder / 'replies.parquet'}"]
    cell = ["--cell", str(folder), str(folder)]
    repeat = settings | {"seeds": [seeds["repeated"]]}
    main([*words, json.dumps(metrics | {"repeat": repeat}), *cell, *tables, *files])
    rows = contracts.CELL_METRICS.read(tmp_path / "cells.parquet").to_pylist()
    world = sweep.World(settings, folder / "pool_index.parquet", folder / "replies.parquet")
    run = world.run(Cell("vary_alpha", MODEL, GPU, seeds["repeated"]), settings["simulator"], "scale")
    for part in parts(run, 1.0, 0.1):
        found = [
            row["value"]
            for row in rows
            if (row["seed"], row["phase"], row["step"]) == (seeds["repeated"], part["phase"][0], part["step"][0])
        ]
        assert found == part["value"]
    assert {row["seed"] for row in rows} == set(seeds.values())
    for name in ("summary", "timeline"):
        table = contracts.CONTRACTS[name].read(tmp_path / f"{name}.parquet").to_pylist()
        assert {row["seeds"] for row in table if row["metric"] == "failure_rate"} == {2} if name == "summary" else True
        assert name == "summary" or {row["seed"] for row in table} == set(seeds.values())
    # A seed that has files is not made again, and what the settings ask for must be there.
    for given, message in ((cell + tables, "again, first in"), (cell, "--pool-index and --replies are missing")):
        with pytest.raises(SystemExit):
            main([*words, json.dumps(metrics | {"repeat": settings}), *given, *files])
        assert message in capsys.readouterr().err
