"""A mini cluster, and a clone of the repository whose cells run on it."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from workflow.conftest import ROOT, copy_of_the_repository, fetch

from .minicluster import MiniCluster, why_not

HERE = Path(__file__).parent
# Every profile as it stands in the repository. On the command line beside the study: what makes a test wait less.
OVERRIDES = [
    "--slurm-init-seconds-before-status-checks",
    "1",
    "--quiet",
    "reason",
    "host",
]


class Clone:
    """A clone on the cluster's shared file system, with a file of cluster facts that a user might have written.

    Args:
        folder: of the clone.
        cluster: that runs.
        studies: overlays in the clone.
    """

    def __init__(self, folder: Path, cluster: MiniCluster, studies: tuple[str, ...] = ("study.yaml",)) -> None:
        self.folder, self.cluster, self.studies = folder, cluster, studies
        self.environment = os.environ | cluster.environment | {"PYTHONPATH": "workflow"}
        for name in ("SLURM_CONF", "SLURM_JOB_ID", "HF_TOKEN", "BURSTBENCH_MIRROR"):
            self.environment.pop(name, None)
        prepare(folder)
        self.facts()

    def facts(self, **facts: Any) -> None:
        """Write profiles/cluster.yaml anew: the repository's values, light jobs here, and these."""
        path = self.folder / "profiles/cluster.yaml"
        found = yaml.safe_load((ROOT / "profiles/cluster.yaml").read_text())
        found["light"]["where"] = "local"
        found["submit_per_minute"] = 600
        found["vllm_python"] = str(self.folder / "standin")
        path.write_text(yaml.safe_dump(found | facts))

    def start(
        self, *targets: str, profile: str = "slurm_both", options: tuple[str, ...] = (), within: tuple[str, ...] = ()
    ) -> "Run":
        """Start Snakemake on some targets, for example ``metrics/warmup/summary.parquet``, below another command."""
        paths = [target if target.startswith("-") else f"results/slurm/{target}" for target in targets]
        study = ["--configfile", *self.studies]
        words = [*paths, "--profile", profile, *study, *OVERRIDES, *options]
        command = [*within, sys.executable, "-m", "snakemake", *words]
        return Run(command, self)

    def snakemake(self, *targets: str, profile: str = "slurm_both", options: tuple[str, ...] = ()) -> str:
        """Run it to its good end and return what it printed."""
        run = self.start(*targets, profile=profile, options=options)
        status = run.wait()
        assert status == 0, run.printed() + self.logs()
        return run.printed()

    def logs(self) -> str:
        """What the jobs printed, for a message."""
        return "".join(f"\n--- {log}\n{log.read_text()}" for log in self.folder.glob(".snakemake/slurm_logs/**/*.log"))

    def record(self, cell: str) -> dict[str, Any]:
        """The run record of a cell, for example ``warmup/llama-2-7b-chat_a800_s1``."""
        found: dict[str, Any] = json.loads((self.folder / f"results/slurm/serve/{cell}/run.json").read_text())
        return found

    def until(self, true: Callable[[], object], what: str, within_s: float = 90.0) -> None:
        """Wait until something is so."""
        end = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < end, f"{what}: not within {within_s:g} s{self.logs()}{self.cluster.tail()}"
            time.sleep(0.1)

    def serving(self, cell: str) -> bool:
        """Whether the cell's server has answered in its job."""
        log = self.folder / f"results/slurm/logs/serve/{cell}.log"
        return log.exists() and "the server answers" in log.read_text()


class Run:
    """One call of Snakemake in the background."""

    def __init__(self, command: list[str], clone: Clone) -> None:
        self._log = clone.folder / f"snakemake-{time.monotonic_ns()}.log"
        with open(self._log, "w") as log:
            self.process = subprocess.Popen(
                command, cwd=clone.folder, env=clone.environment, stdout=log, stderr=log, start_new_session=True
            )

    def printed(self) -> str:
        """What it has printed so far."""
        return self._log.read_text()

    def kill(self) -> None:
        """Kill it with all that it started here."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self, within_s: float = 400.0) -> int:
        """Wait for its end."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"Snakemake did not end within {within_s:g} s:\n{self.printed()}") from None


def prepare(folder: Path) -> None:
    """Make a clone with the tests' study, its data, and the stand-in for vLLM's interpreter as ``standin``."""
    copy_of_the_repository(folder)
    shutil.copy(HERE / "study.yaml", folder)
    _dialogues(folder)
    standin = folder / "standin"
    standin.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/workflow exec {sys.executable} {HERE}/standin.py "$@"\n')
    standin.chmod(0o755)


def _dialogues(folder: Path) -> None:
    """A data set of our own: 200 dialogues of random words, registered and fetched."""
    rng = np.random.default_rng(7)
    words = np.array(["the", "model", "answers", "a", "question", "about", "cluster", "time", "and", "space"])

    def text() -> str:
        return " ".join(rng.choice(words, rng.integers(20, 200)))

    turns = [[("human", text()), ("gpt", text())] for _ in range(200)]
    said = [
        {"id": str(number), "conversations": [{"from": who, "value": what} for who, what in each]}
        for number, each in enumerate(turns)
    ]
    data = json.dumps(said).encode()
    place = folder / "data/raw/mini"
    place.mkdir(parents=True)
    (place / "mini.json").write_bytes(data)
    (place / "provenance.json").write_text("{}")
    with open(folder / "config/datasets.csv", "a") as registry:
        digest = hashlib.sha256(data).hexdigest()
        registry.write(
            f"mini,1,mini.json,,https://example.org/mini.json,,{len(data)},{digest},CC0-1.0,made by a test\n"
        )
    fetch("tokenizer_mistral_v1")
    shutil.copytree(ROOT / "data/raw/tokenizer_mistral_v1", folder / "data/raw/tokenizer_mistral_v1")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[MiniCluster]:
    """A cluster of two nodes and three partitions."""
    if reason := why_not():
        pytest.skip(reason)
    with MiniCluster(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.fixture(scope="module")
def clone(cluster, tmp_path_factory) -> Clone:
    """A clone that the module's tests share."""
    return Clone(tmp_path_factory.mktemp("clone"), cluster)
