"""What `profiles/cluster.yaml` says of a cluster, turned into the values of Snakemake's profiles.

The profiles `slurm_*` are templates that ask a `Profile` for each value that differs between clusters, so that one file
serves all of them. Snakemake evaluates resources given as text as Python, with `attempt` counting from 1.
"""

import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema

from burstbench.config import ROOT, explain, load_yaml, merge
from burstbench.errors import UserError

# Rules with a GPU are one a GPU: all tasks of a job array must ask for the same.
SERVE = "serve_vllm_{gpu}"
WITH_GPU = ("serve_vllm_", "serve_probe_")
PACKAGE = ROOT / "workflow"
LIGHT, IMAGE = "BURSTBENCH_LIGHT", "BURSTBENCH_IMAGE"
# How long SLURM may take to answer a question, s.
ANSWER_S = 60.0
DEPLOYMENT = {"venv": [], "conda": ["conda"], "apptainer": ["apptainer"], "modules": []}


class ClusterError(UserError):
    """A wrong key or value in the cluster's file."""


def path() -> Path:
    """The cluster's file: the repository's, or that which BURSTBENCH_CLUSTER names."""
    return Path(os.environ.get("BURSTBENCH_CLUSTER") or ROOT / "profiles/cluster.yaml")


def load(file: Path | None = None) -> dict[str, Any]:
    """Read a cluster's file over the repository's own values.

    Raises:
        ClusterError: for each key at fault a line with key, file, what was found and what was expected.
        ConfigError: it is missing or no YAML.
    """
    file = file or path()
    known = ROOT / "profiles/cluster.yaml"
    facts: dict[str, Any] = {}
    for each in [known] if file.resolve() == known.resolve() else [known, file]:
        found = load_yaml(each) or {}
        validator = jsonschema.Draft202012Validator(load_yaml(ROOT / "profiles/schema.yaml"))
        if problems := [text for error in validator.iter_errors(found) for text in explain(error, [each])]:
            raise ClusterError("the cluster's file is wrong:\n  " + "\n  ".join(sorted(problems)))
        merge(facts, found)
    return facts


def ask(command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command of SLURM and return what it printed.

    Args:
        command: with its arguments, in a shell's syntax; no shell runs it.
        options: of `subprocess.run`.

    Raises:
        ClusterError: there is no such command, or it did not answer in time.
    """
    words = shlex.split(command)
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=ANSWER_S, **options)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"`{shlex.join(words[:2])}` did not answer within {ANSWER_S:g} s; try it by hand, or ask the administrators"
        ) from error
    except FileNotFoundError as error:
        raise ClusterError(
            f"no {words[0]} here; run this on a login node of the cluster (or `module load slurm`)"
        ) from error


@functools.cache
def keeps_accounts() -> bool:
    """Whether the cluster here answers `sacct` in time; False where there is no SLURM."""
    try:
        done = ask("sacct --noheader --allocations")
    except ClusterError:
        return False
    return done.returncode == 0 and "disabled" not in done.stderr


class Profile:
    """The values of one profile.

    Args:
        gpus: rows of `gpus` in the cluster's file whose cells it runs; all of them if none is named.

    Raises:
        UserError: the cluster's file is wrong, or does not say where one of them runs.
    """

    def __init__(self, *gpus: str) -> None:
        self.facts = load()
        self.gpus = gpus or tuple(self.facts["gpus"])
        # A profile cannot say which rules are local; the Snakefile, read after it in the same process, can.
        os.environ[LIGHT] = self.facts["light"]["where"]
        if self.facts["environment"] == "apptainer":
            os.environ[IMAGE] = self.facts["image"]
        for gpu in gpus:
            if gpu not in self.facts["gpus"]:
                raise ClusterError(f"{path()}: gpus: {gpu!r} is missing; found {', '.join(sorted(self.facts['gpus']))}")

    @property
    def config(self) -> list[str]:
        """`--config`: the GPUs."""
        return [f"gpus=[{', '.join(self.gpus)}]"]

    @property
    def jobs(self) -> int:
        """`--jobs`. With arrays nothing is held back: the plugin sends an array when all its tasks may start."""
        return 10_000 if self.facts["arrays"] else int(self.facts["jobs"])

    @property
    def retries(self) -> int:
        """`--retries`."""
        return int(self.facts["retries"])

    @property
    def latency(self) -> int:
        """`--latency-wait`, s."""
        return int(self.facts["latency_s"])

    @property
    def job_prefix(self) -> str:
        """`--slurm-jobname-prefix`: names the clone, see `cancel_leftovers`."""
        return _job_prefix()

    @property
    def submissions(self) -> str:
        """`--max-jobs-per-timespan`, in short spans: Snakemake lingers for one when all is done."""
        a_minute = int(self.facts["submit_per_minute"])
        return f"{a_minute // 12}/5s" if a_minute >= 12 else f"1/{-(-60 // a_minute)}s"

    @property
    def status(self) -> str | None:
        """`--slurm-status-command`; None where this machine has no SLURM, for dry runs."""
        if self.facts["status"] != "auto":
            return str(self.facts["status"])
        if shutil.which("squeue") is None:
            return None
        return "sacct" if keeps_accounts() else "squeue"

    @property
    def arrays(self) -> str | None:
        """`--slurm-array-jobs`: the rules whose jobs go as arrays."""
        return ",".join(SERVE.format(gpu=gpu) for gpu in self.gpus) if self.facts["arrays"] else None

    @property
    def efficiency_report(self) -> bool | None:
        """`--slurm-efficiency-report`, which reads `sacct`."""
        return True if self.facts["efficiency_report"] and self.status == "sacct" else None

    @property
    def requeue(self) -> bool | None:
        """`--slurm-requeue`; the plugin's other option is set by `no_requeue`."""
        return True if self.facts["requeue"] else None

    @property
    def no_requeue(self) -> bool | None:
        """`--slurm-no-requeue`."""
        return None if self.facts["requeue"] else True

    @property
    def deployment(self) -> list[str] | None:
        """`--software-deployment-method`; None for the environment that runs Snakemake."""
        return DEPLOYMENT[self.facts["environment"]] or None

    @property
    def apptainer_args(self) -> str | None:
        """`--apptainer-args`: the node's GPU and its driver are seen in the image."""
        return "--nv" if self.facts["environment"] == "apptainer" else None

    @property
    def default_resources(self) -> dict[str, Any]:
        """`--default-resources`: of every job, unless its rule or the profile says otherwise."""
        light = self.facts["light"]
        return {
            "mem_mb": self._growing(light["mem_mb"]),
            "runtime": self._growing(light["runtime"]),
            # No one reads it; Snakemake's own default looks up the size of every input of every job.
            "disk_mb": 1000,
            **self._named(slurm_account=self.facts["account"], qos=self.facts["qos"]),
            **self._named(slurm_partition=light["partition"]),
        }

    def _growing(self, value: int) -> str:
        return f"int({value} * {self.facts['growth']} ** (attempt - 1))"

    @staticmethod
    def _named(**values: str | None) -> dict[str, str]:
        """Texts as Python literals; those that are null are left out."""
        return {key: repr(value) for key, value in values.items() if value is not None}


def of_gpu(gpu: str, elsewhere: dict[str, int]) -> dict[str, Any]:
    """What a job with a GPU asks for: resources of its rule.

    They stand at the rule and not in the profile, where Snakemake takes each text as Python and evaluates it for each
    job: a quarter of the time in which a large study is planned.

    Args:
        gpu: a row of `gpus` in the cluster's file.
        elsewhere: what it asks for without a SLURM profile.

    Returns:
        Name to value; memory and time are functions of the attempt.
    """
    facts = _facts(path()) if LIGHT in os.environ else {"gpus": {}}
    if gpu not in facts["gpus"]:
        return elsewhere
    row = facts["gpus"][gpu]
    kind = row.get("type")
    if facts["gpu_request"] == "gpus":
        request = {"gpu": 1, "gpu_model": kind}
    else:
        request = {"gpu": 0, "gres": f"gpu:{kind}:1" if kind else "gpu:1"}
    named = request | {"slurm_partition": row["partition"], "constraint": row.get("constraint")}
    return {
        **{key: value for key, value in named.items() if value is not None},
        # Not as threads, which Snakemake cuts to the cores of the machine that it runs on.
        "cpus_per_task": row["cpus"],
        **{key: _grown(row[key], facts["growth"]) for key in ("mem_mb", "runtime")},
    }


def of_light(mem_mb: int, runtime: int) -> dict[str, Any]:
    """What a job without a GPU asks for, whose rule states it: resources of its rule.

    Args:
        mem_mb: memory, MB.
        runtime: minutes.

    Returns:
        Name to value; with a SLURM profile functions of the attempt, so that a retry asks for more.
    """
    asked: dict[str, Any] = {"mem_mb": mem_mb, "runtime": runtime}
    if LIGHT not in os.environ:
        return asked
    growth = _facts(path())["growth"]
    return {name: _grown(value, growth) for name, value in asked.items()}


@functools.cache
def _facts(file: Path) -> dict[str, Any]:
    return load(file)


def _grown(value: int, growth: float) -> Callable[[Any, int], int]:
    return lambda wildcards, attempt: int(value * growth ** (attempt - 1))


def cancel_leftovers(within_s: float = 60.0) -> list[str]:
    """Cancel the jobs that a killed Snakemake of this clone left in the queue, and return their numbers.

    They would write the same files as the jobs that are about to be submitted. Call it when Snakemake has its lock and
    has submitted nothing yet. Without a SLURM profile nothing is done.

    Raises:
        ClusterError: SLURM did not answer, or not in time.
    """
    if LIGHT not in os.environ or shutil.which("squeue") is None:
        return []

    def alive() -> list[str]:
        listed = ask("squeue --me --noheader --format='%A %j'")
        if listed.returncode:
            raise ClusterError(
                f"`squeue --me`: {' '.join(listed.stderr.split())}; jobs of a killed Snakemake may be in the queue; "
                "try again when the controller answers"
            )
        rows = [line.split() for line in listed.stdout.splitlines()]
        return sorted({row[0] for row in rows if len(row) == 2 and row[1].startswith(_job_prefix())})

    found = alive()
    if found:
        print(
            f"cancelling {len(found)} jobs that a killed Snakemake left in the queue: {', '.join(found)}",
            file=sys.stderr,
        )
        ask(f"scancel {' '.join(found)}")
        end = time.monotonic() + within_s
        while alive() and time.monotonic() < end:
            time.sleep(0.5)
    return found


def _job_prefix() -> str:
    return f"burstbench_{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"


def prefix() -> str:
    """Return the shell text before each job's command on a cluster: where the job finds its programs and weights.

    None of it is a parameter of a rule: a measurement is not repeated because its files moved.
    """
    facts = load()
    environment = facts["environment"]
    places = {
        "BURSTBENCH_VLLM_PYTHON": facts["vllm_python"],
        "BURSTBENCH_WEIGHTS": None if facts["weights"] == "hub" else facts["weights"],
        "BURSTBENCH_SCRATCH": facts["scratch"],
    }
    # This replaces Snakemake's own prefix, which makes a shell stop at the first error.
    text = "set -eo pipefail; "
    # In double quotes: $USER and the like are the job's.
    text += "".join(f'export {name}="{value}"; ' for name, value in places.items() if value)
    if environment == "modules" and facts["modules"]:
        # SLURM's batch shell may have dropped the function; and not all versions of it know `set -u`.
        text += (
            'type module > /dev/null 2>&1 || . "${MODULESHOME:-/usr/share/modules}/init/bash"; '
            f"module load {' '.join(map(shlex.quote, facts['modules']))}; "
        )
    if DEPLOYMENT[environment]:
        # Its Python has the locked packages, and takes our own from this clone.
        text += f'export PYTHONPATH={shlex.quote(str(PACKAGE))}; burstbench() {{ python -m burstbench "$@"; }}; '
    return f"{text}set -u; "


def set_prefix(shell: Any) -> None:
    """Put the prefix before each command of Snakemake's `shell`, to which braces are names if they stand alone."""
    shell.prefix(prefix().replace("{", "{{").replace("}", "}}"))
