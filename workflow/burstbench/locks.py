"""Stale locks: after a kill, the same command goes on without a word."""

import fcntl
import os
import shutil
from pathlib import Path
from typing import IO

_held: list[IO[str]] = []


def clear_stale(snakemake_folder: Path) -> None:
    """Remove the lock files of a Snakemake that was killed, and only of such a one.

    Every Snakemake of this repository holds a shared `flock` on one file for as long as it lives; the kernel drops it
    with the process. Whoever gets the exclusive lock is alone, so any lock file left there is a dead process's. Where
    the file system knows no `flock`, nothing is done and Snakemake's own message (`--unlock`) applies.
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
