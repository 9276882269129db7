"""Every metric, defined once: name, unit, formula, source.

A metric is measured over one `Part` of a run. The requests of a part are those *intended* in it; the engine's state and
the throughputs are taken over its span of time, which reaches from its first intended request to the first of the next
part (the last part: to the end of the last engine step, or of the last request if that is later). Times are integer
nanoseconds of one monotonic clock; latencies count from the *intended* time of a request (open loop, so a late client
cannot hide a slow server) and never include a request that failed. Percentiles interpolate linearly between the order
statistics (type 7 of Hyndman & Fan 1996), except those of the engine's state, which are time-weighted.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NS_PER_S = 1e9


@dataclass(frozen=True)
class Requests:
    """All requests of one run, in the order of the plan; arrays of shape (n,).

    Attributes:
        intended, sent, scheduled, first_token, done: ns from the start of the run, NaN where it never happened. A float
            holds whole nanoseconds exactly up to 104 days.
        response_tokens: tokens of the response.
        preemptions: times the engine preempted it, NaN where unknown.
        ok: whether it was answered.
    """

    intended: Floats
    sent: Floats
    scheduled: Floats
    first_token: Floats
    done: Floats
    response_tokens: Floats
    preemptions: Floats
    ok: Bools


@dataclass(frozen=True)
class Engine:
    """The engine's state as a step function of time, and the tokens it has processed.

    Attributes:
        edges: ns, shape (2k,): start and end of each of the k steps.
        kv_usage, running, waiting: shape (2k - 1,): their value between two edges, in steps and in the gaps between.
        tokens: shape (2k,): prefill and decode tokens processed until each edge; a step processes them evenly.
    """

    edges: Floats
    kv_usage: Floats
    running: Floats
    waiting: Floats
    tokens: Floats

    @classmethod
    def of(
        cls,
        start: Floats,
        duration: Floats,
        tokens: Floats,
        kv_usage: Floats,
        running: Floats,
        waiting: Floats,
        requests: Requests,
    ) -> "Engine":
        """Build it from the step log (arrays of shape (k,), k >= 1, times in ns, starts never decreasing).

        Sums over intervals, one after the other, can stand for steps: then states are means over an interval, and
        percentiles of a state are those of such means.

        A step ends at the latest when the next one starts (asynchronous scheduling lets them overlap). In a gap between
        two steps the engine is idle, and holds nothing, unless a request is inside it at the middle of the gap (first
        scheduled before, done after): then the gap is host time and the state of the step before holds on. Before the
        first step and after the last one the state is 0.
        """
        end = start + duration
        end[:-1] = np.minimum(end[:-1], start[1:])
        edges = np.column_stack([start, end]).ravel()
        middle = (end[:-1] + start[1:]) / 2
        inside = ~np.isnan(requests.scheduled) & ~np.isnan(requests.done)
        entered = np.searchsorted(np.sort(requests.scheduled[inside]), middle, side="right")
        left = np.searchsorted(np.sort(requests.done[inside]), middle, side="right")
        held = entered > left

        def with_gaps(values: Floats) -> Floats:
            return np.column_stack([values, np.append(values[:-1] * held, 0.0)]).ravel()[:-1]

        processed = np.cumsum(tokens)
        return cls(
            edges,
            with_gaps(kv_usage),
            with_gaps(running),
            with_gaps(waiting),
            np.column_stack([processed - tokens, processed]).ravel(),
        )

    def tokens_until(self, time: Floats) -> Floats:
        """Tokens processed until `time` [ns]."""
        return np.interp(time, self.edges, self.tokens)

    def average(self, values: Floats, time: Floats) -> Floats:
        """Time-weighted mean of a state between each two neighbours of `time` [ns], shape (m,) to (m - 1,)."""
        integral = np.append(0.0, np.cumsum(values * np.diff(self.edges)))
        return np.diff(np.interp(time, self.edges, integral)) / np.diff(time)

    def between(self, values: Floats, start: float, end: float) -> tuple[Floats, Floats]:
        """Values of a state within [start, end] and how long [ns] each lasts; outside the log it is 0."""
        first = max(int(np.searchsorted(self.edges, start, side="right")) - 1, 0)
        last = min(int(np.searchsorted(self.edges, end, side="left")), len(self.edges) - 1)
        cut = np.clip(self.edges[first : last + 1], start, end)
        lasting = np.diff(cut)
        outside = (end - start) - lasting.sum()
        return np.append(values[first:last], 0.0), np.append(lasting, outside)


@dataclass(frozen=True)
class Part:
    """What one set of metrics is measured over.

    Attributes:
        requests: of the whole run.
        engine: of the whole run; None where the engine logged no steps.
        first, last: the part's requests are rows first to last - 1.
        start, end: its span of time, ns.
        good_ttft_s, good_tpot_s: the limits within which an answer counts as good.
    """

    requests: Requests
    engine: Engine | None
    first: int
    last: int
    start: float
    end: float
    good_ttft_s: float
    good_tpot_s: float

    @property
    def span_s(self) -> float:
        """Length of the span [s]."""
        return (self.end - self.start) / NS_PER_S

    def of(self, values: NDArray) -> NDArray:
        """The rows of this part."""
        return values[self.first : self.last]

    def answered(self, values: NDArray) -> NDArray:
        """The rows of this part whose requests were answered."""
        return self.of(values)[self.of(self.requests.ok)]

    def completed(self) -> Bools:
        """Which requests of the run were answered within the span (its end included in the last part of a run only)."""
        done = self.requests.done
        ends = done <= self.end if self.last == len(done) else done < self.end
        return self.requests.ok & (done >= self.start) & ends


# Quantities: one value a request --------------------------------------------------------------------------------------


def latency(part: Part) -> Floats:
    """Latency [s]: `done - intended`, to the last token of an answered request. Source: paper, section IV (L)."""
    requests = part.requests
    return part.answered(requests.done - requests.intended) / NS_PER_S


def token_latency(part: Part) -> Floats:
    """Token latency [s/token]: `(done - intended) / response tokens`. Source: paper, section IV (L per token)."""
    tokens = part.answered(part.requests.response_tokens)
    return latency(part)[tokens > 0] / tokens[tokens > 0]


def ttft(part: Part) -> Floats:
    """Time to first token [s]: `first token - intended` of an answered request whose first token was seen."""
    values = part.answered(part.requests.first_token - part.requests.intended) / NS_PER_S
    return values[~np.isnan(values)]


def tpot(part: Part) -> Floats:
    """Time per output token [s/token]: `(done - first token) / (n - 1)`, n >= 2 response tokens."""
    requests = part.requests
    tokens = part.answered(requests.response_tokens)
    lasting = part.answered(requests.done - requests.first_token) / NS_PER_S
    valid = (tokens >= 2) & ~np.isnan(lasting)
    return lasting[valid] / (tokens[valid] - 1)


def queue_wait(part: Part) -> Floats:
    """Queue wait [s]: `first scheduled - intended` of an answered request whose schedule is known."""
    values = part.answered(part.requests.scheduled - part.requests.intended) / NS_PER_S
    return values[~np.isnan(values)]


def lag(part: Part) -> Floats:
    """Lag of the client [s]: `sent - intended` of every request that was sent, whatever became of it."""
    values = part.of(part.requests.sent - part.requests.intended) / NS_PER_S
    return values[~np.isnan(values)]


# States: a step function of time --------------------------------------------------------------------------------------


def kv_usage(part: Part, engine: Engine) -> tuple[Floats, Floats]:
    """Share of KV-cache blocks in use [1], weighted by time. Source: paper, Table III's target and Fig. 16."""
    return engine.between(engine.kv_usage, part.start, part.end)


def running(part: Part, engine: Engine) -> tuple[Floats, Floats]:
    """Running requests [requests], weighted by time."""
    return engine.between(engine.running, part.start, part.end)


def waiting(part: Part, engine: Engine) -> tuple[Floats, Floats]:
    """Waiting requests [requests], weighted by time."""
    return engine.between(engine.waiting, part.start, part.end)


# Scalars: one value a part --------------------------------------------------------------------------------------------

Scalar = tuple[float | None, int]


def failure_rate(part: Part) -> Scalar:
    """Failure rate [1]: `requests not answered / requests`. Source: paper, section IV (R)."""
    ok = part.of(part.requests.ok)
    return (float(np.mean(~ok)) if ok.size else None), ok.size


def arrival_rate(part: Part) -> Scalar:
    """Arrival rate [requests/s]: `requests intended / span`."""
    count = part.last - part.first
    return _per_second(count, part), count


def throughput_requests(part: Part) -> Scalar:
    """Request throughput [requests/s]: `requests answered within the span / span`. Source: paper, section IV (P)."""
    count = int(part.completed().sum())
    return _per_second(count, part), count


def throughput_output_tokens(part: Part) -> Scalar:
    """Output throughput [tokens/s]: `response tokens of the requests answered within the span / span`."""
    completed = part.completed()
    return _per_second(float(part.requests.response_tokens[completed].sum()), part), int(completed.sum())


def throughput_tokens(part: Part) -> Scalar:
    """Token throughput [tokens/s]: `prefill and decode tokens processed by engine steps within the span / span`.

    A step across the end of a span counts by its share of time. Tokens that a preemption makes the engine process
    again count again. Source: paper, section IV (P), Fig. 16.
    """
    if part.engine is None:
        return None, 0
    until = part.engine.tokens_until(np.array([part.start, part.end]))
    return _per_second(float(until[1] - until[0]), part), _steps_within(part, part.engine)


def goodput(part: Part) -> Scalar:
    """Goodput [requests/s]: `requests of the part answered with TTFT and TPOT within the limits / span`.

    An answer of one token has no TPOT and meets its limit; an answer whose first token was not seen does not count.
    """
    requests = part.requests
    tokens = part.answered(requests.response_tokens)
    first = part.answered(requests.first_token - requests.intended) / NS_PER_S
    rest = part.answered(requests.done - requests.first_token) / NS_PER_S
    good = (first <= part.good_ttft_s) & ((tokens < 2) | (rest <= part.good_tpot_s * (tokens - 1)))
    return _per_second(int(good.sum()), part), int(good.sum())


def preemptions(part: Part) -> Scalar:
    """Preemptions [1]: how often the engine preempted the requests of the part, in all."""
    known = part.of(part.requests.preemptions)
    known = known[~np.isnan(known)]
    return (float(known.sum()) if known.size else None), known.size


def _per_second(count: float, part: Part) -> float | None:
    return count / part.span_s if part.end > part.start else None


def _steps_within(part: Part, engine: Engine) -> int:
    """Steps that overlap the span."""
    starts, ends = engine.edges[::2], engine.edges[1::2]
    return int(np.searchsorted(starts, part.end, side="left") - np.searchsorted(ends, part.start, side="right"))


# The list -------------------------------------------------------------------------------------------------------------

Statistic = Callable[[Floats], float]

STATISTICS: dict[str, tuple[int, Statistic]] = {
    "mean": (1, lambda values: float(np.mean(values))),
    "p50": (1, lambda values: float(np.percentile(values, 50))),
    "p90": (1, lambda values: float(np.percentile(values, 90))),
    "p99": (1, lambda values: float(np.percentile(values, 99))),
    "sd": (2, lambda values: float(np.std(values, ddof=1))),
}
"""Statistics of a quantity, each with the least number of values it needs."""

QUANTITIES: tuple[tuple[Callable[[Part], Floats], str, tuple[str, ...]], ...] = (
    (latency, "s", ("mean", "p50", "p90", "p99", "sd")),
    (token_latency, "s/token", ("mean", "p90", "sd")),
    (ttft, "s", ("mean", "p50", "p90", "p99")),
    (tpot, "s/token", ("mean", "p90")),
    (queue_wait, "s", ("mean", "p90")),
    (lag, "s", ("p50", "p99")),
)
STATES: tuple[tuple[Callable[[Part, Engine], tuple[Floats, Floats]], str, tuple[str, ...]], ...] = (
    (kv_usage, "1", ("mean", "p10", "p90")),
    (running, "requests", ("mean",)),
    (waiting, "requests", ("mean",)),
)
SCALARS: tuple[tuple[Callable[[Part], Scalar], str], ...] = (
    (failure_rate, "1"),
    (arrival_rate, "requests/s"),
    (throughput_requests, "requests/s"),
    (throughput_output_tokens, "tokens/s"),
    (throughput_tokens, "tokens/s"),
    (goodput, "requests/s"),
    (preemptions, "1"),
)


def names() -> dict[str, str]:
    """Every metric and its unit, in the order of `measure`."""
    quantities = {f"{function.__name__}_{name}": unit for function, unit, chosen in QUANTITIES for name in chosen}
    states = {f"{function.__name__}_{name}": unit for function, unit, chosen in STATES for name in chosen}
    return {function.__name__: unit for function, unit in SCALARS} | quantities | states


def weighted_quantiles(values: Floats, weights: Floats, shares: Sequence[float]) -> list[float]:
    """For each share the smallest value at or below which the state lies for at least that share of the time."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached, np.array(shares) * reached[-1])
    return values[order][np.minimum(places, len(values) - 1)].tolist()


def measure(part: Part, only: Collection[str] | None = None) -> Iterator[tuple[str, str, float | None, int]]:
    """Yield name, unit, value and the number of requests or steps it rests on, of every metric of a part.

    Args:
        part: of a run.
        only: the metrics wanted; None for all.

    The value is None where there is nothing to measure: no answered request, no step log, a span of no length.
    """

    def wanted(function: Callable[..., object], names: tuple[str, ...]) -> tuple[str, ...]:
        return names if only is None else tuple(name for name in names if f"{function.__name__}_{name}" in only)

    for scalar, unit in SCALARS:
        if only is not None and scalar.__name__ not in only:
            continue
        value, n = scalar(part)
        yield scalar.__name__, unit, value, n
    for quantity, unit, names_of in QUANTITIES:
        chosen = wanted(quantity, names_of)
        values = quantity(part) if chosen else np.zeros(0)
        for name in chosen:
            least, statistic = STATISTICS[name]
            yield f"{quantity.__name__}_{name}", unit, statistic(values) if values.size >= least else None, values.size
    for state, unit, names_of in STATES:
        chosen = wanted(state, names_of)
        if not chosen:
            continue
        if part.engine is None or part.end <= part.start:
            yield from ((f"{state.__name__}_{name}", unit, None, 0) for name in chosen)
            continue
        values, weights = state(part, part.engine)
        n = _steps_within(part, part.engine)
        shares = {name: int(name[1:]) / 100 for name in chosen if name != "mean"}
        quantiles = weighted_quantiles(values, weights, list(shares.values())) if shares else []
        results = dict(zip(shares, quantiles, strict=True))
        if "mean" in chosen:
            results["mean"] = float((values * weights).sum() / weights.sum())
        for name in chosen:
            yield f"{state.__name__}_{name}", unit, results[name], n
