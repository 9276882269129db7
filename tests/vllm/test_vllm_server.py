"""The server's life, with a stand-in that answers as vLLM does."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from burstbench.serve.server import HOST, Server, ServerError

STAND_IN = """
import http.server, os, signal, sys, time
print("starting", flush=True)
{before}
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


def server(tmp_path, before="", deadline_s=10.0, port=None):
    code = STAND_IN.format(before=before)
    return Server(
        lambda server: [sys.executable, "-c", code, str(server.port)],
        lambda server: {"SEEN": "1"},
        tmp_path / "logs/server.log",
        deadline_s,
        port,
    )


def listening(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def test_it_is_up_inside_and_gone_outside(tmp_path):
    with server(tmp_path) as up:
        assert listening(up.port)
        assert up.url == f"http://127.0.0.1:{up.port}/v1"
        folder, pid = up.folder, up.pid
        up.check()
    assert not listening(up.port)
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_folder_stays_until_the_end_of_the_context(tmp_path):
    with server(tmp_path) as up:
        (up.folder / "journal").write_text("rows")
        up.stop()
        assert not listening(up.port)
        assert (up.folder / "journal").read_text() == "rows"
    assert not up.folder.exists()


def test_an_exception_stops_it_too(tmp_path):
    with pytest.raises(KeyError), server(tmp_path) as up:
        raise KeyError("of the job")
    assert not listening(up.port)


def test_one_that_ends_while_starting_says_why(tmp_path):
    before = "print('(EngineCore pid=7) ERROR 11-23 10:51:55 [core.py:1510] ValueError: no room'); sys.exit(4)"
    began = time.monotonic()
    with pytest.raises(ServerError, match=r"status 4; its log .*server.log\) says:\n  ValueError: no room$"):
        server(tmp_path, before).__enter__()
    assert time.monotonic() - began < 5


def test_one_that_never_answers_is_given_up(tmp_path):
    with pytest.raises(ServerError, match=r"did not answer within 3 s.*\n  starting"):
        server(tmp_path, "time.sleep(1000)", deadline_s=3.0).__enter__()


def test_one_that_dies_is_noticed(tmp_path):
    ended = []
    with server(tmp_path, "open('pid', 'w').write(str(os.getpid()))".replace("pid'", f"{tmp_path}/pid'")) as up:
        up.on_end = lambda: ended.append(True)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        end = time.monotonic() + 5
        while not ended and time.monotonic() < end:
            time.sleep(0.01)
        assert ended == [True]
        with pytest.raises(ServerError, match="signal 9"):
            up.check()


def test_a_planned_stop_is_no_alarm(tmp_path):
    ended = []
    with server(tmp_path) as up:
        up.on_end = lambda: ended.append(True)
    time.sleep(0.1)
    assert ended == []


def test_a_port_that_is_taken_is_refused(tmp_path):
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} of 127.0.0.1 is taken"):
            server(tmp_path, port=port).__enter__()


def test_two_jobs_never_choose_one_port(tmp_path, monkeypatch):
    monkeypatch.setattr("burstbench.serve.server.PORTS", range(31000, 31002))
    with server(tmp_path / "a") as one, server(tmp_path / "b") as two:
        assert {one.port, two.port} == {31000, 31001}
        with pytest.raises(ServerError, match=r"port 3100[01] of 127.0.0.1 is taken"):
            server(tmp_path / "c").__enter__()
    # Before the first of them listens, too: its guard is enough.
    with socket.socket(socket.AF_UNIX) as guard:
        guard.bind("\0burstbench-port-31000")
        with pytest.raises(ServerError, match="taken by another job"):
            server(tmp_path, port=31000).__enter__()


def test_the_key_stands_in_no_list_of_processes_and_no_log(tmp_path):
    with server(tmp_path, "print('key', len(os.environ['VLLM_API_KEY']), os.environ['SEEN'], flush=True)") as up:
        commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert not any(up.api_key.encode() in command for command in commands)
        log = up.log.read_text()
    assert "key 32 1" in log
    assert up.api_key not in log
