"""A small study on a real SLURM: cells in their GPU's partition, with a GPU each, by the profiles as they are."""

import pytest

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


def test_cells_of_one_node_had_a_gpu_each_and_ports_of_their_own(clone, printed):
    for gpu, cell in CELLS.items():
        records = [clone.record(f"{experiment}/{cell}") for experiment in ("warmup", "vary_beta")]
        assert len({record["job"]["cuda_visible_devices"] for record in records}) == 2, gpu
        assert len({record["flags"][record["flags"].index("--port") + 1] for record in records}) == 2


def test_the_same_command_has_nothing_to_do(clone, printed):
    assert "Nothing to be done" in clone.snakemake(
        "metrics/warmup/summary.parquet", "metrics/vary_beta/summary.parquet"
    )


def test_a_changed_beta_sends_exactly_its_cells(clone, printed):
    study = clone.folder / "study.yaml"
    before = len(clone.cluster.finished_jobs())
    study.write_text(study.read_text().replace("to: 0.25", "to: 0.5"))
    again = clone.snakemake("metrics/warmup/summary.parquet", "metrics/vary_beta/summary.parquet")
    new = clone.cluster.finished_jobs()[before:]
    assert sorted(job["Partition"] for job in new) == ["a6000", "a800"]
    assert again.count("has been submitted with SLURM jobid") == 2
    for cell in CELLS.values():
        assert f"Serve vary_beta {cell} by vLLM" in again
        assert f"warmup {cell}" not in again
