"""A real vLLM server on this machine's CPU: every request accounted for, and what happens when things break."""

import os
import re
import select
import signal
import socket
import subprocess
import time

import numpy as np
import pytest
from vllm_cells import PYTHON, Cell

if not PYTHON.exists():
    pytest.skip(f"{PYTHON} is not there: `make .venv-vllm/.done` installs vLLM", allow_module_level=True)

# One worker runs them all: each server wants a core.
pytestmark = pytest.mark.slow

N = 60


def wait_for(condition, within_s, what):
    end = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end, f"no {what} within {within_s} s"
        time.sleep(0.1)
    return found


def ns(table, name):
    return np.array([np.nan if value is None else value for value in table.column(name).to_pylist()])


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """Sixty requests over six seconds, finished."""
    rng = np.random.default_rng()
    lengths = rng.integers(1, 400, N)
    made = Cell(tmp_path_factory.mktemp("cell"), lengths, np.sort(rng.uniform(0, 6, N)), max_tokens=24)
    made.lengths = lengths
    status, made.said = made.run()
    assert status == 0, made.said
    return made


def test_every_request_is_joined_and_answered(cell):
    join = cell.record["join"]
    assert (join["client_rows"], join["joined"]) == (N, N)
    assert join["client_rows_without_engine_row"] == {}
    assert join["outcomes"] == {"ok": N}
    assert f"joined {N} of {N}" in cell.said


def test_prompts_have_the_length_that_was_planned(cell):
    assert cell.requests().column("prompt_tokens").to_pylist() == cell.lengths.tolist()


def test_the_times_of_a_request_follow_one_another(cell):
    requests = cell.requests()
    names = ("intended_ns", "sent_ns", "first_scheduled_ns", "first_token_ns", "done_ns")
    times = np.array([ns(requests, name) for name in names])
    assert np.isfinite(times).all()
    # The client notes the time of sending after it has sent; on a busy machine the engine may be there before the note.
    slack = np.array([0, 50e6, 0, 0])[:, None]
    assert (np.diff(times, axis=0) >= -slack).all()


def test_the_steps_hold_every_token(cell):
    """Each prompt token is computed once, and each token of an answer but its last goes in again."""
    requests, steps = cell.requests(), cell.steps()
    responses = ns(requests, "response_tokens")
    assert ns(steps, "prefill_tokens").sum() == cell.lengths.sum()
    assert ns(steps, "decode_tokens").sum() == (responses - 1).sum()
    # The server counts for itself; the request that woke it had 8 tokens and 1.
    counted = cell.record["server_counters"]
    assert counted["prompt_tokens_total"] == cell.lengths.sum() + 8
    assert counted["generation_tokens_total"] == responses.sum() + 1
    assert len({*responses}) > 5, "answers end by themselves, not at max_tokens alone"


def test_steps_lie_one_after_the_other_while_their_requests_run(cell):
    steps, requests = cell.steps(), cell.requests()
    start, duration = ns(steps, "start_ns"), ns(steps, "duration_ns")
    assert (start[1:] >= (start + duration)[:-1]).all()
    assert (duration > 0).all()
    assert start[0] == ns(requests, "first_scheduled_ns").min()
    assert (start + duration)[-1] <= ns(requests, "done_ns").max()
    assert 0 < ns(steps, "kv_usage").max() < 1
    assert ns(steps, "kv_usage")[-1] > 0


def test_the_record_says_what_it_was_made_on_and_with(cell):
    record = cell.record
    assert record["hardware"]["gpus"] == 0
    assert record["hardware"]["cpu"]
    assert record["versions"]["server"]["vllm"] == "0.32.0"
    assert record["versions"]["server_packages"]["torch"].startswith("2.13.0")
    assert re.fullmatch("[0-9a-f]{64}", record["model_files"]["config.json"])
    assert "--no-enable-prefix-caching" in record["flags"]
    assert record["engine_facts"]["max_num_seqs"] == 32
    assert record["engine_facts"]["max_num_batched_tokens"] == 2048
    assert record["statement"].endswith("random weights, on the CPU; no GPU was used")
    assert re.fullmatch("[0-9a-f]{40}", record["revision"]["commit"])


def test_nothing_is_left_behind(cell):
    assert cell.processes() == {}
    assert [path for path in cell.leftovers() if "/tmp/" in path.removeprefix(str(cell.folder))] == []
    with socket.socket() as probe:
        port = int(cell.record["flags"][cell.record["flags"].index("--port") + 1])
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_no_key_in_log_or_record(cell):
    for name in ("server.log", "out/run.json"):
        text = (cell.folder / name).read_text()
        assert "VLLM_API_KEY" not in text
        assert "Bearer" not in text
        assert "'api_key'" not in text


@pytest.fixture
def long_cell(tmp_path):
    """Make a cell of a minute of requests, five a second; end it whatever the test does."""
    made = []

    def make(**changes):
        made.append(Cell(tmp_path, np.full(300, 50), np.arange(300) / 5, max_tokens=24, **changes))
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


@pytest.mark.parametrize("which", ["engine", "server"])
def test_a_server_killed_in_mid_run_fails_the_job(long_cell, which):
    made = long_cell()
    process = made.start()
    victim = running(made, process)
    if which == "server":
        (victim,) = (
            pid
            for pid, command in made.processes().items()
            if "api_server.entry" in command and "supervise.py" not in command
        )
    os.kill(victim, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Traceback" not in said
    assert "the server ended with" in said
    assert re.search(r"of 300 requests \d+ had been sent \(.*\d+ ok", said)
    assert made.leftovers() == []
    assert made.processes() == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_killed_job_leaves_nothing(long_cell, number):
    made = long_cell()
    process = made.start()
    running(made, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (2 if number == signal.SIGTERM else -signal.SIGKILL)
    if number == signal.SIGTERM:
        assert "the run was stopped; of 300 requests" in said
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


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"weights": "/no/such/folder"}, r"the server ended with status 1; its log .*/no/such/folder"),
        ({"kv_cache_gib": 0.001}, r"the server ended with status 1; its log .*KV cache"),
        ({"startup_s": 3}, r"the server did not answer within 3 s"),
    ],
    ids=["model path wrong", "no room for the KV cache", "deadline"],
)
def test_a_server_that_cannot_start_says_why(long_cell, changes, expected):
    made = long_cell(vllm=changes)
    status, said = made.run()
    assert status == 2
    assert "Traceback" not in said
    assert re.search(expected, said.replace("\n", " ")), said
    assert made.processes() == {}
    assert made.leftovers() == []


def test_a_full_disk_fails_the_job(tmp_path, long_cell):
    made = long_cell()
    (tmp_path / "tmp").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path / "tmp"], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        status, said = made.run()
        assert status in (1, 2)
        assert "No space left on device" in said, said
        assert made.processes() == {}
        assert made.leftovers() == []
    finally:
        subprocess.run(["umount", "-l", tmp_path / "tmp"], check=True)


@pytest.mark.parametrize("kind", ["total", "queue"])
def test_an_emulated_gpu_times_out_what_it_cannot_serve(tmp_path, kind):
    """A hundred prompts at once on an emulated A6000: it serves some, and ends the others at the deadline."""
    seconds = 4.0
    made = Cell(
        tmp_path,
        np.full(100, 300),
        np.zeros(100),
        max_tokens=1024,
        engine="vllm-emulated",
        model="llama-2-13b-chat",
        gpu="a6000",
        simulator={
            "timeout": {"kind": kind, "seconds": seconds},
            "response_lengths": {"kind": "constant", "tokens": 4},
        },
    )
    status, said = made.run()
    assert status == 0, said
    record, requests, steps = made.record, made.requests(), made.steps()
    assert record["join"]["joined"] == 100
    assert record["hardware"] == "emulated NVIDIA RTX A6000"
    late = np.array([outcome == "timeout" for outcome in requests.column("outcome").to_pylist()])
    assert set(requests.column("outcome").to_pylist()) == {"ok", "timeout"}
    waited = (ns(requests, "done_ns") - ns(requests, "sent_ns"))[late] / 1e9
    longest_step = ns(steps, "duration_ns").max() / 1e9
    # The scheduler ends those in its queue between two steps; the middleware has a clock of its own. Where the tests of
    # others hold the cores, server and client are late by as much: the half of them must not be.
    slack = 0.2 + (longest_step if kind == "queue" else 0)
    assert waited.min() >= seconds
    assert np.median(waited) < seconds + slack + 0.2
    assert waited.max() < seconds + slack + 1
    if kind == "queue":
        assert np.isnan(ns(requests, "first_scheduled_ns")[late]).all()
        assert (ns(requests, "done_ns")[~late] / 1e9).max() > seconds, "who runs may go on"
    # What the step times promise is slept, with little on top.
    free = record["engine_facts"]
    assert free["blocks"] == record["capacity"]["blocks"]
