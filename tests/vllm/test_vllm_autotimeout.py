"""The timeout in front of applications that behave as vLLM's API server does, and worse."""

import asyncio
import json
import time

import pytest
from burstbench.serve import autotimeout

LIMIT_S = 0.2
START = {"type": "http.response.start", "status": 200, "headers": []}


def chunk(text, more=True):
    return {"type": "http.response.body", "body": text, "more_body": more}


def exchange(app, monkeypatch, kind="total", path="/v1/completions", gone_after_s=None, seconds=LIMIT_S):
    """Send one POST through the timeout; return the messages that came back and when the last did."""
    monkeypatch.setenv(autotimeout.VARIABLE, json.dumps({"kind": kind, "seconds": seconds}))
    sent: list[tuple[float, dict]] = []

    async def run():
        begun = time.monotonic()
        body = iter([{"type": "http.request", "body": b"{}", "more_body": False}])

        async def receive():
            try:
                return next(body)
            except StopIteration:
                await asyncio.sleep(1e9 if gone_after_s is None else gone_after_s)
                return {"type": "http.disconnect"}

        async def send(message):
            sent.append((time.monotonic() - begun, message))

        await autotimeout.AutoTimeout(app)({"type": "http", "method": "POST", "path": path}, receive, send)

    asyncio.run(run())
    return [message for _, message in sent], sent[-1][0] if sent else None


async def until_gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


def test_a_quick_answer_passes_untouched(monkeypatch):
    async def app(scope, receive, send):
        assert (await receive())["body"] == b"{}"
        await send(START)
        await send(chunk(b"data: 1\n\n"))
        await send(chunk(b"data: [DONE]\n\n", more=False))

    messages, _ = exchange(app, monkeypatch)
    assert messages == [START, chunk(b"data: 1\n\n"), chunk(b"data: [DONE]\n\n", more=False)]


def test_a_queued_stream_is_answered_504_and_the_engine_told(monkeypatch):
    told = []

    async def app(scope, receive, send):
        await send(START)  # a stream says 200 while its request still waits
        await until_gone(receive)
        told.append(True)

    messages, last_s = exchange(app, monkeypatch)
    assert told == [True]
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]
    assert messages[0]["status"] == 504
    assert json.loads(messages[1]["body"])["error"]["type"] == "timeout"
    assert LIMIT_S <= last_s < LIMIT_S + 0.2


def test_a_stream_that_has_begun_ends_with_an_error_event(monkeypatch):
    async def app(scope, receive, send):
        await send(START)
        await send(chunk(b"data: 1\n\n"))
        await until_gone(receive)
        await send(chunk(b"data: too late\n\n"))
        await send(chunk(b"", more=False))

    messages, last_s = exchange(app, monkeypatch)
    assert messages[:2] == [START, chunk(b"data: 1\n\n")]
    assert len(messages) == 3
    assert messages[2]["more_body"] is False
    event, done, rest = messages[2]["body"].decode().split("\n\n")
    assert json.loads(event.removeprefix("data: "))["error"]["code"] == 504
    assert (done, rest) == ("data: [DONE]", "")
    assert LIMIT_S <= last_s < LIMIT_S + 0.2


def test_an_application_that_hears_nothing_is_cancelled(monkeypatch):
    monkeypatch.setattr(autotimeout, "GRACE_S", 0.1)
    ended = []

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(1e9)
        finally:
            ended.append(True)

    messages, _ = exchange(app, monkeypatch)
    assert messages[0]["status"] == 504
    assert ended == [True]


def test_an_application_that_fails_of_it_concerns_nobody(monkeypatch):
    async def app(scope, receive, send):
        await until_gone(receive)
        raise RuntimeError("the client has gone")

    messages, _ = exchange(app, monkeypatch)
    assert messages[0]["status"] == 504


def test_an_application_that_fails_by_itself_is_heard(monkeypatch):
    async def app(scope, receive, send):
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        exchange(app, monkeypatch)


def test_a_client_that_goes_is_reported(monkeypatch):
    async def app(scope, receive, send):
        await until_gone(receive)

    messages, _ = exchange(app, monkeypatch, gone_after_s=0.05)
    assert messages == []


@pytest.mark.parametrize(("kind", "path"), [("none", "/v1/completions"), ("total", "/health"), ("total", "/metrics")])
def test_what_has_no_limit_may_take_longer(monkeypatch, kind, path):
    async def app(scope, receive, send):
        await asyncio.sleep(2 * LIMIT_S)
        await send(START)
        await send(chunk(b"", more=False))

    messages, last_s = exchange(app, monkeypatch, kind, path)
    assert messages[0]["status"] == 200
    assert last_s >= 2 * LIMIT_S


def failing(after_s, status=200, body=b'data: {"error": {"message": "ended"}}\n\n'):
    async def app(scope, receive, send):
        await asyncio.sleep(after_s)
        await send(START | {"status": status})
        await send(chunk(body))
        await send(chunk(b"data: [DONE]\n\n", more=False))

    return app


@pytest.mark.parametrize(
    "answer", [{}, {"status": 500, "body": b'{"error": {"message": "ended"}}'}], ids=["stream", "whole"]
)
def test_an_end_in_the_queue_is_answered_504(monkeypatch, answer):
    messages, _ = exchange(failing(LIMIT_S + 0.01, **answer), monkeypatch, kind="queue")
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]
    assert messages[0]["status"] == 504
    assert "queue" in json.loads(messages[1]["body"])["error"]["message"]


def test_an_error_that_comes_sooner_is_none_of_the_queue(monkeypatch):
    messages, _ = exchange(failing(0.0), monkeypatch, kind="queue")
    assert messages[0]["status"] == 200
    assert b"ended" in messages[1]["body"]


def test_a_running_request_has_no_limit_in_the_queue(monkeypatch):
    async def app(scope, receive, send):
        await send(START)
        await send(chunk(b"data: 1\n\n"))
        await asyncio.sleep(2 * LIMIT_S)
        await send(chunk(b"data: [DONE]\n\n", more=False))

    messages, _ = exchange(app, monkeypatch, kind="queue")
    assert messages[0]["status"] == 200
    assert len(messages) == 3
