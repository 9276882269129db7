"""What a server's `/metrics` tell (vLLM's names), read once a second by a process of its own.

That process imports this module and nothing but the standard library: it starts fast and takes nothing from the client.
"""

import multiprocessing
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from statistics import fmean
from typing import Any

KV_USE = "vllm:kv_cache_usage_perc"
GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting", KV_USE)
COUNTERS = ("vllm:num_preemptions_total", "vllm:prompt_tokens_total", "vllm:generation_tokens_total")
_EVERY_S = 1.0
_SAMPLE = re.compile(r"([^\s{#]+)(?:\{.*\})?\s+(\S+)")  # a name, its labels, its value; a timestamp may follow


class Metrics:
    """Collects the samples; called, it ends the collection and returns the summary for run.json."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._samples: list[dict[str, float]] = []
        self._reason = "the process that reads them died"
        self._connection, there = multiprocessing.get_context("spawn").Pipe()
        # A process of its own: reading and parsing would make the client late.
        self._process = multiprocessing.get_context("spawn").Process(target=_scrape, args=(url, there), daemon=True)
        self._process.start()
        there.close()

    def text(self) -> str:
        """What the last sample says, for the live line; empty where the server says nothing."""
        with suppress(EOFError, OSError):
            while self._connection.poll():
                self._take(self._connection.recv())
        if not self._samples or KV_USE not in self._samples[-1]:
            return ""
        return f"KV cache {100 * self._samples[-1][KV_USE]:.0f} %"

    def __call__(self) -> dict[str, Any]:
        """End it."""
        with suppress(EOFError, OSError):
            self._connection.send(None)
            while (value := self._connection.recv()) is not None:
                self._take(value)
        self.close()
        if not self._samples:
            return {"url": self.url, "available": False, "reason": self._reason}
        return {"url": self.url, "available": True, **summarise(self._samples)}

    def _take(self, value: dict[str, float] | str) -> None:
        if isinstance(value, str):
            self._reason = value
        else:
            self._samples.append(value)

    def close(self) -> None:
        """Leave nothing running."""
        self._connection.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()


@contextmanager
def scraped(url: str) -> Iterator[Metrics]:
    """Read the metrics of a server from now on, once a second.

    Args:
        url: base of its interface; `/metrics` stands beside its `/v1`.
    """
    metrics = Metrics(url.rstrip("/").removesuffix("/v1") + "/metrics")
    try:
        yield metrics
    finally:
        metrics.close()


def _scrape(url: str, there: Connection) -> None:
    """Send samples, or a sentence why there is none, until told to stop; then None."""
    import signal

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent ends it
    next_s = time.monotonic()
    try:
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    found: Any = parse(answer.read().decode("utf-8", "replace")) or "none of vLLM's names is there"
            except (urllib.error.URLError, OSError, ValueError) as error:
                found = str(error)
            there.send(found)
            next_s = max(next_s + _EVERY_S, time.monotonic())
            if there.poll(max(next_s - time.monotonic(), 0)):
                there.recv()
                there.send(None)
                return
    except (EOFError, OSError):
        pass  # the parent is gone


def parse(text: str) -> dict[str, float]:
    """The wanted values of a page in the text format of Prometheus; of several with different labels, the sum."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        sample = _SAMPLE.match(line)
        if sample and (sample[1] in GAUGES or sample[1] in COUNTERS):
            found[sample[1]] = found.get(sample[1], 0.0) + float(sample[2])
    return found


def summarise(samples: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and maximum of the gauges over the samples, and by how much the counters grew."""
    summary: dict[str, Any] = {"samples": len(samples), "every_s": _EVERY_S}
    for name in GAUGES:
        values = [sample[name] for sample in samples if name in sample]
        if values:
            summary[name] = {"mean": fmean(values), "max": max(values)}
    for name in COUNTERS:
        values = [sample[name] for sample in samples if name in sample]
        if values:
            summary[name] = {"increase": values[-1] - values[0]}
    return summary
