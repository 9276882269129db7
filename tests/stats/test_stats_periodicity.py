import numpy as np
import pytest
from burstbench.stats.periodicity import daily_statistics, hourly_statistics, lagged_correlation

SHAPE = 50 + 40 * np.sin(np.arange(24) / 24 * 2 * np.pi)
WEEKDAYS = np.arange(42) % 7 + 1


def rng():
    return np.random.default_rng(1)


def test_a_repeated_day_correlates_fully():
    values = np.tile(SHAPE, (21, 1))
    found = hourly_statistics(values, rng())
    assert found["autocorrelation_24h"].value == pytest.approx(1)
    assert found["autocorrelation_168h"].value == pytest.approx(1)
    assert found["hour_of_day_share"].value == pytest.approx(1)
    assert found["hour_of_day_share"].p_value < 0.01
    assert found["autocorrelation_24h"].n == 20 * 24


def test_noise_does_not():
    values = rng().poisson(50, (42, 24))
    found = hourly_statistics(values, rng())
    for name in ("autocorrelation_24h", "autocorrelation_168h"):
        assert found[name].low < 0 < found[name].high
    assert found["hour_of_day_share"].p_value > 0.02
    assert found["hour_of_day_share"].value < 0.1


def test_correlation_is_that_of_the_pairs():
    values = rng().poisson(30, (10, 24)) + SHAPE.astype(int)
    found = lagged_correlation(values, 2, rng())
    assert found.value == pytest.approx(np.corrcoef(values[:-2].ravel(), values[2:].ravel())[0, 1])


def test_a_weekly_series_correlates_at_seven_days_only():
    totals = np.where(WEEKDAYS <= 5, 100, 40) + rng().integers(0, 5, 42)
    assert lagged_correlation(totals[:, None], 7, rng()).value > 0.9
    assert lagged_correlation(totals[:, None], 3, rng()).value < 0.5


def test_weekday_effect_by_hand_and_its_test():
    clear = np.where(WEEKDAYS <= 5, 100, 50)
    found = daily_statistics(clear, WEEKDAYS, rng())["weekday_ratio"]
    assert (found.value, found.low, found.high) == (2, 2, 2)
    assert found.p_value < 0.01
    level = daily_statistics(rng().poisson(100, 42), WEEKDAYS, rng())["weekday_ratio"]
    assert level.p_value > 0.05
    assert level.low < 1 < level.high


def test_permutation_test_keeps_its_level():
    draws = np.random.default_rng(3)
    p = [daily_statistics(draws.lognormal(0, 1, 42), WEEKDAYS, draws)["weekday_ratio"].p_value for _ in range(200)]
    assert np.mean(np.array(p) < 0.05) < 0.1


def test_spread_of_daily_totals_by_hand():
    found = daily_statistics(np.array([10, 20, 30]), np.array([1, 2, 3]), rng())
    assert found["daily_cv"].value == pytest.approx(0.5)
    assert set(found) == {"daily_cv"}


def test_day_against_night_by_hand():
    values = np.zeros((2, 24))
    values[:, 9:18], values[:, 0:6] = 12, 3
    assert hourly_statistics(values, rng())["day_night_ratio"].value == 4


def test_what_is_not_defined_has_no_statistic():
    assert hourly_statistics(np.zeros((10, 24)), rng()) == {}
    assert daily_statistics(np.zeros(10), WEEKDAYS[:10], rng()) == {}
