"""The analytic step times beside measured ones: the committed measurements, and wrong ones."""

import subprocess
import sys
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
H100 = ROOT / "data/validation/kernel_times_h100.csv"


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


def test_errors_on_an_h100_are_those_that_its_row_states_and_a_larger_model_is_predicted():
    table = {name: np.array(values) for name, values in validate.kernels(H100, GPUS, MODELS).items()}
    row = GPUS["h100"]

    def layer(shape: str) -> float:
        chosen = np.isin(table["operator"], validate.LINEAR) & (table["shape"] == shape)
        _, place = np.unique(table["size"][chosen], return_inverse=True)
        measured, found = (np.bincount(place, table[name][chosen]) for name in ("measured", "simulated"))
        return float(np.abs(found / measured - 1).mean())

    def attention(operator: str, use: str) -> float:
        return float(np.abs(table["error"][(table["operator"] == operator) & (table["use"] == use)]).mean())

    assert layer("7b layer") == pytest.approx(row.linear.error, abs=0.0006)
    assert attention(validate.DECODE, "fitted") == pytest.approx(row.attention.decode_error, abs=0.0006)
    assert attention(validate.PREFILL, "fitted") == pytest.approx(row.attention.prefill_error, abs=0.0006)
    # Nothing was fitted to these.
    assert layer("13b layer") < 0.04
    assert attention(validate.DECODE, "predicted") < 0.06


def test_the_comparison_with_the_measured_run_is_what_the_study_s_own_rows_give(tmp_path):
    """The committed tables are made again: whoever changes a row or the scheduler must see what it does to them."""
    out = tmp_path / "vllm_gpu.csv"
    script = [sys.executable, "tests/benchmarks/validate_gpu.py", "--run", "data/validation/h100", "--gpu", "h100"]
    subprocess.run([*script, "--fractions-of", "a100", "--out", str(out)], cwd=ROOT, check=True, capture_output=True)
    for name in ("vllm_gpu.csv", "vllm_gpu_series.csv"):
        assert (tmp_path / name).read_bytes() == (ROOT / "data/validation" / name).read_bytes()


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
    contracts.KERNEL_TIMES.write(table | {"gpu": ["b200"]}, tmp_path / "times.csv")
    with pytest.raises(UserError, match="gpu: found 'b200', expected one of a800"):
        validate.kernels(tmp_path / "times.csv", GPUS, MODELS)
    contracts.KERNEL_TIMES.write(table | {"operator": ["softmax"]}, tmp_path / "times.csv")
    with pytest.raises(UserError, match="operator: found 'softmax', expected one of qkv"):
        validate.kernels(tmp_path / "times.csv", GPUS, MODELS)
