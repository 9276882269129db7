"""What breaks a run on a real vLLM server: each fault says what it was, fails the job and leaves nothing behind."""

import os
import re
import select
import signal
import socket
import subprocess
import time

import numpy as np
import pytest
from burstbench import contracts
from burstbench.serve import journal, server, vllm
from vllm_cells import PYTHON, Cell, write_weights

if not PYTHON.exists():
    pytest.skip(f"{PYTHON} is not there: `make .venv-vllm/.done` installs vLLM", allow_module_level=True)

# One worker runs them all: each server wants a core.
pytestmark = pytest.mark.slow(4)

RATE, REQUESTS = 5, 100


def wait_for(condition, within_s, what):
    end = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end, f"no {what} within {within_s} s"
        time.sleep(0.1)
    return found


@pytest.fixture
def long_cell(tmp_path):
    """Make a cell of twenty seconds of requests; end it whatever the test does."""
    made = []

    def make(**changes):
        made.append(Cell(tmp_path, np.full(REQUESTS, 50), np.arange(REQUESTS) / RATE, max_tokens=24, **changes))
        return made[-1]

    yield make
    for cell in made:
        cell.close()


def running(made, process):
    """Wait until the run has answered some requests; return the process id of the engine."""
    said = b""

    def some_done():
        nonlocal said
        ready, _, _ = select.select([process.stderr], [], [], 0)
        said += os.read(process.stderr.fileno(), 1 << 16) if ready else b""
        return re.search(rb"done [1-9]", said)

    wait_for(some_done, 240, "answer")
    made.processes()  # learns the server's session
    (engine,) = (pid for pid, command in made.processes().items() if "EngineCore" in command)
    return engine


def test_a_server_killed_in_mid_run_fails_the_job_and_the_cell_can_be_repeated(long_cell):
    made = long_cell()
    process = made.start()
    victim = running(made, process)
    os.kill(victim, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Traceback" not in said
    assert "the server ended with" in said
    sent = re.search(rf"of {REQUESTS} requests (\d+) had been sent \(.*\d+ ok", said)
    assert sent
    assert made.leftovers() == []
    assert made.processes() == {}
    # What the engine had flushed is kept beside its log: all but the last moment before its death.
    steps = contracts.STEPS.read(made.folder / "server.steps.parquet")
    last_s = (steps.column("start_ns")[-1].as_py() + steps.column("duration_ns")[-1].as_py()) / 1e9
    assert int(sent[1]) / RATE - last_s < journal.FLUSH_S + 1
    status, said = made.run()
    assert status == 0, said
    assert made.record["join"]["joined"] == REQUESTS, "repeated, the cell completes"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_killed_job_leaves_nothing(long_cell, number):
    made = long_cell()
    process = made.start()
    running(made, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (2 if number == signal.SIGTERM else -signal.SIGKILL)
    if number == signal.SIGTERM:
        assert f"the run was stopped; of {REQUESTS} requests" in said
    wait_for(lambda: not made.processes(), 45, "end of the server")
    wait_for(lambda: made.leftovers() == [], 5, "end of the scratch folder")


def test_a_job_stopped_while_the_server_starts_leaves_nothing(long_cell):
    made = long_cell()
    process = made.start()
    wait_for(lambda: any("api_server.entry" in command for command in made.processes().values()), 60, "server")
    time.sleep(2)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert made.processes() == {}
    assert made.leftovers() == []


def test_a_server_killed_while_it_starts_fails_the_job(long_cell):
    made = long_cell()
    process = made.start()

    def api_server():
        return [
            pid
            for pid, command in made.processes().items()
            if "api_server.entry" in command and "supervise.py" not in command and "serve vllm" not in command
        ]

    (victim,) = wait_for(api_server, 60, "server")
    os.kill(victim, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Traceback" not in said
    assert "the server ended with signal 9" in said
    assert made.processes() == {}
    assert made.leftovers() == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"weights": "/no/such/folder"}, r"/no/such/folder: found no config\.json, expected the files of tiny"),
        ({"kv_cache_gib": 0.001}, r"the server ended with status 1; its log .*KV cache"),
    ],
    ids=["model path wrong", "no room for the KV cache"],
)
def test_a_server_that_cannot_start_says_why(long_cell, changes, expected):
    made = long_cell(vllm=changes)
    status, said = made.run()
    assert status == 2
    assert "Traceback" not in said
    assert re.search(expected, said.replace("\n", " ")), said
    assert made.processes() == {}
    assert made.leftovers() == []


def test_a_missing_tokenizer_is_said(long_cell, tmp_path):
    """The folder holds a whole model but no tokenizer, which vLLM needs unless it is told to do without."""
    write_weights(tmp_path / "weights")
    made = long_cell(vllm={"weights": str(tmp_path / "weights")})
    status, said = made.run()
    assert status == 2
    assert "Traceback" not in said
    assert re.search("the server ended with status 1.*tokenizer", said.replace("\n", " ")), said
    assert made.processes() == {}
    assert made.leftovers() == []


def test_a_port_that_is_taken_meanwhile_is_said(long_cell, monkeypatch):
    """Somebody takes the port between our look and vLLM's start."""
    made = long_cell()
    with socket.socket() as other, socket.socket(socket.AF_UNIX) as guard:
        other.bind((server.HOST, 0))
        other.listen()
        monkeypatch.setattr(server, "_reserve_port", lambda fixed: (other.getsockname()[1], guard))
        names = ("plan.parquet", "plan.json", "pool.arrow", "out/requests.parquet", "out/steps.parquet", "out/run.json")
        with pytest.raises(server.ServerError, match="ended with status 1") as found:
            vllm.serve(made.settings, *(made.folder / name for name in names), made.folder / "server.log")
    assert "address already in use" in str(found.value).lower()
    assert made.processes() == {}
    assert made.leftovers() == []


def test_max_tokens_beyond_the_model_is_refused_before_a_server_starts(tmp_path):
    made = Cell(tmp_path, [50, 4000], [0.0, 0.1], max_tokens=100)
    begun = time.monotonic()
    status, said = made.run()
    assert status == 2
    assert "row 1: found 4000 prompt tokens and max_tokens 100, expected at most 4096 together" in said
    assert time.monotonic() - begun < 30
    assert not (made.folder / "server.log").exists()
    assert made.leftovers() == []


@pytest.mark.parametrize("where", ["tmp", "out"], ids=["of the journal", "of the results"])
def test_a_full_disk_fails_the_job(tmp_path, where):
    made = Cell(tmp_path, np.full(400, 50), np.arange(400) / 50, max_tokens=24)
    (tmp_path / where).mkdir()
    size = {"tmp": "64k", "out": "16k"}[where]
    small = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", tmp_path / where], capture_output=True
    )
    if small.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        status, said = made.run()
        assert status == 2
        assert "Traceback" not in said
        assert "No space left on device" in said, said
        assert made.processes() == {}
        assert made.leftovers() == []
    finally:
        subprocess.run(["umount", "-l", tmp_path / where], check=True)
