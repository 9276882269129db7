"""What profiles/cluster.yaml offers, on a real SLURM: each choice reaches the line that is submitted, and the jobs run.

    python -m pytest -n 0 -s tests/slurm/choices.py --override-ini python_files=choices.py

Some minutes.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from workflow.conftest import ROOT

from .conftest import Clone

PAIR = ("serve/warmup/llama-2-7b-chat_a800_s1/run.json", "serve/vary_beta/llama-2-7b-chat_a800_s1/run.json")
ROW: dict[str, Any] = yaml.safe_load((ROOT / "profiles/cluster.yaml").read_text())["gpus"]["a800"]


def run(clone: Clone, *targets: str, **facts: Any) -> tuple[list[str], list[dict[str, str]]]:
    """Run cells anew with these facts of the cluster; return the lines submitted and the jobs that ended."""
    shutil.rmtree(clone.folder / "results/slurm/serve", ignore_errors=True)
    log = clone.cluster.folder / "submitted"
    lines, jobs = len(clone.cluster.submitted()) if log.exists() else 0, len(clone.cluster.finished_jobs())
    clone.facts(**facts)
    clone.snakemake(*targets, profile="slurm_a800")
    new = clone.cluster.submitted()[lines:]
    for line in new:
        print(f"\nsbatch {re.sub(r' --wrap.*|--export=ALL', '', line)}"[:700], flush=True)
    return new, clone.cluster.finished_jobs()[jobs:]


def test_account_qos_constraint_and_a_partition_of_light_jobs(clone: Clone) -> None:
    light = {"where": "cluster", "partition": "cpu", "mem_mb": 1000, "runtime": 7}
    lines, jobs = run(
        clone, PAIR[0], account="p_1", qos="high", light=light, gpus={"a800": ROW | {"constraint": "a800&tested"}}
    )
    of_cell = next(line for line in lines if "rule_serve_vllm" in line)
    for option in ("-A 'p_1'", "--qos='high'", "-C 'a800&tested'", "-p 'a800'", "--gpus=a800:1", "-t 360"):
        assert option.replace("'", "") in of_cell.replace("'", ""), of_cell
    assert all("-p cpu" in line.replace("'", "") for line in lines if line is not of_cell)
    assert {job["Partition"] for job in jobs} == {"cpu", "a800"}
    assert {(job["Account"], job["JobState"]) for job in jobs} == {("p_1", "COMPLETED")}
    assert clone.record("warmup/llama-2-7b-chat_a800_s1")["job"]["cuda_visible_devices"] in set("01234567")


def test_gres(clone: Clone) -> None:
    lines, _ = run(clone, PAIR[0], gpu_request="gres")
    assert "--gres=gpu:a800:1" in lines[0].replace("'", "")
    assert "--gpus" not in lines[0]
    assert clone.record("warmup/llama-2-7b-chat_a800_s1")["job"]["cuda_visible_devices"] in set("01234567")


def test_one_job_in_the_queue_at_once(clone: Clone) -> None:
    _, jobs = run(clone, *PAIR, jobs=1)
    assert len(jobs) == 2
    assert jobs[1]["SubmitTime"] >= jobs[0]["EndTime"]


def test_cells_that_may_start_together_are_one_array(clone: Clone) -> None:
    clone.snakemake(*(name.replace("serve", "plan").replace("run.json", "plan.json") for name in PAIR))
    lines, jobs = run(clone, *PAIR, arrays=True)
    assert [bool(re.search("--array", line)) for line in lines] == [True], lines
    gpus = {clone.record(name.split("/", 1)[1].rsplit("/", 1)[0])["job"]["cuda_visible_devices"] for name in PAIR}
    print(f"array: {len(jobs)} tasks, GPUs {sorted(gpus)}")
    assert len(jobs) == 2


MODULES = Path("/usr/share/modules/init/bash")


@pytest.mark.skipif(not MODULES.exists(), reason="no environment modules: apt-get install environment-modules")
def test_environment_modules(clone: Clone, tmp_path: Path) -> None:
    """The cell finds the server's interpreter by the module alone."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server/1").write_text(f"#%Module\nsetenv BURSTBENCH_VLLM_PYTHON {clone.folder}/standin\n")
    shutil.rmtree(clone.folder / "results/slurm/serve", ignore_errors=True)
    clone.facts(environment="modules", modules=["server/1"], vllm_python=None)
    login = f'. {MODULES}; module use {tmp_path}; exec "$@"'
    job = clone.start(PAIR[0], profile="slurm_a800", within=("bash", "-c", login, "login"))
    assert job.wait() == 0, job.printed() + clone.logs()
    versions = clone.record("warmup/llama-2-7b-chat_a800_s1")["versions"]["server"]
    print(f"\nmodules: the server is {versions['vllm']}")
    assert versions["vllm"] == "0+standin"


def test_a_cell_whose_neighbours_took_its_cores_fails_and_says_why(clone: Clone) -> None:
    """SLURM binds no CPUs here (TaskPlugin=task/none): what other jobs of the node burn, the client lacks.

    The kernel gives sessions equal shares, and wakes a client that sleeps most of the time before busy loops of equal
    weight. So the neighbours have the highest, by their own nice value and by that of their session.
    """
    shutil.rmtree(clone.folder / "results/slurm/serve", ignore_errors=True)
    study = clone.folder / "study.yaml"
    study.write_text(study.read_text().replace("lag_limit_s: null", "lag_limit_s: 0.01"))
    clone.facts(retries=0)
    cell = "mirror_api/llama-2-7b-chat_a800_s1"
    alone = clone.start(f"serve/{cell}/run.json", profile="slurm_a800").wait()
    assert alone == 0, "without neighbours the cell keeps its limit"
    lags = [clone.record(cell)["delivery"]["lag_s"]]
    shutil.rmtree(clone.folder / "results/slurm/serve")
    (clone.folder / f"results/slurm/logs/serve/{cell}.log").unlink()
    job = clone.start(f"serve/{cell}/run.json", profile="slurm_a800")
    clone.until(lambda: clone.serving(cell), "the cell serves", 180)
    script = clone.folder / "neighbours"
    script.write_text(
        "#!/bin/sh\n"
        "[ ! -e /proc/self/autogroup ] || echo -20 > /proc/self/autogroup\n"
        "for each in 1 2 3 4 5 6 7 8; do nice -n -20 timeout 60 sh -c 'while :; do :; done' & done; wait\n"
    )
    # Without --mem it would ask for all of the node's memory and wait for the end of the cell.
    submit = f"sbatch --parsable --partition=a800 --mem=50 --output={clone.folder}/neighbours.log"
    other = clone.cluster.slurm(f"{submit} --wrap='setsid --wait sh {script}'").strip()
    clone.until(lambda: "RUNNING" in clone.cluster.slurm(f"squeue --noheader --job={other} --format=%T"), "they burn")
    status = job.wait()
    clone.cluster.slurm("scancel --user=root")
    said = re.findall(r"^burstbench serve vllm: .*", job.printed(), flags=re.M)
    print(f"\nalone {lags}; exit {status}: {said}")
    assert status != 0
    assert "99th percentile of sent - intended" in said[0]
    assert "(lag_limit_s)" in said[0]
