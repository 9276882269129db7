"""A small study on a real SLURM: cells in their GPU's partition, with a GPU each, by the profiles as they are."""

import re
import subprocess
import sys

import pytest
import yaml

pytestmark = pytest.mark.slow(3)

CELLS = {gpu: f"llama-2-7b-chat_{gpu}_s1" for gpu in ("a800", "a6000")}


@pytest.fixture(scope="module")
def printed(clone):
    """Two experiments on both partitions."""
    return clone.snakemake("metrics/warmup/summary.parquet", "metrics/vary_beta/summary.parquet")


def test_each_cell_ran_in_its_gpus_partition_with_one_gpu(clone, printed):
    for gpu, cell in CELLS.items():
        for experiment in ("warmup", "vary_beta"):
            job = clone.record(f"{experiment}/{cell}")["job"]
            assert job["slurm_job_partition"] == gpu
            assert job["slurmd_nodename"] == f"{gpu}-1"
            assert job["cuda_visible_devices"] in set("01234567")
    ended = clone.cluster.finished_jobs()
    assert sorted(job["Partition"] for job in ended) == ["a6000", "a6000", "a800", "a800"]
    assert {job["JobState"] for job in ended} == {"COMPLETED"}
    # As profiles/cluster.yaml asks: CPUs per GPU and memory.
    assert {(job["Partition"], job["ProcCnt"]) for job in ended} == {("a800", "16"), ("a6000", "10")}


@pytest.mark.parametrize("gpu", CELLS)
def test_cells_of_one_node_had_a_gpu_each_and_ports_of_their_own(gpu, clone, printed):
    records = [clone.record(f"{experiment}/{CELLS[gpu]}") for experiment in ("warmup", "vary_beta")]
    times = {job["JobId"]: (job["StartTime"], job["EndTime"]) for job in clone.cluster.finished_jobs()}
    starts, ends = zip(*(times[record["job"]["slurm_job_id"]] for record in records), strict=True)
    if max(starts) >= min(ends):
        pytest.skip(f"the two cells on {gpu}-1 did not run at the same time, so they may share GPU and port")
    assert len({record["job"]["cuda_visible_devices"] for record in records}) == 2
    assert len({record["flags"][record["flags"].index("--port") + 1] for record in records}) == 2


def test_the_same_command_has_nothing_to_do(clone, printed):
    assert "Nothing to be done" in clone.snakemake(
        "metrics/warmup/summary.parquet", "metrics/vary_beta/summary.parquet"
    )


def test_a_changed_beta_sends_exactly_its_cells_once_a_wrong_partition_is_put_right(clone, printed):
    targets = ("metrics/warmup/summary.parquet", "metrics/vary_beta/summary.parquet")
    study = clone.folder / "study.yaml"
    before = len(clone.cluster.finished_jobs())
    study.write_text(study.read_text().replace("to: 0.25", "to: 0.5"))
    rows = yaml.safe_load((clone.folder / "profiles/cluster.yaml").read_text())["gpus"]
    clone.facts(retries=0, gpus={gpu: row | {"partition": "a8000"} for gpu, row in rows.items()})
    refused = clone.start(*targets)
    status = refused.wait()
    clone.facts()
    assert status == 1
    assert refused.printed().count("sbatch: error: invalid partition specified: a8000") >= 2
    assert len(clone.cluster.finished_jobs()) == before
    again = clone.snakemake(*targets)
    new = clone.cluster.finished_jobs()[before:]
    assert sorted(job["Partition"] for job in new) == ["a6000", "a800"]
    assert again.count("has been submitted with SLURM jobid") == 2
    for cell in CELLS.values():
        assert f"Serve vary_beta {cell} by vLLM" in again
        assert f"warmup {cell}" not in again


def doctor(clone, *words):
    """Run the doctor on the cluster; return exit status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "burstbench", "doctor", "--configfile", "study.yaml", *words],
        cwd=clone.folder, env=clone.environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_doctor_finds_a_cluster_well_and_a_job_sees_its_gpu(clone, printed):
    status, said = doctor(clone)
    assert status == 0, said
    assert "FAIL" not in said
    for gpu in ("a800", "a6000"):
        assert re.search(
            rf"^ok    probe job on {gpu}: node={gpu}-1 partition={gpu} gpus=[0-7] vllm=0\+standin$", said, re.M
        ), said
    assert re.search(r"^ok    job status: squeue$", said, re.M), "this cluster keeps no accounts"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"partition": "a8000"}, "no partition 'a8000'; found a6000, a800, cpu: set `gpus.a800.partition`"),
        ({"type": "a100"}, "has no GPU of type 'a100', found gpu:a800:8; set `gpus.a800.type`"),
        (
            {"mem_mb": 9_000_000},
            "has 16 CPUs and 9000000 MB, found 128 and 1000000; lower `gpus.a800.cpus` or `mem_mb`",
        ),
    ],
)
def test_the_doctor_says_what_to_set(clone, printed, changed, expected):
    facts = yaml.safe_load((clone.folder / "profiles/cluster.yaml").read_text())
    clone.facts(gpus={"a800": facts["gpus"]["a800"] | changed})
    try:
        status, said = doctor(clone, "--no-probe")
    finally:
        clone.facts()
    assert status == 3
    assert expected in said


def test_a_job_that_fails_leaves_files_that_another_wrote_meanwhile(clone, printed):
    """As on a node that SLURM gave up: the Snakemake in the job deletes nothing, see the Snakefile."""
    target = f"results/slurm/serve/warmup/{CELLS['a800']}/run.json"
    python = clone.folder / "fails"
    python.write_text(f"#!/bin/sh\necho another job > {clone.folder / target}\nexit 1\n")
    python.chmod(0o755)
    clone.facts(vllm_python=str(python))
    words = ["--configfile", "study.yaml", "--mode", "remote", "--nolock", "--cores", "1", "--force", target]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        cwd=clone.folder, env=clone.environment | {"SLURM_JOB_ID": "1"}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    clone.facts()
    assert done.returncode == 1
    assert "burstbench serve vllm: " in done.stderr, done.stderr
    assert (clone.folder / target).read_text() == "another job\n"
