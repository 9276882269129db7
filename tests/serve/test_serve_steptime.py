"""Step times against numbers worked out by hand, the known times per output token, and kernel measurements."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import yaml
from burstbench.errors import UserError
from burstbench.serve import steptime
from burstbench.serve.gpus import Gpu, Model

CONFIG = Path(__file__).parents[2] / "config"
GPUS = {key: Gpu.of(row, key) for key, row in yaml.safe_load((CONFIG / "gpus.yaml").read_text()).items()}
MODELS = {key: Model.of(row, key) for key, row in yaml.safe_load((CONFIG / "models.yaml").read_text()).items()}

# A card of 1 TFLOP/s and 1 GB/s, of which it reaches a half and all; a model of one small layer.
CARD = replace(
    GPUS["a800"],
    peak_tflops=1.0,
    bandwidth_gb_s=1.0,
    linear=replace(GPUS["a800"].linear, ff=0.5, bf=1.0, p=2.0, cg_us=4.0, ce_us=7.0, ebf=0.5),
    attention=replace(GPUS["a800"].attention, ac_us=3.0, abf=0.5, as_ns=10.0, ar_ns=100.0, q=2.0, pc_us=5.0, pf=0.25),
)
SMALL = replace(
    MODELS["llama-2-7b-chat"], layers=2, hidden=6, heads=3, kv_heads=1, head_dim=2, intermediate=10, vocab=50
)


def test_a_matrix_product_by_hand():
    # 2*10*100*200 FLOP at 0.5 TFLOP/s: 0.8 µs. 2*(20000 + 1000 + 2000) bytes at 1 GB/s: 46 µs. Root of the squares:
    # 46.006956 µs, and 4 µs.
    assert steptime.gemm_s(np.array([10.0]), 100, 200, CARD) == pytest.approx(50.006956e-6, rel=1e-7)


def test_a_layer_by_hand():
    # n = 5. Bytes of the products 6x10, 6x6, 6x20, 10x6: 2*(60+30+50) = 280, 2*(36+30+30) = 192, 2*(120+30+100) = 500,
    # 2*(60+50+30) = 280: 1252 ns at 1 GB/s; arithmetic is at most 2.4 ns and adds 0.006 ns. Four constants of 4 µs.
    # Element-wise: 2*5*(24 + 2*4*2 + 30 + 36) = 1060 bytes at 0.5 GB/s: 2.12 µs, and 7 µs.
    assert steptime.layer_s(np.array([5.0]), SMALL, CARD) == pytest.approx(26.372e-6, abs=0.05e-9)


def step(host="v0-2024", **batch):
    """Time of a step in µs, less the time of its linear kernels and lm_head, which other tests look at."""
    times = steptime.analytic(SMALL, CARD, host, 64, 8)
    whole = steptime.seconds(times.linear_s, times.head_s, times.attention, **batch)
    return (whole - times.linear_s[batch["tokens"]] - times.head_s[batch["requests"]]) * 1e6


def test_decode_attention_by_hand():
    # Two rows with contexts 300 and 100. Reads 4*1*2*400 = 3200 bytes at 0.5 GB/s: 6.4 µs; rows 2*1*0.1 = 0.2 µs;
    # longest 300*10 ns = 3 µs: root(6.6² + 3²) = 7.249828 µs, and 3 µs; two layers; host 1300 + 2*105 µs.
    found = step(tokens=2, requests=2, decodes=2, context_sum=400, context_max=300, chunks=0, prefill_work=0.0)
    assert found == pytest.approx(2 * 10.249828 + 1510, abs=1e-5)


def test_prefill_attention_by_hand():
    # Chunks of 10 tokens after 20, of 4 after none: pairs 200 + 10*552/2, and 4*546/2: 4052. 4*3*2*4052 = 97248 FLOP
    # at 0.25 TFLOP/s: 0.388992 µs, and 5 µs for the launch; two layers.
    work = steptime.prefill_work(10, 20) + steptime.prefill_work(4, 0)
    assert work == 4052
    found = step(tokens=14, requests=2, decodes=0, context_sum=0, context_max=0, chunks=2, prefill_work=work)
    assert found == pytest.approx(2 * 5.388992 + 1510, abs=1e-5)


def test_a_mixed_step_adds_both_and_newer_software_is_faster():
    found = step(
        host="modern", tokens=3, requests=2, decodes=1, context_sum=300, context_max=300, chunks=1, prefill_work=60.0
    )
    # 4*2*300 = 2400 bytes at 0.92 GB/s: 2.608696 µs, row 0.1, longest 3: root(2.708696² + 3²) = 4.041909; 3 more.
    # 4*3*2*60 FLOP at 0.25 TFLOP/s: 0.00576 µs; 5 more. Host 2*10 µs.
    assert found == pytest.approx(2 * (7.041909 + 5.00576) + 20, abs=1e-4)


def test_lm_head_runs_over_one_row_of_each_request():
    times = steptime.analytic(SMALL, CARD, "v0-2024", 64, 8)
    # 2*(6*50 + 2*6 + 2*50) = 824 bytes at 1 GB/s; arithmetic 2.4 ns; 4 µs.
    assert times.head_s[2] == pytest.approx(4.824e-6, abs=0.01e-9)
    assert times.head_s.size == 9
    assert times.linear_s.size == 65


# Time per output token in ms at a context of 512, batch 1 / 32 / 64, as known of the formula with these fractions.
KNOWN = {
    ("v0-2024", "a800", "llama-2-7b-chat"): (10.8, 19.8, 29.6),
    ("v0-2024", "a800", "llama-2-13b-chat"): (18.3, 30.6, 44.4),
    ("v0-2024", "a6000", "llama-2-7b-chat"): (24.7, 42.3, 61.2),
    ("v0-2024", "a6000", "llama-2-13b-chat"): (45.5, 71.5, 99.8),
    ("modern", "a800", "llama-2-7b-chat"): (9.1, 14.9, 21.4),
    ("modern", "a800", "llama-2-13b-chat"): (16.5, 25.5, 35.9),
    ("modern", "a6000", "llama-2-7b-chat"): (21.3, 35.3, 50.5),
    ("modern", "a6000", "llama-2-13b-chat"): (40.3, 62.4, 86.8),
}


@pytest.mark.parametrize(("host", "gpu", "model"), KNOWN)
def test_time_per_output_token(host, gpu, model):
    times = steptime.analytic(MODELS[model], GPUS[gpu], host, 256, 256)
    found = [steptime.decode_step_s(times, batch, 512) * 1e3 for batch in (1, 32, 64)]
    # To the printed digit.
    assert found == pytest.approx(KNOWN[host, gpu, model], abs=0.0501)


def test_published_times_of_an_early_2024_server():
    # Llama-2-7b on an A100 80 GB, vLLM of December 2023: 11.19 to 11.48 ms a token at batch 1, prompts of 128 and 512
    # tokens in 15.5 and 40.4 ms. Nothing was fitted to these: -6 %, -2 %, -6 %.
    times = steptime.analytic(MODELS["llama-2-7b-chat"], GPUS["a100"], "v0-2024", 4096, 256)
    assert steptime.decode_step_s(times, 1, 256) == pytest.approx(11.3e-3, rel=0.06)
    assert steptime.prefill_step_s(times, 128) == pytest.approx(15.5e-3, rel=0.07)
    assert steptime.prefill_step_s(times, 512) == pytest.approx(40.4e-3, rel=0.07)


def test_an_unknown_host_is_refused():
    with pytest.raises(UserError, match="found 'fast', expected one of v0-2024, modern"):
        steptime.analytic(SMALL, CARD, "fast", 8, 8)


def test_the_modern_host_replaces_fractions_of_old_kernels_alone():
    seven, old = MODELS["llama-2-7b-chat"], GPUS["a100"]
    own = replace(old, modern_kernels=True)
    # On the row's own fractions the two hosts differ by the host's time alone: 1.3 ms and 0.095 ms a request.
    apart = [
        steptime.decode_step_s(steptime.analytic(seven, own, host, 8, 8), 4, 100) for host in ("v0-2024", "modern")
    ]
    assert apart[0] - apart[1] == pytest.approx(1.3e-3 + 4 * 0.095e-3, rel=1e-9)
    assert steptime.decode_step_s(steptime.analytic(seven, old, "modern", 8, 8), 4, 100) < apart[1]


def test_what_was_not_measured_is_said():
    seven = MODELS["llama-2-7b-chat"]
    assert len(steptime.validity(replace(seven, heads=8, kv_heads=8), GPUS["a800"], 4096)) == 0
    assert "has 32 on 8: too fast" in " ".join(steptime.validity(replace(seven, kv_heads=8), GPUS["a800"], 4096))
    assert "32: extrapolated" in " ".join(steptime.validity(seven, GPUS["a800"], 4096))
    assert "a step had 4097 tokens" in " ".join(steptime.validity(seven, GPUS["a800"], 4097))
    assert "attention was not measured on A6000" in " ".join(steptime.validity(seven, GPUS["a6000"], 10))


@pytest.mark.parametrize(("gpu", "file", "known"), [("a100", "a100", 0.033), ("a40", "a40", 0.031)])
def test_error_against_measured_linear_kernels(shared_data, gpu, file, known):
    table = pyarrow.csv.read_csv(shared_data / "profiles" / f"{file}_llama-2-7b_linear.csv")
    single = table.filter(np.equal(table["num_tensor_parallel_workers"].to_numpy(), 1))
    operators = [
        "input_layernorm", "attn_pre_proj", "attn_rope", "attn_post_proj", "post_attention_layernorm", "mlp_up_proj",
        "mlp_act", "mlp_down_proj", "add",
    ]  # fmt: skip
    measured = sum(single[f"time_stats.{name}.median"].to_numpy() for name in operators) * 1e-3
    found = steptime.layer_s(single["num_tokens"].to_numpy().astype(float), MODELS["llama-2-7b-chat"], GPUS[gpu])
    error = np.abs(found / measured - 1)
    assert error.mean() == pytest.approx(known, abs=0.0006)
    assert error.mean() == pytest.approx(GPUS[gpu].linear.error, abs=0.0006)


def test_error_against_measured_attention(shared_data):
    fit = GPUS["a800"].attention
    shared = ("batch_size", "num_heads", "num_key_value_heads", "latency")
    # No host, no linear kernels: what remains of a step is attention.
    table = pyarrow.parquet.read_table(shared_data / "profiles/attention_vllm_0.14.0_generation_attention_perf.parquet")
    rows = {name: table[name].to_numpy() for name in (*shared, "step")}
    context = rows["step"] + 1
    chosen = (rows["num_heads"] == 8) & (rows["num_key_value_heads"] == 8) & (context >= 128) & (context <= 4096)
    shape = replace(MODELS["llama-2-7b-chat"], layers=1, heads=8, kv_heads=8)
    times = steptime.analytic(shape, GPUS["a800"], "v0-2024", 1, 1)
    constants = times.attention.copy()
    constants[:2] = 0
    nothing = np.zeros(2)
    found = np.array(
        [
            steptime.seconds(nothing, nothing, constants, 0, 0, batch, batch * length, length, 0, 0.0)
            for batch, length in zip(rows["batch_size"][chosen], context[chosen], strict=True)
        ]
    )
    error = np.abs(found / (rows["latency"][chosen] * 1e-3) - 1).mean()
    assert error == pytest.approx(fit.decode_error, abs=0.0006)

    table = pyarrow.parquet.read_table(shared_data / "profiles/attention_vllm_0.14.0_context_attention_perf.parquet")
    rows = {name: table[name].to_numpy() for name in (*shared, "isl")}
    chosen = (rows["batch_size"] == 1) & (rows["num_heads"] >= 32) & (rows["isl"] <= 4096)
    chosen &= rows["num_heads"] == rows["num_key_value_heads"]
    errors = []
    for heads, tokens, latency in zip(*(rows[name][chosen] for name in ("num_heads", "isl", "latency")), strict=True):
        times = steptime.analytic(replace(shape, heads=int(heads)), GPUS["a800"], "v0-2024", 1, 1)
        constants[:] = times.attention
        constants[:2] = 0
        work = steptime.prefill_work(int(tokens), 0)
        errors.append(steptime.seconds(nothing, nothing, constants, 0, 0, 0, 0, 0, 1, work) / (latency * 1e-3) - 1)
    assert np.abs(errors).mean() == pytest.approx(fit.prefill_error, abs=0.006)
    assert np.mean(errors) < 0
