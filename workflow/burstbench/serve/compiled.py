"""Compiled code that is kept between jobs, by content.

Numba keys its cache by a source file's modification time; a fresh clone would compile again, and a folder that cannot
be written would fail. Here the key is the SHA-256 of the source files, the folder is the user's cache, and one process
compiles while others wait.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core import caching


@functools.cache
def folder() -> Path | None:
    """The folder of compiled code, or None where nothing can be written.

    `NUMBA_CACHE_DIR` if set, else `burstbench/numba` in the user's cache folder, else one of the user's own in the
    temporary folder.
    """
    asked = os.environ.get("NUMBA_CACHE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    own = Path(tempfile.gettempdir()) / f"burstbench-{os.getuid()}" / "numba"
    for path in [Path(asked)] if asked else [home / "burstbench" / "numba", own]:
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            # What lies there is executed: another user's folder is not trusted.
            if path.stat().st_uid != os.getuid():
                continue
            tempfile.TemporaryFile(dir=path).close()
        except OSError:
            continue
        return path
    return None


class _ByContent(caching.UserProvidedCacheLocator):
    """Says where a function's compiled form lies: in a folder named by the checksum of its sources."""

    sources: tuple[Path, ...] = ()

    def __init__(self, py_func: Any, py_file: str) -> None:
        self._py_file = py_file
        self._lineno = py_func.__code__.co_firstlineno
        self._digest = digest(self.sources)
        self._cache_path = os.path.join(str(folder()), self._digest[:16])

    def get_source_stamp(self) -> str:
        return self._digest

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        self = cls(py_func, py_file)
        try:
            self.ensure_cache_path()
        except OSError:
            return None
        return self


def digest(sources: tuple[Path, ...]) -> str:
    """SHA-256 of the files' contents, one after the other."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()


def compile_once(function: Callable[..., Any], signature: Any, sources: tuple[Path, ...]) -> Any:
    """Return the compiled function: from the cache, or compiled now and kept.

    Args:
        function: a Python function in Numba's reach.
        signature: a tuple of Numba types.
        sources: the files whose content decides whether a kept form is still right.
    """
    where = folder()
    if where is None:
        dispatcher = numba.njit(function)
        dispatcher.compile(signature)
        return dispatcher
    locator = type("_Locator", (_ByContent,), {"sources": sources})
    with _alone(where / "lock"), _locators(locator):
        dispatcher = numba.njit(cache=True)(function)
        dispatcher.compile(signature)
    return dispatcher


@contextlib.contextmanager
def _locators(locator: type) -> Iterator[None]:
    before = caching.CacheImpl._locator_classes
    caching.CacheImpl._locator_classes = [locator]
    try:
        yield
    finally:
        caching.CacheImpl._locator_classes = before


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock between processes, where the file system has locks.

    Numba renames whole files into place; without the lock, processes would only compile the same thing twice.
    """
    with open(path, "a", encoding="utf-8") as stream:
        with contextlib.suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
