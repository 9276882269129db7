"""Faults of a cluster, made on a real SLURM: what a user sees, what is lost, whether the same command ends well.

    python -m pytest -n 0 -s tests/slurm/faults.py --override-ini python_files=faults.py

A quarter of an hour, most of it waiting; docs/cluster.md holds its table. (A wrong partition: test_slurm_study.py.)
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from .conftest import Clone, Run
from .minicluster import MiniCluster, why_not

CELL = "mirror_api/llama-2-7b-chat_a800_s1"
FINISHED = "serve/warmup/llama-2-7b-chat_a800_s1"
TARGET = f"serve/{CELL}/run.json"
# What a user reads, of all that Snakemake prints.
SAID = re.compile(
    "|".join(
        [
            r"message: SLURM-job '\d+' failed, (SLURM status is: [^.]*)\.",
            r"(Trying to restart job)",
            r"(SLURM job submission failed.*)",
            r"(sbatch: error: .*)",
            r"(Waiting at most .*)",
            r"^(burstbench [a-z ]+: .*)",
            r"^((?:OSError|WorkflowError|LockException):?\n?.*)",
            r"(cancelling \d+ jobs that a killed Snakemake left in the queue)",
        ]
    ),
    flags=re.M,
)


def seen(run: Run) -> str:
    """What Snakemake said of the fault, each text once."""
    said = ["".join(parts) for parts in SAID.findall(run.printed())]
    return "; ".join(dict.fromkeys(said)) or "nothing: it waits"


def states(clone: Clone, since: int) -> str:
    """How the jobs ended, in order, with their numbers."""
    return ", ".join(f"{job['JobId']} {job['JobState']}" for job in clone.cluster.finished_jobs()[since:])


def job_of(clone: Clone) -> str:
    """The number of the running job."""
    return clone.cluster.slurm("squeue --noheader --states=RUNNING --format=%i").split()[0]


def until_the_queue_is_empty(clone: Clone) -> None:
    """Wait for the end of the job, however it ends."""
    clone.until(lambda: not clone.cluster.slurm("squeue --noheader").strip(), "the job ends", 120)


def times(folder: Path) -> dict[str, int]:
    """When each file of a folder was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniCluster]:
    """A cluster on which the jobs of one partition preempt those of another."""
    if reason := why_not():
        pytest.skip(reason)
    urgent = "PartitionName=urgent Nodes=a800-1 PriorityTier=10 PreemptMode=OFF State=UP"
    either = "PartitionName=either Nodes=a800-1,a6000-1 State=UP"
    settings = {"PreemptType": "preempt/partition_prio", "PreemptMode": "REQUEUE"}
    with MiniCluster(tmp_path_factory.mktemp("slurm"), f"{urgent}\n{either}", credential_s=30, **settings) as found:
        yield found


@pytest.fixture(scope="module")
def ready(clone: Clone) -> Clone:
    """A clone with one finished cell; `retries` as they stand."""
    clone.facts(latency_s=20)
    clone.snakemake(f"{FINISHED}/run.json", profile="slurm_a800")
    return clone


@pytest.fixture
def fresh(ready: Clone) -> Iterator[Clone]:
    """The long cell is not there, and afterwards no job is left."""
    shutil.rmtree(ready.folder / f"results/slurm/serve/{CELL}", ignore_errors=True)
    (ready.folder / f"results/slurm/logs/serve/{CELL}.log").unlink(missing_ok=True)
    yield ready
    ready.cluster.slurm("scancel --user=root")
    until_the_queue_is_empty(ready)


FAULTS: dict[str, Callable[[Clone, Run], None]] = {}


def fault(function: Callable[[Clone, Run], None]) -> Callable[[Clone, Run], None]:
    """Add a fault to the table: it is made while the long cell serves."""
    FAULTS[function.__name__] = function
    return function


@fault
def job_cancelled(clone: Clone, run: Run) -> None:
    clone.cluster.slurm(f"scancel {job_of(clone)}")


@fault
def time_limit(clone: Clone, run: Run) -> None:
    # SLURM knows no limit below a minute: the job is one that hangs.
    here = str(clone.folder)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"serve\0vllm" in (process / "cmdline").read_bytes() and os.readlink(process / "cwd") == here:
                os.kill(int(process.name), signal.SIGSTOP)
    clone.cluster.slurm(f"scontrol update JobId={job_of(clone)} TimeLimit=1")


@fault
def preempted_and_requeued(clone: Clone, run: Run) -> None:
    job = job_of(clone)
    clone.cluster.slurm("sbatch --partition=urgent --exclusive --output=/dev/null --wrap='sleep 3'")
    clone.until(lambda: "PENDING" in clone.cluster.slurm(f"squeue --noheader --job={job} --format=%T"), "preemption")


@fault
def node_down(clone: Clone, run: Run) -> None:
    clone.cluster.slurm("scontrol update NodeName=a800-1 State=DOWN Reason=test")
    time.sleep(3)
    clone.cluster.slurm("scontrol update NodeName=a800-1 State=RESUME", check=False)  # it may be back by itself


@fault
def controller_restarted(clone: Clone, run: Run) -> None:
    clone.cluster.stop("slurmctld", signal.SIGKILL)
    time.sleep(5)
    clone.cluster.start_controller()


@fault
def snakemake_killed(clone: Clone, run: Run) -> None:
    run.kill()


@fault
def results_read_only_for_a_while(clone: Clone, run: Run) -> None:
    place = clone.folder / "results"
    subprocess.run(["mount", "--bind", place, place], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
    until_the_queue_is_empty(clone)
    subprocess.run(["umount", "--lazy", place], check=True)


@fault
def disk_full(clone: Clone, run: Run) -> None:
    place = clone.folder / f"results/slurm/serve/{CELL}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", place], check=True)
    (place / "other").write_bytes(b"0" * 4096)
    until_the_queue_is_empty(clone)
    subprocess.run(["umount", "--lazy", place], check=True)


@fault
def shared_folder_shows_files_late(clone: Clone, run: Run) -> None:
    # Snakemake lives in a mount namespace of its own, see `unshared`: what the job writes, it sees 15 s after the end.
    place = clone.folder / f"results/slurm/serve/{CELL}"
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    until_the_queue_is_empty(clone)
    time.sleep(15)
    kept = clone.folder / "late"
    shutil.copytree(place, kept)
    subprocess.run(["umount", place], check=True)
    shutil.copytree(kept, place, dirs_exist_ok=True)
    shutil.rmtree(kept)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_while_a_cell_serves(name: str, fresh: Clone) -> None:
    clone, before = fresh, times(fresh.folder / "results/slurm" / FINISHED)
    since = len(clone.cluster.finished_jobs())
    own_mounts = ("unshare", "--mount") if name == "shared_folder_shows_files_late" else ()
    run = clone.start(TARGET, profile="slurm_a800", within=own_mounts)
    try:
        clone.until(lambda: clone.serving(CELL), "the cell serves", 180)
        start = time.monotonic()
        FAULTS[name](clone, run)
        status, again = run.wait(), None
        if status:
            again = clone.start(TARGET, f"{FINISHED}/run.json", profile="slurm_a800")
            assert again.wait() == 0, again.printed()
    finally:
        run.kill()
    assert (clone.folder / "results/slurm" / TARGET).exists()
    assert times(clone.folder / "results/slurm" / FINISHED) == before, "a finished cell was touched"
    print(
        f"\nROW | {name.replace('_', ' ')} | {seen(run)} | {states(clone, since)} | exit {status}"
        + (f"; again: {seen(again)}, exit 0" if again else "")
        + f" | {time.monotonic() - start:.0f} s |",
        flush=True,
    )


def test_a_controller_that_hangs(fresh: Clone) -> None:
    """It hangs when Snakemake starts, which looks for jobs that a killed one left."""
    clone, since = fresh, len(fresh.cluster.finished_jobs())
    controller = clone.cluster.daemons["slurmctld"]
    controller.send_signal(signal.SIGSTOP)
    try:
        run = clone.start(TARGET, profile="slurm_a800")
        status = run.wait()
    finally:
        controller.send_signal(signal.SIGCONT)
    assert status == 1
    assert "`squeue --me`" in run.printed()
    assert not (clone.folder / "results/slurm" / TARGET).exists()
    again = clone.start(TARGET, profile="slurm_a800")
    assert again.wait() == 0, again.printed()
    said = re.findall(".*squeue --me.*", run.printed())
    print(f"\nROW | controller hangs | {said} | {states(clone, since)} | exit {status}; again: {seen(again)}, exit 0 |")


def processes_of(job: str) -> dict[int, str]:
    """The processes of a job in the order in which they started, and their command lines."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"SLURM_JOB_ID={job}".encode() in (process / "environ").read_bytes().split(b"\0"):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                started = int((process / "stat").read_text().rpartition(")")[2].split()[19])
                found[started, int(process.name)] = words
    return {process: words for (_, process), words in sorted(found.items())}


def alive(process: int) -> bool:
    """Whether a process runs still."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def send(number: int, *processes: int) -> None:
    """Send a signal to those processes that are still there."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


@pytest.mark.parametrize("ending", ["well", "with a dead server", "killed"])
def test_a_lost_node_that_goes_on_computing(ending: str, fresh: Clone) -> None:
    """The node's daemon is dead, and its processes stand still until the job that SLURM put in their place has ended.

    Then those of the step, which write the cell, go on first, and those of the batch script after them: their `srun`
    may have been told of the lost node, and would end the step.
    """
    clone, folder = fresh, fresh.folder / f"results/slurm/serve/{CELL}"

    def files() -> dict[str, tuple[int, bytes]]:
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*")}

    row = yaml.safe_load((clone.folder / "profiles/cluster.yaml").read_text())["gpus"]["a800"]
    clone.facts(latency_s=20, gpus={"a800": row | {"partition": "either", "type": None}})
    since, orphans, node = len(clone.cluster.finished_jobs()), {}, ""
    run = clone.start(TARGET, profile="slurm_a800")
    try:
        clone.until(lambda: clone.serving(CELL), "the cell serves", 180)
        job = job_of(clone)
        node = clone.cluster.slurm(f"squeue --noheader --job={job} --format=%N").strip()
        clone.cluster.stop(node, signal.SIGKILL)
        orphans = processes_of(job)
        send(signal.SIGSTOP, *orphans)
        clone.cluster.slurm(f"scontrol update NodeName={node} State=DOWN Reason=lost")
        assert run.wait() == 0, run.printed()
        assert clone.record(CELL)["job"]["slurmd_nodename"] != node
        before = files()
        assert len(before) == 4
        (client,) = (number for number, words in orphans.items() if re.match(r"\S*python \S*burstbench serve", words))
        (server,) = (number for number, words in orphans.items() if re.match(r"\S*python \S*standin.py", words))
        of_batch = re.compile("slurm_script|slurm-jobstep|srun -n1")
        batch = {number for number, words in orphans.items() if of_batch.search(words)}
        if ending != "well":
            send(signal.SIGKILL, server if ending == "with a dead server" else client)
        send(signal.SIGCONT, *(orphans.keys() - batch))
        clone.until(lambda: not any(map(alive, orphans.keys() - batch)), "the orphan's step ends", 90)
        damage = {"its step": files() != before}
        send(signal.SIGCONT, *batch)
        clone.until(lambda: not any(map(alive, orphans)), "the orphan's batch script ends", 90)
        damage["its batch script"] = files() != before
        (log,) = (clone.folder / ".snakemake/slurm_logs").glob(f"**/{job}.log")
        said = SAID.findall(log.read_text(errors="replace"))
        print(
            f"\nROW | node lost, its job goes on and ends {ending} | {seen(run)} | {states(clone, since)} | "
            f"changed by {[who for who, true in damage.items() if true]}, then {len(files())} files; its log: "
            f"{['.'.join(words) for words in said]} |",
            flush=True,
        )
        assert files() == before
        assert ending != "well" or f"the cell belongs to job {job}" in log.read_text(errors="replace")
    finally:
        run.kill()
        send(signal.SIGKILL, *orphans)
        if node and node not in clone.cluster.daemons:
            clone.cluster.start_node(node.removesuffix("-1"))
            clone.cluster.slurm(f"scontrol update NodeName={node} State=RESUME", check=False)
        clone.facts(latency_s=20)
