"""The load client against a real server that misbehaves: every planned request ends in exactly one outcome."""

import gc
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from dataclasses import replace
from multiprocessing import resource_tracker

import numpy as np
import pytest
from burstbench import contracts
from burstbench.serve.client import (
    _USUAL_EVENT,
    ClientError,
    Options,
    State,
    Target,
    client_table,
    live,
    requests_table,
    run_plan,
    stopping,
)
from serve_faulty_server import TOKENS, serving
from serve_plans import PROMPT_TOKENS, plan, prompt

OPTIONS = Options(run_id="t", total_s=60.0, connect_s=20.0, lead_s=0.02)
N = 8
TIMES = np.arange(N) * 0.01


@pytest.fixture(scope="module")
def server():
    resource_tracker.ensure_running()  # of multiprocessing, holds a pipe
    with serving() as found:
        run_plan(plan([0.0]), prompt, Target(found.url(), "m"), OPTIONS)  # libuv keeps one pipe for good
        yield found


@pytest.fixture(autouse=True)
def _no_leak(server, caplog):
    """No socket, task or connection is left, and nobody complains of one."""
    server.asked.clear()
    wait_until(lambda: not server.open)
    before = os.listdir("/proc/self/fd")
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING):
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)] == []
    assert [record.getMessage() for record in caplog.records] == []
    wait_until(lambda: not server.open and len(os.listdir("/proc/self/fd")) <= len(before))


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def check(records, n):
    """What holds whatever happened."""
    assert len(records.outcome) == n
    assert sum(Counter(records.outcome).values()) == n
    assert set(records.outcome) <= set(contracts.OUTCOMES)
    assert np.array_equal(records.request_id, np.arange(n))
    sent = records.sent_ns >= 0
    assert (records.sent_ns[sent] >= records.intended_ns[sent]).all()
    for later, earlier in (("first_byte_ns", "sent_ns"), ("first_token_ns", "first_byte_ns"), ("done_ns", "sent_ns")):
        happened = (getattr(records, later) >= 0) & sent
        assert (getattr(records, later)[happened] >= getattr(records, earlier)[happened]).all(), later
    ok = records.outcome == "ok"
    assert ok.tolist() == [not message for message in records.message]
    assert (records.done_ns[ok] >= records.first_token_ns[ok]).all()
    assert len(records.chunk_ns) == len(records.chunk_tokens) == records.chunk_offsets[-1]
    contracts.REQUESTS.validate(contracts.REQUESTS._from_mapping(requests_table(records), "t"), "t")
    contracts.CLIENT.validate(contracts.CLIENT._from_mapping(client_table(records), "t"), "t")


FAULTS = {
    # behaviour: outcome of the odd requests, their status, a part of their message, their counted response tokens
    "good": ("ok", 200, "", TOKENS),
    "drip": ("ok", 200, "", TOKENS),
    "early-close": ("ok", 200, "", TOKENS),
    "until-close": ("ok", 200, "", TOKENS),
    "reset": ("connection", -1, "", -1),
    "close": ("connection", -1, "ServerDisconnected", -1),
    "reset-in-stream": ("connection", 200, "", 2),
    "close-in-stream": ("connection", 200, "", 2),
    "hang": ("connection", -1, "1 s, the client's own limit", -1),
    "hang-in-stream": ("connection", 200, "1 s, the client's own limit", 1),
    "status-302": ("server_error", 302, "302 Found", -1),
    "status-400": ("server_error", 400, "max_tokens is too large", -1),
    "status-404": ("server_error", 404, "nothing here", -1),
    "status-408": ("timeout", 408, "", -1),
    "status-429": ("rejected", 429, "slow down", -1),
    "status-500": ("server_error", 500, "boom", -1),
    "status-503": ("rejected", 503, "loading", -1),
    "status-504": ("timeout", 504, "timed out", -1),
    "error-event": ("rejected", 200, "the queue is full", -1),
    "error-object": ("rejected", 200, "the queue is full", -1),
    "error-body": ("rejected", 200, "the queue is full", -1),
    "error-timeout": ("timeout", 200, "timed out", 2),
    "error-in-stream": ("server_error", 200, "EngineDeadError", 2),
    "not-json": ("malformed", 200, "not a JSON object", 1),
    "not-object": ("malformed", 200, "not a JSON object", -1),
    "not-event": ("malformed", 200, "not a field", -1),
    "not-utf8": ("malformed", 200, "not a JSON object", -1),
    "bad-usage": ("malformed", 200, "usage", -1),
    "no-usage": ("malformed", 200, "never told the usage", -1),
    "no-done": ("malformed", 200, "without [DONE]", TOKENS),
    "after-done": ("malformed", 200, "after [DONE]", TOKENS),
    "empty": ("malformed", 200, "without [DONE]", -1),
    "no-stream": ("malformed", 200, "application/json", -1),
    "not-http": ("malformed", -1, "", -1),
    "bad-chunk": ("malformed", 200, "", -1),
}


@pytest.mark.parametrize("behaviour", FAULTS)
def test_every_fault_ends_in_its_outcome_and_none_is_lost(server, behaviour):
    outcome, status, message, tokens = FAULTS[behaviour]
    options = replace(OPTIONS, total_s=1.0) if behaviour.startswith("hang") else OPTIONS
    records = run_plan(plan(TIMES), prompt, Target(server.url(behaviour), "m"), options)
    check(records, N)
    assert records.outcome.tolist() == ["ok", outcome] * (N // 2), records.message
    assert server.asked == {f"t-{number}": 1 for number in range(N)}
    assert records.status.tolist() == [200, status] * (N // 2)
    assert all(message in said for said in records.message[1::2]), records.message
    assert records.response_tokens.tolist() == [TOKENS, tokens] * (N // 2)
    assert not records.partial


def test_refused(server):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        records = run_plan(plan(TIMES), prompt, Target(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", "m"), OPTIONS)
    check(records, N)
    assert records.outcome.tolist() == ["connection"] * N
    assert (records.sent_ns == -1).all()
    assert (records.done_ns >= records.intended_ns).all()  # it was tried when it was due, not only ahead of time


def test_a_server_that_goes_away_and_comes_back(server):
    n = 150
    server.call(server.go_away_after(15, 0.3))
    records = run_plan(plan(np.arange(n) * 0.02), prompt, Target(server.url(), "m"), OPTIONS)
    check(records, n)
    failed = np.flatnonzero(records.outcome != "ok")
    assert set(records.outcome[failed]) == {"connection"}
    assert 10 <= failed[0] <= failed[-1] < n - 1
    assert all(server.asked[f"t-{number}"] == 1 for number in np.flatnonzero(records.outcome == "ok"))
    assert max(server.asked.values()) == 1


def test_an_event_of_ten_megabytes(server):
    records = run_plan(plan([0.0, 0.01]), prompt, Target(server.url("huge"), "m"), OPTIONS)
    check(records, 2)
    assert records.outcome.tolist() == ["ok", "ok"], records.message
    assert records.response_tokens.tolist() == [TOKENS, TOKENS]


def test_what_the_server_gets(server):
    options = replace(OPTIONS, temperature=0.5, ignore_eos=True, extra_body={"top_p": 0.9})
    target = Target(server.url() + "/", "the-model", api_key="secret", headers={"X-More": "1"})
    lengths = [1, 3000, 17]
    records = run_plan(plan([0.0, 0.0, 0.02], lengths, [1, 2, 3]), prompt, target, options)
    check(records, 3)
    for number, (length, most) in enumerate(zip(lengths, [1, 2, 3], strict=True)):
        assert server.bodies[f"t-{number}"] == {
            "model": "the-model",
            "prompt": prompt(number, length).tolist(),
            "max_tokens": most,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "temperature": 0.5,
            "ignore_eos": True,
            "top_p": 0.9,
        }
    assert {"Authorization: Bearer secret", "X-More: 1"} < set(server.heads["t-0"])
    assert records.prompt_tokens.tolist() == lengths
    assert records.chunk_tokens.tolist() == [1, 2, 3] * 3
    assert (np.diff(records.chunk_ns.reshape(3, TOKENS)) >= 0).all()
    assert np.array_equal(records.first_token_ns, records.chunk_ns[::TOKENS])
    assert np.array_equal(records.done_ns, records.chunk_ns[TOKENS - 1 :: TOKENS])


def test_prompts_may_be_text(server):
    def text(prompt_id, n):
        return "ä\n" * prompt_id + '"' * n

    records = run_plan(plan([0.0, 0.01], [4, 7]), text, Target(server.url(), "m"), OPTIONS)
    check(records, 2)
    assert server.bodies["t-0"]["prompt"] == '""""'
    assert server.bodies["t-1"]["prompt"] == 'ä\n"""""""'


def test_without_continuous_usage_tokens_are_still_counted_by_the_server(server):
    records = run_plan(plan([0.0]), prompt, Target(server.url(), "m"), replace(OPTIONS, continuous_usage=False))
    assert server.bodies["t-0"]["stream_options"] == {"include_usage": True}
    assert records.response_tokens.tolist() == [TOKENS]


def test_messages_beyond_the_memory_are_encoded_just_before_they_are_sent(server, monkeypatch):
    monkeypatch.setattr("burstbench.serve.client.ENCODED_AHEAD_BYTES", 1000)
    asked = []

    def counted(prompt_id, n):
        asked.append(time.monotonic_ns())
        return prompt(prompt_id, n)

    lengths = np.arange(1, 31) * 3
    records = run_plan(plan(np.arange(30) * 0.01, lengths), counted, Target(server.url(), "m"), OPTIONS)
    assert set(records.outcome) == {"ok"}
    assert records.prompt_tokens.tolist() == lengths.tolist()
    ahead = np.array(asked) < records.start_monotonic_ns - 20_000_000
    assert 2 <= ahead.sum() < 10  # one of them was encoded once more


def test_an_error_of_the_client_itself_ends_the_run(server, monkeypatch):
    monkeypatch.setattr("burstbench.serve.client.ENCODED_AHEAD_BYTES", 0)

    def broken(prompt_id, n):
        if prompt_id == 2:
            raise ZeroDivisionError
        return prompt(prompt_id, n)

    with pytest.raises(ZeroDivisionError):
        run_plan(plan([0.0, 0.0, 0.1, 100.0]), broken, Target(server.url(), "m"), OPTIONS)


def test_open_loop_a_slow_server_delays_nothing(server):
    before = server.connections
    records = run_plan(plan(np.full(40, 0.05)), prompt, Target(server.url("all-slow"), "m"), OPTIONS)
    check(records, 40)
    assert set(records.outcome) == {"ok"}
    assert records.sent_ns.max() < records.first_byte_ns.min()  # all were in flight at once
    assert server.connections - before >= 39  # none waited for another's connection


def test_connections_are_used_again_while_the_server_surely_keeps_them(server):
    before = server.connections
    records = run_plan(plan(np.arange(30) * 0.02), prompt, Target(server.url(), "m"), replace(OPTIONS, lead_s=0.001))
    assert set(records.outcome) == {"ok"}
    assert server.connections - before < 15


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stop_writes_what_was_measured(server, processes):
    n = 40
    stop = threading.Event()
    times = np.concatenate([np.zeros(10), np.full(10, 0.3), np.full(20, 100.0)])
    seen: list[State] = []

    def progress(state):
        seen.append(state)
        if state.sent == 20:
            stop.set()

    options = replace(OPTIONS, processes=processes)
    records = run_plan(plan(times), prompt, Target(server.url("hang"), "m"), options, stop=stop, progress=progress)
    check(records, n)
    assert records.partial
    assert records.outcome.tolist() == ["ok", "aborted"] * 10 + ["aborted"] * 20
    assert (records.sent_ns[:20] >= 0).all()
    assert (records.sent_ns[20:] == -1).all()
    assert (records.done_ns[20:] == -1).all()
    assert records.message[-1] == "the run was stopped before it was sent"
    assert seen[-1].planned == n


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_the_run(server, number):
    before = signal.getsignal(number)
    with stopping() as stop:
        threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
        records = run_plan(plan([0.0, 100.0]), prompt, Target(server.url(), "m"), OPTIONS, stop=stop)
    assert signal.getsignal(number) == before
    check(records, 2)
    assert records.partial
    assert records.outcome.tolist() == ["ok", "aborted"]


def test_a_stop_that_comes_after_the_end_makes_nothing_partial(server):
    stop = threading.Event()
    stop.set()
    records = run_plan(plan([]), prompt, Target(server.url(), "m"), OPTIONS, stop=stop)
    assert len(records.outcome) == 0
    assert not records.partial


def test_split_over_processes_is_the_same_plan(server):
    n = 31
    send_s = np.sort(np.random.default_rng().uniform(0, 0.3, n))
    lengths = np.random.default_rng().integers(1, 50, n)
    options = replace(OPTIONS, processes=3)
    records = run_plan(plan(send_s, lengths), prompt, Target(server.url("status-429"), "m"), options)
    check(records, n)
    assert np.array_equal(records.intended_ns, np.rint(send_s * 1e9))
    assert records.outcome.tolist() == (["ok", "rejected"] * n)[:n]
    assert server.asked == {f"t-{number}": 1 for number in range(n)}
    good = records.outcome == "ok"
    assert np.array_equal(records.prompt_tokens[good], lengths[good])
    assert np.diff(records.chunk_offsets).tolist() == [TOKENS * int(value) for value in good]
    for k in np.flatnonzero(good):
        mine = slice(records.chunk_offsets[k], records.chunk_offsets[k + 1])
        assert records.chunk_tokens[mine].tolist() == [1, 2, 3]
        assert records.chunk_ns[mine][0] == records.first_token_ns[k]


def test_out_of_sockets_is_told_apart(server):
    with subprocess.Popen(
        [sys.executable, "-c", _FEW_SOCKETS, server.url("all-slow")], stdout=subprocess.PIPE
    ) as child:
        said = json.loads(child.communicate()[0])
    assert said["ok"] + said["connection"] == 60
    assert said["connection"] == said["starved"] > 0


_FEW_SOCKETS = f"""
import json, resource, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from burstbench.serve.client import Options, Target, run_plan
from serve_plans import plan, prompt
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
found = run_plan(plan([0.1] * 60), prompt, Target(sys.argv[1], "m"), Options(run_id="t", total_s=20))
count = {{name: int((found.outcome == name).sum()) for name in ("ok", "connection")}}
count["starved"] = sum(message.startswith("the client is out of sockets") for message in found.message)
print(json.dumps(count))
"""


def test_an_error_of_the_report_leaves_no_task(server):
    def progress(state):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_plan(plan([0.0, 100.0]), prompt, Target(server.url("hang"), "m"), OPTIONS, progress=progress)


def die(prompt_id, n):
    """A prompt that kills the process which asks for it."""
    if prompt_id == 1:
        os._exit(3)
    return prompt(prompt_id, n)


def test_a_process_that_dies_leaves_its_requests_aborted(server):
    table = plan([0.0, 0.0, 0.1, 0.1])
    table = table.set_column(table.column_names.index("prompt_id"), "prompt_id", [[0, 1, 0, 1]])
    records = run_plan(table, die, Target(server.url(), "m"), replace(OPTIONS, processes=2))
    check(records, 4)
    assert records.outcome.tolist() == ["ok", "aborted", "ok", "aborted"]
    assert records.partial
    assert "died" in records.message[1]


def test_nothing_grows_with_the_requests(server):
    def objects(n):
        records = run_plan(plan(np.arange(n) * 0.001), prompt, Target(server.url("status-429"), "m"), OPTIONS)
        assert set(records.outcome) == {"ok", "rejected"}
        del records
        wait_until(lambda: not server.open)
        for notes in (server.asked, server.bodies, server.heads):
            notes.clear()
        gc.collect()
        return len(gc.get_objects())

    objects(50)
    few = objects(50)
    assert objects(400) - few < 300


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (Target("127.0.0.1:8000/v1", "m"), OPTIONS, "url: found '127.0.0.1:8000/v1'"),
        (Target("http://a/v1", "m", headers={"X": "a\r\nY: b"}), OPTIONS, "header 'X'"),
        (Target("http://a/v1", "m", api_key="secret\n"), OPTIONS, "header 'Authorization': found (hidden)"),
        (Target("http://a/v1", "m"), replace(OPTIONS, run_id="ö"), "header 'X-Request-Id'"),
        (Target("http://a/v1", "m"), replace(OPTIONS, extra_body={"prompt": 1}), "extra_body: found key 'prompt'"),
        (Target("http://a/v1", "m"), replace(OPTIONS, processes=0), "processes: found 0"),
    ],
)
def test_what_cannot_be_used_is_refused(target, options, message):
    with pytest.raises(ClientError) as error:
        run_plan(plan([0.0]), prompt, target, options)
    assert message in str(error.value)


def test_a_log_gets_plain_lines(capsys):
    with live("cell", lambda: "KV 12 %") as report:
        for time_s in (0.5, 1.0, 6.0):
            report(State(time_s, 100, 50, 10, 30, 10, 0.00123))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"cell: {second} s, sent 50 of 100, in flight 10, done 30, failed 10, lag 1.23 ms, KV 12 %" for second in (0, 6)
    ]


def test_prompt_tokens_are_those_planned(server):
    records = run_plan(plan(TIMES), prompt, Target(server.url("wrong-count"), "m"), OPTIONS)
    assert records.prompt_tokens.tolist() == [PROMPT_TOKENS, PROMPT_TOKENS + 1] * (N // 2)


USUAL = (
    b'{"id":"cmpl-1","object":"text_completion","created":17,"model":"m","choices":[{"index":0,"text":" w\\n\\u00e9",'
    b'"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}],"usage":{"prompt_tokens":64,'
    b'"total_tokens":70,"completion_tokens":6,"prompt_tokens_details":null},"system_fingerprint":null}'
)


def test_what_is_not_parsed_would_have_parsed_to_the_same():
    """Events of the usual shape are recognised by their bytes: broken and changed ones against the JSON parser."""
    rng = np.random.default_rng(4)
    pieces = [USUAL, USUAL.replace(b":", b": ").replace(b",", b", "), json.dumps(json.loads(USUAL)).encode()]
    pieces.append(USUAL.replace(USUAL[USUAL.index(b"[{") : USUAL.index(b"}]") + 2], b"[]"))
    assert all(_USUAL_EVENT(piece) for piece in pieces)
    alphabet = b'{}[]",:\\ 0123ex\xff\n'
    kept = 0
    for _ in range(20_000):
        piece = bytearray(pieces[rng.integers(len(pieces))])
        for place in rng.integers(0, len(piece), rng.integers(1, 3)):
            piece[place : place + rng.integers(0, 2)] = alphabet[k : k + 1] if (k := rng.integers(18)) < 17 else b""
        if found := _USUAL_EVENT(bytes(piece)):
            kept += 1
            value = json.loads(piece.decode())
            usage = value["usage"]
            assert (int(found[2]), int(found[3])) == (usage["prompt_tokens"], usage["completion_tokens"])
            assert bool(found[1]) == bool(value["choices"])
            assert "error" not in value
            assert value.get("object") != "error"
    assert kept > 1000
    for name in (b"error", b"object", b"usage", b"choices"):
        assert not _USUAL_EVENT(USUAL.replace(b'"created":17', b'"%b":"error"' % name))
