"""Nothing of a server outlives its job, however job and server end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from burstbench.serve import server, supervise

SUPERVISE = [sys.executable, "-I", str(server.SUPERVISOR)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, within_s=10.0):
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def start(tmp_path, code, grace_s=1.0):
    """Start a supervised Python program that writes its process ids to files `pid_*`."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    head = f"import os, signal, subprocess, sys, time, pathlib\nhere = pathlib.Path({str(tmp_path)!r})\n"
    command = [*SUPERVISE, str(grace_s), str(scratch), sys.executable, "-c", head + code]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    return process, scratch


def pids(tmp_path, count):
    def found():
        return [path.read_text() for path in sorted(tmp_path.glob("pid_*"))]

    wait_for(lambda: len([text for text in found() if text]) == count)
    return [int(text) for text in found()]


SLEEPER = "(here / 'pid_a').write_text(str(os.getpid())); time.sleep(1000)"


@pytest.mark.parametrize(("said", "kept"), [(supervise.KEEP, True), (b"", False)], ids=["job ends", "job is killed"])
def test_it_ends_with_the_job(tmp_path, said, kept):
    process, scratch = start(tmp_path, SLEEPER)
    (child,) = pids(tmp_path, 1)
    process.stdin.write(said)
    process.stdin.close()
    assert process.wait(10) == 128 + signal.SIGTERM
    assert not alive(child)
    assert scratch.exists() == kept


def test_one_that_ignores_sigterm_is_killed_after_the_grace(tmp_path):
    process, _ = start(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER, grace_s=0.3)
    (child,) = pids(tmp_path, 1)
    begun = time.monotonic()
    process.stdin.close()
    assert process.wait(10) == 128 + signal.SIGKILL
    assert 0.3 <= time.monotonic() - begun < 3
    assert not alive(child)


LEAVES_ORPHANS = """
code = "import os, time, pathlib; pathlib.Path({0!r}).write_text(str(os.getpid())); time.sleep(1000)"
for name in "bc":
    subprocess.Popen([sys.executable, "-c", code.format(str(here / f"pid_{name}"))], start_new_session=name == "c")
"""


def test_processes_that_it_left_behind_end_too_whatever_their_session(tmp_path):
    process, _ = start(tmp_path, LEAVES_ORPHANS + "\ntime.sleep(1); os._exit(3)")
    children = pids(tmp_path, 2)
    assert process.wait(10) == 3, "its own status is passed on"
    assert not any(map(alive, children))


def test_a_killed_supervisor_takes_the_server_along(tmp_path):
    process, _ = start(tmp_path, SLEEPER)
    (child,) = pids(tmp_path, 1)
    process.kill()
    wait_for(lambda: not alive(child))


def test_the_job_may_be_killed(tmp_path):
    (tmp_path / "scratch").mkdir()
    server_code = f"import os, pathlib, time; here = pathlib.Path({str(tmp_path)!r}); {SLEEPER}"
    command = [*SUPERVISE, "1", str(tmp_path / "scratch"), sys.executable, "-c", server_code]
    job = f"import subprocess, time; p = subprocess.Popen({command!r}, stdin=subprocess.PIPE); time.sleep(1000)"
    process = subprocess.Popen([sys.executable, "-c", job])
    (child,) = pids(tmp_path, 1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not alive(child) and not (tmp_path / "scratch").exists())


def test_sockets_lie_in_a_folder_of_a_short_name_that_goes_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("long" * 30)))
    process, _ = start(tmp_path, "(here / 'sockets').write_text(os.environ['VLLM_RPC_BASE_PATH'])")
    assert process.wait(10) == 0
    sockets = Path((tmp_path / "sockets").read_text())
    # The kernel takes 107 bytes; vLLM appends a slash and a UUID.
    assert len(str(sockets)) + 1 + 36 <= 107
    assert not sockets.exists()
