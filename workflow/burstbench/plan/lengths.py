"""How long prompts are: Zipf truncated exactly, the trace's own lengths, or a constant."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from burstbench.plan.checks import PlanError

Whole = NDArray[np.int64]
Real = NDArray[np.float64]

# Up to so many runs of one exponent get a table each; above, they share those of a grid of exponents.
_MOST_TABLES = 256
# Of the lengths drawn with the grid, at most this share is drawn again (some 1 in 100 of usual exponents).
_REDRAWN = 0.07
# Beyond it P(1) differs from 1 by less than a uniform number can show, 2^-53.
_STEEPEST = 64.0


def zipf(theta: Real, n_max: int, rng: np.random.Generator) -> Whole:
    """Draw lengths with P(n) proportional to n^-theta on 1 ... n_max, exactly (the paper's prompt sampler, section IV).

    An exponent that holds for a run of requests is inverted from its table of cumulated probabilities. Where there are
    too many runs (theta changes with each request), tables of a grid are shared (`_moving`): exact as well.

    Args:
        theta: exponent for each request, above 0, shape (n,).
        n_max: longest length [tokens].
        rng: generator of the lengths.

    Returns:
        Lengths [tokens], shape (n,).
    """
    borders = np.flatnonzero(theta[1:] != theta[:-1]) + 1  # theta is constant, or moves in steps, or with every request
    if borders.size >= _MOST_TABLES:
        return _moving(theta, n_max, rng)
    uniform = rng.random(theta.size)
    support = np.arange(1, n_max + 1, dtype=np.float64)
    lengths = np.empty(theta.size, dtype=np.int64)
    for start, stop in pairwise([0, *borders, theta.size] if theta.size else []):
        lengths[start:stop] = _invert(support ** -theta[start], uniform[start:stop]) + 1
    return lengths


def _invert(weights: Real, uniform: Real) -> Whole:
    """Return, for each uniform number, the index k with cumulated weight(k - 1) <= number < cumulated weight(k)."""
    return np.searchsorted(_cumulated(weights), uniform, side="right")


def _moving(theta: Real, n_max: int, rng: np.random.Generator) -> Whole:
    """Draw lengths whose exponent changes with each request: exact, from the tables of a grid of exponents.

    A length n is drawn with the next lower exponent of the grid, t, and kept with probability n^(t - theta), which is
    what n^-theta / n^-t comes to; else it is drawn again. The grid is so fine that few are.
    """
    theta = np.minimum(theta, _STEEPEST)
    support = np.arange(1, n_max + 1, dtype=np.float64)
    logarithm = np.log(support)
    width = _REDRAWN / max(logarithm[-1], 1.0)
    cell = (theta / width).astype(np.uint16)  # 16 bits: sorted in linear time
    above = np.maximum(theta - cell * width, 0.0)
    order = np.argsort(cell, kind="stable")
    above = above[order]
    drawn = np.empty(theta.size, dtype=np.int64)  # indices of the support, in this order
    # n^(t - theta) is never below this: most of what is drawn is kept without working it out.
    surely = np.exp(-width * logarithm[-1]) - 1e-9
    found, starts = np.unique(cell[order], return_index=True)
    for grid, start, stop in zip(found.tolist(), starts, [*starts[1:], theta.size], strict=True):
        cumulated = _cumulated(support ** -(grid * width))
        places = np.arange(start, stop)
        drawn[start:stop] = np.searchsorted(cumulated, rng.random(places.size), side="right")
        while True:
            chance = rng.random(places.size)
            unsure = np.flatnonzero(chance >= surely)
            chance, places = chance[unsure], places[unsure]
            places = places[chance >= np.exp(-above[places] * logarithm[drawn[places]])]
            if not places.size:
                break
            drawn[places] = np.searchsorted(cumulated, rng.random(places.size), side="right")
    lengths = np.empty(theta.size, dtype=np.int64)
    lengths[order] = drawn + 1
    return lengths


def _cumulated(weights: Real) -> Real:
    cumulated = np.cumsum(weights)
    cumulated /= cumulated[-1]  # the last is exactly 1, so a number below 1 always finds a place
    return cumulated


@dataclass(frozen=True)
class Empirical:
    """Lengths seen in a trace, those the pool can serve.

    Attributes:
        tokens: lengths from 1 to the limit, rising, shape (n,) [tokens].
        requests: how many requests had each, shape (n,).
        empty_share: share of all requests that had 0 tokens; they are left out.
        above_share: share of all requests that were longer than the limit; they are left out.
    """

    tokens: Whole
    requests: Whole
    empty_share: float
    above_share: float

    def draw(self, n: int, rng: np.random.Generator) -> Whole:
        """Draw `n` lengths with the frequencies of the trace, on condition that they are within the limits."""
        return self.tokens[_invert(self.requests.astype(np.float64), rng.random(n))]


def empirical(counts: pa.Table, service: str, model: str, n_max: int, where: str) -> Empirical:
    """Take the request lengths of one service and model from `length_counts`.

    Args:
        counts: table of the contract LENGTH_COUNTS.
        service: of the trace.
        model: of the trace.
        n_max: longest length the pool serves [tokens].
        where: key path of the setting, for messages.

    Raises:
        PlanError: the table does not hold them, or none is within 1 ... n_max.
    """
    source = f"trace {service} {model}"
    requests_only = counts.filter(pc.equal(counts.column("quantity"), "request"))
    rows = requests_only.filter(pc.equal(requests_only.column("source"), source))
    if rows.num_rows == 0:
        found = ", ".join(sorted(map(repr, pc.unique(requests_only.column("source")).to_pylist())))
        raise PlanError(f"{where}: {source!r} has no request lengths in length_counts, which holds {found or 'none'}")
    tokens = rows.column("tokens").to_numpy()
    requests = rows.column("requests").to_numpy()
    order = np.argsort(tokens)
    tokens, requests = tokens[order], requests[order]
    kept = (tokens >= 1) & (tokens <= n_max)
    if not kept.any():
        raise PlanError(f"{where}: no request of {source!r} has 1 to {n_max} tokens")
    total = float(requests.sum())
    return Empirical(
        tokens[kept],
        requests[kept],
        empty_share=float(requests[tokens < 1].sum()) / total,
        above_share=float(requests[tokens > n_max].sum()) / total,
    )
