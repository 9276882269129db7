"""Gamma fits of gaps by three estimators, and a test of whether a family fits."""

from typing import NamedTuple

import numpy as np
from scipy.special import digamma, gammaln, polygamma

from burstbench.stats.intervals import Z95
from burstbench.stats.seconds import GAMMA, Family, Gaps, draw_cut, fit, ks_distance

# Level of the goodness-of-fit test whose power is stated.
LEVEL = 0.05
# Tolerance and evaluations of the fits to samples. After a step of 1e-2 a parameter is exact to about 1e-4, which moves
# the distance by far less than one gap does. A search that goes on runs along a ridge, where the distribution (and so
# the distance) hardly changes: Pareto's on its way to the exponential.
ROUGH = (1e-2, 10)


class GammaFit(NamedTuple):
    """Gamma fits of many windows; nan where there is none. All of shape (windows,).

    Attributes:
        alpha: shape.
        low: lower end of its 95 % interval.
        high: upper end.
        beta: scale [s].
        log_likelihood: at the optimum, of whole seconds or of continuous gaps, whichever was fitted.
        converged: whether there is a fit.
    """

    alpha: np.ndarray
    low: np.ndarray
    high: np.ndarray
    beta: np.ndarray
    log_likelihood: np.ndarray
    converged: np.ndarray


def _masked(
    converged: np.ndarray, alpha: np.ndarray, error: np.ndarray, beta: np.ndarray, value: np.ndarray
) -> GammaFit:
    """A fit with nan where not converged; `error` is the standard error of log alpha."""
    with np.errstate(over="ignore"):
        columns = (alpha, alpha * np.exp(-Z95 * error), alpha * np.exp(Z95 * error), beta, value)
    shown = [np.where(converged, column, np.nan) for column in columns]
    return GammaFit(shown[0], shown[1], shown[2], shown[3], shown[4], converged)


def fit_seconds(gaps: Gaps) -> GammaFit:
    """Maximum likelihood of gaps known to whole seconds; the interval is Wald's in log alpha, observed information."""
    found = fit(GAMMA, gaps)
    h11, h12, h22 = found.second.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        error = np.sqrt(-h22 / (h11 * h22 - h12 * h12))
    alpha, beta = np.exp(found.parameters).T
    return _masked(found.converged, alpha, error, beta, found.value)


def fit_continuous(n: np.ndarray, mean: np.ndarray, mean_log: np.ndarray) -> GammaFit:
    """Maximum likelihood of gaps known exactly (here: jittered), from their sufficient statistics.

    Newton's iteration of Minka (2002, "Estimating a Gamma distribution"); the interval is Wald's in log alpha.

    Args:
        n: gaps of each window, shape (windows,).
        mean: mean gap [s].
        mean_log: mean of the gaps' natural logarithms (gaps in s); a window where the gaps are all equal, or there
            are none, has no fit.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        excess = np.log(mean) - mean_log
        possible = np.isfinite(excess) & (excess > 1e-9)
        s = np.where(possible, excess, 1.0)
        alpha = (3 - s + np.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s)
        for _ in range(50):
            slope = np.log(alpha) - digamma(alpha) - s
            new = 1 / (1 / alpha + slope / (alpha * alpha * (1 / alpha - polygamma(1, alpha))))
            moved = np.abs(new - alpha).max(initial=0)
            alpha = new
            if moved < 1e-13 * np.abs(alpha).max(initial=1):
                break
        beta = mean / alpha
        error = 1 / np.sqrt(n * alpha * (alpha * polygamma(1, alpha) - 1))
        value = n * ((alpha - 1) * mean_log - mean / beta - alpha * np.log(beta) - gammaln(alpha))
    return _masked(possible & np.isfinite(alpha) & (alpha > 0), alpha, error, beta, value)


def fit_moments(gaps: Gaps) -> GammaFit:
    """Moments: alpha = mean² / variance, the variance less the 1/6 s² that cutting adds; no interval, no likelihood."""
    mean, variance = gaps.moments()
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha = mean**2 / variance
        beta = variance / mean
    converged = np.isfinite(alpha) & (alpha > 0) & np.isfinite(beta) & (beta > 0)
    none = np.full(len(alpha), np.nan)
    return _masked(converged, alpha, none, beta, none)


class FitTest(NamedTuple):
    """A parametric-bootstrap test of one window.

    Attributes:
        p_value: of 'the gaps are of this family'.
        power: share of samples of the alternative, of the same size, that the test rejects at 5 %.
    """

    p_value: float
    power: float


def goodness(
    family: Family,
    gaps: Gaps,
    parameters: np.ndarray,
    alternative: tuple[Family, np.ndarray],
    resamples: int,
    rng: np.random.Generator,
) -> FitTest:
    """Test by parametric bootstrap whether one window's gaps are of a family.

    The statistic is the largest distance between the distribution functions. Samples of the fitted family, with random
    phases and cut to seconds as the trace is, are fitted again each, so the test allows for the estimated parameters.
    Its power is measured on samples of the alternative, against the same critical value.

    Args:
        family: tested.
        gaps: one window.
        parameters: its fit, shape (2,).
        alternative: another family with its fit to the same gaps, shape (2,).
        resamples: samples of the family; half as many of the alternative.
        rng: source of randomness.
    """
    n = int(gaps.n[0])
    others = max(resamples // 2, 1)
    drawn = np.concatenate(
        (draw_cut(family, parameters, resamples, n, rng), draw_cut(alternative[0], alternative[1], others, n, rng))
    )
    # A gap of years, from a tail without a mean, tells no more than one of a year, and would overflow.
    drawn = np.minimum(drawn, 31_536_000)
    samples = Gaps.of(len(drawn), np.repeat(np.arange(len(drawn)), n), drawn.ravel())
    start = np.tile(parameters, (len(drawn), 1))
    distance = ks_distance(family, samples, fit(family, samples, start, *ROUGH).parameters)
    own = ks_distance(family, gaps, parameters[None])[0]
    critical = np.sort(distance[:resamples])[int(np.ceil((1 - LEVEL) * (resamples + 1))) - 1]
    return FitTest(
        (int((distance[:resamples] >= own - 1e-12).sum()) + 1) / (resamples + 1),
        float((distance[resamples:] > critical).mean()),
    )
