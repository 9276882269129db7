"""The recorder on a scheduler that does what it is told: what it must write, request by request and step by step.

vLLM is not needed: stand-ins of the modules it imports are put in their places.
"""

import importlib
import json
import sys
import types
from dataclasses import dataclass, field
from enum import Enum

import pytest
from burstbench.serve import journal

STATUS = Enum("STATUS", ["RUNNING", "FINISHED_STOPPED", "FINISHED_LENGTH_CAPPED", "FINISHED_ABORTED", "FINISHED_ERROR"])


@dataclass
class Request:
    request_id: str
    num_prompt_tokens: int
    max_tokens: int = 64
    num_computed_tokens: int = 0
    num_output_tokens: int = 0
    num_preemptions: int = 0
    client_index: int = 0
    status: STATUS = STATUS.RUNNING

    def is_finished(self):
        return self.status is not STATUS.RUNNING


@dataclass
class Output:
    num_scheduled_tokens: dict
    preempted_req_ids: set = field(default_factory=set)

    @property
    def total_num_scheduled_tokens(self):
        return sum(self.num_scheduled_tokens.values())


@dataclass
class Outputs:
    outputs: list


class Scheduler:
    """Schedules what `plan` says, ends what `ends` says."""

    max_num_running_reqs, max_num_scheduled_tokens, max_model_len, block_size = 4, 100, 1000, 16

    def __init__(self):
        pool = types.SimpleNamespace(num_gpu_blocks=11, get_num_free_blocks=lambda: 7)
        self.kv_cache_manager = types.SimpleNamespace(block_pool=pool)
        self.requests, self.plan, self.preempt, self.ends = {}, {}, set(), {}

    def add_request(self, request):
        self.requests[request.request_id] = request

    def schedule(self, throttle=False):
        for name, tokens in self.plan.items():
            self.requests[name].num_computed_tokens += tokens
        for name in self.preempt:
            self.requests[name].num_preemptions += 1
        return Output(dict(self.plan), set(self.preempt))

    def update_from_output(self, output, sampled):
        for name in output.num_scheduled_tokens:
            request = self.requests[name]
            if request.num_computed_tokens >= request.num_prompt_tokens:
                request.num_output_tokens += 1
            if name in self.ends:
                request.status = self.ends[name]
                del self.requests[name]
        return {}

    def finish_requests(self, names, status):
        found = [self.requests.pop(name) for name in ([names] if isinstance(names, str) else names)]
        for request in found:
            request.status = status
        return found

    def get_request_counts(self):
        return len(self.plan), len(self.requests) - len(self.plan)

    def shutdown(self):
        pass


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Return a function that makes a recorder; its journal is in tmp_path."""

    def module(name, **values):
        new = types.ModuleType(name)
        vars(new).update(values)
        monkeypatch.setitem(sys.modules, name, new)

    cuda = types.SimpleNamespace(is_available=lambda: False)
    module("torch", cuda=cuda, __version__="0", version=types.SimpleNamespace(cuda=None))
    for name in ("vllm", "vllm.v1", "vllm.v1.core", "vllm.v1.core.sched"):
        module(name)
    module("vllm.v1.core.sched.scheduler", Scheduler=Scheduler)
    module("vllm.v1.core.sched.async_scheduler", AsyncScheduler=type("AsyncScheduler", (Scheduler,), {}))
    module("vllm.v1.core.sched.output", SchedulerOutput=Output)
    module("vllm.v1.outputs", ModelRunnerOutput=object)
    module("vllm.v1.request", Request=Request, RequestStatus=STATUS)
    module(
        "vllm.v1.engine",
        EngineCoreOutput=types.SimpleNamespace,
        EngineCoreOutputs=Outputs,
        FinishReason=types.SimpleNamespace(ERROR="error"),
    )
    monkeypatch.delitem(sys.modules, "burstbench.serve.recorder", raising=False)
    recorder = importlib.import_module("burstbench.serve.recorder")
    clock = types.SimpleNamespace(now=0)
    monkeypatch.setattr(recorder, "time", types.SimpleNamespace(monotonic_ns=lambda: clock.now))

    def of(kind="Recorder", queue_timeout_s=None):
        settings = {"folder": str(tmp_path), "run_id": "run", "queue_timeout_s": queue_timeout_s}
        monkeypatch.setenv(recorder.VARIABLE, json.dumps(settings))
        return getattr(recorder, kind)(), clock

    of.cuda = cuda
    yield of
    sys.modules.pop("burstbench.serve.recorder", None)


def name(number):
    return f"cmpl-run-{number}-0-abcdef12"


def step(engine, clock, start, end, plan, ends=(), preempt=()):
    engine.plan, engine.ends, engine.preempt = plan, dict(ends), set(preempt)
    clock.now = start
    output = engine.schedule()
    clock.now = end
    return engine.update_from_output(output, None)


def events(tmp_path):
    return [tuple(map(int, row)) for row in journal.read(tmp_path / journal.EVENTS, journal.EVENT)]


def steps(tmp_path):
    return [tuple(map(int, row)) for row in journal.read(tmp_path / journal.STEPS, journal.STEP)]


def test_a_request_from_its_arrival_to_its_end(make, tmp_path):
    engine, clock = make()
    clock.now = 100
    engine.add_request(Request(name(3), num_prompt_tokens=10))
    step(engine, clock, 200, 250, {name(3): 6})  # a part of the prompt
    step(engine, clock, 260, 300, {name(3): 4})  # the rest of it, and the first token
    step(engine, clock, 310, 320, {name(3): 1}, ends={name(3): STATUS.FINISHED_STOPPED})
    assert events(tmp_path) == [
        (journal.ADDED, 3, 100, 10, 64, 0),
        (journal.SCHEDULED, 3, 200, 0, 0, 0),
        (journal.FIRST_TOKEN, 3, 300, 0, 0, 0),
        (journal.ENDED, 3, 320, journal.ENDINGS.index("stopped"), 2, 0),
    ]
    # start, end, prefill, decode, running, waiting, preempted, free, GPU memory
    assert steps(tmp_path) == [
        (200, 250, 6, 0, 1, 0, 0, 7, -1),
        (260, 300, 4, 0, 1, 0, 0, 7, -1),
        (310, 320, 0, 1, 1, 0, 0, 7, -1),
    ]


def test_tokens_computed_again_after_a_preemption_are_prefill(make, tmp_path):
    engine, clock = make()
    for number in (0, 1):
        engine.add_request(Request(name(number), num_prompt_tokens=4))
    step(engine, clock, 10, 20, {name(0): 4, name(1): 4})
    step(engine, clock, 20, 30, {name(0): 1}, preempt={name(1)})
    engine.requests[name(1)].num_computed_tokens = 0
    step(engine, clock, 30, 40, {name(0): 1, name(1): 5})
    over = {name(0): STATUS.FINISHED_LENGTH_CAPPED, name(1): STATUS.FINISHED_STOPPED}
    step(engine, clock, 40, 50, {name(0): 1, name(1): 1}, ends=over)
    assert [row[2:4] for row in steps(tmp_path)] == [(8, 0), (0, 1), (5, 1), (0, 2)]
    assert [row[6] for row in steps(tmp_path)] == [0, 1, 0, 0]
    ended = [row[1:] for row in events(tmp_path) if row[0] == journal.ENDED]
    assert ended == [
        (0, 50, journal.ENDINGS.index("length"), 4, 0),
        (1, 50, journal.ENDINGS.index("stopped"), 3, 1),
    ]


def test_with_asynchronous_scheduling_a_step_lasts_from_update_to_update(make, tmp_path):
    engine, clock = make("AsyncRecorder")
    engine.add_request(Request(name(0), num_prompt_tokens=2))
    engine.plan = {name(0): 2}
    clock.now = 100
    first = engine.schedule()
    engine.plan = {name(0): 1}
    clock.now = 110  # scheduled while the first runs
    second = engine.schedule()
    clock.now = 150
    engine.update_from_output(first, None)
    clock.now = 180
    engine.ends = {name(0): STATUS.FINISHED_STOPPED}
    engine.update_from_output(second, None)
    assert [row[:2] for row in steps(tmp_path)] == [(100, 150), (150, 180)]


def test_aborted_and_unknown_requests_are_written_too(make, tmp_path):
    engine, clock = make()
    engine.add_request(Request(name(5), num_prompt_tokens=3))
    engine.add_request(Request("cmpl-other-0-0-00000000", num_prompt_tokens=8))
    clock.now = 40
    engine.finish_requests([name(5), "cmpl-other-0-0-00000000"], STATUS.FINISHED_ABORTED)
    engine.shutdown()
    aborted = journal.ENDINGS.index("aborted")
    assert [row[:4] for row in events(tmp_path) if row[0] == journal.ENDED] == [
        (journal.ENDED, 5, 40, aborted),
        (journal.ENDED, journal.OTHER, 40, aborted),
    ]


def test_who_waits_too_long_in_the_queue_is_ended_and_answered(make, tmp_path):
    engine, clock = make(queue_timeout_s=2.0)
    for number, arrives in ((0, 0), (1, 500_000_000), (2, 1_900_000_000)):
        clock.now = arrives
        engine.add_request(Request(name(number), num_prompt_tokens=4, client_index=0))
    step(engine, clock, 1_950_000_000, 1_990_000_000, {name(0): 4})  # 0 runs: its time in the queue is over
    answers = step(engine, clock, 2_500_000_000, 2_600_000_000, {name(0): 1})
    assert [(out.request_id, out.finish_reason) for out in answers[0].outputs] == [(name(1), "error")]
    assert sorted(engine.requests) == [name(0), name(2)]
    engine.shutdown()
    ended = [row for row in events(tmp_path) if row[0] == journal.ENDED]
    assert ended == [(journal.ENDED, 1, 2_600_000_000, journal.ENDINGS.index("queue_timeout"), 0, 0)]
    assert step(engine, clock, 2_600_000_000, 2_700_000_000, {name(0): 1}) == {}, "answered once"


def test_steps_without_work_are_no_steps(make, tmp_path):
    engine, clock = make()
    step(engine, clock, 10, 20, {})
    engine.shutdown()
    assert steps(tmp_path) == []


def test_the_engine_states_its_own_limits(make, tmp_path):
    make()
    facts = json.loads((tmp_path / journal.ENGINE).read_text())
    assert facts["blocks"] == 11
    assert facts["max_num_seqs"] == 4
    assert facts["scheduler"].endswith(".Scheduler")


def test_memory_of_the_gpu_is_asked_for_ten_times_a_second_at_most(make, tmp_path):
    free = iter([70, 60, 50])
    make.cuda.is_available = lambda: True
    make.cuda.mem_get_info = lambda: (next(free), 80)
    make.cuda.current_device = lambda: 0
    make.cuda.get_device_properties = lambda index: types.SimpleNamespace(name="NVIDIA A800", total_memory=80)
    engine, clock = make()
    engine.add_request(Request(name(0), num_prompt_tokens=1))
    for start in (0, 50_000_000, 110_000_000):
        step(engine, clock, start, start + 10, {name(0): 1})
    engine.shutdown()
    assert [row[8] for row in steps(tmp_path)] == [10, 10, 20]
    facts = json.loads((tmp_path / journal.ENGINE).read_text())
    assert (facts["device"], facts["device_memory_bytes"]) == ("NVIDIA A800", 80)
