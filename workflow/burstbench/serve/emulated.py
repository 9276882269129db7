"""The emulated GPU: vLLM's executor that computes nothing and sleeps the modelled time of each step.

vLLM is told to use it by `--distributed-executor-backend burstbench.serve.emulated.ModelledExecutor` and imports it in
the engine's process. API server, scheduler, KV-cache manager, recorder and timeout are the real ones. Of vLLM 0.32; the
interface is not a stable one.

The environment variable BURSTBENCH_EMULATED holds a JSON object: `model_row`; `blocks` of the KV cache; `tables`: an
.npz file with the step times (`burstbench.serve.steptime.StepTime`) and `response_tokens`, the natural response length
of each request of the run; and `run_id`. A request outside the run answers one token.
"""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.executor.abstract import Executor
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.outputs import ModelRunnerOutput

from burstbench.serve import steptime
from burstbench.serve.capacity import BLOCK_TOKENS
from burstbench.serve.gpus import Model
from burstbench.serve.tiny import EOS

VARIABLE = "BURSTBENCH_EMULATED"
_WORD = 100  # any token but the end


class _Sequence:
    """A request as the executor sees it."""

    def __init__(self, prompt: int, response: int) -> None:
        self.prompt, self.response = prompt, response
        self.produced = self.context = 0


class ModelledExecutor(Executor):
    """Sleeps instead of computing."""

    def _init_executor(self) -> None:
        settings = json.loads(os.environ[VARIABLE])
        self.model = Model.of(settings["model_row"])
        self.blocks = settings["blocks"]
        self.prefix = f"cmpl-{settings['run_id']}-"
        with np.load(settings["tables"]) as tables:
            self.lengths = tables["response_tokens"]
            self.times = steptime.StepTime(tables["linear_s"], tables["head_s"], tables["attention"])
        self.sequences: dict[str, _Sequence] = {}

    def collective_rpc(
        self,
        method: str | Callable[..., Any],
        timeout: float | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        non_block: bool = False,
    ) -> Any:
        """Answer what the engine asks of its workers."""
        answers = {
            "get_kv_cache_spec": self._spec,
            "get_supported_kv_cache_layouts": lambda: ["NHD"],
            "determine_available_memory": self._memory,
            "get_supported_tasks": lambda: ("generate",),
            "supports_draft_weight_updates": lambda: False,
        }
        quiet = {
            "set_kv_cache_layout", "initialize_from_config", "compile_or_warm_up_model", "execute_dummy_batch",
            "shutdown", "reset_mm_cache", "reset_encoder_cache", "update_max_model_len",
        }  # fmt: skip
        if method in answers:
            result = [answers[str(method)]()]
        elif method in quiet:
            result = []
        else:
            raise RuntimeError(f"the emulated GPU cannot {method}")
        if non_block:
            future: Future[Any] = Future()
            future.set_result(result)
            return future
        return result

    def check_health(self) -> None:
        """Nothing can break."""

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:
        """Sleep the time of the step and answer a token for every request whose tokens are all computed."""
        begun = time.monotonic()
        for name in scheduler_output.finished_req_ids:
            self.sequences.pop(name, None)
        for new in scheduler_output.scheduled_new_reqs:
            known = self.sequences.setdefault(new.req_id, self._sequence(new.req_id, len(new.prompt_token_ids or ())))
            known.context = new.num_computed_tokens
        cached = scheduler_output.scheduled_cached_reqs
        for name, computed in zip(cached.req_ids, cached.num_computed_tokens, strict=True):
            self.sequences[name].context = computed
        names: list[str] = []
        tokens: list[list[int]] = []
        total = decodes = context_sum = context_max = chunks = 0
        work = 0.0
        for name, count in scheduler_output.num_scheduled_tokens.items():
            sequence = self.sequences[name]
            context = sequence.context
            whole = sequence.prompt + sequence.produced
            total += count
            if count == 1 and context + 1 > sequence.prompt:
                decodes += 1
                context_sum += context + 1
                context_max = max(context_max, context + 1)
            else:
                chunks += 1
                work += steptime.prefill_work(count, context)
            names.append(name)
            if context + count < whole:
                tokens.append([])
                continue
            sequence.produced += 1
            tokens.append([EOS if sequence.produced >= sequence.response else _WORD])
        if names:
            times = self.times
            seconds = steptime.seconds(
                times.linear_s,
                times.head_s,
                times.attention,
                total,
                len(names),
                decodes,
                context_sum,
                context_max,
                chunks,
                work,
            )
            time.sleep(max(0.0, begun + seconds - time.monotonic()))
        output = ModelRunnerOutput(
            req_ids=names, req_id_to_index={name: place for place, name in enumerate(names)}, sampled_token_ids=tokens
        )
        if not non_block:
            return output
        future: Future[ModelRunnerOutput] = Future()
        future.set_result(output)
        return future

    def _sequence(self, name: str, prompt: int) -> _Sequence:
        if not name.startswith(self.prefix):
            return _Sequence(prompt, 1)
        return _Sequence(prompt, int(self.lengths[int(name[len(self.prefix) :].partition("-")[0])]))

    def _spec(self) -> dict[str, FullAttentionSpec]:
        model = self.model
        return {
            f"layers.{layer}": FullAttentionSpec(
                block_size=BLOCK_TOKENS,
                num_kv_heads=model.kv_heads,
                head_size=model.head_dim,
                dtype={2: torch.float16, 4: torch.float32}[model.bytes_per_kv_value],
            )
            for layer in range(model.layers)
        }

    def _memory(self) -> int:
        return self.blocks * BLOCK_TOKENS * self.model.kv_bytes_per_token
