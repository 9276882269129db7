"""Runs one command so that nothing of it outlives the job. Called by path, with the standard library alone.

    python -I supervise.py GRACE_S SCRATCH COMMAND...

The command gets a session of its own. It is ended when standard input says so or closes, which happens however the job
ends: by itself, by an exception, by SIGTERM or by SIGKILL. In the last case, which leaves nobody else to do it, the
folder SCRATCH is removed. First SIGTERM, after GRACE_S seconds
SIGKILL; then every process that is left below this one, whatever group it moved to (orphans of the command become
children of this process). Exits with the command's status, 128 + n for signal n.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KEEP = b"s"  # on standard input: end the command, but leave the folder to the job
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main(grace_s: float, scratch: str, command: list[str]) -> int:
    """Run the command until it ends or standard input closes; return its status."""
    # The job's signals are the job's: it closes our input when it wants to stop.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    this = os.getpid()

    def in_child() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        # Should this process itself be killed.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != this:
            os._exit(1)

    # vLLM's processes meet at unix sockets, whose paths may have 107 bytes: a batch system's TMPDIR is often longer.
    sockets = tempfile.mkdtemp(prefix="burstbench-", dir="/tmp")
    keep = True
    try:
        # Single-threaded here, so a preexec_fn is safe.
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"VLLM_RPC_BASE_PATH": sockets},
            start_new_session=True,
            preexec_fn=in_child,
        )
        ended = os.pidfd_open(child.pid)
        readable, _, _ = select.select([sys.stdin.fileno(), ended], [], [])
        if ended not in readable:
            keep = os.read(sys.stdin.fileno(), 1) == KEEP
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(grace_s)
            except subprocess.TimeoutExpired:
                child.kill()
        status = child.wait()
    finally:
        end_all(grace_s)
        shutil.rmtree(sockets, ignore_errors=True)
        if not keep:
            shutil.rmtree(scratch, ignore_errors=True)
    return 128 - status if status < 0 else status


def end_all(grace_s: float) -> None:
    """End every process below this one."""
    deadline = time.monotonic() + grace_s
    while found := below():
        kill = signal.SIGKILL if time.monotonic() > deadline else signal.SIGTERM
        for process in found:
            try:
                os.kill(process, kill)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            continue


def below() -> list[int]:
    """Return the processes below this one that still run."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found: list[int] = []
    level = {os.getpid()}
    while level:
        level = {process for process, parent in parents.items() if parent in level}
        found += level
    return found


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
