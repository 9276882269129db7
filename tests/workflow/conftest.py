"""A copy of the repository with a small study, made once for the tests that run Snakemake for real."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SMALL = Path(__file__).parent / "small.yaml"


@dataclass
class Repository:
    """A copy of the repository in which Snakemake runs one study, the small one if none is named."""

    folder: Path
    study: str = "small.yaml"

    def snakemake(self, *args: str, check: bool = True) -> str:
        """Run Snakemake and return what it printed."""
        command = [sys.executable, "-m", "snakemake", *args, "--configfile", self.study]
        done = subprocess.run(
            command, cwd=self.folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if check:
            assert done.returncode == 0, done.stdout
        return done.stdout

    def planned(self, *args: str) -> Counter[str]:
        """Return which jobs would run, by message, in a dry run."""
        return jobs(self.snakemake("--dry-run", *args))


def environment() -> dict[str, str]:
    """What a run in the copy sees: its own package, and the data the repository has fetched as a mirror."""
    return os.environ | {"PYTHONPATH": "workflow", "BURSTBENCH_MIRROR": str(ROOT / "data/raw")}


def jobs(printed: str) -> Counter[str]:
    """Return the messages of the jobs in Snakemake's output."""
    return Counter(re.findall(r"^Job \d+: (.*)$", printed, flags=re.MULTILINE))


def copy_of_the_repository(folder: Path) -> Repository:
    """Copy what git tracks (and what it does not ignore) into a folder, with the small study's overlay."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and ((ROOT / name).is_file() or (ROOT / name).is_symlink()):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).unlink(missing_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    shutil.copy2(SMALL, folder / "small.yaml")
    return Repository(folder)


def fetch(*names: str) -> None:
    """Fetch data sets into the repository, where they stay."""
    # Not through Snakemake: a dry run in the repository, in another worker, would lock it. One worker at a time.
    with open(ROOT / "data/raw/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            words = ["sources", "fetch", "--registry", "config/datasets.csv", "--name", name]
            command = [sys.executable, "-m", "burstbench", *words, "--out", f"data/raw/{name}"]
            subprocess.run(command, cwd=ROOT, check=True)


def fetch_what_the_studies_need() -> None:
    """Fetch the prompts and their tokenizer into the repository, which the copies take as their mirror."""
    fetch("sharegpt_subset", "tokenizer_mistral_v1")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Repository:
    """The small study, finished: a worker's own copy of what the first one made. Tests that change it put it back."""
    fetch_what_the_studies_need()
    # Workers have folders of their own in one of the session; without workers that is the session's.
    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with open(f"{made}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            begun = copy_of_the_repository(tmp_path_factory.mktemp("begun"))
            begun.snakemake()
            begun.folder.rename(made)
    own = tmp_path_factory.mktemp("study") / "repository"
    shutil.copytree(made, own, symlinks=True)
    return Repository(own)


def change(path: Path, **changes: object) -> None:
    """Set keys of a YAML file, dots between the levels written as double underscores."""
    config = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        *levels, last = key.split("__")
        place = config
        for level in levels:
            place = place.setdefault(level, {})
        place[last] = value
    path.write_text(yaml.safe_dump(config))
