"""Known Gamma parameters, cut to whole seconds, and what each estimator makes of them.

    python tests/benchmarks/recovery_gamma.py --out data/validation/recovery_gamma.csv [--gaps 1000000]

For each alpha, mean gap, n and estimator: the median of alpha_hat / alpha, the mean error of log alpha, and how often
the 95 % interval covers alpha. `--gaps` is the number of gaps drawn for each (samples = gaps / n, 20 to 2,000).
Timestamps share a phase from gap to gap, as in a trace.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from burstbench.characterise.gamma import fit_jittered
from burstbench.contracts import RECOVERY_GAMMA
from burstbench.progress import progress
from burstbench.stats.gamma import GammaFit, fit_moments, fit_seconds
from burstbench.stats.seconds import GAMMA, Gaps, draw_cut

ALPHAS, MEANS_S, SIZES = (0.25, 0.5, 1.0, 2.0), (1.0, 4.0, 30.0), (20, 50, 200, 1000, 5000, 20_000)
SEED = 1


def row(found: GammaFit, alpha: float) -> dict[str, Any]:
    """Return ratio, error and coverage of one estimator; None where it has no fit or no interval."""
    good = found.converged
    values: dict[str, Any] = dict.fromkeys(("ratio", "log_error", "coverage"))
    if good.any():
        values["ratio"] = float(np.median(found.alpha[good]) / alpha)
        values["log_error"] = float(np.log(found.alpha[good] / alpha).mean())
        if np.isfinite(found.low[good]).any():
            values["coverage"] = float(((found.low < alpha) & (alpha < found.high))[good].mean())
    return values | {"fitted_share": float(good.mean())}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gaps", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, required=True, help="CSV of the contract recovery_gamma")
    args = parser.parse_args()
    rng = np.random.default_rng(SEED)
    settings = [(alpha, mean, n) for alpha in ALPHAS for mean in MEANS_S for n in SIZES]
    rows = []
    with progress("recovery", len(settings), "settings") as show:
        for done, (alpha, mean, n) in enumerate(settings, 1):
            samples = int(np.clip(args.gaps // n, 20, 2000))
            cut = draw_cut(GAMMA, np.log([alpha, mean / alpha]), samples, n, rng)
            gaps = Gaps.of(samples, np.repeat(np.arange(samples), n), cut.ravel())
            # The samples as windows of one axis, each wide enough for the longest.
            stamps = np.concatenate((np.zeros((samples, 1), int), np.cumsum(cut, axis=1)), axis=1)
            width = int(stamps.max()) + 1
            axis = (stamps + np.arange(samples)[:, None] * width).ravel()
            fits = {
                "seconds": fit_seconds(gaps),
                "jitter": fit_jittered(axis, width, np.arange(samples), rng),
                "moments": fit_moments(gaps),
            }
            known = {"alpha": alpha, "mean_s": mean, "n": n, "samples": samples}
            rows += [known | {"estimator": name} | row(found, alpha) for name, found in fits.items()]
            show(done)
    RECOVERY_GAMMA.write(pa.Table.from_pylist(rows, schema=RECOVERY_GAMMA.schema), args.out)


if __name__ == "__main__":
    main()
