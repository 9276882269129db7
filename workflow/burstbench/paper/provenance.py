"""The record of a study: every file with its checksum, and every job with its inputs, command and code.

Which job made a file, and from what, is read from what Snakemake recorded when the job ended. Nothing of the clock or
of the machine goes into the record: same inputs, same bytes.
"""

import argparse
import ast
import base64
import binascii
import importlib.metadata
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from burstbench import __version__
from burstbench.cli import settings
from burstbench.errors import UserError
from burstbench.files import read_json, sha256, write_json
from burstbench.paper import document as documents

# Packages whose version can change a number or a picture.
PACKAGES = (
    "numpy",
    "scipy",
    "pyarrow",
    "numba",
    "matplotlib",
    "typst",
    "jinja2",
    "sentencepiece",
    "diptest",
    "snakemake",
)
RECORDED = ("rule", "inputs", "outputs", "command", "code")  # of a job; not how long it took
SNAKEMAKE_RECORDS = 6  # the version of Snakemake's records that `_jobs` reads


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "--product", type=Path, nargs="+", action="extend", required=True, metavar="FILE",
        help="what the study is made for; everything they were made from is recorded",
    )  # fmt: skip
    parser.add_argument(
        "--metadata", type=Path, default=Path(".snakemake/metadata"), metavar="DIR", help="Snakemake's records of jobs"
    )
    parser.add_argument("--facts", type=settings, required=True, help="what was run: a JSON object, or a file with one")
    parser.add_argument("--out", type=Path, required=True, metavar="JSON", help="the record")


def run(args: argparse.Namespace) -> None:
    """Write the record."""
    write_json(args.out, record(args.product, args.metadata, args.facts))


def record(products: Iterable[Path], metadata: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the products of a study were made from, back to the files that no job made.

    Args:
        products: paths as Snakemake knows them, relative to the repository.
        metadata: folder of Snakemake's records.
        facts: what was run; see `document.check_facts`.

    Returns:
        `study`, `facts`, `marks` (what is not real), `software` (versions), `files` (path to `sha256` and `bytes`; of
        a fetched file also its `url`, `version` and `licence`) and `jobs` (`rule`, `inputs`, `outputs`, `command`, and
        `code`, the checksums of the modules that the command runs), ordered by their first output.

    Raises:
        UserError: a file is missing, or Snakemake's records are.
    """
    facts = documents.check_facts(facts)
    paths, jobs = trace_back(products, metadata, facts["study"])
    return {
        "study": facts["study"],
        "facts": facts,
        "marks": {label: text for label, text in documents.marks(facts)},
        "software": software(),
        "files": describe(paths),
        "jobs": [{key: job[key] for key in RECORDED} for job in jobs],
    }


def software() -> dict[str, str]:
    """Return the versions of what can change a number or a picture."""
    found = {"burstbench": __version__, "python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in PACKAGES}


def trace_back(products: Iterable[Path], metadata: Path, study: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Follow the products of a study back to the files that no job made.

    Returns:
        All paths, sorted; and the jobs, ordered by their first output: keys `RECORDED`, and `seconds` (None where it is
        not known).

    Raises:
        UserError: Snakemake's records lack a file of the study.
    """
    made = _jobs(metadata)
    jobs: dict[str, dict[str, Any]] = {}
    paths: set[str] = set()
    waiting = [str(path) for path in products]
    while waiting:
        path = waiting.pop()
        if path in paths:
            continue
        paths.add(path)
        if path in made:
            job = made[path]
            jobs[job["outputs"][0]] = job
            waiting += job["inputs"] + job["outputs"]
        elif path.startswith(f"results/{study}/"):
            raise UserError(f"{metadata}: found no record of the job that made {path}; snakemake --touch writes them")
    return sorted(paths), [jobs[first] for first in sorted(jobs)]


def describe(paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return checksum and size of each file, and where a fetched one came from."""

    def one(path: str) -> dict[str, Any]:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file (its provenance is to be recorded)")
        return {"sha256": sha256(Path(path)), "bytes": Path(path).stat().st_size} | _origin(Path(path))

    with ThreadPoolExecutor() as pool:  # checksums are taken outside the interpreter's lock
        return dict(zip(paths, pool.map(one, paths), strict=True))


def _origin(path: Path) -> dict[str, str]:
    fetched = path.with_name("provenance.json")
    if path.parts[:2] != ("data", "raw") or path == fetched or not fetched.is_file():
        return {}
    said = read_json(fetched)
    return {key: said[key] for key in ("url", "version", "licence") if said.get(key)}


def _jobs(metadata: Path) -> dict[str, dict[str, Any]]:
    """Return, by output, the jobs that Snakemake recorded."""
    jobs: dict[str, dict[str, Any]] = {}
    outputs: dict[str, list[str]] = {}
    for file in sorted(metadata.rglob("*")):
        if not file.is_file():
            continue
        try:
            path = base64.urlsafe_b64decode("".join(file.relative_to(metadata).parts).replace("@", "")).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise UserError(f"{file}: found a name that is no path in base 64, expected Snakemake's record") from error
        said = read_json(file)
        if said.get("record_format_version") != SNAKEMAKE_RECORDS:
            raise UserError(
                f"{file}: record_format_version: found {said.get('record_format_version')!r}, "
                f"expected {SNAKEMAKE_RECORDS}, that of the locked Snakemake"
            )
        if said.get("incomplete") or not said.get("shellcmd"):
            continue
        jobs[path] = {
            "rule": said["rule"],
            "inputs": sorted(said["input"]),
            "outputs": outputs.setdefault(said["shellcmd"], []),
            "command": _command(said["shellcmd"]),
            "code": _code(said["params"]),
            "seconds": round(said["endtime"] - said["starttime"], 2) if "endtime" in said else None,
        }
        jobs[path]["outputs"].append(path)
    for job in jobs.values():
        job["outputs"].sort()
    return jobs


def _command(shell: str) -> str:
    """The command without what does not change its result: the log, and how many threads it had."""
    return re.sub(r" --threads \d+| 2> .*$", "", shell)


def _code(params: Sequence[str]) -> dict[str, str]:
    """The checksums of modules among the parameters of a job, which Snakemake records as text."""
    for text in params:
        if text.startswith("{"):
            value = ast.literal_eval(text)
            if all(re.fullmatch(r"[0-9a-f]{12}", str(item)) for item in value.values()):
                return dict(value)
    return {}
