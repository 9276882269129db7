"""How long the responses are: drawn before the run, because nothing is generated here."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from burstbench.errors import UserError

Ints = npt.NDArray[np.int64]

# Replies among which one is drawn: those whose requests are nearest in length.
NEIGHBOURS = 100
_KEYS = {"empirical": set(), "lognormal": {"median", "sigma"}, "constant": {"tokens"}}


class ResponseModelError(UserError):
    """The settings of the response lengths are wrong."""


def draw(
    settings: Mapping[str, Any],
    prompt_tokens: Ints,
    request_tokens: Ints,
    reply_tokens: Ints,
    rng: np.random.Generator,
) -> Ints:
    """Draw the natural length of each request's response, before any limit.

    Args:
        settings: ``{kind: empirical}``: a reply of real dialogues, one of those whose requests are nearest in length
            (ratio, not difference); ``{kind: lognormal, median, sigma}``; ``{kind: constant, tokens}``.
        prompt_tokens: [requests].
        request_tokens: [replies] tokens of what was asked.
        reply_tokens: [replies] tokens of the reply to it.
        rng: source of the draws; every kind takes one draw a request, in the plan's order.

    Returns:
        [requests] tokens, at least 1.

    Raises:
        ResponseModelError: unknown kind or key, a value out of range, or no replies to draw from.
    """
    kind = settings.get("kind")
    if kind not in _KEYS:
        raise ResponseModelError(f"response_lengths.kind: found {kind!r}, expected one of {', '.join(_KEYS)}")
    wanted = _KEYS[kind]
    for key in settings:
        if key != "kind" and key not in wanted:
            raise ResponseModelError(f"response_lengths: unknown key {key!r} for {kind}")
    for key in sorted(wanted):
        value = settings.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < float("inf"):
            raise ResponseModelError(f"response_lengths.{key}: found {value!r}, expected a positive number ({kind})")
    size = len(prompt_tokens)
    if kind == "constant":
        return np.full(size, max(1, round(settings["tokens"])), dtype=np.int64)
    if kind == "lognormal":
        drawn = settings["median"] * np.exp(settings["sigma"] * rng.standard_normal(size))
        return np.clip(np.rint(drawn), 1, 2**31).astype(np.int64)
    if not len(request_tokens):
        raise ResponseModelError("the table of replies is empty: empirical response lengths need some")
    order = np.argsort(request_tokens, kind="stable")
    first, count = nearest(request_tokens[order], prompt_tokens)
    chosen = first + np.floor(rng.random(size) * count).astype(np.int64)
    return np.maximum(reply_tokens[order][chosen], 1)


def nearest(lengths: Ints, wanted: Ints, neighbours: int = NEIGHBOURS) -> tuple[Ints, Ints]:
    """Find the range of lengths that are nearest to each wanted one, as ratios.

    The range holds `neighbours` lengths, or all where there are fewer, and every length equal to one of them: which of
    several requests of one length comes first in the file decides nothing.

    Args:
        lengths: [n] ascending, at least 1.
        wanted: [m] at least 1.
        neighbours: how many.

    Returns:
        first: [m] first index of the range.
        count: [m] how many indices it has.
    """
    near = min(neighbours, lengths.size)
    logs, targets = np.log(lengths), np.log(wanted)
    low = np.zeros(len(wanted), dtype=np.int64)
    high = np.full(len(wanted), lengths.size - near, dtype=np.int64)
    # Bisection on the start of the range: move right while its left end is farther than the length after its right end.
    while (low < high).any():
        middle = (low + high) // 2
        after = np.minimum(middle + near, lengths.size - 1)
        right = (low < high) & (targets - logs[middle] > logs[after] - targets)
        low, high = np.where(right, middle + 1, low), np.where(right | (low >= high), high, middle)
    first = np.searchsorted(lengths, lengths[low], side="left")
    last = np.searchsorted(lengths, lengths[low + near - 1], side="right")
    return first, last - first
