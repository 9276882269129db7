"""Measure one GPU's kernel times, in the form of `data/validation/kernel_times.csv`; with the Python that has vLLM.

    .venv-vllm/bin/python tests/benchmarks/measure_kernels.py --gpu h100 --out h100.csv

Matrix products (cuBLAS through torch), vLLM's element-wise kernels and its FlashAttention, in float16, for a layer of
Llama-2-7b and of Llama-2-13b. Each kernel is captured many times in one CUDA graph, over several sets of weights so
that none of them is found in the GPU's cache, and the graph is timed; a time is the median of its replays, divided.
A minute on an H100. It imports nothing of ours, so that it runs where only vLLM is installed.
"""

import argparse
import csv
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import vllm._custom_ops as ops
from vllm.v1.attention.backends.fa_utils import get_flash_attn_version
from vllm.vllm_flash_attn import flash_attn_varlen_func

# Hidden size, heads, size of the MLP.
MODELS = {"7b": (4096, 32, 11008), "13b": (5120, 40, 13824)}
HEAD, BLOCK = 128, 16
# More than the cache of any GPU, bytes.
COLD = 256 << 20
REPLAYS, CALLS = 7, 20
KV_TOKENS = 80_000
VERSION = get_flash_attn_version()
HALF = {"dtype": torch.float16, "device": "cuda"}


def sizes(least: int, most: int, count: int = 30) -> list[int]:
    """Whole numbers evenly spread as ratios."""
    step = (most / least) ** (1 / (count - 1))
    return sorted({round(least * step**number) for number in range(count)})


def time_us(call: Callable[[int], object]) -> float:
    """Median time of one call in µs; calls are numbered, so that each may take other data."""
    for number in range(3):
        call(number)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for number in range(CALLS):
            call(number)
    found = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end))
    return 1e3 * statistics.median(found[1:]) / CALLS


def products(model: str) -> dict[str, tuple[int, int]]:
    """Operator to what it takes and gives, in numbers a token."""
    hidden, _, mlp = MODELS[model]
    return {
        "qkv": (hidden, 3 * hidden),
        "attention output": (hidden, hidden),
        "gate and up": (hidden, 2 * mlp),
        "down": (mlp, hidden),
    }


def product_us(taken: int, given: int, tokens: list[int]) -> list[float]:
    """Times of a matrix product."""
    copies = max(2, math.ceil(COLD / (2 * taken * given)))
    weights = [torch.randn(given, taken, **HALF) * 0.02 for _ in range(copies)]
    found = []
    for each in tokens:
        rows = torch.randn(each, taken, **HALF)
        found.append(time_us(lambda number, rows=rows: torch.nn.functional.linear(rows, weights[number % copies])))
    return found


def elementwise_us(model: str, tokens: int) -> float:
    """Time of one layer's norms, rotation and gate, and of writing to the KV cache."""
    hidden, heads, mlp = MODELS[model]
    state, residual, weight = *torch.randn(2, tokens, hidden, **HALF), torch.ones(hidden, **HALF)
    query, key, value = (torch.randn(tokens, hidden, **HALF) for _ in range(3))
    angles, at = torch.randn(4096, HEAD, **HALF), torch.arange(tokens, device="cuda") % 4096
    both, gated = torch.randn(tokens, 2 * mlp, **HALF), torch.empty(tokens, mlp, **HALF)
    blocks = tokens // BLOCK + 1
    keys, values = (torch.zeros(blocks, BLOCK, heads, HEAD, **HALF) for _ in range(2))
    slots, one = torch.arange(tokens, device="cuda"), torch.ones(1, device="cuda")

    def layer(_: int) -> None:
        ops.fused_add_rms_norm(state, residual, weight, 1e-5)
        ops.rotary_embedding(at, query, key, HEAD, angles, True)
        shape = (tokens, heads, HEAD)
        ops.reshape_and_cache_flash(key.view(shape), value.view(shape), keys, values, slots, "auto", one, one)
        ops.fused_add_rms_norm(state, residual, weight, 1e-5)
        torch.ops._C.silu_and_mul(gated, both)

    return time_us(layer)


def attention_us(heads: int, batch: int, new: int, context: int) -> float:
    """Time of attention: `batch` requests of `context` tokens, of which `new` are computed."""
    blocks = -(-context // BLOCK)
    pool = max(blocks * batch, KV_TOKENS // BLOCK)
    keys, values = (torch.randn(pool, BLOCK, heads, HEAD, **HALF) for _ in range(2))
    # A call finds other blocks than the one before.
    sets = max(1, min(CALLS, pool // (blocks * batch)))
    tables = torch.randperm(pool, device="cuda").to(torch.int32)[: sets * blocks * batch].view(sets, batch, blocks)
    query, out = torch.randn(batch * new, heads, HEAD, **HALF), torch.empty(batch * new, heads, HEAD, **HALF)
    ends = torch.arange(batch + 1, device="cuda", dtype=torch.int32) * new
    used = torch.full((batch,), context, device="cuda", dtype=torch.int32)
    return time_us(
        lambda number: flash_attn_varlen_func(
            query,
            keys,
            values,
            new,
            ends,
            context,
            seqused_k=used,
            causal=True,
            block_table=tables[number % sets],
            out=out,
            fa_version=VERSION,
        )
    )


def measured(gpu: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows, each when it is measured."""
    for model, (hidden, heads, mlp) in MODELS.items():
        tokens = sizes(1, 4096)
        for operator, sides in products(model).items():
            for size, time in zip(tokens, product_us(*sides, tokens), strict=True):
                yield gpu, operator, f"{model} layer", *sides, 1, size, time
        for size in tokens:
            yield gpu, "element-wise", f"{model} layer", hidden, mlp, 1, size, elementwise_us(model, size)
        shape = f"{heads} heads, {heads} KV heads"
        for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256):
            for size in (128, 256, 512, 1024, 2048, 4096):
                if batch * size <= KV_TOKENS:
                    yield gpu, "decode attention", shape, heads, heads, batch, size, attention_us(heads, batch, 1, size)
        for size in (1, 16, 32, 64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096):
            yield gpu, "prefill attention", shape, heads, heads, 1, size, attention_us(heads, 1, size, size)


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", required=True, help="its row of config/gpus.yaml")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(1)
    with open(args.out, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        table.writerow(("gpu", "operator", "shape", "n", "k", "batch", "size", "time_us"))
        count = 0
        for *row, time in measured(args.gpu):
            table.writerow((*row, round(time, 3)))
            file.flush()
            count += 1
    name = torch.cuda.get_device_name()
    print(f"{args.out}: {count} kernel times of {name}, torch {torch.__version__}", file=sys.stderr)


if __name__ == "__main__":
    main()
