"""Gaps against SciPy's Gamma distribution, and the clock of phases."""

import numpy as np
import pytest
from burstbench.plan import arrivals
from burstbench.plan.checks import PlanError
from scipy import stats

SEEDS = range(5)
NS = 1e9
# 60 or so tests with fixed seeds: a right program fails one of them with a probability of about 1 %.
P = 2e-4


def gaps_of(times):
    return np.diff(times, prepend=0) / NS


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("alpha", "scale"), [(0.25, 1.0), (0.5, 2.0), (1.0, 5.0), (3.0, 0.001)])
def test_gaps_are_gamma(seed, alpha, scale):
    n = 20_000
    times = arrivals.by_request(np.full(n, alpha), np.full(n, scale), np.random.default_rng(seed))
    gaps = gaps_of(times)
    law = stats.gamma(alpha, scale=scale)
    # 1 ns of rounding moves no test of 20,000 gaps, but ties at 0 would: spread them inside their nanosecond.
    spread = np.maximum(gaps + np.random.default_rng(seed + 100).uniform(-0.5, 0.5, n) / NS, 1e-12)
    assert stats.kstest(spread, law.cdf).pvalue > P
    assert abs(gaps.mean() - law.mean()) < 4 * law.std() / n**0.5
    kurtosis = 6 / alpha
    assert abs(gaps.var() / law.var() - 1) < 4 * ((kurtosis + 2) / n) ** 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_gaps_of_moving_parameters_are_uniform_after_their_own_cdf(seed):
    n = 20_000
    u = np.linspace(0, 1, n)
    alpha, scale = 0.4 + 3 * u**2, 10 ** (1 - 3 * u)
    gaps = gaps_of(arrivals.by_request(alpha, scale, np.random.default_rng(seed)))
    pit = stats.gamma.cdf(gaps, alpha, scale=scale)
    assert stats.kstest(pit, "uniform").pvalue > P
    assert stats.kstest(pit[: n // 10], "uniform").pvalue > P
    assert abs(stats.spearmanr(pit[1:], pit[:-1]).statistic) < 4 / n**0.5


def test_each_gap_keeps_its_own_draw():
    # Whatever the scale does, the standard gaps below it are the same: nothing is rescaled afterwards.
    alpha = np.linspace(0.5, 2, 100)
    scale = np.linspace(1, 9, 100)
    one = arrivals.by_request(alpha, np.ones(100), np.random.default_rng(1))
    other = arrivals.by_request(alpha, scale, np.random.default_rng(1))
    assert gaps_of(other) == pytest.approx(gaps_of(one) * scale, abs=1e-8)


def test_a_century_does_not_overflow_in_silence():
    with pytest.raises(PlanError, match="too large"):
        arrivals.by_request(np.full(1000, 1.0), np.full(1000, 1e8), np.random.default_rng(1))


def reference(edges_ns, alpha, scale, rng):
    """The rule in plain words: draw a gap with the parameters of now, go there, again until the end."""
    now, times, origins = 0.0, [], []
    while now < edges_ns[-1]:
        stretch = int(np.searchsorted(edges_ns, now, side="right")) - 1
        if np.isinf(scale[stretch]):
            now = edges_ns[stretch + 1]
            continue
        now += rng.gamma(alpha[stretch], scale[stretch]) * NS
        if now < edges_ns[-1]:
            times.append(now)
            origins.append(stretch)
    return np.array(times), np.array(origins)


def test_stretches_of_time_follow_the_same_law_as_one_gap_at_a_time():
    edges = (np.array([0, 30, 60, 75, 105, 110]) * NS).astype(np.int64)
    alpha = np.array([0.5, 2.0, 1.0, 0.3, 5.0])
    scale = np.array([8.0, 0.5, np.inf, 3.0, 0.1])
    counts = {"ours": [], "reference": []}
    firsts: dict[str, list[float]] = {"ours": [], "reference": []}
    for seed in range(800):
        for name, planner in (("ours", arrivals.by_time), ("reference", reference)):
            times, origins = planner(edges, alpha, scale, np.random.default_rng([seed, len(name)]))
            counts[name].append(np.histogram(times, edges)[0])
            after = times[times >= 75 * NS]
            firsts[name].append(after[0] / NS if after.size else 110.0)
            assert not np.any(origins == 2)  # in a silent stretch no gap begins
    for k in (0, 1, 2, 3, 4):
        ours, theirs = (np.array(counts[name])[:, k] for name in counts)
        assert stats.ks_2samp(ours, theirs).pvalue > P, k
    assert stats.ks_2samp(firsts["ours"], firsts["reference"]).pvalue > P


@pytest.mark.parametrize("seed", SEEDS)
def test_a_gap_has_the_parameters_of_its_beginning(seed):
    edges = np.arange(0, 201, 20) * int(NS)
    alpha, scale = np.tile([0.5, 4.0], 5), np.tile([0.4, 0.002], 5)
    times, origins = arrivals.by_time(edges, alpha, scale, np.random.default_rng(seed))
    begins = np.concatenate([[0], times[:-1]])
    assert np.array_equal(origins, np.searchsorted(edges, begins, side="right") - 1)
    pit = stats.gamma.cdf(gaps_of(times), alpha[origins], scale=scale[origins])
    assert stats.kstest(pit, "uniform").pvalue > P
    assert times[-1] < edges[-1]
    assert np.all(np.diff(times) >= 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_end_cuts_the_last_gap_only(seed):
    # Of a renewal process seen until S, the number of arrivals is below k exactly if the k-th gap sum exceeds S.
    alpha, scale, seconds, k = 0.5, 2.0, 20.0, 15
    counts = [
        arrivals.by_time(
            np.array([0, int(seconds * NS)]), np.array([alpha]), np.array([scale]), np.random.default_rng([seed, run])
        )[0].size
        for run in range(1000)
    ]
    below = stats.gamma.sf(seconds, alpha * k, scale=scale)
    assert stats.binomtest(int(np.sum(np.array(counts) < k)), 1000, below).pvalue > P


def test_silent_throughout():
    times, origins = arrivals.by_time(np.array([0, 10]), np.array([1.0]), np.array([np.inf]), np.random.default_rng(1))
    assert times.size == 0
    assert origins.size == 0


def test_a_gap_longer_than_the_phase_leaves_it_empty():
    times, _ = arrivals.by_time(np.array([0, 10]), np.array([5.0]), np.array([1e300]), np.random.default_rng(1))
    assert times.size == 0


def test_too_many_requests_are_refused(monkeypatch):
    monkeypatch.setattr(arrivals, "MOST_REQUESTS", 1000)
    with pytest.raises(PlanError, match="more than 1,000 requests"):
        arrivals.by_time(np.array([0, int(1e9)]), np.array([1.0]), np.array([1e-6]), np.random.default_rng(1))
