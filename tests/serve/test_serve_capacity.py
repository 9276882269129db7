"""KV-cache blocks against the counts known of vLLM, and the rows of gpus.yaml and models.yaml."""

from pathlib import Path

import pytest
import yaml
from burstbench.serve.capacity import CapacityError, blocks, pool
from burstbench.serve.gpus import Gpu, Model, RowError

CONFIG = Path(__file__).parents[2] / "config"
GPUS = yaml.safe_load((CONFIG / "gpus.yaml").read_text())
MODELS = yaml.safe_load((CONFIG / "models.yaml").read_text())


@pytest.mark.parametrize(
    ("scheduler", "model", "gpu", "known"),
    [
        ("v1", "llama-2-7b-chat", "a800", 7319),
        ("v1", "llama-2-7b-chat", "a6000", 3678),
        ("v1", "llama-2-13b-chat", "a800", 3726),
        ("v1", "llama-2-13b-chat", "a6000", 1396),
        ("v0", "llama-2-7b-chat", "a800", 6833),
        ("v0", "llama-2-7b-chat", "a6000", 3191),
        ("v0", "llama-2-13b-chat", "a800", 3415),
        ("v0", "llama-2-13b-chat", "a6000", 1084),
    ],
)
def test_known_counts(scheduler, model, gpu, known):
    assert blocks(MODELS[model], GPUS[gpu], 0.90, scheduler) == known


def test_by_hand():
    model = {**MODELS["llama-2-7b-chat"], "parameters": 5 * 2**30, "max_model_len": 256}
    gpu = {**GPUS["a800"], "visible_memory_gib": 20}
    # 0.9 * 20 - 10 - 1.5 = 6.5 GiB; 16 tokens take 8 MiB.
    assert blocks(model, gpu, 0.9) == 832
    assert blocks(model, gpu, 0.9, "v0") == 345


def test_v1_keeps_a_block_to_itself():
    assert pool(100, "v1") == 99
    assert pool(100, "v0") == 100


def test_a_model_that_does_not_fit_is_refused():
    with pytest.raises(CapacityError, match=r"13b-chat does not fit on A6000: of 23\.8 GiB \(0\.5 of 47\.54 GiB\)"):
        blocks(MODELS["llama-2-13b-chat"], GPUS["a6000"], 0.5)
    # The weights fit, a request of full length does not.
    with pytest.raises(CapacityError, match=r"room for \d+ tokens of KV cache; one request may need 4096"):
        blocks(MODELS["llama-2-13b-chat"], GPUS["a6000"], 0.56)
    with pytest.raises(CapacityError, match=r"found 1\.5, expected a share"):
        blocks(MODELS["llama-2-7b-chat"], GPUS["a800"], 1.5)
    with pytest.raises(CapacityError, match="found 'v3', expected one of v1, v0"):
        blocks(MODELS["llama-2-7b-chat"], GPUS["a800"], 0.9, "v3")


@pytest.mark.parametrize("key", GPUS)
def test_every_gpu_row_is_right(key):
    gpu = Gpu.of(GPUS[key], key)
    assert 0.9 * gpu.memory_gib < gpu.visible_memory_gib < gpu.memory_gib


@pytest.mark.parametrize("key", MODELS)
def test_the_parameters_are_those_of_the_shape(key):
    model = Model.of(MODELS[key], key)
    attention = 2 * model.hidden * (model.heads + model.kv_heads) * model.head_dim
    layer = attention + 3 * model.hidden * model.intermediate + 2 * model.hidden
    assert model.parameters == 2 * model.vocab * model.hidden + model.layers * layer + model.hidden


def test_kv_bytes_of_a_token():
    assert Model.of(MODELS["llama-2-7b-chat"]).kv_bytes_per_token == 512 * 1024
    assert Model.of(MODELS["llama-2-13b-chat"]).kv_bytes_per_token == 800 * 1024


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "a800: unknown key 'extra'"),
        ({"peak_tflops": None}, "a800: peak_tflops: found None, expected a positive number"),
        ({"peak_tflops": float("nan")}, "found nan, expected a positive number"),
        ({"bandwidth_gb_s": -1}, "found -1, expected a positive number"),
        ({"attention_measured": "yes"}, "attention_measured: found 'yes', expected bool"),
        ({"label": 3}, "label: found 3, expected str"),
        ({"linear": {}}, "a800.linear: key 'ff' is missing"),
        ({"linear": 7}, "a800.linear: found 7, expected a mapping"),
        ({"attention": {**GPUS["a800"]["attention"], "q": 0}}, "a800.attention: q: found 0"),
    ],
)
def test_a_wrong_row_is_refused(change, message):
    with pytest.raises(RowError, match=message.replace(".", r"\.")):
        Gpu.of({**GPUS["a800"], **change}, "a800")


def test_a_missing_attention_is_refused():
    row = {key: value for key, value in GPUS["a800"].items() if key != "attention"}
    with pytest.raises(RowError, match="mine: key 'attention' is missing"):
        Gpu.of(row, "mine")


def test_half_a_layer_is_refused():
    with pytest.raises(RowError, match=r"layers: found 1\.5, expected a positive whole number"):
        Model.of({**MODELS["llama-2-7b-chat"], "layers": 1.5})
