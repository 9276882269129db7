"""What a Snakemake session needs: its own commands, no lock of one that was killed, and no files of another job."""

import fcntl
import functools
import os
import shutil
import sys
from pathlib import Path
from typing import IO

_held: list[IO[str]] = []


def use_own_commands() -> None:
    """Let the rules find `burstbench` of the environment that runs Snakemake, whether or not it is activated."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def leave_outputs_to_the_submitter() -> None:
    """Let the Snakemakes inside a job of a cluster delete no outputs when it failed and touch none when it ended well.

    The one that submitted it does both as well, and knows whether the job is still its own. That in the job may be on a
    node that SLURM gave up, and the files those of the job that was started in its place (`burstbench.serve.claim`).
    The first is `--keep-incomplete` for jobs alone; Snakemake has options for neither.
    """
    from snakemake.dag import DAG
    from snakemake.jobs import Job

    async def delete_nothing(job: Job, skip_outputs: object) -> None:
        return None

    assert callable(Job.cleanup), "another Snakemake: who deletes the outputs of a failed job?"
    Job.cleanup = delete_nothing
    DAG.check_and_touch_output = functools.partialmethod(DAG.check_and_touch_output, no_touch=True)


def clear_stale(snakemake_folder: Path) -> None:
    """Remove the lock files of a Snakemake that was killed, and only of such a one.

    Every Snakemake of this repository holds a shared `flock` on one file for as long as it lives; the kernel drops it
    with the process. Whoever gets the exclusive lock is alone, so any lock file left there is a dead process's. Where
    the file system knows no `flock`, nothing is done and Snakemake's own message (`--unlock`) applies. A job on another
    node must not call this: some file systems keep `flock` to one node, and it would believe itself alone.
    """
    locks = snakemake_folder / "locks"
    try:
        snakemake_folder.mkdir(exist_ok=True)
        stream = open(snakemake_folder / "alive", "w", encoding="utf-8")  # noqa: SIM115 - held for life
    except OSError:
        return
    _held.append(stream)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(stream, fcntl.LOCK_SH)
        return
    except OSError:
        return
    if locks.is_dir() and os.listdir(locks):
        shutil.rmtree(locks, ignore_errors=True)
    fcntl.flock(stream, fcntl.LOCK_SH)
