"""Cut the committed part of the public kernel profiles: `data/validation/kernel_times.csv`.

    BURSTBENCH_SHARED_DATA=... python tests/benchmarks/validation_kernels.py --out data/validation/kernel_times.csv

Linear kernels: Vidur's profiles of a Llama-2-7b layer on an A100 and an A40, whole and cut into 2, 4 and 8 shards for
tensor parallelism, which are other shapes (microsoft/vidur, MIT). Attention: vLLM 0.14 on an A100-SXM4-80GB
(ai-dynamo/aiconfigurator, Apache-2.0). Of every operator and shape some 30 sizes are kept, evenly spread on a
logarithmic scale; medians as published.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
from burstbench import contracts

PRODUCTS = {
    "qkv": "attn_pre_proj",
    "attention output": "attn_post_proj",
    "gate and up": "mlp_up_proj",
    "down": "mlp_down_proj",
}
ELEMENTWISE = ("input_layernorm", "attn_rope", "post_attention_layernorm", "mlp_act", "add")
HIDDEN, MLP = 4096, 11008
SIZES = 30


def spread(sizes: np.ndarray, count: int = SIZES) -> set[int]:
    """Sizes nearest to points evenly spread between the least and the largest, as ratios."""
    known = np.unique(sizes)
    wanted = np.geomspace(known[0], known[-1], count)
    return {int(known[np.abs(np.log(known) - np.log(one)).argmin()]) for one in wanted}


def main() -> None:
    """Read, choose, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    folder = Path(os.environ["BURSTBENCH_SHARED_DATA"]) / "profiles"
    rows: list[tuple[object, ...]] = []
    for gpu in ("a100", "a40"):
        table = pyarrow.csv.read_csv(folder / f"{gpu}_llama-2-7b_linear.csv")
        workers, tokens = (table[name].to_numpy() for name in ("num_tensor_parallel_workers", "num_tokens"))
        kept = spread(tokens)
        for shards in np.unique(workers).tolist():
            shape = "7b layer" if shards == 1 else f"1/{shards} of a 7b layer"
            sides = {
                "qkv": (HIDDEN, 3 * HIDDEN // shards), "attention output": (HIDDEN // shards, HIDDEN),
                "gate and up": (HIDDEN, 2 * MLP // shards), "down": (MLP // shards, HIDDEN),
                "element-wise": (HIDDEN // shards, MLP // shards),
            }  # fmt: skip
            chosen = np.flatnonzero((workers == shards) & np.isin(tokens, list(kept)))
            for operator, side in sides.items():
                names = ELEMENTWISE if operator == "element-wise" else (PRODUCTS[operator],)
                times = sum(table[f"time_stats.{name}.median"].to_numpy() for name in names)
                seen: dict[int, float] = {}
                for row in chosen:
                    seen.setdefault(int(tokens[row]), float(times[row]))
                rows += [(gpu, operator, shape, *side, 1, size, 1e3 * time) for size, time in sorted(seen.items())]
    for kind, name in (("generation", "decode attention"), ("context", "prefill attention")):
        table = pyarrow.parquet.read_table(folder / f"attention_vllm_0.14.0_{kind}_attention_perf.parquet")
        batch, heads, kv = (table[name].to_numpy() for name in ("batch_size", "num_heads", "num_key_value_heads"))
        size = table["step"].to_numpy() + 1 if kind == "generation" else table["isl"].to_numpy()
        latency = table["latency"].to_numpy()
        # Decoding was measured with at most 8 KV heads. Of the prompts, those of Llama-2's shapes: 32 and 40 heads.
        shapes = [(8, 8), (32, 8), (40, 8), (64, 8)] if kind == "generation" else [(32, 32), (40, 40), (64, 64)]
        for shape in shapes:
            chosen = (heads == shape[0]) & (kv == shape[1])
            chosen &= (batch <= 256) & (size >= 128) & (size <= 16384) if kind == "generation" else (batch == 1)
            for row in np.flatnonzero(chosen):
                text = f"{shape[0]} heads, {shape[1]} KV heads"
                rows.append(("a100", name, text, *shape, int(batch[row]), int(size[row]), 1e3 * float(latency[row])))
    unique = {(*row[:3], row[5], row[6]): row for row in rows}
    ordered = sorted(unique.values(), key=lambda row: tuple(map(str, row[:3])) + row[5:7])
    names = [column.name for column in contracts.KERNEL_TIMES.columns]
    contracts.KERNEL_TIMES.write(
        {name: [round(row[i], 3) if name == "time_us" else row[i] for row in ordered] for i, name in enumerate(names)},
        args.out,
    )
    print(len(ordered), "rows")


if __name__ == "__main__":
    main()
