"""What the emulated GPU is told: as many blocks, the same limits, step times and response lengths as the simulator has.

Apart from the engine `vllm`, so that a change of the simulator makes no measured cell run again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from burstbench import contracts
from burstbench.errors import UserError
from burstbench.seeds import generator
from burstbench.serve import responses, simulate
from burstbench.serve.gpus import Gpu, Model


class EmulationError(UserError):
    """The settings cannot be emulated."""


@dataclass(frozen=True)
class Modelled:
    """One cell's emulated GPU.

    Attributes:
        blocks: of the KV cache, the null block among them.
        max_num_seqs, max_num_batched_tokens: limits of a batch.
        arrays: step times and natural response lengths, for `burstbench.serve.emulated`.
        record: what run.json says of them.
    """

    blocks: int
    max_num_seqs: int
    max_num_batched_tokens: int
    arrays: dict[str, NDArray[Any]]
    record: dict[str, Any]


def of(settings: Mapping[str, Any], plan: pa.Table, replies_path: Path | None) -> Modelled:
    """Return what the emulated GPU is told.

    Args:
        settings: of `burstbench.serve.vllm.serve`.
        plan: contract `plan`.
        replies_path: contract `replies`.

    Raises:
        UserError: the settings are wrong, or the model does not fit on the GPU.
    """
    simulator = settings["simulator"]
    if simulator["scheduler"] != "v1":
        raise EmulationError(f"simulator.scheduler: found {simulator['scheduler']!r}, expected v1: vLLM's own is used")
    if replies_path is None:
        raise EmulationError("--replies is missing: the emulated GPU draws response lengths from them")
    model, gpu = Model.of(settings["model_row"], settings["model"]), Gpu.of(settings["gpu_row"], settings["gpu"])
    blocks, limits = simulate.limits_of(settings["model_row"], settings["gpu_row"], simulator)
    clock = simulate.step_times(simulator, model, gpu, limits)
    lengths = simulator["response_lengths"]
    if lengths["kind"] == "measured":
        raise EmulationError("simulator.response_lengths: found kind 'measured', which only the simulator can draw")
    # The same draws as the simulator's of this cell: two engines, one set of answers.
    identity = ("experiment", "model", "gpu", "seed")
    rng = generator(settings["root_seed"], "serve", *(settings[key] for key in identity), "responses")
    replies = contracts.REPLIES.read(replies_path)
    natural = responses.draw(
        lengths,
        plan.column("prompt_tokens").to_numpy(),
        replies.column("request_tokens").to_numpy(),
        replies.column("reply_tokens").to_numpy(),
        rng,
    )
    times = clock.times
    return Modelled(
        blocks=blocks,
        max_num_seqs=limits.max_requests,
        max_num_batched_tokens=limits.max_tokens,
        arrays={
            "linear_s": times.linear_s,
            "head_s": times.head_s,
            "attention": times.attention,
            "response_tokens": np.asarray(natural),
        },
        record={
            "host": simulator["host"],
            "step_time": clock.record,
            "capacity": {"blocks": blocks, "memory_utilization": simulator["memory_utilization"]},
            "response_lengths": {**lengths, "statement": "response lengths drawn, not generated"},
        },
    )
