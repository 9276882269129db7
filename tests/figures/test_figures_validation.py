"""The exhibits of the simulator's validation, drawn and made from the committed measurements."""

import csv
import json
from pathlib import Path

import figure_factory as factory
import pytest
import yaml
from burstbench import contracts
from burstbench.config import ROOT
from burstbench.figures.draw import BESIDE, draw_figure
from burstbench.layout import SIMULATION_FIGURES, SIMULATION_TABLES, VALIDATION_FIGURES, VALIDATION_TABLES
from burstbench.layout import VALIDATION as COMMITTED
from burstbench.serve import validate
from burstbench.serve.gpus import Gpu, Model
from burstbench.tables.make import TABLES, make_table

FACTS = {"study": "trial"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation")
    gpus = {name: Gpu.of(row) for name, row in yaml.safe_load((ROOT / "config/gpus.yaml").read_text()).items()}
    models = {}
    for path in ("config/models.yaml", "data/validation/models.yaml"):
        models |= {name: Model.of(row) for name, row in yaml.safe_load((ROOT / path).read_text()).items()}
    paths = {name: ROOT / path for name, path in COMMITTED.items()}
    for contract, made in (
        (contracts.VALIDATION_KERNELS, validate.kernels(ROOT / "data/validation/kernel_times.csv", gpus, models)),
        (
            contracts.VALIDATION_PUBLISHED,
            validate.published(ROOT / "data/validation/published_points.csv", gpus, models),
        ),
    ):
        paths[contract.name] = folder / f"{contract.name}.parquet"
        contract.write(made, paths[contract.name])
    return paths


@pytest.mark.parametrize("name", VALIDATION_FIGURES)
def test_a_figure_is_drawn_with_its_numbers(name, tables, tmp_path):
    given = {key: tables[key] for key in VALIDATION_FIGURES[name]}
    files = draw_figure(name, given, FACTS, factory.LOOK, factory.MATPLOTLIBRC, tmp_path / name)
    assert {path.suffix for path in files} == {".pdf", ".svg", ".png", ".csv", ".json"}
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert {entry["name"] for entry in record["inputs"]} == set(given)
    assert "n: " in record["caption"]
    with (tmp_path / f"{name}.csv").open() as stream:
        assert len(list(csv.reader(stream))) > 10


@pytest.mark.parametrize("name", VALIDATION_TABLES)
def test_a_table_is_made(name, tables, tmp_path):
    make_table(name, {key: tables[key] for key in VALIDATION_TABLES[name]}, [], FACTS, tmp_path / name)
    with (tmp_path / f"{name}.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert len({len(row) for row in rows}) == 1
    assert len(rows) > 2
    assert not any(cell in ("nan", "") for row in rows for cell in row)


def test_the_layout_knows_every_exhibit():
    assert set(VALIDATION_FIGURES) | set(SIMULATION_FIGURES) <= set(BESIDE)
    assert set(VALIDATION_TABLES) | set(SIMULATION_TABLES) < set(TABLES)


def test_the_scheduler_table_counts_differences(tables, tmp_path: Path):
    broken = tmp_path / "cases.csv"
    table = contracts.VALIDATION_SCHEDULER.read(tables["validation_scheduler"]).to_pydict()
    table["steps_different"][0] = 7
    contracts.VALIDATION_SCHEDULER.write(table, broken)
    given = {"validation_scheduler": broken, "validation_scheduler_prefix_caching": tables["validation_scheduler"]}
    make_table("validation_scheduler", given, [], FACTS, tmp_path / "t")
    with (tmp_path / "t.csv").open() as stream:
        counted = [row["Steps that differ"] for row in csv.DictReader(stream)]
    assert counted == ["7", "0", "0", "0", "0", "0", "0", "0"]
