"""The compiled v1 scheduler against vLLM's own, step by step, in virtual time.

    PYTHONPATH=workflow PYTHON_WITH_VLLM tests/benchmarks/validate_scheduler.py --out data/validation/scheduler_v1.csv

vLLM's `EngineCore` runs in this process: its scheduler, its KV-cache manager, its handling of aborts. Only the executor
is replaced: it computes nothing, asks the same step-time model as the simulator for the time of the batch that vLLM
hands it, and the clock advances by that. Arrivals up to the clock are added before a step; a deadline that passes in a
step is an abort that arrives during it. Both engines get the same requests; every step is compared: start, duration,
prefill and decode tokens, requests running and waiting, preemptions, blocks in use; and every request: first scheduled,
first token, end, tokens, preemptions, outcome. Nothing is fitted. Where requests are refused, vLLM's own rule
(`AsyncLLM.check_admission`) decides, on counts kept here: those of its API server, which this process does not have.

vLLM schedules one step at a time here. On CUDA it schedules the next step before the tokens of the present one are
known (`async_scheduling`); the simulator has no such mode.
"""

import argparse
import csv
import json
import os
import platform
import sys
import tempfile
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import numba
import numpy as np
import torch
import vllm
import yaml
from burstbench.serve import scheduler, steptime
from burstbench.serve.capacity import BLOCK_TOKENS, blocks, pool
from burstbench.serve.gpus import Gpu, Model
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.exceptions import MaxQueuedTokensError, QueueOverflowError
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core import EngineCore
from vllm.v1.executor.abstract import Executor
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.outputs import ModelRunnerOutput

CONFIG = Path(__file__).parents[2] / "config"
LOADS = (0.3, 0.5, 0.7, 0.9, 1.0, 1.2, 1.5)
WORD = 100
REQUEST = ("first_scheduled_ns", "first_token_ns", "done_ns", "response_tokens", "preemptions", "outcomes")


class VirtualGpu(Executor):
    """Computes nothing; remembers how long the step would have taken."""

    times: steptime.StepTime
    model: Model

    def _init_executor(self) -> None:
        self.sequences: dict[str, list[Any]] = {}
        self.on_step: Any = None

    def collective_rpc(self, method, timeout=None, args=(), kwargs=None, non_block=False):  # type: ignore[no-untyped-def]
        """Answer what the engine asks of its workers."""
        answers = {
            "get_kv_cache_spec": self._spec,
            "get_supported_kv_cache_layouts": lambda: ["NHD"],
            "determine_available_memory": lambda: 64 << 30,
            "get_supported_tasks": lambda: ("generate",),
            "supports_draft_weight_updates": lambda: False,
        }
        result = [answers[method]()] if method in answers else []
        if not non_block:
            return result
        future: Future[Any] = Future()
        future.set_result(result)
        return future

    def check_health(self) -> None:
        """It is always well."""

    def _spec(self) -> dict[str, FullAttentionSpec]:
        # One layer: the size of the pool is given, not computed.
        return {
            "layers.0": FullAttentionSpec(
                block_size=BLOCK_TOKENS, num_kv_heads=1, head_size=self.model.head_dim, dtype=torch.float16
            )
        }

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:
        """Sum up the batch, tell the driver its time, and answer a token for every request that is computed whole."""
        for name in scheduler_output.finished_req_ids:
            self.sequences.pop(name, None)
        for new in scheduler_output.scheduled_new_reqs:
            # [prompt, produced, context, prefilling]
            self.sequences[new.req_id] = [len(new.prompt_token_ids or ()), 0, new.num_computed_tokens, True]
        cached = scheduler_output.scheduled_cached_reqs
        for name, computed in zip(cached.req_ids, cached.num_computed_tokens, strict=True):
            sequence = self.sequences[name]
            sequence[2] = computed
            if name in cached.resumed_req_ids:
                sequence[3] = True
        names, tokens = [], []
        prefill = decodes = context_sum = context_max = chunks = 0
        work = 0.0
        for name, count in scheduler_output.num_scheduled_tokens.items():
            sequence = self.sequences[name]
            prompt, produced, context, prefilling = sequence
            names.append(name)
            if prefilling:
                chunks += 1
                prefill += count
                work += steptime.prefill_work(count, context)
            else:
                assert count == 1
                decodes += 1
                context_sum += context + 1
                context_max = max(context_max, context + 1)
            if context + count < prompt + produced:
                tokens.append([])
                continue
            sequence[3] = False
            sequence[1] += 1
            tokens.append([WORD])
        if names:
            # Compiled, as in the simulator: powers of floats then agree to the last bit.
            seconds = scheduler._step_seconds(
                self.times.linear_s, self.times.head_s, self.times.attention,
                prefill + decodes, len(names), decodes, context_sum, context_max, chunks, work,
            )  # fmt: skip
            duration = max(1, int(np.floor(seconds * 1e9 + 0.5)))
            self.on_step(duration, prefill, decodes, names)
        output = ModelRunnerOutput(
            req_ids=names, req_id_to_index={name: i for i, name in enumerate(names)}, sampled_token_ids=tokens
        )
        if not non_block:
            return output
        future: Future[Any] = Future()
        future.set_result(output)
        return future


class Reference:
    """vLLM's engine core with a virtual GPU."""

    def __init__(
        self,
        folder: Path,
        model: Model,
        times: steptime.StepTime,
        limits: scheduler.Limits,
        caching: bool,
    ) -> None:
        VirtualGpu.times, VirtualGpu.model = times, model
        # The CPU build asks for no accelerator; the executor needs none.
        arguments = EngineArgs(
            model=str(folder),
            skip_tokenizer_init=True,
            load_format="dummy",
            enforce_eager=True,
            enable_prefix_caching=caching,
            block_size=BLOCK_TOKENS,
            max_num_seqs=limits.max_requests,
            max_num_batched_tokens=limits.max_tokens,
            max_model_len=model.max_model_len,
            num_gpu_blocks_override=limits.blocks + 1,
            distributed_executor_backend=VirtualGpu,
            async_scheduling=False,
        )
        self.core = EngineCore(arguments.create_engine_config(), VirtualGpu, log_stats=False)
        self.limits = limits

    def run(  # type: ignore[no-untyped-def]
        self, arrival, prompt, response, timeout: str, limit: int, bounds: scheduler.Limits | None = None
    ) -> scheduler.Run:
        """Serve the requests; arguments and result as of `scheduler.simulate`, which has `bounds` in its limits."""
        core, size = self.core, len(arrival)
        pool_of = core.scheduler.kv_cache_manager.block_pool
        first_scheduled, first_token, done = (np.full(size, -1, dtype=np.int64) for _ in range(3))
        produced, preemptions, outcomes = (np.zeros(size, dtype=np.int64) for _ in range(3))
        steps: list[list[int]] = []
        now = arrived = expiry = queue_head = 0
        ended = np.zeros(size, dtype=bool)
        live = 0
        bounds = bounds or self.limits
        bounded = bounds.max_inside is not None or bounds.max_pending_tokens is not None
        # What the rule asks of vLLM's front end.
        front: Any = SimpleNamespace(
            admission_stats=None,
            scheduler_config=SimpleNamespace(
                max_num_queued_reqs=bounds.max_inside, max_num_queued_tokens=bounds.max_pending_tokens
            ),
            get_num_unfinished_requests=lambda: live,
            get_num_queued_tokens=lambda: int(prompt[:arrived][~ended[:arrived] & (first_token[:arrived] < 0)].sum()),
            _record_admission_rejection=lambda reason: None,
        )

        def give_up(request: int) -> None:
            nonlocal live
            ended[request] = True
            live -= 1
            done[request], outcomes[request] = arrival[request] + limit, 1

        def add_until(moment: int) -> list[str]:
            nonlocal arrived, live
            late: list[str] = []
            while arrived < size and arrival[arrived] <= moment:
                if bounded:
                    late += expired(int(arrival[arrived]))
                    try:
                        AsyncLLM.check_admission(front)
                    except (QueueOverflowError, MaxQueuedTokensError):
                        ended[arrived], done[arrived], outcomes[arrived] = True, arrival[arrived], 2
                        arrived += 1
                        continue
                request = EngineCoreRequest(
                    request_id=str(arrived),
                    # No two requests share a block.
                    prompt_token_ids=[
                        WORD + (arrived + place * place) % 30_000 for place in range(int(prompt[arrived]))
                    ]
                    if core.scheduler.kv_cache_manager.enable_caching
                    else [WORD] * int(prompt[arrived]),
                    mm_features=None,
                    sampling_params=SamplingParams(
                        max_tokens=int(response[arrived]), ignore_eos=True, detokenize=False, temperature=0.0
                    ),
                    pooling_params=None,
                    arrival_time=float(arrival[arrived]) / 1e9,
                    lora_request=None,
                    cache_salt=None,
                    data_parallel_rank=None,
                )
                core.add_request(*core.preprocess_add_request(request))
                arrived += 1
                live += 1
            return late + expired(moment)

        def expired(moment: int) -> list[str]:
            nonlocal expiry, queue_head
            names = []
            # First come, first served: those never scheduled are the last ones.
            while (
                timeout == "queue"
                and queue_head < arrived
                and (first_scheduled[queue_head] >= 0 or ended[queue_head] or moment - arrival[queue_head] > limit)
            ):
                if first_scheduled[queue_head] < 0 and not ended[queue_head]:
                    give_up(queue_head)
                    names.append(str(queue_head))
                queue_head += 1
            while timeout == "total" and expiry < arrived and arrival[expiry] + limit <= moment:
                if not ended[expiry]:
                    give_up(expiry)
                    names.append(str(expiry))
                expiry += 1
            return names

        def on_step(duration: int, prefill: int, decodes: int, names: list[str]) -> None:
            nonlocal now
            inner = core.scheduler
            for name in names:
                if first_scheduled[int(name)] < 0:
                    first_scheduled[int(name)] = now
            victims = 0
            for request in inner.waiting:
                number = int(request.request_id)
                victims += request.num_preemptions - int(preemptions[number])
                preemptions[number] = request.num_preemptions
            used = self.limits.blocks - pool_of.get_num_free_blocks()
            steps.append([now, duration, prefill, decodes, len(inner.running), len(inner.waiting), victims, used])
            now += duration
            if timeout == "total" or bounded:
                names = add_until(now - 1)
                if names:
                    core.aborts_queue.put_nowait(names)

        core.model_executor.on_step = on_step
        while True:
            names = add_until(now)
            if names:
                core.abort_requests(names)
            if not live:
                if arrived == size:
                    break
                now = int(arrival[arrived])
                continue
            outputs, _ = core.step_fn()
            for output in (outputs or {}).values():
                for item in output.outputs:
                    number = int(item.request_id)
                    if item.new_token_ids and not ended[number]:
                        produced[number] += len(item.new_token_ids)
                        if first_token[number] < 0:
                            first_token[number] = now
                        if item.finish_reason is not None:
                            ended[number], done[number] = True, now
                            live -= 1
        # Let the engine hand out what it still owes, so that the next case starts from an empty one.
        while core.scheduler.has_requests():
            core.step_fn()
        assert pool_of.get_num_free_blocks() == self.limits.blocks
        # Nor may it find prompts of this case again.
        assert core.scheduler.reset_prefix_cache()
        return scheduler.Run(
            first_scheduled, first_token, done, produced, preemptions, outcomes, np.array(steps).reshape(-1, 8),
            np.empty((0, 8)), np.zeros(6, np.int64),
        )  # fmt: skip


def lengths(kind: str, size: int, rng: np.random.Generator) -> tuple[scheduler.Ints, scheduler.Ints]:
    """Prompt and response lengths of a case."""
    if kind == "short":
        prompt, response = rng.lognormal(4.0, 0.8, size), rng.lognormal(4.5, 0.8, size)
    elif kind == "growing":
        # Admitted by their short prompts, then too large together: many preemptions.
        prompt, response = rng.lognormal(4.0, 0.8, size), rng.lognormal(6.2, 0.5, size)
    else:
        prompt, response = rng.lognormal(7.0, 0.6, size), rng.lognormal(5.3, 0.8, size)
    return np.clip(prompt, 1, 3000).astype(np.int64), np.clip(response, 1, 1000).astype(np.int64)


def compare(ours: scheduler.Run, theirs: scheduler.Run, arrival: scheduler.Ints) -> dict[str, Any]:
    """Say how two runs of the same requests differ."""
    common = min(len(ours.steps), len(theirs.steps))
    different = (ours.steps[:common] != theirs.steps[:common]).any(axis=1)
    row: dict[str, Any] = {
        "steps": len(theirs.steps),
        "steps_simulator": len(ours.steps),
        "steps_different": int(different.sum()) + abs(len(ours.steps) - len(theirs.steps)),
        "first_different_step": int(np.argmax(different)) if different.any() else "",
        "preemptions": int(theirs.preemptions.sum()),
        "preemptions_simulator": int(ours.preemptions.sum()),
        "timeouts": int((theirs.outcomes == 1).sum()),
        "timeouts_simulator": int((ours.outcomes == 1).sum()),
        "rejections": int((theirs.outcomes == 2).sum()),
        "rejections_simulator": int((ours.outcomes == 2).sum()),
        "mean_kv_usage": "",
        "requests_different": int(
            sum(
                (getattr(ours, name) != getattr(theirs, name))
                for name in REQUEST
            ).astype(bool).sum()
        ),
    }  # fmt: skip
    for name in ("first_scheduled", "first_token", "done"):
        a, b = getattr(ours, f"{name}_ns"), getattr(theirs, f"{name}_ns")
        both = (a >= 0) & (b >= 0)
        if not both.any():
            row |= {f"{name}_mean_error": "", f"{name}_p99_error": "", f"{name}_max_difference_s": ""}
            continue
        mine, other = (a - arrival)[both] / 1e9, (b - arrival)[both] / 1e9
        for label, value in (("mean", np.mean), ("p99", lambda x: np.quantile(x, 0.99))):
            base = value(other)
            row[f"{name}_{label}_error"] = f"{(value(mine) - base) / base:.6f}" if base > 0 else 0.0
        row[f"{name}_max_difference_s"] = f"{np.abs(mine - other).max():.9f}"
    return row


def main() -> None:
    """Run the grid and the random cases, write the table, and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV to write; its settings go to a .json beside it")
    parser.add_argument("--requests", type=int, default=300, help="requests of a case of the grid")
    parser.add_argument("--random", type=int, default=100, help="cases of random size and limits")
    parser.add_argument("--seed", type=int, default=20240303)
    parser.add_argument("--prefix-caching", action="store_true", help="in both engines; no two prompts are alike")
    args = parser.parse_args()

    models, gpus = (yaml.safe_load((CONFIG / f"{name}.yaml").read_text()) for name in ("models", "gpus"))
    model_row, gpu_row = models["llama-2-7b-chat"], gpus["a6000"]
    model, gpu = Model.of(model_row), Gpu.of(gpu_row)
    times = steptime.analytic(model, gpu, "modern", 8192, 1024)
    usable = pool(blocks(model_row, gpu_row, 0.9), "v1")
    rows: list[dict[str, Any]] = []
    began = time.perf_counter()
    virtual = real = 0.0

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.json").write_text(
            json.dumps(
                {
                    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128,
                    "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 1,
                    "num_key_value_heads": 1, "vocab_size": model.vocab, "max_position_embeddings": model.max_model_len,
                    "torch_dtype": "float16",
                }
            )
        )  # fmt: skip

        def case(  # type: ignore[no-untyped-def]
            labels, reference, arrival, prompt, response, timeout, limit, most=None, pending=None
        ) -> None:
            nonlocal virtual, real
            start = time.perf_counter()
            limits = replace(reference.limits, max_inside=most, max_pending_tokens=pending)
            theirs = reference.run(arrival, prompt, response, timeout, limit, limits)
            real += time.perf_counter() - start
            virtual += (theirs.steps[-1, 0] + theirs.steps[-1, 1]) / 1e9
            ours = scheduler.simulate(
                "v1", arrival, prompt, response, limits, times, timeout, limit, args.prefix_caching
            )
            row = labels | {
                "blocks": limits.blocks,
                "max_num_seqs": limits.max_requests,
                "max_num_batched_tokens": limits.max_tokens,
                "timeout": timeout,
                "timeout_s": limit / 1e9 if limit else "",
                "requests": len(arrival),
            }
            row |= compare(ours, theirs, arrival)
            weights = theirs.steps[:, 1] / theirs.steps[:, 1].sum()
            row["mean_kv_usage"] = f"{(theirs.steps[:, 7] * weights).sum() / limits.blocks:.4f}"
            rows.append(row)
            if sys.stderr.isatty() or len(rows) % 10 == 0:
                print(f"{len(rows)} cases, {time.perf_counter() - began:.0f} s", file=sys.stderr)

        for size_of_pool in (usable, 300):
            limits = scheduler.Limits(size_of_pool, 256, 2048)
            reference = Reference(folder, model, times, limits, args.prefix_caching)
            for kind in ("short", "growing", "long"):
                for load in LOADS:
                    for place, (timeout, limit) in enumerate(
                        (("none", 0), ("queue", 10_000_000_000), ("total", 30_000_000_000))
                    ):
                        rng = np.random.default_rng([args.seed, size_of_pool, len(kind), round(10 * load), place])
                        prompt, response = lengths(kind, args.requests, rng)
                        # Capacity: how fast the engine works the same requests off when all are there at once.
                        flood = scheduler.simulate(
                            "v1", np.zeros(args.requests, np.int64), prompt, response, limits, times
                        )
                        gap = flood.done_ns.max() / args.requests / load
                        arrival = np.cumsum(rng.gamma(0.5, 2.0 * gap, args.requests)).astype(np.int64)
                        labels = {"case": len(rows), "set": "grid", "lengths": kind, "load": load}
                        case(labels, reference, arrival, prompt, response, timeout, limit)
            reference.core.shutdown()
        rng = np.random.default_rng([args.seed, 7])
        reference = None
        for number in range(args.random):
            if number % 10 == 0:
                if reference:
                    reference.core.shutdown()
                limits = scheduler.Limits(
                    int(rng.integers(256, 400)), int(rng.integers(1, 40)), int(rng.integers(16, 600))
                )
                # A batch has at least as many tokens as requests, or vLLM does not start.
                limits = scheduler.Limits(limits.blocks, min(limits.max_requests, limits.max_tokens), limits.max_tokens)
                reference = Reference(folder, model, times, limits, args.prefix_caching)
            size = int(rng.integers(2, 120))
            prompt, response = rng.integers(1, 900, size), rng.integers(1, 400, size)
            arrival = np.cumsum(rng.gamma(0.3, 10 ** rng.uniform(7, 10), size)).astype(np.int64)
            timeout = str(rng.choice(scheduler.TIMEOUTS))
            limit = int(rng.integers(1, 30_000)) * 1_000_000 if timeout != "none" else 0
            labels = {"case": len(rows), "set": "random", "lengths": "uniform", "load": ""}
            # A third of the cases refuse requests beyond a number of them, a third beyond a number of tokens.
            most = int(rng.integers(1, 60)) if number % 3 == 1 else None
            pending = int(rng.integers(100, 20_000)) if number % 3 == 2 else None
            case(labels, reference, arrival, prompt, response, timeout, limit, most, pending)
        if reference:
            reference.core.shutdown()

    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", newline="", encoding="utf-8") as stream:
        # Rejections stand in the record alone.
        columns = [name for name in rows[0] if not name.startswith("rejections")]
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    totals = {
        key: int(sum(row[key] for row in rows))
        for key in (
            "requests",
            "steps",
            "steps_different",
            "requests_different",
            "preemptions",
            "timeouts",
            "rejections",
        )
    }
    record = {
        "what": "the compiled v1 scheduler against vLLM's EngineCore in virtual time, same step-time model",
        "vllm": vllm.__version__,
        "settings": {
            "async_scheduling": False, "enable_prefix_caching": args.prefix_caching,
            "block_size": BLOCK_TOKENS,
            "seed": args.seed, "step_time": "analytic, llama-2-7b-chat on a6000, host modern",
        },
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__},
        "cases": len(rows),
        "totals": totals,
    }  # fmt: skip
    args.out.with_suffix(".json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    print(json.dumps(totals))
    print(f"vLLM: {totals['steps'] / real:.0f} steps/s, {virtual / real:.0f} virtual seconds per second")


if __name__ == "__main__":
    main()
