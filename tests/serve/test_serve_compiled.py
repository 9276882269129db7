"""Compiled code is kept by content, and processes that start at the same time do not spoil it."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from burstbench.serve import compiled

PROGRAM = """
import sys
from test_serve_compiled import use
print(*use(sys.argv[1]))
"""


def use(source):
    """Compile `double` of the file small.py and return its answer for 21 and whether it came from the cache."""
    sys.path.insert(0, str(Path(source).parent))
    try:
        sys.modules.pop("small", None)
        importlib.invalidate_caches()
        small = importlib.import_module("small")
        function = compiled.compile_once(small.double, (numba.int64,), (Path(source),))
    finally:
        sys.path.pop(0)
    return function(21), sum(function.stats.cache_hits.values())


@pytest.fixture
def source(tmp_path, monkeypatch):
    path = tmp_path / "small.py"
    path.write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    compiled.folder.cache_clear()
    yield path
    compiled.folder.cache_clear()


def test_of_two_processes_one_compiles_and_the_other_waits(source):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    both = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, source], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = sorted(process.communicate(timeout=120)[0].split() for process in both)
    assert answers == [["42", "0"], ["42", "1"]]


def test_content_decides_not_the_time_of_the_file(source, tmp_path):
    assert use(source) == (42, 0)
    assert compiled.folder() == tmp_path / "cache" / "burstbench" / "numba"
    os.utime(source, (1, 1))
    assert use(source) == (42, 1)
    source.write_text("def double(x):\n    return 2 * x + 1\n")
    assert use(source) == (43, 0)


def test_a_home_that_cannot_be_written_is_no_error(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(compiled.tempfile, "gettempdir", lambda: str(tmp_path))
    assert use(source) == (42, 0)
    assert compiled.folder() == tmp_path / f"burstbench-{os.getuid()}" / "numba"


def test_another_users_folder_is_not_trusted(source, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled.os, "getuid", lambda: 12345)
    assert compiled.folder() is None


def test_nowhere_to_write_is_no_error(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    assert use(source) == (42, 0)
    assert compiled.folder() is None
