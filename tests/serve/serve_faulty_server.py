"""A real server of completions on the loopback that misbehaves as asked: http://host:port/<behaviour>/v1.

Requests of even number are answered well, those of odd number as the behaviour says, so that good and bad share the
client's pool of connections. Behaviours whose name begins with "all-" concern every request.
"""

import asyncio
import json
import socket
import struct
import threading
from collections import Counter
from contextlib import contextmanager

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKENS = 3


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(value):
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def token(prompt, count, text=" word", **more):
    usage = {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count}
    return {"choices": [{"index": 0, "text": text, "finish_reason": None, **more}], "usage": usage}


def stream(prompt, tokens=TOKENS):
    """The events of one good answer, as vLLM sends them."""
    last = token(prompt, tokens)
    return [event(token(prompt, count + 1)) for count in range(tokens)] + [
        event({"choices": [], "usage": last["usage"]}),
        event(b"[DONE]"),
    ]


def json_answer(status, value, headers=""):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def rst(writer):
    """Close with RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Server:
    """What it was asked and what it did.

    Attributes:
        asked: how often each X-Request-Id came.
        bodies: the JSON of each, by X-Request-Id.
        heads: the lines of each request's head.
        connections: accepted so far.
        open: connections open now.
        port: where it listens.
    """

    def __init__(self):
        self.asked = Counter()
        self.bodies = {}
        self.heads = {}
        self.connections = self.open = 0
        self.metrics = None
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self.listener = None
        self.tasks = set()

    def url(self, behaviour="good"):
        return f"http://127.0.0.1:{self.port}/{behaviour}/v1"

    async def listen(self):
        self.listener = await asyncio.start_server(self.handle, "127.0.0.1", self.port, backlog=5000)
        self.port = self.listener.sockets[0].getsockname()[1]

    async def go_away_after(self, requests, seconds):
        """After so many requests, refuse connections and reset the open ones; come back after a while."""
        while self.asked.total() < requests:
            await asyncio.sleep(0.001)
        self.listener.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.sleep(seconds)
        await self.listen()

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    async def handle(self, reader, writer):
        self.connections += 1
        self.open += 1
        writer.reader = reader
        self.tasks.add(asyncio.current_task())
        try:
            while await self.answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            rst(writer)
        finally:
            self.tasks.discard(asyncio.current_task())
            self.open -= 1
            writer.close()

    async def answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        path = lines[0].split()[1]
        if path.endswith("/metrics"):
            page = self.metrics.encode() if self.metrics is not None else None
            writer.write(json_answer("200 OK" if page is not None else "404 Not Found", page or b"nothing"))
            return True
        if path.endswith("/v1/models"):
            writer.write(json_answer("200 OK", {"object": "list", "data": [{"id": "the-model"}]}))
            return True
        if path.endswith("/models"):
            writer.write(json_answer("404 Not Found", {}))
            return True
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        identity = fields["x-request-id"]
        self.asked[identity] += 1
        self.heads[identity] = lines
        body = self.bodies[identity] = json.loads(await reader.readexactly(int(fields["content-length"])))
        behaviour = path.split("/")[1]
        bad = behaviour.startswith("all-") or int(identity.rpartition("-")[2]) % 2
        answer = getattr(self, behaviour.replace("-", "_") if bad else "good")
        await answer(writer, len(body["prompt"]))
        await writer.drain()
        return not writer.is_closing()

    async def send(self, writer, *events, end=True):
        writer.write(STREAM)
        for data in events:
            writer.write(chunk(data))
        if end:
            writer.write(b"0\r\n\r\n")

    # what it does ---------------------------------------------------------------------------------------------------

    async def good(self, writer, prompt):
        writer.write(STREAM)
        for data in stream(prompt):
            writer.write(chunk(data))
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    async def reset(self, writer, prompt):
        rst(writer)

    async def close(self, writer, prompt):
        writer.close()

    async def reset_in_stream(self, writer, prompt):
        await self.send(writer, *stream(prompt)[:2], end=False)
        await writer.drain()
        await asyncio.sleep(0.01)
        rst(writer)

    async def close_in_stream(self, writer, prompt):
        await self.send(writer, *stream(prompt)[:2], end=False)
        writer.close()

    async def hang(self, writer, prompt):
        while not writer.reader.at_eof():  # until the client has enough
            await asyncio.sleep(0.01)
        writer.close()

    async def hang_in_stream(self, writer, prompt):
        await self.send(writer, *stream(prompt)[:1], end=False)
        await self.hang(writer, prompt)

    async def all_slow(self, writer, prompt):
        await asyncio.sleep(0.4)
        await self.good(writer, prompt)

    async def status_400(self, writer, prompt):
        writer.write(json_answer("400 Bad Request", {"error": {"message": "max_tokens is too large", "code": 400}}))

    async def status_404(self, writer, prompt):
        writer.write(json_answer("404 Not Found", b"<html>nothing here</html>"))

    async def status_302(self, writer, prompt):
        writer.write(json_answer("302 Found", b"", f"Location: {self.url()}/completions\r\n"))

    async def status_408(self, writer, prompt):
        writer.write(json_answer("408 Request Timeout", {}))

    async def status_429(self, writer, prompt):
        writer.write(json_answer("429 Too Many Requests", {"error": {"message": "slow down"}}))

    async def status_500(self, writer, prompt):
        writer.write(json_answer("500 Internal Server Error", {"error": "boom"}))

    async def status_503(self, writer, prompt):
        writer.write(json_answer("503 Service Unavailable", {"object": "error", "message": "loading"}))

    async def status_504(self, writer, prompt):
        writer.write(json_answer("504 Gateway Timeout", {"error": {"message": "timed out after 30 s"}}))

    async def drip(self, writer, prompt):
        for data in [STREAM, *map(chunk, stream(prompt)), b"0\r\n\r\n"]:
            for number in range(len(data)):
                writer.write(data[number : number + 1])
                await writer.drain()
                await asyncio.sleep(0)

    async def huge(self, writer, prompt):
        rest = stream(prompt)[1:]
        await self.send(writer, event(token(prompt, 1, "x" * 10_000_000)), *rest)

    async def not_json(self, writer, prompt):
        await self.send(writer, *stream(prompt)[:1], b'data: {"choices": [\n\n', event(b"[DONE]"))

    async def not_object(self, writer, prompt):
        await self.send(writer, event(b"[1, 2]"), event(b"[DONE]"))

    async def not_event(self, writer, prompt):
        await self.send(writer, b"<html>oops</html>\n\n")

    async def not_utf8(self, writer, prompt):
        await self.send(writer, event(b'{"choices": [{"text": "\xff\xfe"}]}'), event(b"[DONE]"))

    async def bad_usage(self, writer, prompt):
        await self.send(writer, event({"choices": [], "usage": {"prompt_tokens": "many"}}), event(b"[DONE]"))

    async def no_usage(self, writer, prompt):
        await self.send(writer, event({"choices": [{"text": "a"}], "usage": None}), event(b"[DONE]"))

    async def no_done(self, writer, prompt):
        await self.send(writer, *stream(prompt)[:-1])

    async def after_done(self, writer, prompt):
        await self.send(writer, *stream(prompt), *stream(prompt)[:1])

    async def empty(self, writer, prompt):
        await self.send(writer)

    async def not_http(self, writer, prompt):
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    async def bad_chunk(self, writer, prompt):
        writer.write(STREAM)
        await asyncio.sleep(0.02)
        writer.write(b"zz\r\nnonsense\r\n")

    async def no_stream(self, writer, prompt):
        writer.write(json_answer("200 OK", token(prompt, 3)))

    async def error_event(self, writer, prompt):
        await self.send(writer, event({"error": {"message": "the queue is full", "code": 400}}), event(b"[DONE]"))

    async def error_object(self, writer, prompt):
        await self.send(writer, event({"object": "error", "message": "the queue is full", "code": 500}))

    async def error_body(self, writer, prompt):
        writer.write(json_answer("200 OK", {"error": {"message": "the queue is full"}}))

    async def error_timeout(self, writer, prompt):
        error = {"message": "request timed out after 30 s", "type": "TimeoutError", "code": 504}
        await self.send(writer, *stream(prompt)[:2], event({"error": error}), event(b"[DONE]"))

    async def error_in_stream(self, writer, prompt):
        await self.send(writer, *stream(prompt)[:2], event({"error": {"message": "EngineDeadError"}}))

    async def wrong_count(self, writer, prompt):
        await self.send(writer, *stream(prompt + 1))

    async def until_close(self, writer, prompt):
        """Answer well, as HTTP/1.0 does: the end of the connection is the end of the answer."""
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for data in stream(prompt):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.001)
        writer.close()

    async def early_close(self, writer, prompt):
        """Answer well, then close the connection that the client keeps."""
        await self.good(writer, prompt)
        await writer.drain()
        writer.close()


@contextmanager
def serving():
    server = Server()

    def work():
        asyncio.set_event_loop(server.loop)
        server.loop.run_until_complete(server.listen())
        ready.set()
        server.loop.run_forever()
        server.listener.close()
        for task in asyncio.all_tasks(server.loop):
            task.cancel()
        server.loop.run_until_complete(asyncio.sleep(0.02))
        server.loop.close()

    ready = threading.Event()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(10)
    yield server
    server.loop.call_soon_threadsafe(server.loop.stop)
    thread.join(10)
