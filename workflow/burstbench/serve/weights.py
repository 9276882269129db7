"""Where a job finds the model it serves: the hub, a folder, or a copy on the node's own disk, made once a node.

Places are no parameters of a run; what lies there is vouched for by the checksums in `run.json`. They come in the job's
environment: BURSTBENCH_WEIGHTS names a folder with one folder a model, in place of the hub; BURSTBENCH_SCRATCH a folder
on the node's own disk.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from burstbench.errors import UserError


class WeightsError(UserError):
    """The model's files are missing, or do not fit."""


@dataclass(frozen=True)
class Source:
    """What vLLM is told (`model`), the folder that the files come from, and who gave them.

    The folder is None where the server loads them from the hub, the one case in which it needs a token. `origin` is
    "hub" also for the hub's cache; otherwise it is the folder.
    """

    model: str
    folder: Path | None
    origin: str


def find(name: str, hub: str, setting: str, cached: Path | None, environment: Mapping[str, str] = os.environ) -> Source:
    """Return the model to serve.

    Args:
        name: of the model in config/models.yaml.
        hub: its repository.
        setting: `engines.vllm.weights`: hub or a folder.
        cached: where the hub's cache holds it; None where it does not.
        environment: of the job.

    Raises:
        WeightsError: a folder is missing, or the copy does not fit.
    """
    places = environment.get("BURSTBENCH_WEIGHTS")
    given = Path(setting) if setting != "hub" else Path(places) / name if places else None
    folder, origin = given or cached, str(given or "hub")
    if folder is not None and not (folder / "config.json").is_file():
        raise WeightsError(f"{folder}: found no config.json, expected the files of {name} ({hub})")
    scratch = environment.get("BURSTBENCH_SCRATCH")
    if folder is None:
        if scratch:
            print(
                f"{name} is not in the hub's cache yet: this run loads it from there, later ones from {scratch}",
                file=sys.stderr,
            )
        return Source(hub, None, origin)
    return Source(str(copy(folder, Path(scratch), name) if scratch else folder), folder, origin)


def copy(folder: Path, scratch: Path, name: str) -> Path:
    """Copy a model to the node's own disk unless it is there, and return where; of jobs that come at once, one copies.

    Args:
        folder: of the model; links are followed.
        scratch: on the node's own disk.
        name: of the copy, which is followed by a checksum of the files' names, sizes and times.

    Raises:
        WeightsError: it does not fit, or the scratch folder cannot be written to.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    facts = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    target = scratch / f"{name}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}"
    if target.is_dir():
        return target
    part = target.with_suffix(".part")
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        # The kernel drops the lock with the process: one that was killed leaves a part, which the next removes.
        with open(target.with_suffix(".lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if target.is_dir():
                return target
            shutil.rmtree(part, ignore_errors=True)
            need, free = sum(size for _, size, _ in facts), shutil.disk_usage(scratch).free
            if need > free:
                raise WeightsError(
                    f"{scratch}: found {free / 1e9:.1f} GB free, expected {need / 1e9:.1f} GB for {name}"
                )
            try:
                shutil.copytree(folder, part, symlinks=False)
                part.rename(target)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
    except (OSError, shutil.Error) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC
        raise WeightsError(f"{scratch}: {'the disk is full' if full else error}, while {name} was copied") from error
    return target
