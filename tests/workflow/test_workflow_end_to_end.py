"""The small study from nothing to the paper, and what a user may do to it on the way."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from burstbench import contracts
from burstbench.layout import (
    FIGURES,
    SIMULATION_FIGURES,
    SIMULATION_TABLES,
    TABLES,
    VALIDATION_FIGURES,
    VALIDATION_TABLES,
)
from pypdf import PdfReader

from .conftest import copy_of_the_repository, environment


@pytest.fixture
def results(finished):
    return finished.folder / "results/small"


def test_every_figure_table_and_page_is_there(results):
    for name in FIGURES | VALIDATION_FIGURES | SIMULATION_FIGURES:
        for suffix in ("pdf", "svg", "png", "csv", "json"):
            assert (results / f"figures/{name}.{suffix}").stat().st_size > 0
    for name in TABLES | VALIDATION_TABLES | SIMULATION_TABLES:
        for suffix in ("md", "tex", "csv", "json"):
            assert (results / f"tables/{name}.{suffix}").stat().st_size > 0
    text = "".join(page.extract_text() for page in PdfReader(results / "paper.pdf").pages)
    page = (results / "report.html").read_text()
    for number in range(1, 18):
        assert f"Figure {number}:" in text.replace("\xa0", " ")
        assert f"fig{number:02d}" in page
    assert "http" not in page.split("<script")[0].split("</head>")[0].replace("http-equiv", "")


def test_the_scorecard_has_a_verdict_for_all_19_claims(results):
    rows = contracts.SCORECARD.read(results / "scorecard.csv").to_pylist()
    assert {row["claim"] for row in rows} == set(range(1, 20))
    for row in rows:
        assert "real" not in row["input"], "nothing here was made from the real trace"
        assert "measured" not in row["input"].replace("not measured", ""), "nothing here was measured on a server"
        for path in row["evidence"].split("; "):
            assert (results / path.split(" ")[0]).exists(), row


def test_what_is_twin_or_simulated_says_so(results):
    for number in range(1, 18):
        record = json.loads((results / f"figures/fig{number:02d}.json").read_text())
        facts = record["facts"]
        expected = [
            word for word in (facts.get("trace"), "simulated" if facts.get("engine") == "simulator" else None) if word
        ]
        assert (record["badge"] or "").split(" · ") == (expected or [""])
    for run in results.glob("serve/*/*/run.json"):
        record = json.loads(run.read_text())
        assert record["simulated"] is True
        assert "simulated" in json.dumps(record["hardware"])


def test_every_table_keeps_its_contract(results):
    checked = 0
    for path in results.rglob("*.parquet"):
        contract = contracts.CONTRACTS.get({"cells": "cell_metrics"}.get(path.stem, path.stem))
        assert contract is not None, f"{path} has no contract"
        contract.read(path)
        checked += 1
    assert checked > 80


def test_snakemakes_own_report_has_every_figure_with_its_caption(finished):
    finished.snakemake("--report", "report.html")
    page = (finished.folder / "report.html").read_text()
    for number in range(1, 18):
        assert f"results/small/figures/fig{number:02d}.svg" in page
    assert page.count("statistical twin") > 0


def test_a_killed_run_is_finished_by_the_same_command_with_the_same_bytes(finished, tmp_path):
    again = copy_of_the_repository(tmp_path)
    targets = [f"results/small/{name}" for name in ("figures/fig17.svg", "figures/fig06.svg", "tables/table3.csv")]
    command = [sys.executable, "-m", "snakemake", *targets, "--configfile", "small.yaml"]
    for seconds in (4, 9):
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(),
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as run:
            time.sleep(seconds)
            os.killpg(run.pid, signal.SIGKILL)
    again.snakemake(*targets)
    compared = 0
    for path in (tmp_path / "results/small").rglob("*"):
        if path.suffix in {".parquet", ".csv", ".svg", ".json", ".arrow"} and path.name != "parameters.json":
            twin = finished.folder / path.relative_to(tmp_path)
            assert path.read_bytes() == twin.read_bytes(), path
            compared += 1
    assert compared > 100
    assert not list((tmp_path / "results").rglob(".*.part*")), "nothing half written stays"
