"""A real vLLM server on this machine's CPU: every request accounted for."""

import re
import socket

import numpy as np
import pytest
from burstbench import contracts
from vllm_cells import PYTHON, Cell

if not PYTHON.exists():
    pytest.skip(f"{PYTHON} is not there: `make .venv-vllm/.done` installs vLLM", allow_module_level=True)

# One worker runs them all: each server wants a core.
pytestmark = pytest.mark.slow(4)

N = 60
TOKEN = "hf_thisIsASecretOfTheHub"


def ns(table, name):
    return np.array([np.nan if value is None else value for value in table.column(name).to_pylist()])


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """Sixty requests over six seconds, finished."""
    rng = np.random.default_rng()
    lengths = rng.integers(1, 400, N)
    made = Cell(tmp_path_factory.mktemp("cell"), lengths, np.sort(rng.uniform(0, 6, N)), max_tokens=24)
    made.lengths = lengths
    status, made.said = made.run(HF_TOKEN=TOKEN)
    assert status == 0, made.said
    return made


def test_every_request_is_joined_and_answered(cell):
    join = cell.record["join"]
    assert (join["client_rows"], join["joined"]) == (N, N)
    assert join["client_rows_without_engine_row"] == {}
    assert join["outcomes"] == {"ok": N}
    assert f"joined {N} of {N}" in cell.said


def test_the_record_proves_what_was_delivered(cell):
    found = cell.record["delivery"]
    assert (found["planned"], found["sent"], found["prompts_of_planned_length"]) == (N, N, N)
    server = found["at_the_scheduler"]
    assert server["n"] == N
    assert server["lag_s"]["p50"] > found["lag_s"]["p50"]  # it gets a request after the client has sent it


def test_prompts_have_the_length_that_was_planned(cell):
    assert cell.requests().column("prompt_tokens").to_pylist() == cell.lengths.tolist()


def test_the_times_of_a_request_follow_one_another(cell):
    requests = cell.requests()
    names = ("intended_ns", "sent_ns", "first_scheduled_ns", "first_token_ns", "done_ns")
    times = np.array([ns(requests, name) for name in names])
    assert np.isfinite(times).all()
    # The client notes the time of sending after it has sent; on a busy machine the engine may be there before the note.
    slack = np.array([0, 1e9, 0, 0])[:, None]
    assert (np.diff(times, axis=0) >= -slack).all()


def test_the_engine_has_a_row_of_its_own_for_every_request(cell):
    requests, engine = cell.requests(), cell.engine()
    assert engine.column("request_id").to_pylist() == requests.column("request_id").to_pylist()
    arrived, scheduled, ended = (ns(engine, name) for name in ("arrived_ns", "scheduled_ns", "ended_ns"))
    assert (arrived <= scheduled).all(), "the time in the queue"
    assert (ended <= ns(requests, "done_ns")).all(), "the client hears of it later"
    assert ns(engine, "response_tokens").tolist() == ns(requests, "response_tokens").tolist()
    assert set(engine.column("ending").to_pylist()) == {"stopped", "length"}


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


def test_no_key_and_no_token_in_any_log_or_record(cell):
    files = [path for path in cell.folder.rglob("*") if path.is_file()]
    assert {"server.log", "run.json", "requests.parquet", "steps.parquet"} <= {path.name for path in files}
    for path in files:
        assert TOKEN.encode() not in path.read_bytes(), path
    assert TOKEN not in cell.said
    for name in ("server.log", "out/run.json"):
        text = (cell.folder / name).read_text()
        assert "VLLM_API_KEY" not in text
        assert "Bearer" not in text
        assert "'api_key'" not in text


def test_it_listens_to_this_machine_alone_and_runs_no_code_of_a_model(cell):
    flags = cell.record["flags"]
    assert flags[flags.index("--host") + 1] == "127.0.0.1"
    assert "--no-trust-remote-code" in flags
    assert cell.record["environment"]["HF_TOKEN"] == ""


def test_a_full_kv_cache_preempts_and_nothing_is_lost(tmp_path):
    """Sixty requests at once in a pool that holds a fifth of them: each is answered whole, if later."""
    n, prompt, response = 60, 400, 120
    made = Cell(
        tmp_path,
        np.full(n, prompt),
        np.zeros(n),
        max_tokens=response,
        vllm={"kv_cache_gib": 0.0082, "max_num_seqs": 64, "temperature": 0.0},
    )
    status, said = made.run()
    assert status == 0, said
    requests, steps, record = made.requests(), made.steps(), made.record
    assert record["join"]["joined"] == n
    assert record["join"]["outcomes"] == {"ok": n}
    preempted = ns(requests, "preemptions").sum()
    assert preempted > 0
    assert preempted == ns(steps, "preempted").sum() == record["server_counters"]["num_preemptions_total"]
    assert ns(steps, "kv_usage").max() > 0.95
    assert ns(steps, "waiting").max() > 0
    # What was thrown away is computed again: more than the prompts alone.
    assert ns(steps, "prefill_tokens").sum() > n * prompt
    assert record["server_counters"]["generation_tokens_total"] == ns(requests, "response_tokens").sum() + 1


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
        vllm={"lag_limit_s": 1e-9 if kind == "total" else None},
    )
    status, said = made.run()
    if kind == "total":  # later than any client is allowed to be: the run is written, and fails with the reason
        assert status == 2
        assert "lag: 99th percentile of sent - intended" in said
        assert contracts.REQUESTS.read(made.folder / "out/failed/requests.parquet").equals(made.requests())
    else:
        assert status == 0, said
    record, requests, steps = made.record, made.requests(), made.steps()
    assert record["join"]["joined"] == 100
    assert record["hardware"] == "emulated NVIDIA RTX A6000"
    late = np.array([outcome == "timeout" for outcome in requests.column("outcome").to_pylist()])
    assert set(requests.column("outcome").to_pylist()) == {"ok", "timeout"}
    waited = (ns(requests, "done_ns") - ns(requests, "intended_ns"))[late] / 1e9
    # Those in the queue are ended between two steps. Server and client are late where others hold the cores: what is
    # allowed here for that is no measure of the timeout's precision.
    longest_step = ns(steps, "duration_ns").max() / 1e9 if kind == "queue" else 0
    assert waited.min() >= seconds
    assert waited.max() < seconds + longest_step + 2
    if kind == "queue":
        assert np.isnan(ns(requests, "first_scheduled_ns")[late]).all()
        assert (ns(requests, "done_ns")[~late] / 1e9).max() > seconds, "who runs may go on"
    # What the step times promise is slept, with little on top.
    free = record["engine_facts"]
    assert free["blocks"] == record["capacity"]["blocks"]
