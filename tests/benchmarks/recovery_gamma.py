"""Known Gamma parameters, cut to whole seconds, and what each estimator makes of them.

    python tests/benchmarks/recovery_gamma.py [--gaps 1000000]

For each alpha, mean gap and n: the median of alpha_hat / alpha, the mean error of log alpha, and how often the 95 %
interval covers alpha. `--gaps` is the number of gaps drawn for each line (samples = gaps / n, 20 to 2,000). Timestamps
share a phase from gap to gap, as in a trace.
"""

import argparse

import numpy as np
from burstbench.characterise.gamma import fit_jittered
from burstbench.stats.gamma import GammaFit, fit_moments, fit_seconds
from burstbench.stats.seconds import GAMMA, Gaps, draw_cut


def line(found: GammaFit, alpha: float) -> str:
    """Ratio, error and coverage of one estimator."""
    good = found.converged
    if not good.any():
        return f"{'-':>8} {'-':>8} {'-':>6} {0:6.0%}"
    covered = ((found.low < alpha) & (alpha < found.high))[good].mean() if np.isfinite(found.low[good]).any() else None
    ratio, error = np.median(found.alpha[good]) / alpha, np.log(found.alpha[good] / alpha).mean()
    return f"{ratio:8.3f} {error:+8.3f} {'     -' if covered is None else f'{covered:6.1%}'} {good.mean():6.0%}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gaps", type=int, default=1_000_000)
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    columns = f"{'ratio':>8} {'log err':>8} {'cover':>6} {'fits':>6}"
    print(f"{'':21}  {'seconds':^31}  {'jitter':^31}  {'moments':^31}")
    print(f"{'alpha':>5} {'mean s':>7} {'n':>6}   {columns}  {columns}  {columns}")
    for alpha in (0.25, 0.5, 1.0, 2.0):
        for mean in (1.0, 4.0, 30.0):
            for n in (20, 50, 200, 1000, 5000, 20_000):
                samples = int(np.clip(args.gaps // n, 20, 2000))
                cut = draw_cut(GAMMA, np.log([alpha, mean / alpha]), samples, n, rng)
                gaps = Gaps.of(samples, np.repeat(np.arange(samples), n), cut.ravel())
                # The samples as windows of one axis, each wide enough for the longest.
                stamps = np.concatenate((np.zeros((samples, 1), int), np.cumsum(cut, axis=1)), axis=1)
                width = int(stamps.max()) + 1
                axis = (stamps + np.arange(samples)[:, None] * width).ravel()
                fits = (fit_seconds(gaps), fit_jittered(axis, width, np.arange(samples), rng), fit_moments(gaps))
                print(f"{alpha:5} {mean:7} {n:6}   " + "  ".join(line(found, alpha) for found in fits), flush=True)


if __name__ == "__main__":
    main()
