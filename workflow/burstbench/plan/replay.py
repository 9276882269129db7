"""Replay: the requests of a trace at their own times, in a window, faster or slower, fewer or more.

How the load changes without changing how bursty it is:

- `speed` divides every time by one factor. Gaps keep their shape exactly.
- `keep` thins systematically: of each run of 1/keep requests (or sessions) one stays, from a random start. Each stretch
  of time keeps its share to within one request, so the counts in windows keep their coefficient of variation. (Chance
  for each request would add noise of its own, and push the stream towards a Poisson process.)
- `copies` superposes the stream with itself: each further copy of a request (or session) is moved by one random time of
  at most `spread_s`, so that bursts coincide. (Copies at independent times would even them out.)

A session's requests are kept, copied and moved together, and never change their order. Times that are known to whole
seconds get a seeded uniform part of that second; requests of one second keep their order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from burstbench.contracts import SERVICES
from burstbench.plan.checks import PlanError, choice, fail, mapping, number, text, whole

Whole = NDArray[np.int64]
NS = 1_000_000_000


@dataclass(frozen=True)
class Stream:
    """A replayed stream, in the order of sending; arrays of shape (n,).

    Attributes:
        send_ns: from the start of the phase, never decreasing.
        request_tokens, response_tokens: of the trace.
        record: what the plan's record tells of it.
    """

    send_ns: Whole
    request_tokens: Whole
    response_tokens: Whole
    record: dict[str, Any]


def validate(spec: Any, where: str) -> None:
    """Refuse a `replay` that is not right.

    Raises:
        PlanError: naming the key, what was found and what was expected.
    """
    mapping(
        spec, where, ["service", "from_s", "seconds"], ["model", "speed", "keep", "copies", "spread_s", "responses"]
    )
    choice(spec["service"], f"{where}.service", [*SERVICES, "all"])
    if "model" in spec:
        text(spec["model"], f"{where}.model")
    if number(spec["from_s"], f"{where}.from_s") < 0:
        raise fail(f"{where}.from_s", spec["from_s"], "a number >= 0")
    number(spec["seconds"], f"{where}.seconds", above=0)
    number(spec.get("speed", 1), f"{where}.speed", above=0)
    if number(spec.get("keep", 1), f"{where}.keep", above=0) > 1:
        raise fail(f"{where}.keep", spec["keep"], "a share of at most 1")
    whole(spec.get("copies", 1), f"{where}.copies")
    number(spec.get("spread_s", 1), f"{where}.spread_s", above=0)
    choice(spec.get("responses", "model"), f"{where}.responses", RESPONSES)


# Whose limit a response has: the plan's own (the model ends it), or the trace's length of that response.
RESPONSES = ("model", "trace")


def select(trace: pa.Table, service: str, model: str | None, where: str) -> pa.Table:
    """Return the rows of a service ("all": every) and a model (None: every).

    Raises:
        PlanError: there is none.
    """
    chosen = trace
    if service != "all":
        chosen = chosen.filter(pc.equal(chosen["service"], service))
    if model is not None:
        chosen = chosen.filter(pc.equal(chosen["model"], model))
    if not chosen.num_rows:
        raise PlanError(f"{where}: the trace has no request of service {service!r} and model {model or 'any'!r}")
    return chosen


def stream(trace: pa.Table, spec: dict[str, Any], rng: np.random.Generator, where: str) -> Stream:
    """Take the requests of a window and scale them.

    Args:
        trace: table of the contract TRACE.
        spec: a `replay` that `validate` accepted.
        rng: generator of this phase's times.
        where: key path of `replay`, for messages.

    Raises:
        PlanError: no request falls into the window.
    """
    rows = select(trace, spec["service"], spec.get("model"), where)
    time_s = rows["time_s"].to_numpy()
    first, last = np.searchsorted(time_s, [spec["from_s"], spec["from_s"] + spec["seconds"]])
    if first == last:
        raise PlanError(f"{where}: no request of the trace falls into {spec['seconds']:g} s from {spec['from_s']:g} s")
    rows = rows.slice(first, last - first)
    time_ns = np.rint((time_s[first:last] - spec["from_s"]) * NS).astype(np.int64)
    coarse = bool(np.all(time_ns % NS == round(-spec["from_s"] * NS) % NS))
    if coarse:
        time_ns += _within_a_second(time_ns, rng)
    member = _sessions(rows)
    groups = int(member.max()) + 1
    keep, copies = spec.get("keep", 1), spec.get("copies", 1)
    # Systematic sampling: group g stays where the sum of shares passes a whole number.
    passed = np.floor(np.arange(groups + 1) * keep + rng.random())
    kept = np.flatnonzero((np.diff(passed) > 0)[member])
    if not kept.size:
        raise PlanError(f"{where}.keep: found {keep:g}, which leaves none of the window's {len(time_ns)} requests")
    # No shift may take any request of a group out of the window.
    earliest, latest = np.full(groups, np.iinfo(np.int64).max), np.zeros(groups, np.int64)
    np.minimum.at(earliest, member, time_ns)
    np.maximum.at(latest, member, time_ns)
    spread, end = round(spec.get("spread_s", 1) * NS), round(spec["seconds"] * NS) - 1
    pieces = [time_ns[kept]]
    for _ in range(copies - 1):
        shift = np.clip(rng.integers(-spread, spread + 1, groups), -earliest, np.maximum(end - latest, 0))
        pieces.append((time_ns + shift[member])[kept])
    moved = np.concatenate(pieces)
    order = np.argsort(moved, kind="stable")
    send_ns = np.rint(moved[order] / np.float64(spec.get("speed", 1))).astype(np.int64)
    source = np.tile(kept, copies)[order]
    return Stream(
        send_ns,
        rows["request_tokens"].to_numpy()[source],
        rows["response_tokens"].to_numpy()[source],
        {
            "replay": {
                "requests_in_window": len(time_ns),
                "requests_kept": len(kept),
                "copies": copies,
                "sessions": groups if groups < len(time_ns) else None,
                "speed": spec.get("speed", 1),
                "time_within_a_second": "seeded uniform" if coarse else "the trace's",
                "alpha_and_beta": "moments of the replayed gaps",
            }
        },
    )


def _within_a_second(time_ns: Whole, rng: np.random.Generator) -> Whole:
    """Uniform parts of a second [ns], rising within requests of the same second: they keep their order."""
    part = rng.integers(0, NS, len(time_ns))
    return part[np.lexsort((part, time_ns))]  # times never decrease, so only parts of one second change places


def _sessions(rows: pa.Table) -> Whole:
    """Number of the session of each row, in the order of their first request; a row without one is its own."""
    if rows["session_id"].null_count == rows.num_rows:
        return np.arange(rows.num_rows)
    names = rows["session_id"].to_pylist()
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(row if name is None else name, len(numbers)) for row, name in enumerate(names)])
