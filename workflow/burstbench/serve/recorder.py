"""The recorder: vLLM's scheduler, which writes down what happens to each request and in each step.

vLLM is told to use it (`--scheduler-cls burstbench.serve.recorder.Recorder`, or `AsyncRecorder` with asynchronous
scheduling) and imports it in the engine's process, where only vLLM's environment is installed. The scheduler is the one
place that sees true step times, exact preemptions, free blocks, and requests that were aborted or never scheduled; its
public methods alone are overridden. Of vLLM 0.32; the interface is not a stable one.

A step lasts from the call that schedules it, or from the end of the step before where that is later (with asynchronous
scheduling a step is scheduled while the one before runs), to the end of the update with its tokens.

The environment variable BURSTBENCH_RECORDER holds a JSON object: `folder` for the journal (see
`burstbench.serve.journal`), `run_id` of the request ids ``cmpl-<run_id>-<request>-...``, and `queue_timeout_s`:
requests that have waited so long without ever being scheduled are ended (null: never).
"""

import atexit
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus

from burstbench.serve import journal

VARIABLE = "BURSTBENCH_RECORDER"
_ENDINGS = {
    RequestStatus.FINISHED_STOPPED: journal.ENDINGS.index("stopped"),
    RequestStatus.FINISHED_LENGTH_CAPPED: journal.ENDINGS.index("length"),
    RequestStatus.FINISHED_ABORTED: journal.ENDINGS.index("aborted"),
}
_ERROR = journal.ENDINGS.index("error")
_QUEUE_TIMEOUT = journal.ENDINGS.index("queue_timeout")
# The driver is asked for the memory in use at most so often.
_MEMORY_EVERY_NS = 100_000_000


class _Recording(Scheduler):
    """What both schedulers add."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = json.loads(os.environ[VARIABLE])
        folder = Path(settings["folder"])
        self._prefix = f"cmpl-{settings['run_id']}-"
        self._queue_ns = round((settings["queue_timeout_s"] or 0) * 1e9)
        self._events = journal.Writer(folder / journal.EVENTS, journal.EVENT)
        self._steps = journal.Writer(folder / journal.STEPS, journal.STEP)
        self._live: dict[str, tuple[int, Request]] = {}  # by vLLM's id: number in the run, request
        self._unscheduled: dict[str, int] = {}  # by id, in the order of arrival: when it arrived [ns]
        self._tokenless: set[str] = set()  # ids that have no token yet
        self._begun: dict[int, tuple[int, ...]] = {}  # by id() of the scheduler's output: what the step will log
        self._last_end_ns = 0
        self._memory = (-_MEMORY_EVERY_NS, -1)
        # By exit() as well, where nobody calls `shutdown`.
        atexit.register(self._flush)
        (folder / journal.ENGINE).write_text(json.dumps(self._facts()))

    # vLLM's interface --------------------------------------------------------------------------------------------

    def add_request(self, request: Request) -> None:
        now = time.monotonic_ns()
        number = self._number(request.request_id)
        self._live[request.request_id] = (number, request)
        self._unscheduled[request.request_id] = now
        self._tokenless.add(request.request_id)
        self._events.add(journal.ADDED, number, now, request.num_prompt_tokens, request.max_tokens, 0)
        super().add_request(request)

    def schedule(self, *args: Any, **kwargs: Any) -> SchedulerOutput:
        start = time.monotonic_ns()
        output = super().schedule(*args, **kwargs)
        preempted = len(output.preempted_req_ids or ())
        if not output.total_num_scheduled_tokens and not preempted:
            return output  # nothing runs: vLLM also steps to tell workers who has finished
        decode = 0
        for name, tokens in output.num_scheduled_tokens.items():
            number, request = self._live[name]
            if self._unscheduled.pop(name, None) is not None:
                self._events.add(journal.SCHEDULED, number, start, 0, 0, 0)
            # `num_computed_tokens` counts this step's already. One token after the prompt decodes; more of them are
            # the answer so far, computed again after a preemption.
            if tokens == 1 and request.num_computed_tokens > request.num_prompt_tokens:
                decode += 1
        running, waiting = self.get_request_counts()
        self._begun[id(output)] = (
            start,
            output.total_num_scheduled_tokens - decode,
            decode,
            running,
            waiting,
            preempted,
            self.kv_cache_manager.block_pool.get_num_free_blocks(),
        )
        return output

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        end = time.monotonic_ns()
        begun = self._begun.pop(id(scheduler_output), None)
        if begun is not None:
            start = max(begun[0], self._last_end_ns)
            self._steps.add(start, end, *begun[1:], self._gpu_memory(end))
            self._last_end_ns = end
        for name in scheduler_output.num_scheduled_tokens:
            if name not in self._live:
                continue
            number, request = self._live[name]
            if name in self._tokenless and request.num_output_tokens:
                self._tokenless.discard(name)
                self._events.add(journal.FIRST_TOKEN, number, end, 0, 0, 0)
            if request.is_finished():
                self._ended(request, end, _ENDINGS.get(request.status, _ERROR))
        # Between two steps, so that the answers leave now and not with the step to come.
        for request in self._expire(end) if self._queue_ns else ():
            out = EngineCoreOutput(request_id=request.request_id, new_token_ids=[], finish_reason=FinishReason.ERROR)
            if request.client_index in outputs:
                outputs[request.client_index].outputs.append(out)
            else:
                outputs[request.client_index] = EngineCoreOutputs(outputs=[out])
        if not self._live:
            self._flush()
        return outputs

    def finish_requests(self, request_ids: str | Iterable[str] | None, finished_status: RequestStatus) -> list[Request]:
        ended = super().finish_requests(request_ids, finished_status)
        now = time.monotonic_ns()
        for request in ended:
            self._ended(request, now, _ENDINGS.get(finished_status, _ERROR))
        return ended

    def shutdown(self) -> None:
        self._flush()
        super().shutdown()

    # Ours ----------------------------------------------------------------------------------------------------------

    def _number(self, name: str) -> int:
        """The request's number in the run."""
        if name.startswith(self._prefix):
            return int(name[len(self._prefix) :].partition("-")[0])
        return journal.OTHER

    def _ended(self, request: Request, now: int, ending: int) -> None:
        number, _ = self._live.pop(request.request_id, (None, None))
        if number is None:
            return
        self._unscheduled.pop(request.request_id, None)
        self._tokenless.discard(request.request_id)
        self._events.add(journal.ENDED, number, now, ending, request.num_output_tokens, request.num_preemptions)

    def _expire(self, now: int) -> list[Request]:
        """End those who have waited too long for their first schedule; the caller answers them by an error."""
        late = []
        for name, arrived in self._unscheduled.items():
            if now - arrived < self._queue_ns:
                break
            late.append(name)
        requests = [self._live[name][1] for name in late]
        for request in requests:
            self._ended(request, now, _QUEUE_TIMEOUT)
        if late:
            self.finish_requests(late, RequestStatus.FINISHED_ABORTED)
        return requests

    def _gpu_memory(self, now: int) -> int:
        """Bytes in use on the GPU, by all its processes; -1 without one."""
        if now - self._memory[0] >= _MEMORY_EVERY_NS:
            used = -1
            if torch.cuda.is_available():
                free, total = torch.cuda.mem_get_info()
                used = total - free
            self._memory = (now, used)
        return self._memory[1]

    def _flush(self) -> None:
        self._events.flush()
        self._steps.flush()

    def _facts(self) -> dict[str, Any]:
        """What the engine itself knows of its set-up."""
        pool = self.kv_cache_manager.block_pool
        facts = {
            "scheduler": f"{type(self).__mro__[2].__module__}.{type(self).__mro__[2].__name__}",
            "blocks": pool.num_gpu_blocks,
            "free_blocks": pool.get_num_free_blocks(),
            "block_tokens": self.block_size,
            "max_num_seqs": self.max_num_running_reqs,
            "max_num_batched_tokens": self.max_num_scheduled_tokens,
            "max_model_len": self.max_model_len,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
        }
        if torch.cuda.is_available():
            properties = torch.cuda.get_device_properties(torch.cuda.current_device())
            facts |= {"device": properties.name, "device_memory_bytes": properties.total_memory}
        return facts


class Recorder(_Recording):
    """For `--no-async-scheduling`."""


class AsyncRecorder(_Recording, AsyncScheduler):
    """For `--async-scheduling`."""
