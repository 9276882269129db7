"""How many KV-cache blocks an engine has. Light: the configuration check imports it."""

from collections.abc import Mapping
from typing import Any

from burstbench.errors import UserError
from burstbench.serve.gpus import GIB, Gpu, Model

BLOCK_TOKENS = 16

# What vLLM keeps back besides the weights: CUDA context, peak of the activations, CUDA graphs. One constant per
# version gives the block counts known of Llama-2-7b and 13b on A800 and A6000 to the block; against counts seen in logs
# of other people's servers it is off by -2 % (7449 seen, 7319 computed), -3 % (3796, 3678) and +9 % (3418, 3726), and
# against our own run on an H100 (data/validation/h100) by -0.7 % (7371, 7323).
RESERVED_GIB = {
    "v1": 1.5,
    # 0.2.5 to 0.3.3, whose profiling run holds the logits of 256 sequences; 0.2.0 to 0.2.4 kept 0.5 GiB.
    "v0": 5.3,
}


class CapacityError(UserError):
    """A model does not fit on a GPU."""


def blocks(model_row: Mapping[str, Any], gpu_row: Mapping[str, Any], utilization: float, scheduler: str = "v1") -> int:
    """Return the KV-cache blocks of 16 tokens that vLLM would find room for.

    ``floor((utilization * visible memory - weights - reserved) / (16 * bytes of a token))``

    Args:
        model_row: row of config/models.yaml.
        gpu_row: row of config/gpus.yaml.
        utilization: share of the GPU's visible memory that the engine may take, in (0, 1].
        scheduler: "v1" or "v0": which version's reserve counts.

    Raises:
        CapacityError: the weights do not fit, or a request of the model's full length does not; vLLM then refuses to
            start, too.
        RowError: a row is wrong.
    """
    model, gpu = Model.of(model_row), Gpu.of(gpu_row)
    if not 0 < utilization <= 1:
        raise CapacityError(f"memory_utilization: found {utilization!r}, expected a share in (0, 1]")
    if scheduler not in RESERVED_GIB:
        raise CapacityError(f"scheduler: found {scheduler!r}, expected one of {', '.join(RESERVED_GIB)}")
    taken = utilization * gpu.visible_memory_gib * GIB
    room = taken - model.weight_bytes - RESERVED_GIB[scheduler] * GIB
    count = int(room // (BLOCK_TOKENS * model.kv_bytes_per_token))
    usable = max(pool(count, scheduler), 0)
    if usable * BLOCK_TOKENS < model.max_model_len:
        raise CapacityError(
            f"{model.label} does not fit on {gpu.label}: of {taken / GIB:.1f} GiB ({utilization:g} of "
            f"{gpu.visible_memory_gib:g} GiB) the weights take {model.weight_bytes / GIB:.1f} GiB and the engine "
            f"{RESERVED_GIB[scheduler]:g} GiB, which leaves room for {usable * BLOCK_TOKENS} tokens of KV cache; one "
            f"request may need {model.max_model_len} (max_model_len)"
        )
    return count


def pool(count: int, scheduler: str) -> int:
    """Blocks that requests can use: all of v0's; all but the null block of v1's."""
    return count - 1 if scheduler == "v1" else count
