"""A stand-in for the interpreter of vLLM's environment: it serves three empty tokens a request and keeps the journal.

What the tests of SLURM are about is where and when jobs run, end and run again, so most of their cells need no model.
Whatever is made with it says so: its version is `0+standin`. Never imported by the package.
"""

import asyncio
import atexit
import json
import os
import signal
import sys
import time
from pathlib import Path

from burstbench.serve import journal

TOKENS = 3


def main(words: list[str]) -> None:
    """Answer as an interpreter does: what is installed (-c), or the server (-m)."""
    if "-c" in words:
        print(json.dumps(["0", {"vllm": "0+standin"}]) if "json" in " ".join(words) else "0+standin")
        return
    asyncio.run(Engine().serve(int(words[words.index("--port") + 1])))


class Engine:
    """A server whose every answer takes one step."""

    def __init__(self) -> None:
        settings = json.loads(os.environ["BURSTBENCH_RECORDER"])
        folder = Path(settings["folder"])
        self.run_id = settings["run_id"]
        self.events = journal.Writer(folder / journal.EVENTS, journal.EVENT)
        self.steps = journal.Writer(folder / journal.STEPS, journal.STEP)
        self.blocks = json.loads(os.environ.get("BURSTBENCH_EMULATED", '{"blocks": 1000}'))["blocks"]
        facts = {"blocks": self.blocks, "free_blocks": self.blocks - 1, "scheduler": "a stand-in"}
        (folder / journal.ENGINE).write_text(json.dumps(facts))
        atexit.register(self.steps.flush)
        atexit.register(self.events.flush)

    async def serve(self, port: int) -> None:
        # By the loop: an exception out of a signal's handler is lost where Python happens to be in a destructor.
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        server = await asyncio.start_server(self.connection, "127.0.0.1", port)
        await stop.wait()
        server.close()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                asked = json.loads(body) if body else {}
                if asked.get("stream"):
                    self.stream(writer, int(fields["x-request-id"].rpartition("-")[2]), asked)
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def stream(self, writer: asyncio.StreamWriter, number: int, asked: dict[str, object]) -> None:
        now, prompt = time.monotonic_ns(), len(asked["prompt"])  # type: ignore[arg-type]
        count = min(TOKENS, int(asked["max_tokens"]))  # type: ignore[call-overload]
        self.events.add(journal.ADDED, number, now, prompt, int(asked["max_tokens"]), 0)  # type: ignore[call-overload]
        self.events.add(journal.SCHEDULED, number, now, 0, 0, 0)
        self.events.add(journal.FIRST_TOKEN, number, now + 1, 0, 0, 0)
        self.events.add(journal.ENDED, number, now + 2, journal.ENDINGS.index("length"), count, 0)
        self.steps.add(now, now + 2, prompt, count - 1, 1, 0, 0, self.blocks - 2, -1)
        usage = [{"prompt_tokens": prompt, "completion_tokens": done + 1, "total_tokens": 0} for done in range(count)]
        events: list[dict[str, object]] = [
            {"choices": [{"index": 0, "text": " x", "finish_reason": None}], "usage": each} for each in usage
        ]
        events.append({"choices": [], "usage": usage[-1]})
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for data in [*(json.dumps(event) for event in events), "[DONE]"]:
            line = f"data: {data}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(line), line))
        writer.write(b"0\r\n\r\n")


if __name__ == "__main__":
    main(sys.argv[1:])
