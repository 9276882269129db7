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

# Up to so many runs of one exponent get a table each; above, lengths are drawn without tables.
_MOST_TABLES = 256
# Requests drawn at a time without tables: their intermediate arrays stay in the processor's cache.
_BLOCK = 1 << 16


def zipf(theta: Real, n_max: int, rng: np.random.Generator) -> Whole:
    """Draw lengths with P(n) proportional to n^-theta on 1 ... n_max, exactly (the paper's prompt sampler, section IV).

    An exponent that holds for a run of requests is inverted from its table of cumulated probabilities. Where there are
    too many runs (theta changes with each request), lengths are drawn by rejection-inversion: exact as well, no table.

    Args:
        theta: exponent for each request, above 0, shape (n,).
        n_max: longest length [tokens].
        rng: generator of the lengths.

    Returns:
        Lengths [tokens], shape (n,).
    """
    borders = np.flatnonzero(theta[1:] != theta[:-1]) + 1  # theta is constant, or moves in steps, or with every request
    if borders.size >= _MOST_TABLES:
        blocks = [_rejection_inversion(theta[k : k + _BLOCK], n_max, rng) for k in range(0, theta.size, _BLOCK)]
        return np.concatenate(blocks)
    uniform = rng.random(theta.size)
    support = np.arange(1, n_max + 1, dtype=np.float64)
    lengths = np.empty(theta.size, dtype=np.int64)
    for start, stop in pairwise([0, *borders, theta.size] if theta.size else []):
        lengths[start:stop] = _invert(support ** -theta[start], uniform[start:stop]) + 1
    return lengths


def _invert(weights: Real, uniform: Real) -> Whole:
    """Return, for each uniform number, the index k with cumulated weight(k - 1) <= number < cumulated weight(k)."""
    cumulated = np.cumsum(weights)
    cumulated /= cumulated[-1]  # the last is exactly 1, so a number below 1 always finds a place
    return np.searchsorted(cumulated, uniform, side="right")


def _rejection_inversion(theta: Real, n_max: int, rng: np.random.Generator) -> Whole:
    """Draw by rejection-inversion (W. Hoermann, G. Derflinger, ACM TOMACS 6(3), 1996, doi:10.1145/235025.235029).

    The histogram of n^-theta is covered by the area below x^-theta between 1.5 and n_max + 0.5, and a bar of weight 1
    for n = 1. Fewer than two numbers in a hundred are drawn again.
    """
    q = 1.0 - theta
    # H is the integral of x^-theta, shifted by a constant so that it goes over smoothly to log x at theta = 1.
    low = _integral(np.float64(1.5), q) - 1.0
    high = _integral(np.float64(n_max + 0.5), q)
    lengths = np.zeros(theta.size, dtype=np.int64)
    open_ = np.arange(theta.size)
    while open_.size:
        q_open, theta_open = q[open_], theta[open_]
        area = high[open_] + rng.random(open_.size) * (low[open_] - high[open_])
        n = np.clip(np.rint(_inverse_integral(area, q_open)), 1, n_max)
        accepted = area >= _integral(n + 0.5, q_open) - n**-theta_open
        lengths[open_[accepted]] = n[accepted]
        open_ = open_[~accepted]
    return lengths


def _integral(x: NDArray[np.float64] | np.float64, q: Real) -> Real:
    """Return (x^q - 1) / q, and log x where q is 0."""
    logarithm = np.log(x)
    small = np.abs(q * logarithm) < 1e-8
    safe = np.where(q == 0, 1.0, q)
    return np.where(small, logarithm * (1.0 + q * logarithm / 2.0), np.expm1(q * logarithm) / safe)


def _inverse_integral(area: Real, q: Real) -> Real:
    """Return the x with `_integral(x, q) == area`."""
    product = np.maximum(q * area, -1.0 + 1e-15)
    small = np.abs(product) < 1e-8
    safe = np.where(q == 0, 1.0, q)
    return np.exp(np.where(small, area * (1.0 - product / 2.0), np.log1p(product) / safe))


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
