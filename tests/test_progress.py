"""Progress is quiet for quick work, plain lines in a log, a bar in a terminal."""

import os
import pty
import subprocess
import sys

import pytest
from burstbench import progress as module
from burstbench.progress import progress


@pytest.fixture
def clock(monkeypatch):
    times = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: times[0])
    return times


def test_quick_work_is_silent(clock, capsys):
    with progress("read", 100, "rows") as report:
        clock[0] = 1.9
        report(100)
    assert capsys.readouterr().err == ""


def test_plain_lines_every_five_seconds(clock, capsys):
    with progress("fetch", 125_500_000, "B") as report:
        for second in range(13):
            clock[0] = second
            report(second * 10_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "fetch: 16 % (20.0 of 125.5 MB)",
        "fetch: 56 % (70.0 of 125.5 MB)",
        "fetch: 96 % (120.0 of 125.5 MB)",
    ]


def test_an_unknown_total(clock, capsys):
    with progress("read", None, "rows") as report:
        clock[0] = 3
        report(1234)
    assert capsys.readouterr().err == "read: 1,234 rows\n"


def test_a_bar_in_a_terminal():
    code = (
        "import time\nfrom burstbench.progress import progress\n"
        "with progress('fetch', 100, 'B') as report:\n    report(50)\n    time.sleep(0.3)\n"
    )
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", code], stderr=theirs, check=True, env=os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    )
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "fetch" in shown
    assert "50/100 bytes" in shown
