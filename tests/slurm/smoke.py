"""The smoke study on both partitions of a real SLURM, with a real vLLM in every job, up to its paper.

    python -m pytest -n 0 -s tests/slurm/smoke.py --override-ini python_files=smoke.py

Some ten minutes on two cores; needs .venv-vllm.
"""

import json
from collections import Counter
from typing import Any

import pytest
import yaml
from workflow.conftest import ROOT, fetch_what_the_studies_need

from .conftest import Clone
from .minicluster import MiniCluster, why_not

STUDIES = ("config/studies/smoke.yaml", "tests/slurm/smoke.yaml")
PYTHON = ROOT / ".venv-vllm/bin/python"


@pytest.mark.skipif(not PYTHON.exists(), reason="no vLLM: make .venv-vllm/.done")
def test_the_smoke_study_on_both_partitions(tmp_path_factory: pytest.TempPathFactory) -> None:
    if reason := why_not():
        pytest.skip(reason)
    fetch_what_the_studies_need()
    folder = tmp_path_factory.mktemp("clone")
    with MiniCluster(tmp_path_factory.mktemp("slurm")) as cluster:
        clone = Clone(folder, cluster, STUDIES)
        clone.environment["BURSTBENCH_MIRROR"] = str(ROOT / "data/raw")
        rows = yaml.safe_load((ROOT / "profiles/cluster.yaml").read_text())["gpus"]
        # Two jobs at a time: the nodes are one machine of two cores.
        clone.facts(
            vllm_python=str(PYTHON), jobs=2, gpus={f"cpu_{name}": row | {"cpus": 1} for name, row in rows.items()}
        )
        run = clone.start()
        try:
            assert run.wait(3600) == 0, run.printed() + clone.logs()
        finally:
            run.kill()
        ended = {job["JobId"]: job for job in cluster.finished_jobs()}
    records = sorted((folder / "results/smoke/serve").glob("*/*/run.json"))
    runs = [json.loads(path.read_text()) for path in records]
    print(f"\n{'cell':44} job partition node    GPU vLLM   requests joined outcomes")
    for path, each in zip(records, runs, strict=True):
        print(row(f"{path.parts[-3]}/{path.parts[-2]}", each))
    assert {each["job"]["slurm_job_partition"] for each in runs} == {"a800", "a6000"}
    for path, each in zip(records, runs, strict=True):
        job = each["job"]
        partition = job["slurm_job_partition"]
        assert f"_cpu_{partition}_s1" in path.parts[-2]
        assert job["slurmd_nodename"] == f"{partition}-1"
        assert job["cuda_visible_devices"] in set("01234567")
        assert ended[job["slurm_job_id"]]["Partition"] == partition
        assert each["join"]["joined"] == each["requests"]
        assert each["device"] == "cpu"
    assert Counter(job["JobState"] for job in ended.values()) == {"COMPLETED": len(runs)}
    assert (folder / "results/smoke/paper.pdf").exists()


def row(cell: str, run: dict[str, Any]) -> str:
    """One line of the table of jobs."""
    job = run["job"]
    return (
        f"{cell:44} {job['slurm_job_id']:3} {job['slurm_job_partition']:9} {job['slurmd_nodename']:7} "
        f"{job['cuda_visible_devices']:3} {run['versions']['server']['vllm']:6} {run['requests']:8} "
        f"{run['join']['joined']:6} {run['outcomes']}"
    )
