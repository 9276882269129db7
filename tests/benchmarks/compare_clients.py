"""Three load clients side by side: ours, vLLM's bench and AIPerf, on one server, with the same load. Asserts nothing.

    python tests/benchmarks/compare_clients.py --out clients.csv
    python tests/benchmarks/compare_clients.py --summary clients.csv

A server on the loopback, a process of its own, stamps the arrival of each request (monotonic clock) and streams its
answer one token a write, in the form of vLLM's events. Each client sends the same Gamma load from one worker.

- lateness: arrival at the server minus the time that the client's own schedule names, less the smallest of the run:
  two of the three do not tell when their schedule began. Their schedules are what they drew: vLLM's gaps are recorded
  as they are drawn, AIPerf's are drawn again from the seed by its own generator.
- rate_error: achieved against asked rate, from the first to the last arrival; rate_error_of_schedule is that of the
  client's own schedule. A single one is chance: of schedules drawn truly it has the standard deviation
  rate_sd_expected, (shape x gaps)^-1/2. A client whose errors spread far less over the seeds has rescaled its gaps, and
  does not send the process that was asked for. What a client does to its schedule is the difference of the two.
- ks_drawn, ks_true: Kolmogorov-Smirnov distance of the gaps at the server from those drawn, and from the Gamma asked
  for; ks_schedule is that of the client's own schedule from that Gamma, before anything was sent. Gaps drawn with no
  error at all have ks_expected in the mean, and reach ks_floor once in 20. Below that, smaller is luck, not better.
- cpu_us: CPU time of the client's whole process tree from the first arrival to the last answer, by request; a token's
  cost is the difference of two runs that differ in the tokens of an answer alone.

A row is one run with one seed. Over the seeds, --summary prints median (lowest to highest) of what disturbances of the
machine spoil, mean +- standard deviation of what chance moves.

The peers are installed under $XDG_CACHE_HOME/burstbench/peers when first needed: vLLM as the repository's own
`.venv-vllm` (make .venv-vllm/.done), AIPerf in a virtual environment.
"""

import argparse
import asyncio
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvloop
from burstbench.serve import client
from burstbench.serve.delivery import ks_distance
from numpy.typing import NDArray
from scipy import stats

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "burstbench/peers"
AIPERF = "aiperf==0.13.0"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
PROMPT = 64  # tokens
LIMIT_S = 120  # of a peer's run, its start included
Real = NDArray[np.float64]


# The server -----------------------------------------------------------------------------------------------------------


def events(tokens: int) -> list[bytes]:
    """The writes of one answer: a token each; the last holds the usage and [DONE] too."""
    found = []
    for count in range(1, tokens + 1):
        usage = {"prompt_tokens": PROMPT, "total_tokens": PROMPT + count, "completion_tokens": count}
        choice = {"index": 0, "text": " word", "logprobs": None, "finish_reason": None, "stop_reason": None}
        event = {"id": "cmpl-0123456789abcdef", "object": "text_completion", "created": 1700000000, "model": "m"}
        data = b"data: " + json.dumps(event | {"choices": [choice], "usage": usage}).encode() + b"\n\n"
        found.append(b"%x\r\n%b\r\n" % (len(data), data))
    data = b"data: " + json.dumps(event | {"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n"
    found[-1] += b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    return found


class Server:
    """Stamps requests from the moment that it is told to; says on stdout when the first came and the last was done."""

    def __init__(self, tokens: int, gap_s: float, requests: int) -> None:
        self.answer, self.gap_s, self.requests = events(tokens), gap_s, requests
        self.stamps: list[int] = []
        self.done = 0
        self.counts = False

    def finished(self) -> None:
        self.done += self.counts
        if self.done == self.requests:
            print("last", flush=True)


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.data = b""
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return
        if head.startswith(b"GET"):
            self.data = b""
            if b"/count" in head:
                self.server.counts = True
            value = self.server.stamps if b"/stamps" in head else {"object": "list", "data": [{"id": "m"}]}
            text = json.dumps(value).encode()
            kind = b"Content-Type: application/json\r\n"
            self.transport.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (kind, len(text), text))
            return
        at = head.lower().find(b"content-length:") + 15
        if len(body) < int(head[at : (head + b"\r\n").find(b"\r\n", at)]):
            return
        self.data = b""
        if self.server.counts:
            self.server.stamps.append(now)
            if len(self.server.stamps) == 1:
                print("first", flush=True)
        self.transport.write(HEAD + self.server.answer[0])
        self.next(1)

    def next(self, index: int) -> None:
        if index == len(self.server.answer):
            self.server.finished()
        else:
            self.loop.call_later(self.server.gap_s, self.write, index)

    def write(self, index: int) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.server.answer[index])
            self.next(index + 1)


async def serve(server: Server) -> None:
    """Serve until stdin is closed; print the port."""
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=10_000)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    listener.close()


class Run:
    """One client's run on one server.

    Attributes:
        url: of the server.
        pid: of the client; the caller sets it before the first request.
        cpu_s: of the client's process tree from the first arrival to the last answer; None if some never came.
    """

    def __init__(self, url: str, lines: Iterator[str]) -> None:
        self.url, self.pid = url, 0
        self.cpu_s: float | None = None
        self.ended = threading.Event()
        threading.Thread(target=self._watch, args=(lines,), daemon=True).start()

    def _watch(self, lines: Iterator[str]) -> None:
        before = 0.0
        for line in lines:
            if line.strip() == "first":
                before = self._cpu()
            if line.strip() == "last":
                self.cpu_s = self._cpu() - before
                self.ended.set()

    def _cpu(self) -> float:
        one = psutil.Process(self.pid)
        used = [process.cpu_times() for process in [one, *one.children(recursive=True)]]
        return sum(times.user + times.system for times in used)

    def count(self) -> None:
        """From now on requests count."""
        self._get("count")

    def stamps(self) -> Real:
        """Arrivals at the server so far, rising [s]."""
        return np.sort(np.array(self._get("stamps"), dtype=np.int64)) / 1e9

    def _get(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/{what}") as answer:
            return json.load(answer)


@contextmanager
def server(tokens: int, gap_s: float, requests: int) -> Iterator[Run]:
    """A server in a process of its own."""
    numbers = [str(value) for value in (tokens, gap_s, requests)]
    command = [sys.executable, __file__, "--serve", *numbers]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield Run(f"http://127.0.0.1:{process.stdout.readline().strip()}/v1", iter(process.stdout.readline, ""))
        finally:
            process.stdin.close()
            process.wait(30)


# The clients ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """What is asked of a client: Gamma gaps of this mean rate and shape."""

    rate: float
    shape: float
    requests: int
    tokens: int
    seed: int


Client = Callable[[Load, Run], Real]  # runs the load; returns the times of its own schedule [s], rising, from any zero


def ours(load: Load, run: Run) -> Real:
    """`burstbench run`, in a process of its own as the peers are."""
    command = [sys.executable, "-m", "burstbench", "run", "--endpoint", run.url, "--rate", str(load.rate), "--quiet"]
    command += ["--cv", str(load.shape**-0.5), "--requests", str(load.requests), "--seed", str(load.seed)]
    command += ["--input-tokens", str(PROMPT), "--max-tokens", str(load.tokens)]
    with tempfile.TemporaryDirectory() as folder:
        run.count()
        with subprocess.Popen([*command, "--out", folder, "--lag-limit-s", "60"]) as process:
            run.pid = process.pid
        if process.returncode:
            raise SystemExit(f"burstbench ended with {process.returncode}")
        import pyarrow.parquet as pq

        return pq.read_table(f"{folder}/requests.parquet")["intended_ns"].to_numpy() / 1e9


VLLM = """
import json, sys
import numpy as np
from vllm.benchmarks import serve
from vllm.utils.argparse_utils import FlexibleArgumentParser

drawn, gamma = [], np.random.gamma
np.random.gamma = lambda *args, **more: drawn.append(gamma(*args, **more)) or drawn[-1]
prompt, tokens = [7] * int(sys.argv[2]), int(sys.argv[3])
serve.get_samples = lambda args, tokenizer: [
    serve.SampleRequest(prompt=prompt, prompt_len=len(prompt), expected_output_len=tokens, request_id=f"r-{number}")
    for number in range(args.num_prompts)
]
parser = FlexibleArgumentParser()
serve.add_cli_args(parser)
serve.main(parser.parse_args(sys.argv[4:]))
open(sys.argv[1], "w").write(json.dumps(drawn))
"""


def vllm(load: Load, run: Run) -> Real:
    """`vllm bench serve`; its own entry refuses the CPU build, so the module is called; prompts are ids."""
    gaps = CACHE / "vllm_gaps.json"
    gaps.unlink(missing_ok=True)
    command = [str(ROOT / ".venv-vllm/bin/python"), "-c", VLLM, str(gaps), str(PROMPT), str(load.tokens)]
    command += ["--backend", "openai", "--base-url", run.url.removesuffix("/v1"), "--endpoint", "/v1/completions"]
    command += ["--model", "m", "--skip-tokenizer-init", "--dataset-name", "random"]
    command += ["--num-prompts", str(load.requests)]
    command += ["--request-rate", str(load.rate), "--burstiness", str(load.shape), "--seed", str(load.seed)]
    command += ["--disable-tqdm", "--ready-check-timeout-sec", "0"]
    _peer(command, run, {"OMP_NUM_THREADS": "1"})
    times = np.cumsum(json.loads(gaps.read_text())) if gaps.exists() else np.full(load.requests, np.nan)
    return times * (load.requests / load.rate / times[-1])  # as get_request does


AIPERF_TOKENIZER = """
import json, pathlib, sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

letters = sorted(pre_tokenizers.ByteLevel.alphabet())
made = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
folder = pathlib.Path(sys.argv[1])
folder.mkdir(exist_ok=True)
made.save(str(folder / "tokenizer.json"))
(folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
"""
AIPERF_GAPS = """
import json, sys
from types import SimpleNamespace
from aiperf.common import random_generator
from aiperf.timing.intervals import GammaIntervalGenerator

rate, shape, seed, n = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
random_generator.init(seed)
made = GammaIntervalGenerator(SimpleNamespace(request_rate=rate, arrival_smoothness=shape, arrival_pattern="gamma"))
print(json.dumps([made.next_interval() for _ in range(n)]))
"""


def aiperf(load: Load, run: Run) -> Real:
    """`aiperf profile` with one worker and one record processor."""
    folder = CACHE / "aiperf"
    with tempfile.TemporaryDirectory() as out:
        command = [str(folder / "bin/aiperf"), "profile", "--model", "m", "--url", run.url.removesuffix("/v1")]
        command += [
            "--endpoint-type",
            "completions",
            "--streaming",
            "--tokenizer",
            str(folder / "bytes"),
            "--ui",
            "none",
        ]
        command += ["--arrival-pattern", "gamma", "--arrival-smoothness", str(load.shape)]
        command += ["--request-rate", str(load.rate), "--request-count", str(load.requests)]
        command += ["--random-seed", str(load.seed), "--isl", str(PROMPT), "--osl", str(load.tokens)]
        command += ["--max-workers", "1", "--record-processors", "1", "--no-gpu-telemetry", "--no-server-metrics"]
        command += ["--use-server-token-count", "--export-level", "summary", "--artifact-dir", out]
        _peer(command, run, {"AIPERF_HTTP_CONNECTION_LIMIT": "20000"})
    numbers = [str(value) for value in (load.rate, load.shape, load.seed, load.requests)]
    text = subprocess.run([str(folder / "bin/python"), "-c", AIPERF_GAPS, *numbers], capture_output=True, check=True)
    return np.cumsum(json.loads(text.stdout))


def _peer(command: list[str], run: Run, environment: dict[str, str]) -> None:
    log = CACHE / "peer.log"
    run.count()
    with (
        open(log, "w") as stream,
        subprocess.Popen(command, stdout=stream, stderr=stream, env=os.environ | environment) as process,
    ):
        run.pid = process.pid
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.terminate()
    if process.returncode:
        print(f"{command[0]} ended with {process.returncode}: see {log}", file=sys.stderr)


def install(names: list[str]) -> None:
    """Make the environments of the peers, where they are not there."""
    if "vllm" in names and not (ROOT / ".venv-vllm/bin/python").exists():
        subprocess.run(["make", ".venv-vllm/.done"], cwd=ROOT, check=True)
    folder = CACHE / "aiperf"
    if "aiperf" in names and not (folder / "bin/aiperf").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin/python", "-m", "pip", "install", "-q", AIPERF], check=True)
    if "aiperf" in names:  # a tokenizer of bytes: its own would be downloaded
        subprocess.run([folder / "bin/python", "-c", AIPERF_TOKENIZER, folder / "bytes"], check=True)


CLIENTS: dict[str, Client] = {"burstbench": ours, "vllm": vllm, "aiperf": aiperf}


# The table ------------------------------------------------------------------------------------------------------------


def measure(name: str, load: Load, gap_s: float) -> dict[str, Any]:
    """Run one client; return its row."""
    others = os.getloadavg()[0]
    with server(load.tokens, gap_s, load.requests) as run:
        schedule = CLIENTS[name](load, run)
        arrived = run.stamps()
    row: dict[str, Any] = {"client": name, "rate_per_s": load.rate, "shape": load.shape, "tokens": load.tokens}
    row |= {"seed": load.seed, "requests": load.requests, "arrived": len(arrived), "load_before": round(others, 2)}
    if len(arrived) > 1:
        gaps = np.diff(arrived)
        asked = stats.gamma(load.shape, scale=1 / (load.rate * load.shape)).cdf
        row["rate_error"] = (len(arrived) - 1) / np.ptp(arrived) / load.rate - 1
        row["rate_sd_expected"] = (load.shape * len(gaps)) ** -0.5
        row["rate_error_of_schedule"] = (len(schedule) - 1) / np.ptp(schedule) / load.rate - 1
        row["ks_true"] = stats.kstest(gaps, asked).statistic
        row["ks_schedule"] = stats.kstest(np.diff(schedule), asked).statistic
        row["ks_expected"], row["ks_floor"] = stats.kstwo.mean(len(gaps)), stats.kstwo.ppf(0.95, len(gaps))
        row["ks_drawn"] = ks_distance(np.diff(schedule), gaps)
    if len(arrived) == load.requests:
        late = arrived - schedule
        for share in (50, 99, 100):
            row[f"late_p{share}_ms"] = 1e3 * (np.percentile(late, share) - late.min())
        row["cpu_us_per_request"] = None if run.cpu_s is None else 1e6 * run.cpu_s / load.requests
    return row


COLUMNS = "client rate_per_s shape tokens seed requests arrived late_p50_ms late_p99_ms late_p100_ms rate_error "
COLUMNS += "rate_error_of_schedule rate_sd_expected ks_drawn ks_true ks_schedule ks_expected ks_floor "
COLUMNS += "cpu_us_per_request cpu_us_per_token load_before"


def summary(path: Path) -> None:
    """Print what several seeds say, as a table in Markdown.

    Args:
        path: CSV that this script wrote.
    """
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    with open(path, newline="") as stream:
        for row in csv.DictReader(stream):
            groups.setdefault((row["rate_per_s"], row["tokens"], row["client"]), []).append(row)
    print(
        "| req/s | tokens | client | runs | late p50, ms | late p99, ms | rate error, % (chance) | its schedule's, % "
        "| KS true (chance) | KS schedule | KS drawn | us/request | us/token |\n|" + "---|" * 13
    )
    for (rate, tokens, name), rows in sorted(groups.items(), key=lambda item: [float(v) for v in item[0][:2]]):

        def values(column: str, rows: list[dict[str, str]] = rows) -> list[float]:
            return [float(row[column]) for row in rows if row[column]]

        def middle(column: str) -> str:
            found = values(column)
            if len(found) < 2:
                return f"{found[0]:.3g}" if found else "-"
            return f"{np.median(found):.3g} ({min(found):.3g} to {max(found):.3g})"

        def over(column: str, factor: float = 1.0) -> str:
            found = [factor * value for value in values(column)]
            if not found:
                return "-"
            return f"{np.mean(found):.3g}" + (f" ± {np.std(found, ddof=1):.2g}" if len(found) > 1 else "")

        chance = [100 * float(rows[0]["rate_sd_expected"]), float(rows[0]["ks_expected"])]
        cells = [f"{float(rate):g}", tokens, name, str(len(rows)), middle("late_p50_ms"), middle("late_p99_ms")]
        cells += [f"{over('rate_error', factor=100)} (0 ± {chance[0]:.2g})", over("rate_error_of_schedule", factor=100)]
        cells += [f"{over('ks_true')} ({chance[1]:.2g})", over("ks_schedule"), over("ks_drawn")]
        print("| " + " | ".join([*cells, middle("cpu_us_per_request"), middle("cpu_us_per_token")]) + " |")


def main() -> None:
    """Run the table."""
    if sys.argv[1:2] == ["--serve"]:
        uvloop.install()
        asyncio.run(serve(Server(int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument("--rates", type=float, nargs="+", default=[50, 200, 1000, 5000], help="requests/s")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each run")
    parser.add_argument("--tokens", type=int, default=17, help="of an answer of the second run, for the cost of one")
    parser.add_argument("--tokens-to", type=float, default=200, help="no second run above so many requests/s")
    parser.add_argument("--gap-s", type=float, default=0.01, help="between two tokens of an answer")
    parser.add_argument("--shape", type=float, default=0.5, help="Gamma shape of the gaps")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="a run of each; all are kept")
    parser.add_argument("--out", type=Path, help="CSV to append to")
    parser.add_argument("--summary", type=Path, help="only print the table of this CSV")
    args = parser.parse_args()
    if args.summary:
        summary(args.summary)
        return
    install(args.clients)
    client.raise_open_files()
    for seed, rate, name in product(args.seeds, args.rates, args.clients):
        requests = max(round(rate * args.seconds), 200)
        rows = []
        for tokens in (1, args.tokens) if rate <= args.tokens_to else (1,):
            rows.append(measure(name, Load(rate, args.shape, requests, tokens, seed), args.gap_s))
        costs = [row.get("cpu_us_per_request") for row in rows]
        if len(costs) == 2 and None not in costs:
            rows[1]["cpu_us_per_token"] = (costs[1] - costs[0]) / (args.tokens - 1)
        for row in rows:
            print("  ".join(f"{k} {_short(row[k])}" for k in COLUMNS.split() if row.get(k) is not None), flush=True)
        if args.out:
            new = not args.out.exists()
            with open(args.out, "a", newline="") as stream:
                writer = csv.DictWriter(stream, COLUMNS.split(), lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerows([{k: _short(v) for k, v in row.items()} for row in rows])


def _short(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
