"""The analytic step times beside measured ones: the committed measurements, and wrong ones."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from burstbench import contracts
from burstbench.errors import UserError
from burstbench.serve import validate
from burstbench.serve.gpus import Gpu, Model

ROOT = Path(__file__).parents[2]
TIMES, POINTS = ROOT / "data/validation/kernel_times.csv", ROOT / "data/validation/published_points.csv"


def rows(kind, *paths):
    merged = {}
    for path in paths:
        merged |= yaml.safe_load((ROOT / path).read_text())
    return {name: kind.of(row, name) for name, row in merged.items()}


GPUS = rows(Gpu, "config/gpus.yaml")
MODELS = rows(Model, "config/models.yaml", "data/validation/models.yaml")


def test_errors_of_the_fitted_layer_are_those_that_the_gpus_row_states():
    table = {name: np.array(values) for name, values in validate.kernels(TIMES, GPUS, MODELS).items()}
    linear = np.isin(table["operator"], validate.LINEAR) & (table["shape"] == "7b layer")
    for gpu in ("a100", "a40"):
        chosen = linear & (table["gpu"] == gpu)
        _, place = np.unique(table["size"][chosen], return_inverse=True)
        measured, found = (np.bincount(place, table[name][chosen]) for name in ("measured", "simulated"))
        # A part of the sizes, so not the same to the digit.
        assert np.abs(found / measured - 1).mean() == pytest.approx(GPUS[gpu].linear.error, abs=0.008)
    assert set(table["use"][linear]) == {"fitted"}
    shards = np.char.startswith(table["shape"].astype(str), "1/")
    assert set(table["use"][shards]) == {"predicted"}
    decode = (table["operator"] == validate.DECODE) & (table["use"] == "fitted")
    assert np.abs(table["error"][decode]).mean() == pytest.approx(GPUS["a100"].attention.decode_error, abs=0.012)


def test_published_times_of_a_qwen_on_an_a6000():
    table = validate.published(POINTS, GPUS, MODELS)
    found = {
        requests: error
        for model, requests, error in zip(table["model"], table["requests"], table["error"], strict=True)
        if model == "qwen2.5-7b"
    }
    # 22.24 for 21.9 ms; 59.26 for 53.1 ms.
    assert found[1] == pytest.approx(0.016, abs=0.001)
    assert found[256] == pytest.approx(0.116, abs=0.001)


def test_a_gpu_without_a_row_is_named(tmp_path):
    table = contracts.KERNEL_TIMES.read(TIMES).slice(0, 1).to_pydict()
    contracts.KERNEL_TIMES.write(table | {"gpu": ["h100"]}, tmp_path / "times.csv")
    with pytest.raises(UserError, match="gpu: found 'h100', expected one of a800"):
        validate.kernels(tmp_path / "times.csv", GPUS, MODELS)
    contracts.KERNEL_TIMES.write(table | {"operator": ["softmax"]}, tmp_path / "times.csv")
    with pytest.raises(UserError, match="operator: found 'softmax', expected one of qkv"):
        validate.kernels(tmp_path / "times.csv", GPUS, MODELS)
