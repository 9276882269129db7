"""Measured cells, copied to another clone: they are protected, and everything after them is made there."""

import os
import shutil
import subprocess
import sys

import pytest

from .conftest import prepare

pytestmark = pytest.mark.slow(3)

CELLS = [f"results/slurm/serve/{name}/llama-2-7b-chat_a800_s1" for name in ("vary_alpha", "vary_beta", "vary_theta")]
SUMMARY = "results/slurm/metrics/vary_alpha/summary.parquet"
FIGURE = "results/slurm/figures/fig17"
# What nvidia-smi says of one A800, so that a cell can be run as on a GPU.
SMI = "#!/bin/sh\necho '0, NVIDIA A800-SXM4-80GB, 81920, 1, 1410, 1593, 400, GPU-stand-in'\n"


def snakemake(folder, *words, **environment):
    study = ["--configfile", "study.yaml", "--config", "engine=vllm", "gpus=[a800]"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words, *study],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": "workflow"} | environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    return printed


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A clone on a machine whose GPU, driver and vLLM are stand-ins, with three cells measured."""
    folder = tmp_path_factory.mktemp("cluster")
    prepare(folder)
    (folder / "bin").mkdir()
    (folder / "bin/nvidia-smi").write_text(SMI)
    (folder / "bin/nvidia-smi").chmod(0o755)
    model = folder / "models/llama-2-7b-chat"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    places = {"BURSTBENCH_VLLM_PYTHON": str(folder / "standin"), "BURSTBENCH_WEIGHTS": str(folder / "models")}
    runs = [f"{cell}/run.json" for cell in CELLS]
    snakemake(folder, SUMMARY, *runs, PATH=f"{folder}/bin{os.pathsep}{os.environ['PATH']}", **places)
    return folder


def test_measured_cells_are_protected(measured):
    for cell in CELLS:
        for name in ("requests.parquet", "steps.parquet", "engine.parquet", "run.json"):
            assert not (measured / cell / name).stat().st_mode & 0o222, name


def test_another_clone_draws_a_figure_of_the_copied_results(measured, tmp_path):
    prepare(tmp_path)
    shutil.copytree(measured / "results", tmp_path / "results", dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "results/slurm/metrics")
    runs = [(tmp_path / cell / "run.json").read_bytes() for cell in CELLS]
    snakemake(tmp_path, f"{FIGURE}.svg", "--touch")
    printed = snakemake(tmp_path, f"{FIGURE}.svg")
    assert "Draw fig17" in printed
    assert "4 of 4 steps" in printed, "three experiments' metrics and the figure: no GPU was asked for again"
    assert (tmp_path / SUMMARY).read_bytes() == (measured / SUMMARY).read_bytes()
    assert [(tmp_path / cell / "run.json").read_bytes() for cell in CELLS] == runs
    drawn = (tmp_path / f"{FIGURE}.csv").read_text().splitlines()
    assert {line.split(",")[0].strip('"') for line in drawn[1:]} == {"vary_alpha", "vary_beta", "vary_theta"}
    assert (tmp_path / f"{FIGURE}.png").stat().st_size > 10_000
