"""Every profile and every study plans its jobs on this machine, and a wrong configuration is refused before any job."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUDIES = sorted(path.stem for path in (ROOT / "config/studies").glob("*.yaml"))


def dry_run(*args, folder=ROOT):
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--nolock", *args]
    return subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": "workflow"}, text=True, capture_output=True, timeout=120
    )


def stats(printed):
    """Return rule to number of jobs from the table that Snakemake prints."""
    table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", printed, flags=re.MULTILINE | re.DOTALL)
    assert table, printed
    return {name: int(count) for name, count in (line.split() for line in table[1].splitlines())}


def planned(*args):
    done = dry_run("--forceall", *args)
    assert done.returncode == 0, done.stdout + done.stderr
    return stats(done.stdout + done.stderr), done.stdout + done.stderr


def test_a_bare_call_plans_the_default_study():
    jobs, _ = planned()
    assert jobs["plan_make"] == jobs["serve_simulate"] == 42
    # Of the paper, the validation of the simulator, its settings, the supplement.
    assert (jobs["figure"], jobs["table"]) == (17 + 5 + 1 + 1, 3 + 6 + 2 + 13)


def test_the_workstation_profile_plans_the_same():
    assert planned("--profile", "profiles/workstation")[0] == planned()[0]


@pytest.mark.parametrize("gpu", ["a800", "a6000"])
def test_the_slurm_profiles_plan_the_cells_of_their_gpu(gpu):
    other = {"a800": "a6000", "a6000": "a800"}[gpu]
    jobs, printed = planned("--profile", f"slurm_{gpu}")
    assert jobs[f"serve_vllm_{gpu}"] == jobs["plan_make"]
    assert jobs["trace_read"] == 1
    assert "trace_twin" not in jobs
    assert f"_{gpu}_s1" in printed
    assert f"_{other}_s" not in printed
    assert os.readlink(ROOT / f"slurm_{gpu}") == f"profiles/slurm_{gpu}"


def test_the_profile_of_both_gpus_plans_the_cells_of_each():
    jobs, _ = planned("--profile", "slurm_both")
    assert (jobs["serve_vllm_a800"], jobs["serve_vllm_a6000"]) == (22, 20)
    assert jobs["plan_make"] == 42


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_plans_its_own_results(study):
    _, printed = planned("--configfile", f"config/studies/{study}.yaml")
    assert f"results/{study}/paper.pdf" in printed
    assert "results/default" not in printed


def test_a_probe_comes_before_the_plans_of_its_model_and_gpu(tmp_path):
    (tmp_path / "mine.yaml").write_text("plan: {probe: {target: [0.3, 0.4], seconds: 100, probes: 6}}\n")
    jobs, printed = planned("--configfile", str(tmp_path / "mine.yaml"))
    assert {name: count for name, count in jobs.items() if "probe" in name} == {
        "serve_probe_a800": 2,
        "serve_probe_a6000": 2,
    }
    assert "Probe beta of llama-2-13b-chat_a800" in printed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sedd: 1\n", "sedd (in mine.yaml): unknown key"),
        ("trace: {days: many}\n", "trace.days (in mine.yaml): 'many' is not of type 'integer'"),
        ("gpus: [b200]\n", "gpus[0] (in mine.yaml): 'b200' is not in config/gpus.yaml"),
        ("initial: {llama-2-7b-chat: {a800: {alpha: -1}}}\n", "initial.llama-2-7b-chat.a800.alpha (in mine.yaml): -1"),
    ],
)
def test_a_wrong_study_is_refused_with_key_and_file(tmp_path, text, expected):
    (tmp_path / "mine.yaml").write_text(text)
    for name in ("config", "workflow", "envs", "data", "Snakefile", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = dry_run("--configfile", "mine.yaml", folder=tmp_path)
    assert done.returncode != 0
    assert expected in done.stdout + done.stderr
