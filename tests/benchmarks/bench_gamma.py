"""Gamma fits of all windows at once against a plain loop over SciPy's `minimize`, on the same gaps in the same run.

    python tests/benchmarks/bench_gamma.py [--windows 8000] [--looped 40]

The loop maximises the same likelihood of whole seconds, written with incomplete Gamma functions, by BFGS with SciPy's
own differences, starting from the moments. Its time is that of a random part of the windows. Exits with 1 if the
optima differ by more than 1e-6 or the ratio is below 100.
"""

import argparse
import sys
import time

import numpy as np
from burstbench.stats.seconds import GAMMA, GammaLikelihood, Gaps, draw_cut, fit, likelihood
from scipy import optimize, special


def negative_log_likelihood(log_parameters: np.ndarray, gap: np.ndarray, times: np.ndarray) -> float:
    """By second differences of H(x), the integral of the survival function from x on (x + const below 0)."""
    alpha, beta = np.exp(log_parameters)

    def beyond(x: np.ndarray) -> np.ndarray:
        z = np.maximum(x, 0) / beta
        tail = alpha * beta * special.gammaincc(alpha + 1, z) - z * beta * special.gammaincc(alpha, z)
        return tail + np.where(x < 0, -x, 0)

    p = beyond(gap - 1) - 2 * beyond(gap) + beyond(gap + 1)
    return -float(times @ np.log(np.maximum(p, 1e-300)))


def main() -> int:
    """Print one line for each way, the ratio, and the largest difference of the optima."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=8000)
    parser.add_argument("--looped", type=int, default=40)
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    alpha = np.exp(rng.normal(-0.6, 0.5, args.windows))
    mean = np.exp(rng.normal(2, 1, args.windows))
    n = np.clip(1200 / mean, 25, 600).astype(int)
    drawn = [draw_cut(GAMMA, np.log([a, m / a]), 1, k, rng)[0] for a, m, k in zip(alpha, mean, n, strict=True)]
    window, gap = np.repeat(np.arange(args.windows), n), np.concatenate(drawn)

    begin = time.process_time()
    gaps = Gaps.of(args.windows, window, gap)
    found = fit(GAMMA, gaps)
    ours = (time.process_time() - begin) / args.windows

    looped = np.sort(rng.choice(np.flatnonzero(found.converged), args.looped, replace=False))
    seconds, worst, apart = 0.0, 0.0, 0.0
    for number in looped:
        own = gap[window == number]
        begin = time.process_time()
        distinct, times = np.unique(own, return_counts=True)
        start = np.log([own.mean() ** 2 / own.var(), own.var() / own.mean()])
        plain = optimize.minimize(negative_log_likelihood, start, (distinct, times), method="BFGS")
        seconds += time.process_time() - begin
        # The optimum to compare with: differences of the incomplete Gamma functions lose too many digits for 1e-6, so
        # SciPy gets the value and slope that our search uses.
        one = likelihood(GAMMA, gaps.take(np.array([number])))

        def both(x: np.ndarray, one: GammaLikelihood = one) -> tuple[float, np.ndarray]:
            value, gradient, _ = one.evaluate(x[None])
            return -value[0], -gradient[0]

        exact = optimize.minimize(both, plain.x, method="BFGS", jac=True, options={"gtol": 1e-9})
        apart = max(apart, float(np.abs(plain.fun - exact.fun)))
        worst = max(worst, float(np.abs(exact.x - found.parameters[number]).max()))
    loop = seconds / args.looped
    print(f"all at once: {ours * 1e6:9.1f} us a window ({args.windows} windows, {len(gap)} gaps, counting included)")
    print(f"SciPy loop:  {loop * 1e6:9.1f} us a window ({args.looped} windows)")
    print(f"ratio:       {loop / ours:9.0f}     (at least 100 asked)")
    print(f"difference:  {worst:9.1e}     in log alpha, log beta (at most 1e-6 asked)")
    print(f"likelihood:  {apart:9.1e}     largest difference of the two forms at their optima")
    print(f"converged:   {found.converged.mean():9.2%}")
    return int(worst > 1e-6 or loop < 100 * ours)


if __name__ == "__main__":
    sys.exit(main())
