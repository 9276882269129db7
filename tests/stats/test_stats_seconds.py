import numpy as np
import pytest
from burstbench.stats import seconds
from burstbench.stats.seconds import EXPONENTIAL, FAMILIES, GAMMA, LOGNORMAL, PARETO, WEIBULL, Gaps
from scipy import integrate, optimize, special, stats

# A family, its parameters as it searches them, and SciPy's own form of the same distribution.
CASES = [
    (GAMMA, np.log([0.05, 200.0]), stats.gamma(0.05, scale=200)),
    (GAMMA, np.log([0.25, 10.0]), stats.gamma(0.25, scale=10)),
    (GAMMA, np.log([0.8, 0.3]), stats.gamma(0.8, scale=0.3)),
    (GAMMA, np.log([1.0, 4.0]), stats.gamma(1, scale=4)),
    (GAMMA, np.log([5.0, 2.0]), stats.gamma(5, scale=2)),
    (GAMMA, np.log([40.0, 0.5]), stats.gamma(40, scale=0.5)),
    (EXPONENTIAL, np.log([1.0, 7.0]), stats.expon(scale=7)),
    (WEIBULL, np.log([0.4, 5.0]), stats.weibull_min(0.4, scale=5)),
    (WEIBULL, np.log([3.0, 20.0]), stats.weibull_min(3, scale=20)),
    (LOGNORMAL, np.array([1.0, np.log(0.7)]), stats.lognorm(0.7, scale=np.e)),
    (LOGNORMAL, np.array([-2.0, np.log(2.0)]), stats.lognorm(2, scale=np.exp(-2))),
    (PARETO, np.log([1.5, 2.0]), stats.lomax(1.5, scale=3)),
    (PARETO, np.log([20.0, 5.0]), stats.lomax(20, scale=100)),
]
LAGS = np.array([0, 1, 2, 3, 5, 10, 30, 100])


def probabilities(family, parameters, lags=LAGS):
    gaps = Gaps.of(len(lags), np.arange(len(lags)), lags)
    value, _, _ = seconds.likelihood(family, gaps).evaluate(np.tile(parameters, (len(lags), 1)))
    return np.exp(value)


def by_triangle(distribution, d):
    """∫ f(x) max(0, 1 - |x - d|) dx by adaptive quadrature, over log x near 0, where f may be infinite."""

    def near(t):
        return distribution.pdf(np.exp(t)) * max(0.0, 1 - abs(np.exp(t) - d)) * np.exp(t)

    def far(x):
        return distribution.pdf(x) * max(0.0, 1 - abs(x - d))

    options = {"limit": 400, "epsabs": 1e-14, "epsrel": 1e-11}
    if d <= 1:
        low = integrate.quad(near, -700, 0, points=[-100, -20, -5, -1], **options)[0]
        return low + (integrate.quad(far, 1, 2, **options)[0] if d == 1 else 0)
    return integrate.quad(far, d - 1, d, **options)[0] + integrate.quad(far, d, d + 1, **options)[0]


@pytest.mark.parametrize(("family", "parameters", "distribution"), CASES)
def test_probability_of_a_difference_is_the_triangle_integral(family, parameters, distribution):
    expected = np.array([by_triangle(distribution, d) for d in LAGS])
    some = expected > 1e-12
    assert probabilities(family, parameters)[some] == pytest.approx(expected[some], rel=5e-7)


@pytest.mark.parametrize(("family", "parameters", "distribution"), CASES)
def test_the_quick_rule_for_far_gaps_agrees_with_the_fine_one(family, parameters, distribution, monkeypatch):
    lags = np.arange(12, 200)
    gaps = Gaps.of(len(lags), np.arange(len(lags)), lags)
    tiled = np.tile(parameters, (len(lags), 1))
    quick = seconds.likelihood(family, gaps).evaluate(tiled)
    monkeypatch.setattr(seconds, "_FAR", 1000)
    fine = seconds.likelihood(family, gaps).evaluate(tiled)
    seen = fine[0] > -80
    assert seen.any()
    for one, other in zip(quick, fine, strict=True):
        assert one[seen] == pytest.approx(other[seen], rel=1e-8, abs=1e-9)


@pytest.mark.parametrize(("family", "parameters", "distribution"), CASES[::2])
def test_drawn_timestamps_follow_the_probabilities(family, parameters, distribution):
    rng = np.random.default_rng(2)
    # One gap a sample, so that the phases are independent.
    drawn = seconds.draw_cut(family, parameters, 200_000, 1, rng).ravel()
    p = probabilities(family, parameters)
    found = np.array([(drawn == d).mean() for d in LAGS])
    assert np.abs(found - p) == pytest.approx(0, abs=4.5 * np.sqrt(0.25 / 200_000))
    # And the other family's own draw of uncut gaps is the distribution it says.
    sample = family.draw(rng, parameters[0], parameters[1], (20_000,))
    assert stats.kstest(sample, distribution.cdf).pvalue > 1e-4


@pytest.mark.parametrize(("family", "parameters", "distribution"), CASES)
def test_cumulative_is_the_sum_of_the_probabilities(family, parameters, distribution):
    lags = np.arange(60)
    tiled = np.tile(parameters, (60, 1))
    upto, below = seconds.cumulative(family, lags, tiled)
    total = np.cumsum(probabilities(family, parameters, lags))
    assert upto == pytest.approx(total, abs=1e-6)
    assert below == pytest.approx(np.concatenate(([0], total[:-1])), abs=1e-6)


@pytest.mark.parametrize(("family", "parameters", "distribution"), CASES)
def test_derivatives_agree_with_differences(family, parameters, distribution):
    rng = np.random.default_rng(3)
    gaps = Gaps.of(1, np.zeros(400, int), np.minimum(seconds.draw_cut(family, parameters, 1, 400, rng).ravel(), 10_000))
    likelihood = seconds.likelihood(family, gaps)
    _, gradient, second = likelihood.evaluate(parameters[None])
    step = 1e-5 * np.eye(2)
    ahead, behind = (np.stack([likelihood.evaluate(parameters[None] + s * e)[0][0] for e in step]) for s in (1, -1))
    slopes = [
        (likelihood.evaluate(parameters[None] + e)[1] - likelihood.evaluate(parameters[None] - e)[1])[0] / 2e-5
        for e in step
    ]
    assert gradient[0] == pytest.approx((ahead - behind) / 2e-5, rel=1e-5, abs=1e-3)
    assert second[0] == pytest.approx([slopes[0][0], slopes[0][1], slopes[1][1]], rel=1e-4, abs=1e-3)


def scipy_gamma_likelihood(log_parameters, gap, times):
    """Minus the log-likelihood by incomplete Gamma functions: an independent form, from second differences of ∫ S."""
    alpha, beta = np.exp(log_parameters)

    def beyond(x):
        inside = np.maximum(x, 0)
        tail = alpha * beta * special.gammaincc(alpha + 1, inside / beta) - inside * special.gammaincc(
            alpha, inside / beta
        )
        return tail + np.where(x < 0, -x, 0)

    return -np.sum(times * np.log(beyond(gap - 1) - 2 * beyond(gap) + beyond(gap + 1)))


def test_optimum_is_that_of_scipy_on_an_independent_form():
    rng = np.random.default_rng(4)
    windows, n = 12, 150
    alpha, mean = np.exp(rng.normal(-0.5, 0.6, windows)), np.exp(rng.normal(1.0, 1, windows))
    drawn = np.stack(
        [seconds.draw_cut(GAMMA, np.log([a, m / a]), 1, n, rng)[0] for a, m in zip(alpha, mean, strict=True)]
    )
    gaps = Gaps.of(windows, np.repeat(np.arange(windows), n), drawn.ravel())
    found = seconds.fit(GAMMA, gaps)
    assert found.converged.all()
    for number in range(windows):
        own = gaps.window == number
        reference = optimize.minimize(
            scipy_gamma_likelihood,
            np.log([0.7, mean[number]]),
            args=(gaps.gap[own], gaps.times[own]),
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 2000},
        )
        # A search by values alone knows its optimum to about the square root of the arithmetic's error.
        assert found.parameters[number] == pytest.approx(reference.x, abs=3e-6)
        assert -found.value[number] == pytest.approx(reference.fun, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_fits_of_all_families_are_maxima(family):
    rng = np.random.default_rng(5)
    drawn = seconds.draw_cut(LOGNORMAL, np.array([1.0, 0.2]), 40, 200, rng)
    gaps = Gaps.of(40, np.repeat(np.arange(40), 200), drawn.ravel())
    found = seconds.fit(family, gaps)
    assert found.converged.mean() > 0.9
    likelihood = seconds.likelihood(family, gaps)
    free = (0, 1) if not any(family.fixed) else (1,)
    for axis in free:
        for sign in (-1, 1):
            beside = found.parameters.copy()
            beside[:, axis] += sign * 1e-3
            assert (likelihood.evaluate(beside)[0] < found.value)[found.converged].all()


def test_windows_do_not_touch_each_other():
    rng = np.random.default_rng(6)
    drawn = seconds.draw_cut(GAMMA, np.log([0.5, 8.0]), 1100, 30, rng)
    gaps = Gaps.of(1100, np.repeat(np.arange(1100), 30), drawn.ravel())
    together = seconds.fit(GAMMA, gaps)
    for number in (0, 511, 512, 1099):
        alone = seconds.fit(GAMMA, gaps.take(np.array([number])))
        assert alone.parameters[0] == pytest.approx(together.parameters[number], abs=1e-9)


def test_windows_without_an_optimum_are_not_converged():
    window = np.repeat([0, 1, 2], 30)
    gap = np.concatenate((np.zeros(30, int), np.full(30, 5), np.random.default_rng(7).geometric(0.2, 30)))
    found = seconds.fit(GAMMA, Gaps.of(4, window, gap))
    assert found.converged.tolist() == [False, False, True, False]


def test_gaps_are_counted_and_taken_by_hand():
    gaps = Gaps.of(4, np.array([3, 0, 3, 3, 0]), np.array([5, 0, 5, 2, 1]))
    assert gaps.window.tolist() == [0, 0, 3, 3]
    assert gaps.gap.tolist() == [0, 1, 2, 5]
    assert gaps.times.tolist() == [1, 1, 1, 2]
    assert gaps.n.tolist() == [2, 0, 0, 3]
    part = gaps.take(np.array([1, 3]))
    assert part.window.tolist() == [1, 1]
    assert part.times.tolist() == [1, 2]
    mean, variance = gaps.moments()
    assert mean[3] == 4
    assert variance[3] == pytest.approx(3 - 1 / 6)
    assert np.isnan(mean[1])


def test_cutting_adds_a_sixth_to_the_variance():
    rng = np.random.default_rng(8)
    drawn = seconds.draw_cut(GAMMA, np.log([4.0, 0.5]), 100_000, 1, rng).ravel()
    _, variance = Gaps.of(1, np.zeros(len(drawn), int), drawn).moments()
    assert variance[0] == pytest.approx(1.0, abs=0.02)


def test_distance_agrees_with_brute_force():
    rng = np.random.default_rng(9)
    drawn = seconds.draw_cut(GAMMA, np.log([0.6, 6.0]), 5, 40, rng)
    gaps = Gaps.of(5, np.repeat(np.arange(5), 40), drawn.ravel())
    parameters = np.tile(np.log([0.8, 5.0]), (5, 1))
    steps = np.arange(drawn.max() + 50)
    model, _ = seconds.cumulative(GAMMA, steps, np.tile(parameters[0], (len(steps), 1)))
    brute = [np.abs((sample[:, None] <= steps).mean(axis=0) - model).max() for sample in drawn]
    assert seconds.ks_distance(GAMMA, gaps, parameters) == pytest.approx(brute)
