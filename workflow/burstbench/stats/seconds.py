"""Likelihoods of gaps between timestamps that were cut to whole seconds.

If a gap is X and the first of its two timestamps lies anywhere within its second, the difference d of the two cut
timestamps is floor(X) or floor(X) + 1. Its probability is the gap's density f seen through a triangle,

    P(d) = ∫ f(x) · max(0, 1 - |x - d|) dx,

not the probability of d ≤ X < d + 1. (The triangle is the density of the difference of two uniform phases.) With the
survival function S this is ∫ S over [d - 1, d] less ∫ S over [d, d + 1], and P(0) = 1 - ∫ S over [0, 1].

The likelihoods treat the phases of neighbouring gaps as independent; in truth they share a timestamp.
`tests/benchmarks/recovery_gamma.py` shows what that costs.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import digamma, gammaincc, gammaln, ndtr, polygamma

from burstbench.stats.newton import ITERATIONS, TOLERANCE, Optimum, maximise

# Windows fitted at once: their arrays stay in the cache.
_BLOCK = 512
_DENSITY_NODES = 8
# Where a density hardly changes within a second, four nodes are as good as sixteen: gaps from here on [s], at which the
# logarithm of the density has at most this slope and this bend [1/s, 1/s²]. The error is below 1e-11 of P(d).
_FAR = 12
_SLOPE, _BEND = 0.3, 0.03
# The same for survival functions, whose densities are seen as differences: by how much these may differ.
_UNEVEN = 1.5


class Gaps(NamedTuple):
    """Gaps in whole seconds of many windows, equal ones counted together.

    Attributes:
        windows: number of windows.
        window: number of the window of each distinct gap, rising, shape (k,).
        gap: the gap [s], rising within a window, shape (k,).
        times: how often it occurs, shape (k,).
    """

    windows: int
    window: np.ndarray
    gap: np.ndarray
    times: np.ndarray

    @classmethod
    def of(cls, windows: int, window: np.ndarray, gap: np.ndarray) -> "Gaps":
        """Count equal gaps.

        Args:
            windows: number of windows.
            window: of each gap, 0 … windows - 1, shape (n,), any order.
            gap: whole seconds, at least 0, shape (n,).
        """
        base = int(gap.max()) + 1 if len(gap) else 1
        key, times = np.unique(window.astype(np.int64) * base + gap.astype(np.int64), return_counts=True)
        return cls(windows, key // base, key % base, times)

    def take(self, rows: np.ndarray) -> "Gaps":
        """The gaps of some windows (rising numbers), numbered anew from 0."""
        new = np.full(self.windows, -1)
        new[rows] = np.arange(len(rows))
        kept = new[self.window] >= 0
        return Gaps(len(rows), new[self.window[kept]], self.gap[kept], self.times[kept])

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum of a value of each distinct gap (not weighted by how often it occurs), by window, shape (windows,)."""
        return np.bincount(self.window, weights=values, minlength=self.windows)

    @property
    def n(self) -> np.ndarray:
        """Gaps of each window, whole numbers, shape (windows,)."""
        return np.bincount(self.window, weights=self.times, minlength=self.windows).astype(np.int64)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean [s] and sample variance [s²] of the gaps before they were cut; nan with fewer than one and two gaps.

        Cutting leaves the mean as it is and adds 1/6 s² to the variance (1/12 for each of the two timestamps).
        """
        n = self.n.astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = self.total(self.times * self.gap) / n
            spread = self.total(self.times * (self.gap - mean[self.window]) ** 2)
            return mean, spread / np.where(n > 1, n - 1, np.nan) - 1 / 6


# From times x > 0 and their logarithms, shape (nodes, k), and two parameters, shape (k,), to S and its derivatives by
# both parameters: 1, 2, 11, 12, 22; six arrays of shape (nodes, k).
Survival = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, ...]]


_NODE, _WEIGHT = ((part + shift) / 2 for part, shift in zip(np.polynomial.legendre.leggauss(6), (1, 0), strict=True))
# Nodes u and the weights of S(d - u2), S(d - u1), S(d + u1), S(d + u2) for ∫ S(d - u) - S(d + u) du over [0, 1]: the
# difference is u times a function of u², so it is Gauss-Legendre in u².
_square, _half = np.polynomial.legendre.leggauss(2)
_FAR_NODE = np.sqrt((_square + 1) / 2)
_far_weight = _half / 4 / _FAR_NODE
_FAR_WEIGHT = np.concatenate((_far_weight[::-1], -_far_weight))
_FAR_STEP = (_FAR_NODE[1] - _FAR_NODE[0]) / (2 * _FAR_NODE[0])
# Nodes and weights on [0, 1] for functions that change steeply at 0: Gauss-Legendre in the fourth root.
_root, _root_weight = np.polynomial.legendre.leggauss(24)
_root, _root_weight = (_root + 1) / 2, _root_weight / 2
_STEEP_NODE = _root**4
_STEEP_WEIGHT = 4 * _root**3 * _root_weight


class _Moments(NamedTuple):
    """What a search starts from: finite and positive where there is anything to fit; each of shape (windows,).

    Attributes:
        mean: of the gaps [s].
        sd: their standard deviation [s].
        mean_log: mean of their logarithms, a gap of 0 s as one of 0.3 s.
        sd_log: standard deviation of the same.
    """

    mean: np.ndarray
    sd: np.ndarray
    mean_log: np.ndarray
    sd_log: np.ndarray

    @classmethod
    def of(cls, gaps: Gaps) -> "_Moments":
        """The moments of each window's gaps."""
        mean, variance = gaps.moments()
        mean = np.where(mean > 0, mean, 1e-2)
        sd = np.sqrt(np.maximum(np.nan_to_num(variance), (0.15 * mean) ** 2))
        log, n = np.log(np.maximum(gaps.gap, 0.3)), np.maximum(gaps.n, 1)
        mean_log = gaps.total(gaps.times * log) / n
        sd_log = np.sqrt(gaps.total(gaps.times * (log - mean_log[gaps.window]) ** 2) / n)
        return cls(mean, sd, mean_log, np.maximum(sd_log, 0.1))


class Family(NamedTuple):
    """A family of gaps of two parameters, both searched on a scale without limits (log, or as it is).

    Attributes:
        name: as in tables.
        free: number of parameters that are fitted, for AIC.
        survival: the survival function with derivatives; None for Gamma, which has its own likelihood.
        draw: samples from rng, both parameters and a shape [s].
        start: first guess from the moments, shape (windows, 2).
        lower: least values searched.
        upper: largest values searched.
        fixed: parameters that keep their start value.
    """

    name: str
    free: int
    survival: Survival | None
    draw: Callable[[np.random.Generator, float, float, tuple[int, ...]], np.ndarray]
    start: Callable[[_Moments], np.ndarray]
    lower: tuple[float, float]
    upper: tuple[float, float]
    fixed: tuple[bool, bool] = (False, False)


def _likelihood(
    gaps: Gaps, p: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-likelihood and its derivatives by window from the probability of each distinct gap and its derivatives.

    Args:
        gaps: the gaps, k distinct ones.
        p: probabilities, shape (k,).
        first: derivatives by the two parameters, shape (2, k).
        second: second derivatives 11, 12, 22, shape (3, k).
    """
    # A probability that underflows makes the value infinite, which the search takes as a step too far.
    with np.errstate(divide="ignore", invalid="ignore"):
        score, bend, log_p = first / p, second / p, np.log(p)
    bend[0] -= score[0] ** 2
    bend[1] -= score[0] * score[1]
    bend[2] -= score[1] ** 2
    return (
        gaps.total(gaps.times * log_p),
        np.stack([gaps.total(gaps.times * row) for row in score], axis=1),
        np.stack([gaps.total(gaps.times * row) for row in bend], axis=1),
    )


class _Rule(NamedTuple):
    """A rule for ∫ f(d + u) (1 - |u|) du over [-1, 1], for each of some distinct gaps d.

    Attributes:
        offset: the nodes u, shape (nodes,).
        log_ratio: logarithm of a node less that of its gap, shape (gaps, nodes).
        weight: of the nodes, shape (gaps, nodes). For d = 1 the left half is left out: it is in the series at 0.
        powers: 1, u, u², shape (nodes, 3).
    """

    offset: np.ndarray
    log_ratio: np.ndarray
    weight: np.ndarray
    powers: np.ndarray

    @classmethod
    def of(cls, gap: np.ndarray, offset: np.ndarray, weight: np.ndarray) -> "_Rule":
        """The rule for distinct gaps of shape (k,); a gap of 0 s gets a place, which means nothing."""
        safe = np.maximum(gap, 1)[:, None]
        left_out = (safe == 1) & (offset < 0)
        log_ratio = np.log1p(np.where(left_out, 0.0, offset / safe))
        return cls(offset, log_ratio, np.where(left_out, 0.0, weight), offset[:, None] ** np.arange(3))


def _halves(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [-1, 1] for the triangle: Gauss-Legendre on each half."""
    node, weight = np.polynomial.legendre.leggauss(nodes)
    right = (node + 1) / 2
    offset = np.concatenate((-right[::-1], right))
    return offset, (1 - np.abs(offset)) * np.concatenate((weight[::-1], weight)) / 2


def _four_nodes() -> tuple[np.ndarray, np.ndarray]:
    """Gauss's rule with four nodes for the weight 1 - |u| on [-1, 1], exact for polynomials of degree 7.

    The nodes are the zeros of u⁴ - (31/49) u² + 19/490, orthogonal to all polynomials below it.
    """
    squared = np.roots([1, -31 / 49, 19 / 490])
    # ∫ (1 - |u|) u² du = 1/6.
    first = (1 / 6 - squared[1]) / (squared[0] - squared[1]) / 2
    node = np.sqrt(squared)
    return np.concatenate((-node, node)), np.tile([first, 0.5 - first], 2)


class GammaLikelihood:
    """Gamma gaps in (log alpha, log beta), beta the scale [s].

    Over [0, 1], where the density may be infinite, the integrals are series of positive terms (Kummer's
    transformation of the confluent hypergeometric function): with z = 1 / beta and
    u_k = z^(alpha + k) e^-z / Gamma(alpha + 2 + k),

        ∫ f (1 - x) dx = Σ (k + 1) u_k,        ∫ f x dx = alpha Σ u_k.

    Elsewhere the density is smooth, and Gauss-Legendre with eight nodes on each side of d is exact to about 1e-12
    (checked against incomplete gamma functions in the tests). Where it hardly changes within a second, which is most of
    the distinct gaps, Gauss's rule of the triangle with four nodes does as well. All derivatives are exact.
    """

    def __init__(self, gaps: Gaps) -> None:
        self.gaps = gaps
        distinct, self.gap_of = np.unique(gaps.gap, return_inverse=True)
        self.fine = _Rule.of(distinct, *_halves(_DENSITY_NODES))
        self.coarse = _Rule.of(distinct, *_four_nodes())
        self.zero, self.one = np.flatnonzero(gaps.gap == 0), np.flatnonzero(gaps.gap == 1)
        self.near = (gaps.gap > 0) & (gaps.gap < _FAR)
        self.far = gaps.gap >= _FAR

    def take(self, rows: np.ndarray) -> "GammaLikelihood":
        """The likelihood of some windows."""
        return GammaLikelihood(self.gaps.take(rows))

    def _near_zero(self, alpha: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """∫ f (1 - x) and ∫ f x over [0, 1] with derivatives by alpha and log beta; each of shape (6, windows)."""
        z = 1 / beta
        top = float(z.max(initial=0))
        k = np.arange(int(top + 9 * np.sqrt(top)) + 17)[:, None]
        shifted = alpha + 2 + k
        log_term = (alpha + k) * np.log(z) - z - gammaln(shifted)
        term = np.exp(log_term)
        # digamma and trigamma of alpha + 2 + k by their recurrences.
        inverse = 1 / shifted[:-1]
        zero = np.zeros_like(alpha)[None]
        psi = digamma(alpha + 2) + np.concatenate((zero, np.cumsum(inverse, axis=0)))
        trigamma = polygamma(1, alpha + 2) - np.concatenate((zero, np.cumsum(inverse**2, axis=0)))
        a, b = np.log(z) - psi, z - alpha - k
        derived = np.stack(
            (term, term * a, term * b, term * (a * a - trigamma), term * (a * b - 1), term * (b * b - z))
        )
        low = np.einsum("dkw,k->dw", derived, k[:, 0] + 1.0)
        s, s_a, s_b, s_aa, s_ab, s_bb = derived.sum(axis=1)
        high = np.stack(
            (alpha * s, s + alpha * s_a, alpha * s_b, 2 * s_a + alpha * s_aa, s_b + alpha * s_ab, alpha * s_bb)
        )
        return low, high

    def _beyond(self, rule: "_Rule", at: np.ndarray, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """P(d) of some gaps of at least 1 s by a rule, with derivatives by alpha and log beta, of shape (6, gaps)."""
        window, kind = self.gaps.window[at], self.gap_of[at]
        d = self.gaps.gap[at].astype(float)
        al, z = alpha[window], 1 / beta[window]
        ratio = rule.log_ratio[kind]
        f = rule.weight[kind] * np.exp((al - 1)[:, None] * ratio - z[:, None] * rule.offset)
        height = np.exp((al - 1) * np.log(d) - d * z + al * np.log(z) - gammaln(alpha)[window])
        m0, mu, muu = (f @ rule.powers).T
        f *= ratio
        ml, mlu = (f @ rule.powers[:, :2]).T
        f *= ratio
        mll = f.sum(axis=1)
        # d log f / d alpha = log(node / gap) + c, d log f / d log beta = z · offset + e.
        c = np.log(d) + np.log(z) - digamma(alpha)[window]
        e = z * d - al
        return height * np.stack(
            (
                m0,
                ml + c * m0,
                z * mu + e * m0,
                mll + 2 * c * ml + (c * c - polygamma(1, alpha)[window]) * m0,
                z * mlu + e * ml + c * z * mu + (c * e - 1) * m0,
                z * z * muu + 2 * e * z * mu + e * e * m0 - z * (mu + d * m0),
            )
        )

    def evaluate(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log-likelihood, gradient and second derivatives by window, at (log alpha, log beta) of shape (windows, 2)."""
        gaps = self.gaps
        alpha, beta = np.exp(parameters).T
        p = np.zeros((6, len(gaps.gap)))
        bend = (alpha[gaps.window] - 1) / np.maximum(gaps.gap, 1)
        smooth = self.far & (np.abs(bend - (1 / beta)[gaps.window]) <= _SLOPE)
        smooth &= np.abs(bend) <= _BEND * gaps.gap
        for rule, chosen in ((self.coarse, smooth), (self.fine, self.near | self.far & ~smooth)):
            at = np.flatnonzero(chosen)
            p[:, at] = self._beyond(rule, at, alpha, beta)
        low, high = self._near_zero(alpha, beta)
        p[:, self.zero] += low[:, gaps.window[self.zero]]
        p[:, self.one] += high[:, gaps.window[self.one]]
        # From alpha to log alpha.
        al = alpha[gaps.window]
        first = np.stack((al * p[1], p[2]))
        second = np.stack((al * al * p[3] + al * p[1], al * p[4], p[5]))
        return _likelihood(gaps, p[0], first, second)


class SurvivalLikelihood:
    """Gaps of a family with a closed survival function S.

    P(d) comes from integrals of S by Gauss-Legendre: six nodes a second, and over [0, 1], where S may fall steeply at
    0, 24 in the fourth root of x. Far from 0, where the density hardly changes
    within a second, it is ∫ S(d - u) - S(d + u) du over [0, 1] with two nodes in u², exact for an S of degree 8.

    Args:
        gaps: the gaps.
        survival: the family's survival function.
    """

    def __init__(self, gaps: Gaps, survival: Survival) -> None:
        self.gaps = gaps
        self.survival = survival
        self.far = np.flatnonzero(gaps.gap >= _FAR)
        self.near = np.flatnonzero((gaps.gap > 0) & (gaps.gap < _FAR))
        self.distinct, self.gap_of = np.unique(gaps.gap, return_inverse=True)
        # The left half of d = 1 is [0, 1], whose integral is computed apart.
        self.fine = np.maximum(self.distinct + np.concatenate((_NODE - 1, _NODE))[:, None], 1e-300)
        self.coarse = np.maximum(self.distinct + np.concatenate((-_FAR_NODE[::-1], _FAR_NODE))[:, None], 1e-300)

    def take(self, rows: np.ndarray) -> "SurvivalLikelihood":
        """The likelihood of some windows."""
        return SurvivalLikelihood(self.gaps.take(rows), self.survival)

    def _survival_at(self, nodes: np.ndarray, at: np.ndarray, parameters: np.ndarray) -> tuple[np.ndarray, ...]:
        """S with its derivatives at the nodes of some gaps, six arrays of shape (nodes, gaps)."""
        kind = self.gap_of[at]
        return self.survival(nodes[:, kind], np.log(nodes)[:, kind], *parameters[self.gaps.window[at]].T)

    def evaluate(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log-likelihood, gradient and second derivatives by window, at parameters of shape (windows, 2)."""
        gaps = self.gaps
        steep = _STEEP_NODE[:, None]
        first = np.stack([_STEEP_WEIGHT @ part for part in self.survival(steep, np.log(steep), *parameters.T)])
        p = np.zeros((6, len(gaps.gap)))
        parts = self._survival_at(self.coarse, self.far, parameters)
        s = parts[0]
        density = np.stack((s[0] - s[1], (s[1] - s[2]) * _FAR_STEP, s[2] - s[3]))
        smooth = density.max(axis=0) < _UNEVEN * density.min(axis=0)
        p[:, self.far] = [_FAR_WEIGHT @ part for part in parts]
        near = np.union1d(self.near, self.far[~smooth])
        window, one = gaps.window[near], gaps.gap[near] == 1
        half = len(_NODE)
        for number, part in enumerate(self._survival_at(self.fine, near, parameters)):
            left = _WEIGHT @ part[:half]
            left[one] = first[number, window[one]]
            p[number, near] = left - _WEIGHT @ part[half:]
        zero = np.flatnonzero(gaps.gap == 0)
        p[:, zero] = -first[:, gaps.window[zero]]
        p[0, zero] += 1
        return _likelihood(gaps, p[0], p[1:3], p[3:])


def _weibull(x: np.ndarray, log_x: np.ndarray, log_k: np.ndarray, log_scale: np.ndarray) -> tuple[np.ndarray, ...]:
    k = np.exp(log_k)
    log_y = np.minimum(k * (log_x - log_scale), 6.5)  # S is 1e-289 there: beyond, 0 · inf would follow
    y = np.exp(log_y)
    s = np.exp(-y)
    sy = s * y
    syl = sy * log_y
    return s, -syl, k * sy, syl * log_y * (y - 1) - syl, k * (sy + syl - syl * y), k * k * sy * (y - 1)


def _lognormal(x: np.ndarray, log_x: np.ndarray, mu: np.ndarray, log_sigma: np.ndarray) -> tuple[np.ndarray, ...]:
    inverse = np.exp(-log_sigma)
    z = (log_x - mu) * inverse
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    dz = density * z
    return (
        ndtr(-z),
        density * inverse,
        dz,
        dz * inverse * inverse,
        (dz * z - density) * inverse,
        dz * (z * z - 1),
    )


def _lomax(x: np.ndarray, log_x: np.ndarray, log_a: np.ndarray, log_level: np.ndarray) -> tuple[np.ndarray, ...]:
    """S = (1 + x / scale)^-a with scale = a · level: for large a it nears the exponential of mean `level`."""
    a = np.exp(log_a)
    ratio = x / (a * np.exp(log_level))
    at = a * np.log1p(ratio)
    w = ratio / (1 + ratio)
    s = np.exp(-at)
    sw = a * w * s
    by_both = sw * (1 - at)  # by log a and log scale
    by_scale = sw * (a * w - (1 - w))
    return s, sw - at * s, sw, (at - 1) * at * s + 2 * by_both + by_scale, by_both + by_scale, by_scale


def _gamma_start(guess: _Moments) -> np.ndarray:
    alpha = np.clip((guess.mean / guess.sd) ** 2, 0.05, 50)
    return np.log(np.stack((alpha, guess.mean / alpha), axis=1))


def _weibull_start(guess: _Moments) -> np.ndarray:
    k = np.clip(np.pi / np.sqrt(6) / guess.sd_log, 0.2, 10)
    return np.stack((np.log(k), guess.mean_log + np.euler_gamma / k), axis=1)


def _exponential_start(guess: _Moments) -> np.ndarray:
    return np.stack((np.zeros_like(guess.mean), np.log(guess.mean)), axis=1)


def _lognormal_start(guess: _Moments) -> np.ndarray:
    return np.stack((guess.mean_log, np.log(guess.sd_log)), axis=1)


def _lomax_start(guess: _Moments) -> np.ndarray:
    return np.stack((np.full_like(guess.mean, np.log(3.0)), np.log(guess.mean * 2 / 3)), axis=1)


GAMMA = Family(
    "gamma",
    2,
    None,
    lambda rng, log_alpha, log_beta, size: rng.gamma(np.exp(log_alpha), np.exp(log_beta), size),
    _gamma_start,
    (np.log(1e-3), np.log(1e-2)),
    (np.log(1e4), np.log(1e7)),
)
EXPONENTIAL = Family(
    "exponential",
    1,
    _weibull,
    lambda rng, _, log_scale, size: rng.exponential(np.exp(log_scale), size),
    _exponential_start,
    (0, -7),
    (0, 17),
    (True, False),
)
WEIBULL = Family(
    "weibull",
    2,
    _weibull,
    lambda rng, log_k, log_scale, size: np.exp(log_scale) * rng.weibull(np.exp(log_k), size),
    _weibull_start,
    (-4, -20),
    (5, 20),
)
LOGNORMAL = Family(
    "lognormal",
    2,
    _lognormal,
    lambda rng, mu, log_sigma, size: rng.lognormal(mu, np.exp(log_sigma), size),
    _lognormal_start,
    (-30, -4),
    (20, 4),
)
# Pareto's second kind (Lomax), which starts at 0 as the gaps do: S(x) = (1 + x / scale)^-a.
PARETO = Family(
    "pareto",
    2,
    _lomax,
    lambda rng, log_a, log_level, size: np.exp(log_a + log_level) * rng.pareto(np.exp(log_a), size),
    _lomax_start,
    (-5, -20),
    (6, 25),
)
FAMILIES = (GAMMA, EXPONENTIAL, WEIBULL, LOGNORMAL, PARETO)


def likelihood(family: Family, gaps: Gaps) -> GammaLikelihood | SurvivalLikelihood:
    """The log-likelihood of every window as a function of the family's two parameters."""
    return SurvivalLikelihood(gaps, family.survival) if family.survival else GammaLikelihood(gaps)


def fit(
    family: Family,
    gaps: Gaps,
    start: np.ndarray | None = None,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> Optimum:
    """Fit a family to every window by maximum likelihood.

    Args:
        family: one of FAMILIES.
        gaps: of `windows` windows.
        start: where to start, shape (windows, 2); by default from the moments of the gaps and their logarithms.
        tolerance: as `burstbench.stats.newton.maximise`.
        iterations: likewise.

    Returns:
        One row a window, parameters on the family's own scale. A window without gaps, or whose likelihood has no
        inner maximum (all gaps equal, say), is not converged.
    """
    if start is None:
        start = family.start(_Moments.of(gaps))
    some = gaps.n > 0
    parts = []
    for begin in range(0, gaps.windows, _BLOCK):
        rows = np.arange(begin, min(begin + _BLOCK, gaps.windows))
        low, high = np.searchsorted(gaps.window, (rows[0], rows[-1] + 1))
        block = Gaps(len(rows), gaps.window[low:high] - begin, gaps.gap[low:high], gaps.times[low:high])
        parts.append(
            maximise(
                likelihood(family, block), start[rows], family.lower, family.upper, family.fixed, tolerance, iterations
            )
        )
    if not parts:
        return Optimum(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 3)), np.zeros(0, dtype=bool))
    parameters, value, second, converged = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Optimum(parameters, value, second, converged & some)


# Distribution functions and samples, for the goodness-of-fit test -----------------------------------------------------


def _gamma_beyond(x: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """H(x), the integral of the survival function from x on, of shape (k,).

    With z = x / beta, H = beta ((alpha - z) Q(alpha, z) + z^alpha e^-z / Gamma(alpha)).
    """
    alpha, beta = np.exp(parameters).T
    z = x / beta
    with np.errstate(divide="ignore"):
        density = np.exp(alpha * np.log(z) - z - gammaln(alpha))
    return beta * ((alpha - z) * gammaincc(alpha, z) + density)


def _survival_integral(survival: Survival, d: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Integral of the survival function over [d, d + 1], of shape (k,)."""
    result = np.empty(len(d))
    for at, (x, weight) in ((d == 0, (_STEEP_NODE, _STEEP_WEIGHT)), (d > 0, (_NODE, _WEIGHT))):
        nodes = x[:, None] + d[at]
        result[at] = weight @ survival(nodes, np.log(nodes), parameters[at, 0], parameters[at, 1])[0]
    return result


def cumulative(family: Family, d: np.ndarray, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(difference of the cut timestamps ≤ d), and P(difference < d).

    The first is the mean of the distribution function over [d, d + 1], the second over [d - 1, d].

    Args:
        family: one of FAMILIES.
        d: whole seconds, at least 0, shape (k,).
        parameters: on the family's own scale, shape (k, 2).

    Returns:
        Two arrays of shape (k,), within 0 … 1.
    """
    at, before = np.zeros(len(d)), np.zeros(len(d))
    some = np.flatnonzero(d > 0)
    x = d.astype(float)
    if family.survival:
        at = 1 - _survival_integral(family.survival, x, parameters)
        before[some] = 1 - _survival_integral(family.survival, x[some] - 1, parameters[some])
    else:
        here = _gamma_beyond(x, parameters)
        at = 1 - here + _gamma_beyond(x + 1, parameters)
        before[some] = 1 - _gamma_beyond(x[some] - 1, parameters[some]) + here[some]
    return np.clip(at, 0, 1), np.clip(before, 0, 1)


def ks_distance(family: Family, gaps: Gaps, parameters: np.ndarray) -> np.ndarray:
    """Largest distance between each window's distribution of whole-second gaps and a family's.

    Args:
        family: one of FAMILIES.
        gaps: every window with at least one gap.
        parameters: of each window, shape (windows, 2).

    Returns:
        Shape (windows,), within 0 … 1.
    """
    first = np.searchsorted(gaps.window, np.arange(gaps.windows))
    n = gaps.n
    upto = np.cumsum(gaps.times)
    upto -= np.concatenate(([0], np.cumsum(n)[:-1]))[gaps.window]
    of_gap, size = parameters[gaps.window], n[gaps.window]
    at, before = cumulative(family, gaps.gap, of_gap)
    apart = np.maximum(np.abs(upto / size - at), np.abs((upto - gaps.times) / size - before))
    return np.maximum.reduceat(apart, first)


def draw_cut(family: Family, parameters: np.ndarray, samples: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw gaps as a trace would show them: timestamps with a random phase, cut to whole seconds.

    Args:
        family: one of FAMILIES.
        parameters: shape (2,).
        samples: number of samples.
        n: gaps of each.
        rng: source of randomness.

    Returns:
        Differences of cut timestamps, whole seconds, shape (samples, n).
    """
    ends = np.cumsum(family.draw(rng, parameters[0], parameters[1], (samples, n)), axis=1)
    stamps = np.floor(rng.random((samples, 1)) + np.concatenate((np.zeros((samples, 1)), ends), axis=1))
    return np.diff(stamps, axis=1).astype(np.int64)
