"""How periodic a series of hourly or daily counts is."""

from typing import NamedTuple

import numpy as np

# Resamples behind an interval, and permutations behind a p-value.
RESAMPLES = 1000
# Hours of day (from, to) that `day_night_ratio` compares.
WORKING_HOURS = (9, 18)
NIGHT_HOURS = (0, 6)


class Statistic(NamedTuple):
    """A number, its 95 % interval and p-value where there are such, and the hours or days it rests on."""

    value: float
    low: float | None
    high: float | None
    p_value: float | None
    n: int


def _correlation(sums: np.ndarray) -> np.ndarray:
    """Pearson's correlation from sums (n, x, y, xx, yy, xy) along the last axis; nan where a side is constant."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = (xx - x * x / n) * (yy - y * y / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, (xy - x * y / n) / np.sqrt(spread), np.nan)


def lagged_correlation(values: np.ndarray, lag_days: int, rng: np.random.Generator) -> Statistic | None:
    """Correlation of each hour (or day) with the same hour so many days later.

    The interval resamples whole days, each with its partner: the hours of one day are not independent. A resample in
    which a side is constant is left out.

    Args:
        values: shape (days, hours of a day), or (days, 1) for daily totals.
        lag_days: the lag.
        rng: for the bootstrap.

    Returns:
        The correlation of the pairs; None with fewer than three pairs of days, or a constant side.
    """
    pairs = len(values) - lag_days
    if pairs < 3:
        return None
    # Centred, so that the sums of squares lose no digits.
    centred = values - values.mean()
    x, y = centred[:-lag_days], centred[lag_days:]
    of_day = np.stack(
        [np.full(pairs, float(x.shape[1]))] + [part.sum(axis=1) for part in (x, y, x * x, y * y, x * y)], axis=-1
    )
    value = float(_correlation(of_day.sum(axis=0)))
    if np.isnan(value):
        return None
    resampled = _correlation(rng.multinomial(pairs, np.full(pairs, 1 / pairs), RESAMPLES) @ of_day)
    low, high = np.nanquantile(resampled, (0.025, 0.975))
    return Statistic(value, float(low), float(high), None, pairs * x.shape[1])


def _bootstrap(days: np.ndarray, statistic: str, rng: np.random.Generator) -> tuple[float, float]:
    resampled = days[rng.integers(0, len(days), (RESAMPLES, len(days)))]
    if statistic == "cv":
        means = resampled.mean(axis=1)
        values = resampled.std(axis=1, ddof=1)[means > 0] / means[means > 0]
    else:
        below = resampled[..., 1].sum(axis=1)
        values = resampled[..., 0].sum(axis=1)[below > 0] / below[below > 0]
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def hourly_statistics(values: np.ndarray, rng: np.random.Generator) -> dict[str, Statistic]:
    """Statistics of hourly counts.

    - `autocorrelation_24h`, `autocorrelation_168h`: correlation of an hour with the same hour a day, a week later.
    - `hour_of_day_share`: share of the variance of hourly counts that the mean of each hour of day explains (eta²),
      with the p-value of a permutation that turns each day's hours round by a random number.
    - `day_night_ratio`: mean of the hours 9-17 over mean of the hours 0-5; interval by bootstrap over days.

    Args:
        values: shape (days, 24).
        rng: for the bootstraps and permutations.

    Returns:
        By name; a statistic that is not defined (too few days, a constant series, an empty night) is left out.
    """
    days = len(values)
    found: dict[str, Statistic | None] = {
        "autocorrelation_24h": lagged_correlation(values, 1, rng),
        "autocorrelation_168h": lagged_correlation(values, 7, rng),
    }
    spread = float(values.var())
    if spread > 0 and days >= 2:
        share = float(values.mean(axis=0).var() / spread)
        turns = rng.integers(0, 24, (RESAMPLES, days))
        # Each day twice in a row: a day turned by k starts 24 - k hours into its pair.
        twice = np.lib.stride_tricks.sliding_window_view(np.concatenate((values, values), axis=1), 24, axis=1)
        sums = np.zeros((RESAMPLES, 24))
        for day in range(days):
            sums += twice[day, 24 - turns[:, day]]
        as_large = int(((sums / days).var(axis=1) / spread >= share * (1 - 1e-12)).sum())
        found["hour_of_day_share"] = Statistic(share, None, None, (as_large + 1) / (RESAMPLES + 1), values.size)
    parts = np.stack(
        [values[:, slice(*WORKING_HOURS)].mean(axis=1), values[:, slice(*NIGHT_HOURS)].mean(axis=1)], axis=-1
    )
    if days >= 2 and (parts[:, 1] > 0).any():
        ratio = float(parts[:, 0].sum() / parts[:, 1].sum())
        found["day_night_ratio"] = Statistic(ratio, *_bootstrap(parts, "ratio", rng), None, days)
    return {name: statistic for name, statistic in found.items() if statistic is not None}


def daily_statistics(totals: np.ndarray, weekdays: np.ndarray, rng: np.random.Generator) -> dict[str, Statistic]:
    """Statistics of daily totals.

    - `daily_cv`: standard deviation over mean of the daily totals; interval by bootstrap over days.
    - `daily_autocorrelation_7d`: correlation of a day with the same weekday a week later.
    - `weekday_ratio`: mean workday (Monday to Friday) over mean weekend day; interval by bootstrap within each kind of
      day, p-value two-sided by permuting the days' kinds (of the difference of the means).

    Args:
        totals: shape (days,).
        weekdays: 1 Monday to 7 Sunday, shape (days,).
        rng: for the bootstraps and permutations.

    Returns:
        By name; a statistic that is not defined is left out.
    """
    days = len(totals)
    found: dict[str, Statistic | None] = {"daily_autocorrelation_7d": lagged_correlation(totals[:, None], 7, rng)}
    totals = totals.astype(float)
    if days >= 2 and totals.any():
        cv = float(totals.std(ddof=1) / totals.mean())
        found["daily_cv"] = Statistic(cv, *_bootstrap(totals, "cv", rng), None, days)
    work = weekdays <= 5
    if work.sum() >= 2 and (~work).sum() >= 2 and totals[~work].any():
        inside, outside = totals[work], totals[~work]
        means = [
            group[rng.integers(0, len(group), (RESAMPLES, len(group)))].mean(axis=1) for group in (inside, outside)
        ]
        some = means[1] > 0
        low, high = np.quantile(means[0][some] / means[1][some], (0.025, 0.975))
        difference = abs(inside.mean() - outside.mean())
        kinds = rng.permuted(np.broadcast_to(work, (RESAMPLES, days)), axis=1)
        sums = kinds @ totals
        shuffled = np.abs(sums / len(inside) - (totals.sum() - sums) / len(outside))
        p_value = (int((shuffled >= difference * (1 - 1e-12)).sum()) + 1) / (RESAMPLES + 1)
        found["weekday_ratio"] = Statistic(
            float(inside.mean() / outside.mean()), float(low), float(high), p_value, days
        )
    return {name: statistic for name, statistic in found.items() if statistic is not None}
