"""Fit a GPU's row of config/gpus.yaml to its measured kernel times, and print it.

    python tests/benchmarks/fit_kernels.py --gpu h100 --times data/validation/kernel_times_h100.csv

What the data sheet says (peak_tflops, bandwidth_gb_s) must stand in the row already, with any fractions. Squares of
the logarithm of simulated / measured are minimised, so that small and large kernels weigh the same. Linear and
element-wise kernels are fitted to a Llama-2-7b layer, decode attention to its heads, prefill attention to all shapes of
the file; what else the file holds is predicted, and its error printed beside.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from burstbench import contracts
from burstbench.config import ROOT
from burstbench.serve import validate
from burstbench.serve.gpus import Gpu, Model
from scipy.optimize import least_squares

LAYER = "7b layer"
PRODUCTS = validate.LINEAR[:4]
# Name of the fractions, where the search starts, and its bounds.
Search = tuple[tuple[str, ...], Sequence[float], Sequence[float], Sequence[float]]
FITS: dict[str, tuple[str, Search]] = {
    "products": ("linear", (("ff", "bf", "p", "cg_us"), (0.7, 0.85, 2, 3), (0.05, 0.05, 1, 1e-3), (1, 1, 8, 100))),
    "element-wise": ("linear", (("ce_us", "ebf"), (10, 0.7), (1e-3, 0.05), (500, 2))),
    validate.DECODE: (
        "attention",
        (
            ("ac_us", "abf", "as_ns", "ar_ns", "q"), (8, 0.85, 5, 5, 1.5), (1e-3, 0.05, 1e-3, 1e-3, 1),
            (500, 1, 500, 500, 8),
        ),
    ),
    validate.PREFILL: ("attention", (("pc_us", "pf"), (8, 0.5), (1e-3, 0.01), (500, 1))),
}  # fmt: skip


def main() -> None:
    """Fit each group of kernels, print the row and the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", required=True, help="its key in config/gpus.yaml")
    parser.add_argument("--times", type=Path, required=True, help="contract kernel_times")
    args = parser.parse_args()
    gpu = Gpu.of(yaml.safe_load((ROOT / "config/gpus.yaml").read_text())[args.gpu], args.gpu)
    rows = yaml.safe_load((ROOT / "config/models.yaml").read_text())
    models = {name: Model.of(row, name) for name, row in rows.items()}
    table = contracts.KERNEL_TIMES.read(args.times)
    operator, shape = (np.array(table[name].to_pylist()) for name in ("operator", "shape"))
    heads = table["n"].to_numpy()
    chosen = {
        "products": np.isin(operator, PRODUCTS) & (shape == LAYER),
        "element-wise": (operator == "element-wise") & (shape == LAYER),
        validate.DECODE: (operator == validate.DECODE) & (heads == models["llama-2-7b-chat"].heads),
        validate.PREFILL: operator == validate.PREFILL,
    }

    def errors(gpu: Gpu, mask: np.ndarray) -> np.ndarray:
        return np.array(validate.kernels_of(table.filter(mask), args.times, {args.gpu: gpu}, models)["error"])

    def with_values(gpu: Gpu, part: str, names: Sequence[str], values: np.ndarray) -> Gpu:
        changed = replace(getattr(gpu, part), **dict(zip(names, map(float, values), strict=True)))
        return replace(gpu, linear=changed) if part == "linear" else replace(gpu, attention=changed)

    def search(gpu: Gpu, group: str) -> np.ndarray:
        part, (names, start, low, high) = FITS[group]
        found = least_squares(
            lambda x: np.log1p(errors(with_values(gpu, part, names, x), chosen[group])),
            start,
            bounds=(low, high),
            x_scale=np.array(start),
        )
        return np.array(found.x)

    for group, (part, (names, *_)) in FITS.items():
        # As the row will say it.
        gpu = with_values(gpu, part, names, np.array([float(f"{value:.3g}") for value in search(gpu, group)]))
        error = np.abs(errors(gpu, chosen[group]))
        values = ", ".join(f"{name}: {getattr(getattr(gpu, part), name):g}" for name in names)
        print(f"{part}: {values}    # {group}: mean error {error.mean():.3f}, largest {error.max():.3f}")
    for name in dict.fromkeys(shape[np.isin(operator, validate.LINEAR)]):
        found = validate.kernels_of(
            table.filter((shape == name) & np.isin(operator, validate.LINEAR)), args.times, {args.gpu: gpu}, models
        )
        _, place = np.unique(found["size"], return_inverse=True)
        sums = [np.bincount(place, found[key]) for key in ("measured", "simulated")]
        error = np.abs(sums[1] / sums[0] - 1)
        print(f"# whole {name}: mean error {error.mean():.3f}, largest {error.max():.3f}")
    for name in dict.fromkeys(shape[operator == validate.DECODE]):
        error = np.abs(errors(gpu, (operator == validate.DECODE) & (shape == name)))
        print(f"# decode, {name}: mean error {error.mean():.3f}, largest {error.max():.3f}")


if __name__ == "__main__":
    main()
