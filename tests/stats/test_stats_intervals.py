import numpy as np
import pytest
from burstbench.stats.intervals import bootstrap_mean, wilson


@pytest.mark.parametrize(
    ("failed", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_the_published_examples(failed, n, low, high):
    assert wilson(failed, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_takes_arrays_and_stays_within_its_limits():
    low, high = wilson(np.array([0, 5, 10]), 10)
    assert low[0] == 0
    assert high[2] == 1
    assert low[1] == pytest.approx(1 - high[1])


@pytest.mark.parametrize(("failed", "n"), [(1, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_what_is_no_proportion(failed, n):
    with pytest.raises(ValueError, match="0 <= failed <= n"):
        wilson(failed, n)


def test_bootstrap_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(11)
    inside = 0
    for _ in range(300):
        low, high = bootstrap_mean(rng.normal(3, 2, 60), 300, rng)
        inside += low <= 3 <= high
    assert 0.89 < inside / 300 < 0.98


def test_bootstrap_is_the_same_in_one_piece_and_in_many(monkeypatch):
    values = np.arange(50.0)
    whole = bootstrap_mean(values, 400, np.random.default_rng(1))
    monkeypatch.setattr("burstbench.stats.intervals._DRAWN_AT_ONCE", 500)
    assert bootstrap_mean(values, 400, np.random.default_rng(1)) == whole


def test_bootstrap_of_one_value_and_of_none():
    assert bootstrap_mean([4.0], 100, np.random.default_rng(0)) == (4.0, 4.0)
    for bad in ([], [1.0, np.nan]):
        with pytest.raises(ValueError, match="at least one finite value"):
            bootstrap_mean(bad, 100, np.random.default_rng(0))
