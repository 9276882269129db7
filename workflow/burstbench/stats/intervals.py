"""Interval estimates that several rooms share. All are two-sided at 95 %."""

from typing import Any

import numpy as np
import numpy.typing as npt

# Standard normal quantile of 97.5 %.
Z95 = 1.959963984540054
# Random indices drawn at once by the bootstrap: bounds its memory at about 32 MiB.
_DRAWN_AT_ONCE = 4_000_000


def wilson(failed: npt.ArrayLike, n: npt.ArrayLike) -> tuple[Any, Any]:
    """Wilson score interval of a proportion (Wilson 1927, JASA 22:209).

    Args:
        failed: number of hits, any shape.
        n: number of trials, at least 1, of a shape that broadcasts with `failed`.

    Returns:
        Lower and upper end, within 0 … 1, floats or arrays of the common shape.

    Raises:
        ValueError: no trials, or more hits than trials.
    """
    hits, trials = np.asarray(failed, dtype=float), np.asarray(n, dtype=float)
    if np.any(trials < 1) or np.any(hits < 0) or np.any(hits > trials):
        raise ValueError("an interval of a proportion needs 0 <= failed <= n and n >= 1")
    share = hits / trials
    spread = Z95**2 / trials
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * np.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    # At 0 and n hits the closed form is exactly 0 and 1; rounding must not leave the interval.
    low = np.where(hits == 0, 0.0, np.maximum(centre - half, 0.0))
    high = np.where(hits == trials, 1.0, np.minimum(centre + half, 1.0))
    return (float(low), float(high)) if low.ndim == 0 else (low, high)


def bootstrap_mean(values: npt.ArrayLike, resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean.

    Args:
        values: shape (n,), n at least 1, finite. One value alone gives itself twice: it knows no spread.
        resamples: number of resamples, at least 1.
        rng: source of randomness.

    Returns:
        The 2.5 and the 97.5 % quantile of the resampled means, in the unit of `values`.

    Raises:
        ValueError: no values, a value that is not finite, or no resamples.
    """
    data = np.asarray(values, dtype=float)
    if data.ndim != 1 or data.size == 0 or not np.isfinite(data).all():
        raise ValueError("a bootstrap needs a vector of at least one finite value")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, found {resamples}")
    rows = max(1, _DRAWN_AT_ONCE // data.size)
    means = np.concatenate(
        [
            data[rng.integers(0, data.size, (min(rows, resamples - done), data.size))].mean(axis=1)
            for done in range(0, resamples, rows)
        ]
    )
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
