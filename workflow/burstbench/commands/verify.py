"""Whether a study's files are those that its record names: changed, missing, stale and foreign ones are listed."""

import argparse
import functools
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from burstbench.cli import FOUND
from burstbench.errors import UserError
from burstbench.files import read_json, sha256

RECORD = "provenance.json"
CRATE = "ro-crate-metadata.json"
# Beside the record: what jobs print and what they cost.
UNRECORDED = ("logs", "benchmarks")


class Finding(NamedTuple):
    """Something that is not as recorded.

    Attributes:
        kind: "changed": its bytes are not those recorded; "missing"; "stale": what it was made from, or the code that
            made it, has changed since; "foreign": no job of the study made it.
        path: the file.
        why: the reason, in a few words.
    """

    kind: str
    path: str
    why: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("folder", type=Path, metavar="RESULTS", help="folder of a study, with its provenance.json")
    parser.add_argument(
        "--alone", action="store_true",
        help="look at the folder alone, not at the repository's inputs and code: for a copy far from its repository",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print what was found; 0 when all is as recorded, else 3."""
    record = _record(args.folder)
    findings = sorted(set(verify(args.folder, record, args.alone)))
    for finding in findings:
        print(f"{finding.kind:<8} {finding.path}: {finding.why}")
    said = f"{len(record['files'])} files, {len(record['jobs'])} jobs"
    if not findings:
        print(f"{args.folder}: as recorded ({said})")
        return 0
    kinds = [finding.kind for finding in findings]
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    print(f"{args.folder}: {counted} ({said} recorded)", file=sys.stderr)
    return FOUND


def verify(folder: Path, record: dict[str, Any], alone: bool = False) -> Iterator[Finding]:
    """Yield what is not as recorded.

    Args:
        folder: a study's results, wherever they lie.
        record: its `provenance.json`.
        alone: leave out the inputs outside the folder, and the code.
    """
    root = f"results/{record['study']}/"

    def place(path: str) -> Path:
        return folder / path.removeprefix(root) if path.startswith(root) else Path(path)

    def look(path: str) -> str:
        return sha256(place(path)) if place(path).is_file() else ""

    paths = [path for path in record["files"] if path.startswith(root) or not alone]
    with ThreadPoolExecutor() as pool:  # checksums are taken outside the interpreter's lock
        found = dict(zip(paths, pool.map(look, paths), strict=True))
    wrong = {path for path in paths if found[path] != record["files"][path]["sha256"]}
    for path in wrong:
        if not found[path]:
            yield Finding("missing", str(place(path)), "no such file")
        elif path.startswith(root):
            expected = record["files"][path]["sha256"]
            yield Finding("changed", str(place(path)), f"found sha256 {found[path][:12]}…, expected {expected[:12]}…")
    for job in record["jobs"]:
        changed = [path for path in job["inputs"] if found.get(path) and path in wrong]
        why = f"{place(changed[0])} has changed since" if changed else "" if alone else _code_changed(job)
        if why:
            for path in job["outputs"]:
                yield Finding("stale", str(place(path)), why)
    known = {place(path) for path in record["files"]} | {folder / RECORD, folder / CRATE}
    for file in folder.rglob("*"):
        if file.is_file() and file not in known and file.relative_to(folder).parts[0] not in UNRECORDED:
            yield Finding("foreign", str(file), "no job of the study made it")
    yield from _crate(folder)


def _record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    if not path.is_file():
        raise UserError(f"{path}: no such file; a finished study has one (expected a folder like results/default)")
    record = read_json(path)
    if not isinstance(record, dict) or not {"study", "files", "jobs"} <= record.keys():
        raise UserError(f"{path}: found no study, files and jobs, expected a record of `burstbench paper provenance`")
    return record


def _crate(folder: Path) -> Iterator[Finding]:
    """The crate repeats the record, with the record's own checksum: either of them changed shows here."""
    from burstbench.paper.crate import crate

    path = folder / CRATE
    if not path.is_file():
        yield Finding("missing", str(path), "no such file")
    elif path.read_bytes() != crate(folder / RECORD).encode():
        yield Finding("changed", str(path), f"it does not say what {folder / RECORD} says")


def _code_changed(job: dict[str, Any]) -> str:
    """Which modules that made a file are others now; "" if none."""
    words = job["command"].split()
    if not job["code"] or words[0] != "burstbench":
        return ""
    now = _code_now(f"{words[1]}.{words[2]}")
    # A verb that runs the code of others (a server's) has more modules than its own imports, and more of the contracts.
    more = job["code"].keys() - now.keys()
    now = {name: _code_now(name).get(name, "") for name in more} | now
    if more:
        now.pop("contracts", None)
    changed = sorted(name for name in now if now[name] != job["code"].get(name))
    return f"the code of {', '.join(changed)} has changed since" if changed else ""


@functools.cache
def _code_now(module: str) -> dict[str, str]:
    """The checksums of a module and of all it imports; none where there is no such module (any more)."""
    from burstbench.fingerprint import code

    try:
        return code(module)
    except FileNotFoundError:
        return {}
