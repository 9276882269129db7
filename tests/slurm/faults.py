"""Faults of a cluster, made on a real SLURM: what a user sees, what is lost, whether the same command ends well.

    python -m pytest -n 0 -s tests/slurm/faults.py --override-ini python_files=faults.py

Some minutes; docs/cluster.md holds its table.
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Clone, Run

CELL = "vary_alpha/llama-2-7b-chat_a800_s1"
FINISHED = "serve/warmup/llama-2-7b-chat_a800_s1/run.json"
TARGET = f"serve/{CELL}/run.json"


def seen(printed: str) -> str:
    """What Snakemake says of the fault, without its paths."""
    said = re.findall(
        r"message: (SLURM[^.]*)\.|(Trying to restart job)|(A Job preemption)|(SLURM sbatch failed[^\n]*)", printed
    )
    said += [
        ("", "", "", text) for text in re.findall(r"^(?:OSError|WorkflowError|LockException).*", printed, flags=re.M)
    ]
    return "; ".join(dict.fromkeys("".join(each) for each in said)) or "nothing: it waits"


def job_of(clone: Clone) -> str:
    """The number of the running job."""
    return clone.cluster.slurm("squeue --noheader --states=RUNNING --format=%i").split()[0]


def report(name: str, run: Run, clone: Clone, status: int, again: int | None, before: int) -> None:
    """Print a row of the table and assert that nothing that was finished is lost."""
    assert (clone.folder / "results/slurm" / FINISHED).stat().st_mtime_ns == before, "a finished cell was touched"
    assert (clone.folder / "results/slurm" / TARGET).exists()
    jobs = [job for job in clone.cluster.finished_jobs()]
    states = ", ".join(job["JobState"] for job in jobs[-2:])
    print(
        f"\nROW | {name} | {seen(run.printed())} | {states} | {status} | {'' if again is None else again} |", flush=True
    )


@pytest.fixture(scope="module")
def ready(clone: Clone) -> Clone:
    """A clone with one finished cell; `retries` as they stand."""
    clone.facts(latency_s=10)
    clone.snakemake(FINISHED, profile="slurm_a800")
    return clone


@pytest.fixture
def running(ready: Clone) -> Iterator[Run]:
    """Snakemake with one long cell that serves."""
    for path in (ready.folder / "results/slurm").glob(f"*/{CELL}*"):
        os.system(f"rm -rf {path}" if "plan" not in str(path) else "true")
    os.system(f"rm -rf {ready.folder}/results/slurm/serve/{CELL} {ready.folder}/results/slurm/logs/serve/{CELL}.log")
    run = ready.start(TARGET, profile="slurm_a800")
    try:
        ready.until(lambda: ready.serving(CELL), "the cell serves", 180)
        yield run
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        ready.cluster.slurm("scancel --user=root")


FAULTS: dict[str, Callable[[Clone, Run], None]] = {}


def fault(function: Callable[[Clone, Run], None]) -> Callable[[Clone, Run], None]:
    """Add a fault to the table."""
    FAULTS[function.__name__] = function
    return function


@fault
def job_cancelled(clone: Clone, run: Run) -> None:
    clone.cluster.slurm(f"scancel {job_of(clone)}")


@fault
def time_limit(clone: Clone, run: Run) -> None:
    clone.cluster.slurm(f"scontrol update JobId={job_of(clone)} TimeLimit=0:01")


@fault
def preempted_and_requeued(clone: Clone, run: Run) -> None:
    clone.cluster.slurm(f"scontrol requeue {job_of(clone)}")


@fault
def node_down(clone: Clone, run: Run) -> None:
    clone.cluster.slurm("scontrol update NodeName=a800-1 State=DOWN Reason=test")
    time.sleep(3)
    clone.cluster.slurm("scontrol update NodeName=a800-1 State=RESUME")


@fault
def controller_restarted(clone: Clone, run: Run) -> None:
    clone.cluster.stop("slurmctld", signal.SIGKILL)
    time.sleep(5)
    clone.cluster.start_controller()


@fault
def snakemake_killed(clone: Clone, run: Run) -> None:
    os.killpg(run.process.pid, signal.SIGKILL)


@fault
def results_read_only_for_a_while(clone: Clone, run: Run) -> None:
    place = clone.folder / f"results/slurm/serve/{CELL}"
    os.system(f"mount -t tmpfs -o ro none {place}")
    clone.until(lambda: not clone.cluster.slurm("squeue --noheader").strip(), "the job ends", 120)
    os.system(f"umount {place}")


@fault
def disk_full(clone: Clone, run: Run) -> None:
    place = clone.folder / f"results/slurm/serve/{CELL}"
    os.system(f"mount -t tmpfs -o size=4k none {place}; head -c 8k /dev/zero > {place}/full 2>/dev/null")
    clone.until(lambda: not clone.cluster.slurm("squeue --noheader").strip(), "the job ends", 120)
    os.system(f"umount {place}")


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str, running: Run, ready: Clone) -> None:
    before = (ready.folder / "results/slurm" / FINISHED).stat().st_mtime_ns
    FAULTS[name](ready, running)
    status, again = running.wait(), None
    if status or not Path(ready.folder / "results/slurm" / TARGET).exists():
        again = ready.start(TARGET, FINISHED, profile="slurm_a800").wait()
        assert again == 0
    report(name.replace("_", " "), running, ready, status, again, before)
