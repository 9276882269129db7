import numpy as np
import pytest
from burstbench.stats import seconds
from burstbench.stats.gamma import fit_continuous, fit_moments, fit_seconds, goodness
from burstbench.stats.seconds import EXPONENTIAL, GAMMA, LOGNORMAL, Gaps
from scipy import stats


def cut_gaps(alpha, beta, samples, n, seed):
    drawn = seconds.draw_cut(GAMMA, np.log([alpha, beta]), samples, n, np.random.default_rng(seed))
    return Gaps.of(samples, np.repeat(np.arange(samples), n), drawn.ravel())


def test_continuous_fit_agrees_with_scipy():
    rng = np.random.default_rng(1)
    samples = [rng.gamma(a, 3, 80) for a in (0.2, 1, 9)]
    found = fit_continuous(
        np.full(3, 80), np.array([s.mean() for s in samples]), np.array([np.log(s).mean() for s in samples])
    )
    for number, sample in enumerate(samples):
        alpha, _, beta = stats.gamma.fit(sample, floc=0)
        assert found.alpha[number] == pytest.approx(alpha, rel=1e-4)
        assert found.beta[number] == pytest.approx(beta, rel=1e-4)
        assert found.log_likelihood[number] == pytest.approx(stats.gamma(alpha, scale=beta).logpdf(sample).sum())


def test_continuous_fit_covers_as_often_as_it_says():
    sample = np.random.default_rng(2).gamma(0.5, 4, (2000, 100))
    found = fit_continuous(np.full(2000, 100), sample.mean(axis=1), np.log(sample).mean(axis=1))
    assert 0.93 < ((found.low < 0.5) & (found.high > 0.5)).mean() < 0.97


def test_moments_by_hand():
    # Gaps 1, 2, 6: mean 3, variance 7, less 1/6.
    found = fit_moments(Gaps.of(1, np.zeros(3, int), np.array([1, 2, 6])))
    assert found.alpha[0] == pytest.approx(9 / (7 - 1 / 6))
    assert found.alpha[0] * found.beta[0] == pytest.approx(3)
    assert np.isnan(found.low[0])


@pytest.mark.parametrize("n", [20, 100, 1000])
@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 10.0), (1.0, 3.0), (3.0, 1.0)])
def test_known_parameters_are_recovered_from_whole_seconds(alpha, beta, n):
    samples = 400
    found = fit_seconds(cut_gaps(alpha, beta, samples, n, 3))
    assert found.converged.mean() > (0.97 if n > 20 else 0.85)
    good = found.converged
    error = np.log(found.alpha[good] / alpha)
    # The bias of maximum likelihood falls as 1 / n; beyond it, three standard errors of the mean of the samples.
    assert abs(error.mean()) < 4 / n + 3 * error.std() / np.sqrt(samples)
    inside = ((found.low < alpha) & (alpha < found.high))[good].mean()
    assert 0.9 < inside < 0.99


def test_whole_seconds_beat_what_forgets_the_cut():
    """Fits of d + 1/2 as if exact, the plain remedy for zeros, are far off where the whole-second fit is not."""
    gaps = cut_gaps(0.3, 4.0, 50, 2000, 4)
    assert np.median(fit_seconds(gaps).alpha) == pytest.approx(0.3, rel=0.05)
    plain = [
        stats.gamma.fit(np.repeat(gaps.gap[gaps.window == w] + 0.5, gaps.times[gaps.window == w]), floc=0)[0]
        for w in range(5)
    ]
    assert np.median(plain) > 0.6


def test_goodness_keeps_its_level_and_sees_another_family():
    rng = np.random.default_rng(5)
    right, wrong = [], []
    for family, parameters, found in ((GAMMA, np.log([0.6, 10.0]), right), (LOGNORMAL, np.array([1.0, 0.4]), wrong)):
        for _ in range(40):
            drawn = seconds.draw_cut(family, parameters, 1, 300, rng)[0]
            gaps = Gaps.of(1, np.zeros(300, int), drawn)
            fit, other = (seconds.fit(each, gaps).parameters[0] for each in (GAMMA, LOGNORMAL))
            found.append(goodness(GAMMA, gaps, fit, (LOGNORMAL, other), 59, rng))
    assert np.mean([test.p_value < 0.05 for test in right]) < 0.2
    rejected = np.mean([test.p_value < 0.05 for test in wrong])
    assert rejected > 0.5
    # The stated power is what the rejections of the alternative's own samples show.
    assert np.mean([test.power for test in wrong]) == pytest.approx(rejected, abs=0.25)


def test_goodness_has_no_power_against_itself():
    rng = np.random.default_rng(6)
    gaps = cut_gaps(1.0, 5.0, 1, 200, 7)
    fit = seconds.fit(EXPONENTIAL, gaps).parameters[0]
    power = [goodness(EXPONENTIAL, gaps, fit, (EXPONENTIAL, fit), 99, rng).power for _ in range(10)]
    assert np.mean(power) < 0.12
