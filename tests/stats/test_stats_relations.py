import numpy as np
import pytest
from burstbench.stats.relations import average_ranks, line, pearson, piecewise, quantile_slope, spearman
from scipy import optimize, stats


@pytest.fixture
def pairs():
    rng = np.random.default_rng(5)
    x = rng.integers(0, 40, 500)
    return x, np.round(30 + 2 * x + rng.normal(0, 1, 500) * (1 + x)).astype(int).clip(0)


def test_ranks_share_ties():
    assert average_ranks(np.array([7, 3, 3, 0])).tolist() == [4, 2.5, 2.5, 1]


def test_correlations_agree_with_scipy(pairs):
    x, y = pairs
    reference = stats.pearsonr(x, y)
    found = pearson(x.astype(float), y.astype(float))
    assert found.value == pytest.approx(reference.statistic, rel=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval(0.95)), rel=1e-9)
    assert spearman(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-12)


def test_line_agrees_with_scipy_and_its_interval_with_resampling(pairs):
    x, y = pairs
    slope, intercept = line(x.astype(float), y.astype(float))
    reference = stats.linregress(x, y)
    assert (slope.value, intercept.value) == pytest.approx((reference.slope, reference.intercept), rel=1e-9)
    rng = np.random.default_rng(0)
    resampled = []
    for _ in range(1000):
        rows = rng.integers(0, len(x), len(x))
        resampled.append(np.polyfit(x[rows], y[rows], 1))
    spread = np.std(resampled, axis=0)
    assert (slope.high - slope.low) / 3.92 == pytest.approx(spread[0], rel=0.1)
    assert (intercept.high - intercept.low) / 3.92 == pytest.approx(spread[1], rel=0.1)


def test_piecewise_finds_break_and_slopes():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 400, 4000)
    y = 10 + 1.5 * np.minimum(x, 150) - 0.5 * np.maximum(x - 150, 0) + rng.normal(0, 5, len(x))
    found = piecewise(x, y)
    assert found.break_at == pytest.approx(150, abs=5)
    assert found.below.value == pytest.approx(1.5, abs=0.02)
    assert 0 < found.below.high - found.below.low < 0.02
    assert found.above.value == pytest.approx(-0.5, abs=0.02)
    assert found.explained > 0.9


def test_piecewise_tries_breaks_as_brute_force_does():
    rng = np.random.default_rng(3)
    x = rng.integers(0, 60, 300)
    y = np.abs(x - 21.0) + rng.normal(0, 8, 300)

    def rest(at):
        design = np.column_stack((np.ones(300), x, np.maximum(x - at, 0)))
        return np.sum((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2)

    candidates = np.unique(x)[1:-1]
    assert piecewise(x, y).break_at == min(candidates, key=rest)


def test_too_little_data_is_refused():
    with pytest.raises(ValueError, match="four pairs"):
        pearson(np.arange(3.0), np.arange(3.0))
    with pytest.raises(ValueError, match="constant"):
        pearson(np.arange(5.0), np.ones(5))
    with pytest.raises(ValueError, match="varies"):
        line(np.ones(5), np.arange(5.0))
    with pytest.raises(ValueError, match="ten distinct"):
        piecewise(np.arange(9), np.arange(9.0))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_quantile_slope_is_the_linear_programs(share):
    """Koenker and Bassett's own form: least share · above + (1 - share) · below, as a linear program."""
    rng = np.random.default_rng(6)
    n = 150
    x = rng.integers(1, 500, n)
    y = 20 + 0.3 * x + x / 100 * rng.standard_normal(n)
    ones, eye = np.ones((n, 1)), np.eye(n)
    free, positive = (None, None), (0, None)
    found = optimize.linprog(
        np.concatenate(([0, 0], np.full(n, share), np.full(n, 1 - share))),
        A_eq=np.hstack((ones, x[:, None], eye, -eye)),
        b_eq=y,
        bounds=[free, free] + [positive] * (2 * n),
    )
    assert quantile_slope(x, y, share) == pytest.approx(found.x[1], abs=1e-5)


def test_quantile_slopes_open_where_the_spread_grows():
    rng = np.random.default_rng(7)
    x = rng.uniform(0, 100, 20_000)
    y = x * rng.uniform(0, 2, len(x))
    for share in (0.05, 0.5, 0.95):
        assert quantile_slope(x, y, share) == pytest.approx(2 * share, abs=0.03)
    with pytest.raises(ValueError, match="varies"):
        quantile_slope(np.ones(5), np.arange(5), 0.5)
