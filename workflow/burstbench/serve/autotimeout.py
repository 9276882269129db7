"""The server's timeout: an ASGI middleware of vLLM's API server.

vLLM is told to use it by `--middleware burstbench.serve.autotimeout.AutoTimeout`. Its clock starts when the request
comes in. At the deadline the application is told that the client has gone, upon which vLLM aborts the request in the
engine, and the client is answered 504; where a stream has begun, with an error event and the end of the stream. The
answer's head is held back until the first part of its body, for a queued stream would already have said 200. Imported
in the server's process: standard library alone.

The environment variable BURSTBENCH_TIMEOUT holds a JSON object: `kind` "total", "queue" or "none", and `seconds`. The
kind "queue" is the scheduler's (`burstbench.serve.recorder`), which ends a request by an error before its first token;
here that becomes the same answer 504.
"""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

VARIABLE = "BURSTBENCH_TIMEOUT"
# Where a server announces an ASGI version in which a stream learns of the client's end by a failing `send` alone, the
# application goes on; after so long it is cancelled.
GRACE_S = 2.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AutoTimeout:
    """Answers 504 to requests that take too long.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        settings = json.loads(os.environ[VARIABLE])
        self.app, self.kind = app, settings["kind"]
        self.seconds = float(settings.get("seconds", 0))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        generates = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith("/v1/")
        if self.kind == "none" or not generates:
            await self.app(scope, receive, send)
            return
        await _Request(self, receive, send).serve(scope)

    def error(self) -> dict[str, Any]:
        """What the client is told."""
        text = f"timed out: {self.kind} time above {self.seconds:g} s"
        return {"error": {"message": text, "type": "timeout", "code": 504}}


class _Request:
    def __init__(self, timeout: AutoTimeout, receive: Receive, send: Send) -> None:
        self.timeout, self.outer_receive, self.outer_send = timeout, receive, send
        self.read = False  # the whole body of the request has been received
        self.start: Message | None = None  # the answer's head, held back
        self.begun = False  # the head is out
        self.closed = False  # the answer is complete, or is ours
        self.expired = asyncio.Event()
        self.came = time.monotonic()

    def waited(self) -> float:
        """Seconds since the request came in."""
        return time.monotonic() - self.came

    async def serve(self, scope: Message) -> None:
        task = asyncio.ensure_future(self.timeout.app(scope, self.receive, self.send))
        try:
            limit = self.timeout.seconds if self.timeout.kind == "total" else None
            await asyncio.wait({task}, timeout=limit)
            if not task.done() and not self.closed:
                await self.give_up()
                await asyncio.wait({task}, timeout=GRACE_S)
                if task.done():
                    # Whatever the application said of a client that has gone concerns nobody.
                    _ = task.cancelled() or task.exception()
                return
            await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def receive(self) -> Message:
        if not self.read:
            part = await self.outer_receive()
            self.read = part["type"] != "http.request" or not part.get("more_body", False)
            return part
        message, expired = asyncio.ensure_future(self.outer_receive()), asyncio.ensure_future(self.expired.wait())
        try:
            await asyncio.wait({message, expired}, return_when=asyncio.FIRST_COMPLETED)
            return {"type": "http.disconnect"} if expired.done() else message.result()
        finally:
            message.cancel()
            expired.cancel()

    async def send(self, message: Message) -> None:
        if self.closed:
            return
        if message["type"] == "http.response.start":
            self.start = message
            return
        if self.start is not None:
            failed = self.start["status"] >= 500 or message.get("body", b"").startswith(b'data: {"error"')
            if self.timeout.kind == "queue" and failed and self.waited() >= self.timeout.seconds:
                await self.give_up()
                return
            start, self.start, self.begun = self.start, None, True
            await self.outer_send(start)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.closed = True
        await self.outer_send(message)

    async def give_up(self) -> None:
        self.closed = True
        self.expired.set()
        text = json.dumps(self.timeout.error()).encode()
        if self.begun:
            body = b"data: " + text + b"\n\ndata: [DONE]\n\n"
        else:
            body = text
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await self.outer_send({"type": "http.response.start", "status": 504, "headers": headers})
        await self.outer_send({"type": "http.response.body", "body": body, "more_body": False})
