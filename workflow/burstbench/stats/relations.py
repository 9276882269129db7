"""How one quantity of whole numbers goes with another: correlations and straight lines, with intervals."""

import math
from typing import NamedTuple

import numpy as np

from burstbench.stats.intervals import Z95

# Break points tried by the piecewise fit: quantiles of x.
_BREAKS = 199
# Slopes of quantile lines are sought up to so many times the ratio of the spreads.
_STEEPEST = 20.0
_GOLDEN = (math.sqrt(5) - 1) / 2


class Estimate(NamedTuple):
    """A number with its 95 % interval and the p-value of 'it is 0' (nan where there is none)."""

    value: float
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan


class Piecewise(NamedTuple):
    """Two lines that meet: y = level + below * (x - break) left of the break, and with `above` right of it."""

    break_at: float
    below: Estimate
    above: Estimate
    explained: float


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 of whole numbers of at least 0, ties sharing their average. Shape and order as `values`."""
    counts = np.bincount(values)
    return (np.cumsum(counts) - (counts - 1) / 2)[values]


def _normal_p(z: float) -> float:
    return math.erfc(abs(z) / math.sqrt(2))


def pearson(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Pearson's correlation with Fisher's z interval and test.

    Args:
        x: shape (n,), n at least 4, not constant.
        y: likewise.

    Raises:
        ValueError: fewer than four pairs, or a constant vector.
    """
    if len(x) < 4:
        raise ValueError("a correlation needs at least four pairs")
    dx, dy = x - np.mean(x), y - np.mean(y)
    scale = math.sqrt(float(dx @ dx) * float(dy @ dy))
    if scale == 0:
        raise ValueError("a constant has no correlation")
    r = max(-1.0, min(1.0, float(dx @ dy) / scale))
    if abs(r) == 1:
        return Estimate(r, r, r, 0.0)
    z, error = math.atanh(r), 1 / math.sqrt(len(x) - 3)
    return Estimate(r, math.tanh(z - Z95 * error), math.tanh(z + Z95 * error), _normal_p(z / error))


def spearman(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Spearman's rank correlation of whole numbers of at least 0, with the interval and test of `pearson` on ranks."""
    return pearson(average_ranks(x), average_ranks(y))


class _Groups(NamedTuple):
    """Pairs of equal x counted together: all that a line of y on x and its interval need.

    Attributes:
        x: distinct values, rising, shape (k,).
        pairs: how many of each, shape (k,).
        total: sum of their y less the mean of all y, shape (k,).
        square: sum of the squares of the same, shape (k,).
        mean: of all y.
    """

    x: np.ndarray
    pairs: np.ndarray
    total: np.ndarray
    square: np.ndarray
    mean: float

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> "_Groups":
        """Group pairs; x whole numbers of at least 0 is quick."""
        place: np.ndarray
        if x.dtype.kind in "iu" and x.min() >= 0:
            distinct, place = np.arange(int(x.max()) + 1), x
        else:
            distinct, place = np.unique(x, return_inverse=True)
        mean = float(np.mean(y))
        rest = y - mean
        pairs = np.bincount(place)
        some = np.flatnonzero(pairs)
        total, square = (np.bincount(place, weights=weights)[some] for weights in (rest, rest * rest))
        return cls(distinct[some], pairs[some], total, square, mean)


def _least_squares(design: np.ndarray, groups: _Groups) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients, their sandwich covariance (HC1: the spread of y may depend on x), and the residual sum.

    Args:
        design: the predictors of each distinct x, shape (k, p).
        groups: the pairs; y is fitted less its mean.
    """
    n, p = float(groups.pairs.sum()), design.shape[1]
    inverse = np.linalg.pinv((design.T * groups.pairs) @ design)
    coefficients = inverse @ (design.T @ groups.total)
    fitted = design @ coefficients
    residual = np.maximum(groups.square - 2 * fitted * groups.total + groups.pairs * fitted**2, 0.0)
    covariance = inverse @ ((design.T * residual) @ design) @ inverse * (n / max(n - p, 1))
    return coefficients, covariance, float(residual.sum())


def _estimate(value: float, variance: float) -> Estimate:
    error = math.sqrt(max(variance, 0.0))
    p = _normal_p(value / error) if error > 0 else float(value == 0)
    return Estimate(value, value - Z95 * error, value + Z95 * error, p)


def line(x: np.ndarray, y: np.ndarray) -> tuple[Estimate, Estimate]:
    """Least-squares line of y on x.

    Args:
        x: shape (n,), n at least 4, not constant.
        y: shape (n,).

    Returns:
        Slope and intercept, with intervals that allow for unequal spread (White 1980, HC1).

    Raises:
        ValueError: fewer than four pairs, or a constant x.
    """
    if len(x) < 4 or np.ptp(x) == 0:
        raise ValueError("a line needs at least four pairs and an x that varies")
    centre = float(np.mean(x))
    groups = _Groups.of(np.asarray(x), np.asarray(y))
    design = np.column_stack((np.ones(len(groups.x)), groups.x - centre))
    (level, slope), covariance, _ = _least_squares(design, groups)
    level += groups.mean
    to_zero = np.array([1.0, -centre])
    return _estimate(slope, covariance[1, 1]), _estimate(level - slope * centre, float(to_zero @ covariance @ to_zero))


def quantile_slope(x: np.ndarray, y: np.ndarray, share: float) -> float:
    """Slope of the line below which a share of the y lies (Koenker and Bassett 1978, Econometrica 46:33).

    For a given slope the best intercept is a quantile of the residuals, and the loss that remains is convex in the
    slope: a golden-section search finds its least to 1e-7 of the ratio of the spreads of y and x.

    Args:
        x: shape (n,), not constant.
        y: shape (n,).
        share: 0 … 1, exclusive.

    Raises:
        ValueError: a constant x.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if np.ptp(x) == 0:
        raise ValueError("a line needs an x that varies")
    place = min(int(share * len(x)), len(x) - 1)

    def loss(slope: float) -> float:
        rest = y - slope * x
        rest -= np.partition(rest, place)[place]
        return float(np.where(rest >= 0, share * rest, (share - 1) * rest).sum())

    scale = float(np.std(y) / np.std(x)) or 1.0
    low, high = -_STEEPEST * scale, _STEEPEST * scale
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-7 * scale:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return (low + high) / 2


def piecewise(x: np.ndarray, y: np.ndarray) -> Piecewise:
    """Two lines that meet at the break which fits best, among 199 quantiles of x.

    The sums of squares of all breaks come from cumulative sums over the distinct x. Intervals of the slopes hold the
    break fixed.

    Args:
        x: whole numbers of at least 0, at least ten of them distinct, shape (n,).
        y: shape (n,).

    Returns:
        Break (in the unit of x), both slopes, and the share of the straight line's residual sum of squares that the
        break explains.

    Raises:
        ValueError: fewer than ten distinct x.
    """
    groups = _Groups.of(np.asarray(x), np.asarray(y))
    distinct, counts, total = groups.x, groups.pairs, groups.total
    if len(distinct) < 10:
        raise ValueError("a piecewise line needs at least ten distinct x")
    centre, scale = float(np.mean(x)), float(np.std(x))
    u = (distinct - centre) / scale

    def above(weights: np.ndarray) -> np.ndarray:
        """Sum of `weights` over the x right of each distinct x."""
        return np.concatenate((np.cumsum(weights[::-1])[::-1][1:], [0.0]))

    share = np.cumsum(counts) / len(y)
    at = np.unique(np.searchsorted(share, np.linspace(0, 1, _BREAKS + 2)[1:-1]))
    at = at[(at >= 1) & (at <= len(distinct) - 2)]
    b = u[at]
    n_above, u_above, uu_above = (above(counts * u**k)[at] for k in (0, 1, 2))
    y_above, uy_above = above(total)[at], above(total * u)[at]
    hinge, hinge_u = u_above - b * n_above, uu_above - b * u_above
    hinge_hinge = hinge_u - b * hinge
    n, s, ss = float(len(y)), float(counts @ u), float(counts @ u**2)
    normal = np.empty((len(b), 3, 3))
    normal[:, 0, 0], normal[:, 0, 1], normal[:, 1, 1] = n, s, ss
    normal[:, 0, 2], normal[:, 1, 2], normal[:, 2, 2] = hinge, hinge_u, hinge_hinge
    normal[:, 1, 0], normal[:, 2, 0], normal[:, 2, 1] = s, hinge, hinge_u
    moments = np.column_stack((np.full(len(b), total.sum()), np.full(len(b), total @ u), uy_above - b * y_above))
    explained = np.einsum("ki,ki->k", np.linalg.solve(normal, moments[:, :, None])[:, :, 0], moments)
    best = float(distinct[at[int(np.argmax(explained))]])
    offset = distinct - best
    ones = np.ones(len(distinct))
    design = np.column_stack((ones, np.minimum(offset, 0), np.maximum(offset, 0)))
    coefficients, covariance, rest = _least_squares(design, groups)
    straight = _least_squares(np.column_stack((ones, offset)), groups)[2]
    return Piecewise(
        best,
        _estimate(coefficients[1], covariance[1, 1]),
        _estimate(coefficients[2], covariance[2, 2]),
        1 - rest / straight if straight > 0 else 0.0,
    )
