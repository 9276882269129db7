"""Two runs of one cell, the server a stand-in: the one that started last has it, and the other writes nothing."""

import sys
from pathlib import Path

import pytest
from burstbench.files import read_json
from burstbench.serve import vllm
from burstbench.serve.claim import Claim, ClaimError
from vllm_cells import Cell

STANDIN = Path(__file__).parents[1] / "slurm/standin.py"


@pytest.fixture
def log(tmp_path):
    return tmp_path / "logs/cell.server.log"


def test_the_later_run_has_the_cell(log, monkeypatch):
    """One job, started again on another node."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURMD_NODENAME", "lost-1")
    first = Claim(log)
    first.demand()
    monkeypatch.setenv("SLURMD_NODENAME", "spare-1")
    second = Claim(log)
    second.demand()
    with pytest.raises(ClaimError, match=r"belongs to job 7, .* on spare-1, .* this run, job 7, .* on lost-1; nothing"):
        first.demand()
    assert read_json(second.path) == second.run


def test_runs_without_slurm_in_one_process_differ(log):
    first, second = Claim(log), Claim(log)
    second.demand()
    with pytest.raises(ClaimError, match="belongs to process"):
        first.demand()


def test_a_claim_that_was_removed_is_no_other_runs(log):
    claim = Claim(log)
    claim.path.unlink()
    claim.demand()


def test_a_run_that_lost_its_cell_leaves_the_others_files(tmp_path, log, monkeypatch):
    cell = Cell(tmp_path, [50] * 5, [0.1 * number for number in range(5)], max_tokens=24, engine="vllm-emulated",
                model="llama-2-7b-chat", gpu="a800")  # fmt: skip
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {STANDIN} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("BURSTBENCH_VLLM_PYTHON", str(python))
    names = ("plan.parquet", "plan.json", "pool.arrow", "out/requests.parquet", "out/steps.parquet", "out/run.json")
    paths = [tmp_path / name for name in names]

    lost = Claim(log)
    Claim(log)
    for path in paths[3:]:
        path.parent.mkdir(exist_ok=True)
        path.write_text("the other's")
    with pytest.raises(ClaimError, match="nothing is written"):
        vllm.serve(cell.settings, *paths, log, replies_path=tmp_path / "replies.parquet", claim=lost)
    assert [path.read_text() for path in paths[3:]] == ["the other's"] * 3
