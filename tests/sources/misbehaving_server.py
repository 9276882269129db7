"""A real HTTP server on the loopback that misbehaves on purpose: one function a path, and a log of what was asked."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behaviour = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        self.close_connection = True
        behaviour = self.server.routes.get(self.path)
        try:
            if behaviour is None:
                self.answer(404, b"no such thing")
            else:
                behaviour(self)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client had enough

    def answer(self, code, body, length=None, **headers):
        """Send a whole answer; `length` lies about its size."""
        self.send_response(code)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def start_of(self, version=None):
        """The byte that the client wants first: its Range, unless its If-Range names another version."""
        wanted = self.headers.get("Range", "")
        if not wanted or (version is not None and self.headers.get("If-Range", version) != version):
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def ranged(self, data, version=None, most=None, lie=0):
        """Answer 200 or 206 as asked, with an ETag; stop after `most` bytes although more were announced."""
        start = self.start_of(version)
        headers = {"ETag": version} if version else {}
        if start >= len(data) and start:
            self.answer(416, b"", Content_Range=f"bytes */{len(data)}")
            return
        if start:
            headers["Content_Range"] = f"bytes {start + lie}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        self.answer(206 if start else 200, body[:most], length=len(body), **headers)

    def reset(self):
        """Close the connection with RST instead of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes: dict[str, Behaviour] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.over = threading.Event()

    def handle_error(self, request, client_address):
        pass  # a connection closed by `reset` cannot be shut down in order

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def ranges(self):
        """The Range of each request so far, '' where it had none."""
        return [headers.get("Range", "") for _, headers in self.asked]

    def each(self, *behaviours):
        """One behaviour after the other, the last one for good."""
        left = list(behaviours)

        def behaviour(handler):
            (left.pop(0) if len(left) > 1 else left[0])(handler)

        return behaviour

    def drip(self, data, pause_s):
        """One byte at a time."""

        def behaviour(handler):
            handler.answer(200, b"", length=len(data))
            for number in range(len(data)):
                if self.over.wait(pause_s):
                    return
                handler.wfile.write(data[number : number + 1])
                handler.wfile.flush()

        return behaviour

    def stall(self, data, after, version=None):
        """Send `after` bytes, then nothing, with the connection open."""

        def behaviour(handler):
            handler.ranged(data, version, most=after)
            self.over.wait(20)

        return behaviour


def chunked(data, cut=False):
    """Without Content-Length; `cut`: without the last chunk."""

    def behaviour(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(data), 1000):
            piece = data[start : start + 1000]
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if not cut:
            handler.wfile.write(b"0\r\n\r\n")

    return behaviour


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
