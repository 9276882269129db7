"""Lengths against their exact probabilities."""

import numpy as np
import pyarrow as pa
import pytest
from burstbench.plan import lengths
from burstbench.plan.checks import PlanError
from scipy import stats

P = 2e-4


def exact(theta, n_max):
    """P(n) of the truncated Zipf law, in extended precision."""
    weights = np.arange(1, n_max + 1, dtype=np.longdouble) ** -np.longdouble(theta)
    return (weights / weights.sum()).astype(np.float64)


def chi_square(found, probabilities):
    """p-value of the counts of 1 ... n_max, with the rare ones put together."""
    counts = np.bincount(found, minlength=len(probabilities) + 1)[1:]
    assert counts.sum() == len(found)
    expected = probabilities * len(found)
    groups = np.cumsum(expected) // 20
    counts = np.bincount(groups.astype(int), counts)
    expected = np.bincount(groups.astype(int), expected)
    kept = expected > 5
    counts = np.append(counts[kept], counts[~kept].sum())
    expected = np.append(expected[kept], expected[~kept].sum() + 1e-12)
    return stats.chisquare(counts, expected * counts.sum() / expected.sum(), sum_check=False).pvalue


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("theta", "n_max"), [(1.1, 3072), (1.0, 100), (0.2, 50), (2.5, 3072), (1.65, 7), (0.001, 10)])
def test_zipf_of_one_exponent(theta, n_max, seed):
    found = lengths.zipf(np.full(50_000, theta), n_max, np.random.default_rng(seed))
    assert chi_square(found, exact(theta, n_max)) > P


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("theta", "n_max"), [(1.1, 3072), (1.0, 100), (0.2, 50), (2.5, 3072), (1.65, 7), (1.0, 1)])
def test_zipf_of_an_exponent_that_hardly_moves(theta, n_max, seed):
    # Exponents that differ with each request, by nothing that 50,000 draws could show: the tables of the grid.
    moving = theta + np.linspace(-1e-9, 1e-9, 50_000)
    found = lengths.zipf(moving, n_max, np.random.default_rng(seed))
    assert chi_square(found, exact(theta, n_max)) > P


@pytest.mark.parametrize("n", [200, 10_000])  # 10,000 exponents share the tables of a grid, 200 have their own
def test_zipf_of_a_moving_exponent_is_uniform_after_its_own_cdf(n):
    theta = np.linspace(0.8, 2.2, n)
    found = lengths.zipf(theta, 300, np.random.default_rng(7))
    sampled = np.random.default_rng(8).random(n)
    pit = np.empty(n)
    for k in range(n):
        cdf = np.concatenate([[0.0], np.cumsum(exact(theta[k], 300))])
        pit[k] = cdf[found[k] - 1] + sampled[k] * (cdf[found[k]] - cdf[found[k] - 1])
    assert stats.kstest(pit, "uniform").pvalue > P


def test_zipf_in_steps():
    theta = np.repeat([0.5, 3.0, 0.5], 20_000)
    found = lengths.zipf(theta, 60, np.random.default_rng(3)).reshape(3, -1)
    for row, exponent in zip(found, [0.5, 3.0, 0.5], strict=True):
        assert chi_square(row, exact(exponent, 60)) > P
    assert not np.array_equal(found[0], found[2])


def test_zipf_of_nothing():
    assert lengths.zipf(np.empty(0), 10, np.random.default_rng(1)).size == 0


@pytest.mark.parametrize("theta", [60.0, 900.0])
def test_a_steep_exponent_sends_one_token(theta):
    for many in (np.full(1000, theta), theta + np.linspace(0, 1, 1000)):
        assert set(lengths.zipf(many, 3072, np.random.default_rng(1)).tolist()) == {1}


def counts_table(rows):
    source, quantity, tokens, requests = zip(*rows, strict=True)
    return pa.table({"source": source, "quantity": quantity, "tokens": tokens, "requests": requests})


COUNTS = counts_table(
    [
        ("trace conversation ChatGPT", "request", 9, 30),
        ("trace conversation ChatGPT", "request", 0, 10),
        ("trace conversation ChatGPT", "request", 3, 50),
        ("trace conversation ChatGPT", "request", 40, 110),
        ("trace conversation ChatGPT", "response", 5, 1000),
        ("trace api ChatGPT", "request", 77, 1),
    ]
)


def test_empirical_lengths_on_condition_that_the_pool_serves_them():
    seen = lengths.empirical(COUNTS, "conversation", "ChatGPT", 20, "phases[0].lengths")
    assert seen.empty_share == pytest.approx(0.05)
    assert seen.above_share == pytest.approx(0.55)
    found = seen.draw(8000, np.random.default_rng(1))
    assert set(found.tolist()) == {3, 9}
    assert stats.binomtest(int((found == 3).sum()), 8000, 50 / 80).pvalue > P
    whole = lengths.empirical(COUNTS, "conversation", "ChatGPT", 40, "phases[0].lengths")
    assert whole.above_share == 0
    assert set(whole.draw(1000, np.random.default_rng(1)).tolist()) == {3, 9, 40}


def test_missing_empirical_lengths_are_refused():
    with pytest.raises(PlanError, match=r"phases\[0\].lengths: 'trace api GPT-4' .* 'trace api ChatGPT', 'trace conv"):
        lengths.empirical(COUNTS, "api", "GPT-4", 20, "phases[0].lengths")
    with pytest.raises(PlanError, match="no request of 'trace api ChatGPT' has 1 to 20 tokens"):
        lengths.empirical(COUNTS, "api", "ChatGPT", 20, "phases[0].lengths")
