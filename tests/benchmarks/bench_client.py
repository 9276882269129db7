"""Timeliness and cost of the load client: `python tests/benchmarks/bench_client.py`. Prints; asserts nothing.

A server on the loopback stamps the arrival of each request (same monotonic clock) and streams its tokens one write
each, in the form of vLLM's events. Lateness is arrival minus intended time, so it holds the client's lag, the way
through the kernel and the server's own delay. `--peer vllm=COMMAND --peer aiperf=COMMAND` run another client on the
same server: the command may use {url}, {rate}, {requests}, {tokens}; nothing is installed here. Peers draw their own
gaps, so their lateness needs their own records; the server's arrivals give their rate and the KS distance of their gaps
from the Gamma.
"""

import argparse
import asyncio
import json
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import psutil
import pyarrow as pa
import uvloop
from burstbench import contracts
from burstbench.serve import client
from burstbench.serve.delivery import ks_distance
from numpy.typing import NDArray

CHUNK = b"%x\r\n%b\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


def events(prompt: int, tokens: int) -> list[bytes]:
    """The writes of one answer: a token each; the last holds the usage and [DONE] too."""
    found = []
    for count in range(1, tokens + 1):
        usage = {"prompt_tokens": prompt, "total_tokens": prompt + count, "completion_tokens": count}
        choice = {"index": 0, "text": " word", "logprobs": None, "finish_reason": None, "stop_reason": None}
        event = {"id": "cmpl-0123456789abcdef", "object": "text_completion", "created": 1700000000, "model": "m"}
        data = b"data: " + json.dumps(event | {"choices": [choice], "usage": usage}).encode() + b"\n\n"
        found.append(CHUNK % (len(data), data))
    data = b"data: " + json.dumps(event | {"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n"
    found[-1] += CHUNK % (len(data), data) + b"0\r\n\r\n"
    return found


class Connection(asyncio.Protocol):
    """One connection of the stamping server."""

    def __init__(self, stamps: dict[int, int], tokens: int, gap_s: float) -> None:
        self.stamps, self.tokens, self.gap_s = stamps, tokens, gap_s
        self.data = b""
        self.loop = asyncio.get_running_loop()
        self.answers: dict[int, list[bytes]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return
        if head.startswith(b"GET"):
            text = json.dumps(self.stamps if b"stamps" in head else {"data": [{"id": "m"}]}).encode()
            self.data = b""
            kind = b"Content-Type: application/json\r\n"
            self.transport.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (kind, len(text), text))
            return
        low = head.lower()
        if len(body) < int(low.split(b"content-length:")[1].split(b"\r\n")[0]):
            return
        now = time.monotonic_ns()
        self.data = b""
        identity = low.split(b"x-request-id:")[1].split(b"\r\n")[0].strip() if b"x-request-id:" in low else b""
        number = identity.rpartition(b"-")[2]
        self.stamps[int(number) if number.isdigit() else len(self.stamps)] = now
        prompt = body.count(b",", body.find(b'"prompt"')) + 1
        if prompt not in ANSWERS:
            ANSWERS[prompt] = events(prompt, self.tokens)
        self.transport.write(HEAD)
        self.next(ANSWERS[prompt], 0)

    def next(self, answer: list[bytes], index: int) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(answer[index])
        if index + 1 < len(answer):
            self.loop.call_later(self.gap_s, self.next, answer, index + 1)


ANSWERS: dict[int, list[bytes]] = {}


async def serve(tokens: int, gap_s: float) -> None:
    """Serve until stdin is closed; print the port."""
    stamps: dict[int, int] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stamps, tokens, gap_s), "127.0.0.1", 0, backlog=10_000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


@contextmanager
def server(tokens: int, gap_s: float) -> Iterator[str]:
    command = [sys.executable, __file__, "--serve", "--tokens", str(tokens), "--gap-s", str(gap_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        process.stdin.close()


def stamps(url: str) -> dict[int, int]:
    """Arrivals at the server so far, ns of the monotonic clock."""
    with urllib.request.urlopen(f"{url}/stamps") as answer:
        return {int(key): value for key, value in json.load(answer).items()}


def token_ids(_: int, n: int) -> NDArray[np.int64]:
    """The prompt."""
    return np.arange(1000, 1000 + n)


def plan(rate: float, requests: int, shape: float, prompt: int, seed: int) -> pa.Table:
    """Gamma arrivals at a mean rate."""
    rng = np.random.default_rng(seed)
    gaps = rng.gamma(shape, 1 / (rate * shape), requests)
    n = np.full(requests, prompt)
    columns = {"request_id": np.arange(requests), "phase": ["bench"] * requests, "step": 0 * n}
    columns |= {"send_s": np.cumsum(gaps) - gaps[0], "prompt_tokens": n, "prompt_id": 0 * n}
    columns |= {"alpha": np.full(requests, shape), "beta": np.full(requests, 1 / (rate * shape))}
    columns |= {"theta": np.full(requests, 1.0), "max_tokens": n}
    return contracts.PLAN._from_mapping(columns, "plan")


def main() -> None:
    """Run the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rates", type=float, nargs="+", default=[50, 200, 1000, 5000], help="requests/s")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each run")
    parser.add_argument("--tokens", type=int, default=8, help="tokens of an answer")
    parser.add_argument("--gap-s", type=float, default=0.005, help="between two tokens of an answer")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--shape", type=float, default=1.0, help="Gamma shape of the gaps")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--peer", action="append", default=[], help="NAME=COMMAND")
    args = parser.parse_args()
    if args.serve:
        uvloop.install()
        asyncio.run(serve(args.tokens, args.gap_s))
        return
    print(f"{'client':10}{'req/s':>8}{'n':>8}{'tokens':>8}  lag ms p50/p99/max      arrival ms p50/p99/max  "
          f"{'achieved':>9}{'KS':>8}{'CPU us/req':>12}{'ok':>8}")  # fmt: skip
    for rate in args.rates:
        requests = max(int(rate * args.seconds), 50)
        for tokens in (1, args.tokens):
            with server(tokens, args.gap_s) as url:
                table = plan(rate, requests, args.shape, args.prompt, 1)
                options = client.Options(run_id="bench", processes=args.processes)
                warm = client.run_plan(table.slice(0, 20), token_ids, client.Target(url, "m"),
                                       replace(options, processes=1))  # fmt: skip
                assert set(warm.outcome) == {"ok"}, warm.message
                records = client.run_plan(table, token_ids, client.Target(url, "m"), options)
                at = stamps(url)
            arrived = np.array([at[i] for i in range(requests)]) - records.start_monotonic_ns
            lag = np.percentile((records.sent_ns - records.intended_ns) / 1e6, (50, 99, 100))
            late = np.percentile((arrived - records.intended_ns) / 1e6, (50, 99, 100))
            span = np.ptp(arrived) / 1e9
            print(f"{'burstbench':10}{rate:8.0f}{requests:8}{tokens:8}  " + "/".join(f"{v:.3f}" for v in lag).ljust(23)
                  + " " + "/".join(f"{v:.3f}" for v in late).ljust(23) + f"{(requests - 1) / span:10.1f}"
                  f"{ks_distance(np.diff(records.intended_ns), np.diff(np.sort(arrived))):8.4f}"
                  f"{1e6 * records.cpu_s / requests:12.1f}{(records.outcome == 'ok').sum():8}", flush=True)  # fmt: skip
        for text in args.peer:
            name, _, command = text.partition("=")
            with server(args.tokens, args.gap_s) as url:
                values = {"url": url, "rate": rate, "requests": requests, "tokens": args.tokens}
                process = psutil.Popen(shlex.split(command.format(**values)), stdout=subprocess.DEVNULL)
                process.wait()
                times = np.sort(np.array(list(stamps(url).values()))) / 1e9
            true = np.random.default_rng(2).gamma(args.shape, 1 / (rate * args.shape), 100_000)
            achieved = (len(times) - 1) / np.ptp(times)
            print(f"{name:10}{rate:8.0f}{requests:8}{args.tokens:8}  {len(times)} arrived, "
                  f"{achieved:.1f} req/s, KS {ks_distance(true, np.diff(times)):.4f}")  # fmt: skip


if __name__ == "__main__":
    main()
