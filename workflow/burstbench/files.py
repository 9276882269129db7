"""Files that are whole or absent: everything is written beside its place and renamed into it."""

import errno
import glob
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from burstbench.errors import UserError


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder that becomes `path` when the block ends without an error.

    The temporary name keeps the suffix of `path`, so that writers which go by the suffix work. On an error the
    temporary file is removed and an earlier `path` stays as it was; what a killed process left is removed by the next
    that succeeds.

    Raises:
        UserError: the disk is full, or a quota or the limit of a file's size is reached.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
        for left in path.parent.glob(f".{glob.escape(path.stem)}.[0-9]*.part{glob.escape(path.suffix)}"):
            left.unlink(missing_ok=True)
    except Exception as error:
        if not (says := _no_room(error)):
            raise
        raise UserError(f"{path}: cannot be written: {says}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _no_room(error: BaseException | None) -> str:
    """What the system said if a full disk is behind an error, or behind one raised while it was handled; else ''."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            return os.strerror(error.errno)
        error = error.__context__
    return ""


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with the line ends it has."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys: same value, same bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is not JSON; the message names the file and the line.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UserError: it is missing, cannot be read, or is not YAML; the message names the file and the place.
    """
    import yaml

    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
