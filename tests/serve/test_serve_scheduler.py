"""The compiled schedulers: scenarios worked out by hand, a reference in plain Python, and what must always hold."""

import itertools

import numpy as np
import pytest
from burstbench.serve import scheduler, steptime
from burstbench.serve.scheduler import Limits, NeverFitsError
from burstbench.serve.steptime import StepTime
from serve_reference import Engine, Request

MS = 1_000_000


def per_token(max_tokens=4096):
    """A step takes 1 ms for each token its linear kernels run over, and nothing else."""
    return StepTime(np.arange(max_tokens + 1) * 1e-3, np.zeros(max_tokens + 1), np.array([0, 0, 0, 0, 0, 0, 1, 0, 0.0]))


def simulate(requests, blocks=1000, max_requests=256, max_tokens=2048, kind="v1", timeout="none", seconds=0.0, **most):
    """Run requests given as (arrival in ms, prompt, response)."""
    arrival, prompt, response = np.array(requests).T
    return scheduler.simulate(
        kind,
        np.round(arrival * MS).astype(np.int64),
        prompt.astype(np.int64),
        response.astype(np.int64),
        Limits(blocks, max_requests, max_tokens, **most),
        per_token(),
        timeout,
        round(seconds * 1e9),
    )


def in_ms(values):
    return [value / MS if value >= 0 else None for value in values]


def log(run, *columns):
    """Columns of the step log, times in ms."""
    rows = run.steps[:, columns].astype(float)
    for place, column in enumerate(columns):
        if column in (scheduler.START, scheduler.DURATION):
            rows[:, place] /= MS
    return rows.tolist()


@pytest.mark.parametrize("kind", ["v1", "v0"])
def test_one_request_alone(kind):
    run = simulate([(5, 20, 3)], kind=kind)
    assert in_ms(run.first_scheduled_ns) == [5]
    assert in_ms(run.first_token_ns) == [25]
    assert in_ms(run.done_ns) == [27]
    assert log(run, scheduler.START, scheduler.PREFILL, scheduler.DECODE, scheduler.USED) == [
        [5, 20, 0, 2],
        [25, 0, 1, 2],
        [26, 0, 1, 2],
    ]


def test_one_token_of_response_needs_no_decoding():
    run = simulate([(0, 16, 1), (100, 1, 1)])
    assert in_ms(run.done_ns) == [16, 101]
    assert run.steps[:, scheduler.USED].tolist() == [1, 1]


def test_a_block_is_taken_when_the_token_before_filled_the_last_one():
    run = simulate([(0, 15, 4)])
    # 15 tokens, then contexts of 16, 17 and 18.
    assert run.steps[:, scheduler.USED].tolist() == [1, 1, 2, 2]


def test_a_prompt_is_cut_into_chunks_and_the_rest_of_the_budget_goes_to_the_next():
    run = simulate([(0, 20, 2), (0, 3, 2)], max_tokens=8)
    assert log(run, scheduler.PREFILL, scheduler.DECODE, scheduler.RUNNING, scheduler.WAITING, scheduler.USED) == [
        [8, 0, 1, 1, 1],
        [8, 0, 1, 1, 1],
        [7, 0, 2, 0, 3],
        [0, 2, 2, 0, 3],
    ]
    assert in_ms(run.first_scheduled_ns) == [0, 16]
    assert in_ms(run.first_token_ns) == [23, 23]
    assert in_ms(run.done_ns) == [25, 25]


def test_v1_mixes_a_prompt_with_decoding_and_v0_does_not():
    requests = [(0, 10, 5), (11, 4, 2)]
    mixed = simulate(requests)
    # 0-10 prompt; 10-11 decode; 11-16 decode and prompt of 4; 16-18 two decodes; then one.
    assert log(mixed, scheduler.START, scheduler.PREFILL, scheduler.DECODE) == [
        [0, 10, 0],
        [10, 0, 1],
        [11, 4, 1],
        [16, 0, 2],
        [18, 0, 1],
    ]
    apart = simulate(requests, kind="v0")
    assert log(apart, scheduler.START, scheduler.PREFILL, scheduler.DECODE) == [
        [0, 10, 0],
        [10, 0, 1],
        [11, 4, 0],
        [15, 0, 2],
        [17, 0, 1],
        [18, 0, 1],
    ]


def test_v1_admits_only_when_the_whole_prompt_fits_though_a_chunk_would():
    # 6 blocks; the first holds 4 of them (60 tokens) until it ends; the second needs 3, its first chunk only 1.
    run = simulate([(0, 60, 3), (0, 40, 1)], blocks=6, max_tokens=64)
    assert in_ms(run.first_scheduled_ns) == [0, 62]
    assert in_ms(run.done_ns) == [62, 102]


def test_v1_preempts_the_last_running_and_computes_it_again():
    # 31 and 32 tokens fill 4 blocks. Then the second needs a third block and there is none: it preempts itself. The
    # first takes one of the two freed at its context of 33; the second waits for three.
    run = simulate([(0, 31, 3), (0, 32, 2)], blocks=4)
    assert log(
        run,
        scheduler.START,
        scheduler.PREFILL,
        scheduler.DECODE,
        scheduler.WAITING,
        scheduler.PREEMPTED,
        scheduler.USED,
    ) == [[0, 63, 0, 0, 0, 4], [63, 0, 1, 1, 1, 2], [64, 0, 1, 1, 0, 3], [65, 33, 0, 0, 0, 3]]
    assert in_ms(run.done_ns) == [65, 98]
    assert in_ms(run.first_token_ns) == [63, 63]
    assert run.preemptions.tolist() == [0, 1]
    assert run.response_tokens.tolist() == [3, 2]


def test_v1_preempted_request_goes_before_those_that_wait():
    # As above, with a third request of one block that came in between: it stays behind the preempted one.
    run = simulate([(0, 31, 3), (0, 32, 2), (10, 5, 1)], blocks=4)
    assert run.preemptions.tolist() == [0, 1, 0]
    assert in_ms(run.first_scheduled_ns) == [0, 0, 65]
    assert in_ms(run.done_ns) == [65, 103, 103]


def test_v0_needs_a_free_block_to_append_even_where_none_is_taken():
    # Two requests of 17 tokens fill 4 blocks with room for more; still the second is preempted, twice.
    run = simulate([(0, 17, 3), (0, 17, 3)], blocks=4, kind="v0")
    assert log(run, scheduler.PREFILL, scheduler.DECODE, scheduler.PREEMPTED, scheduler.USED) == [
        [34, 0, 0, 4],
        [0, 1, 1, 2],
        [18, 0, 0, 4],
        [0, 1, 1, 2],
        [19, 0, 0, 2],
    ]
    assert run.preemptions.tolist() == [0, 2]
    assert simulate([(0, 17, 3), (0, 17, 3)], blocks=4).preemptions.tolist() == [0, 0]


def test_v0_pads_prompts_to_the_longest():
    both = simulate([(0, 100, 1), (0, 10, 1)], kind="v0", max_tokens=250)
    assert log(both, scheduler.DURATION, scheduler.PREFILL) == [[200, 110]]
    apart = simulate([(0, 100, 1), (0, 10, 1)], kind="v0", max_tokens=199)
    assert log(apart, scheduler.DURATION, scheduler.PREFILL) == [[100, 100], [10, 10]]
    # 256 padded tokens are allowed, 257 are not.
    assert len(simulate([(0, 300, 1), (0, 44, 1)], kind="v0", max_tokens=4096).steps) == 1
    assert len(simulate([(0, 300, 1), (0, 43, 1)], kind="v0", max_tokens=4096).steps) == 2


def test_v0_replays_graphs_of_certain_batch_sizes():
    run = simulate([(0, 1, 2)] * 3, kind="v0")
    assert log(run, scheduler.DURATION, scheduler.DECODE) == [[3, 0], [4, 3]]
    run = simulate([(0, 1, 2)] * 9, kind="v0")
    assert log(run, scheduler.DURATION, scheduler.DECODE) == [[9, 0], [16, 9]]


def test_v0_keeps_one_percent_of_the_blocks_free_at_admission():
    # 200 blocks, 2 of them reserve: 100 + 98 blocks fit, 100 + 99 do not.
    fits = simulate([(0, 1600, 2), (0, 98 * 16, 1)], blocks=200, kind="v0", max_tokens=3200)
    assert len(fits.steps) == 2
    waits = simulate([(0, 1600, 2), (0, 98 * 16 + 1, 1)], blocks=200, kind="v0", max_tokens=3200)
    assert len(waits.steps) == 3
    assert len(simulate([(0, 1600, 2), (0, 99 * 16, 1)], blocks=200, max_tokens=4096).steps) == 2


def test_queue_timeout_at_exact_times():
    # One at a time. The first keeps the engine for 50 ms; 20 ms of waiting are allowed. The third waits for exactly 20,
    # the fourth would wait for 24, the fifth for exactly 20.
    run = simulate(
        [(0, 10, 41), (2, 5, 1), (30, 5, 1), (31, 5, 1), (35, 5, 1)], max_requests=1, timeout="queue", seconds=0.020
    )
    assert [scheduler.OUTCOMES[code] for code in run.outcomes] == ["ok", "timeout", "ok", "timeout", "ok"]
    assert in_ms(run.first_scheduled_ns) == [0, None, 50, None, 55]
    assert in_ms(run.done_ns) == [50, 22, 55, 51, 60]
    assert run.response_tokens.tolist() == [41, 0, 1, 0, 1]
    # The second one counts as waiting until the step after its deadline.
    waiting = {start: count for start, count in log(run, scheduler.START, scheduler.WAITING)}
    assert [waiting[start] for start in (10, 22, 23, 30, 35)] == [1, 1, 0, 1, 3]


def test_queue_timeout_leaves_a_preempted_request_alone():
    run = simulate([(0, 31, 40), (0, 32, 40)], blocks=5, timeout="queue", seconds=0.001)
    assert run.preemptions.tolist() == [0, 1]
    assert run.outcomes.tolist() == [0, 0]


def test_total_timeout_at_exact_times():
    # Tokens come at 10, 11 ... ms. At 20.5 ms the eleventh has come; the step to 21 ms brings no twelfth. The second
    # request gets the engine at 21 ms.
    run = simulate([(0, 10, 100), (15, 5, 1)], max_requests=1, timeout="total", seconds=0.0205)
    assert [scheduler.OUTCOMES[code] for code in run.outcomes] == ["timeout", "ok"]
    assert in_ms(run.done_ns) == [20.5, 26]
    assert run.response_tokens.tolist() == [11, 1]
    assert in_ms(run.first_scheduled_ns) == [0, 21]
    # A last token at the deadline is in time.
    run = simulate([(0, 10, 11)], timeout="total", seconds=0.020)
    assert run.outcomes.tolist() == [0]
    assert in_ms(run.done_ns) == [20]


def test_total_timeout_reaches_requests_that_wait_and_frees_blocks_of_those_that_run():
    # The first holds 2 of 3 blocks until it is aborted at 30 ms, after 6 tokens. The second needs 2: it is scheduled at
    # 30, but its own deadline is 31. The third runs beside it and ends in time.
    run = simulate([(0, 25, 20), (1, 20, 5), (29, 5, 2)], blocks=3, timeout="total", seconds=0.030)
    assert [scheduler.OUTCOMES[code] for code in run.outcomes] == ["timeout", "timeout", "ok"]
    assert in_ms(run.first_scheduled_ns) == [0, 30, 30]
    assert in_ms(run.done_ns) == [30, 31, 56]
    assert run.response_tokens.tolist() == [6, 0, 2]
    # One that has waited all its time without a schedule.
    run = simulate([(0, 25, 20), (1, 20, 5)], max_requests=1, timeout="total", seconds=0.035)
    assert in_ms(run.first_scheduled_ns) == [0, 35]
    run = simulate([(0, 25, 20), (1, 20, 5)], max_requests=1, timeout="total", seconds=0.0345)
    assert in_ms(run.done_ns) == [34.5, 35.5]
    run = simulate([(0, 34, 1), (1, 20, 5)], max_requests=1, timeout="total", seconds=0.010)
    assert in_ms(run.first_scheduled_ns) == [0, None]
    assert in_ms(run.done_ns) == [10, 11]


@pytest.mark.parametrize("kind", ["v1", "v0"])
def test_requests_beyond_the_bound_are_refused_when_they_arrive(kind):
    # The first runs until 22 ms and the second waits: the one that comes at 21 finds two. The one that comes at 22,
    # when the first has ended, finds one; the next finds two again.
    requests = [(0, 20, 3), (5, 4, 1), (21, 4, 1), (22, 4, 1), (22, 4, 1)]
    run = simulate(requests, max_requests=1, kind=kind, max_inside=2)
    assert [scheduler.OUTCOMES[code] for code in run.outcomes] == ["ok", "ok", "rejected", "ok", "rejected"]
    assert in_ms(run.done_ns) == [22, 26, 21, 30, 22]
    assert in_ms(run.first_scheduled_ns) == [0, 22, None, 26, None]
    assert run.response_tokens.tolist() == [3, 1, 0, 1, 0]
    assert simulate(requests, kind=kind, max_inside=0).outcomes.tolist() == [2] * 5
    # What has run out of time no longer counts: the second is given up at 12 ms, before the third comes.
    run = simulate(requests[:3], max_requests=1, kind=kind, max_inside=2, timeout="queue", seconds=0.007)
    assert [scheduler.OUTCOMES[code] for code in run.outcomes] == ["ok", "timeout", "ok"]
    run = simulate(requests[:3], max_requests=1, kind=kind, max_inside=2, timeout="total", seconds=0.015)
    assert [scheduler.OUTCOMES[code] for code in run.outcomes] == ["timeout", "timeout", "ok"]
    assert in_ms(run.done_ns) == [15, 20, 25]


def test_requests_are_refused_while_too_many_prompt_tokens_have_no_answer():
    # Until 20 ms the first has no token, though most of its prompt is computed at 18: its 20 tokens are not fewer than
    # the bound of 20. At 21 ms it decodes, and counts no more; a prompt larger than the bound is let in.
    run = simulate([(0, 20, 5), (18, 1, 1), (21, 30, 1), (22, 1, 1)], max_tokens=6, max_pending_tokens=20)
    assert [scheduler.OUTCOMES[code] for code in run.outcomes] == ["ok", "rejected", "ok", "rejected"]
    with pytest.raises(ValueError, match="at least 0"):
        simulate([(0, 20, 5)], max_pending_tokens=-1)


def test_a_preempted_request_finds_its_blocks_again_with_prefix_caching():
    # As in the preemption above. Of the two blocks that the second gives back, the first request needs one.
    arrival, prompt, response = np.array([0, 0]), np.array([31, 32]), np.array([3, 2])
    run = scheduler.simulate("v1", arrival, prompt, response, Limits(5, 256, 2048), per_token(), prefix_caching=True)
    assert run.preemptions.tolist() == [0, 0]
    run = scheduler.simulate("v1", arrival, prompt, response, Limits(4, 256, 2048), per_token(), prefix_caching=True)
    assert run.preemptions.tolist() == [0, 1]
    # Its blocks were freed with the last one first, which the first request took for its 33rd token.
    assert log(run, scheduler.START, scheduler.PREFILL, scheduler.USED) == [
        [0, 63, 4],
        [63, 0, 2],
        [64, 0, 3],
        [65, 17, 3],
    ]
    with pytest.raises(ValueError, match="prefix caching"):
        scheduler.simulate("v0", arrival, prompt, response, Limits(4, 256, 2048), per_token(), prefix_caching=True)


def test_the_engine_sleeps_until_the_next_request():
    run = simulate([(0, 2, 1), (1000, 2, 1)])
    assert log(run, scheduler.START, scheduler.DURATION) == [[0, 2], [1000, 2]]


def test_no_requests():
    empty = np.array([], dtype=np.int64)
    run = scheduler.simulate("v1", empty, empty, empty, Limits(10, 1, 8), per_token())
    assert run.steps.shape == (0, 8)
    assert run.done_ns.size == 0


def test_what_can_never_be_served_is_refused():
    with pytest.raises(NeverFitsError, match=r"request 1: 60 prompt and 6 response tokens need 5 blocks .* has 4"):
        simulate([(0, 60, 5), (0, 60, 6)], blocks=4)
    with pytest.raises(NeverFitsError, match="exceed the 64 tokens of a step"):
        simulate([(0, 60, 6)], kind="v0", max_tokens=64)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="must not decrease"):
        simulate([(5, 1, 1), (4, 1, 1)])
    with pytest.raises(ValueError, match="at least one token"):
        simulate([(5, 0, 1)])
    with pytest.raises(ValueError, match="no such scheduler"):
        simulate([(5, 1, 1)], kind="v2")
    with pytest.raises(ValueError, match="do not reach"):
        simulate([(5, 1, 1)], max_tokens=5000)


def test_default_limits_depend_on_the_card():
    assert Limits.of_card("v1", 7, "NVIDIA A800-SXM4-80GB", 80, 4096) == Limits(7, 1024, 8192)
    assert Limits.of_card("v1", 7, "NVIDIA A100-SXM4-80GB", 80, 4096) == Limits(7, 256, 2048)
    assert Limits.of_card("v1", 7, "NVIDIA RTX A6000", 48, 4096) == Limits(7, 256, 2048)
    assert Limits.of_card("v0", 7, "NVIDIA A800-SXM4-80GB", 80, 4096) == Limits(7, 256, 4096)
    assert Limits.of_card("v0", 7, "NVIDIA A800-SXM4-80GB", 80, 1024) == Limits(7, 256, 2048)


# Against the reference ------------------------------------------------------------------------------------------------


def step_times(speed=1.0, largest=399):
    """Times with q = 1, so that no power is computed and the compiled and the plain loop agree to the nanosecond."""
    return StepTime(
        linear_s=(3e-3 + 1.7e-4 * np.arange(largest + 1)) / speed,
        head_s=2e-5 * np.arange(largest + 1) / speed,
        attention=np.array([1e-3, 1e-4, 2e-4, 3e-6, 5e-6, 7e-6, speed, 1.1e-4, 2e-8]) / speed,
    )


TIMES = step_times()


def duration_ns(tokens, requests, contexts, chunks):
    seconds = 3e-3 + 1.7e-4 * tokens + 2e-5 * requests + 1e-3 + 1e-4 * requests
    if contexts:
        seconds += 2e-4 + 3e-6 * sum(contexts) + 5e-6 * len(contexts) + 7e-6 * max(contexts)
    if chunks:
        seconds += 1.1e-4 + sum(2e-8 * (n * before + n * (n + 542) / 2) for n, before in chunks)
    return round(seconds * 1e9)


def random_case(rng, kind):
    count = int(rng.integers(1, 25))
    blocks = int(rng.integers(12, 40)) if rng.random() < 0.9 else int(rng.integers(100, 220))
    longest = 16 * (blocks - max(1, blocks // 100)) - 60
    prompt = np.minimum(rng.integers(1, 150, count), longest)
    response = rng.integers(1, 60, count)
    arrival = np.cumsum(rng.choice([0, 1, 30_000_000, 200_000_000], count) * rng.integers(0, 3, count))
    max_tokens = int(rng.integers(4, 120)) if kind == "v1" else int(rng.integers(max(prompt + response), 399))
    most = int(rng.integers(0, 12)) if rng.random() < 0.3 else None
    pending = int(rng.integers(1, 800)) if rng.random() < 0.2 else None
    limits = Limits(blocks, int(rng.integers(1, 12)), max_tokens, most, pending)
    timeout = rng.choice(["none", "queue", "total"])
    return arrival, prompt, response, limits, str(timeout), int(rng.integers(1, 2_000)) * MS


@pytest.mark.parametrize(("kind", "caching"), [("v1", False), ("v1", True), ("v0", False)])
def test_every_step_is_that_of_the_reference(kind, caching):
    entropy = np.random.SeedSequence().entropy
    rng = np.random.default_rng(entropy)
    seen = {"preemptions": 0, "timeouts": 0, "rejected": 0, "waited": 0}
    for number in range(400):
        arrival, prompt, response, limits, timeout, limit = random_case(rng, kind)
        case = f"seed {entropy}, case {number}"
        requests = [Request(i, *map(int, row)) for i, row in enumerate(zip(arrival, prompt, response, strict=True))]
        engine = Engine(
            kind, limits.blocks, limits.max_requests, limits.max_tokens, duration_ns, timeout, limit, caching,
            limits.max_inside, limits.max_pending_tokens,
        )  # fmt: skip
        engine.run(requests)
        run = scheduler.simulate(kind, arrival, prompt, response, limits, TIMES, timeout, limit, caching)
        wanted = np.array(engine.steps, dtype=np.int64).reshape(-1, 8)
        # Sums in another order may round to the neighbouring nanosecond; times are compared to 1 µs, decisions exactly.
        assert run.steps.shape == wanted.shape, case
        assert (run.steps[:, 2:] == wanted[:, 2:]).all(), case
        assert np.abs(run.steps[:, :2] - wanted[:, :2]).max(initial=0) < 1000, case
        for ours, theirs in (
            (run.first_scheduled_ns, "first_scheduled"), (run.first_token_ns, "first_token"), (run.done_ns, "done"),
        ):  # fmt: skip
            found = np.array([getattr(request, theirs) for request in requests])
            assert ((ours < 0) == (found < 0)).all(), case
            assert np.abs(ours - found).max() < 1000, case
        assert run.response_tokens.tolist() == [request.outputs for request in requests], case
        assert run.preemptions.tolist() == [request.preemptions for request in requests], case
        assert [scheduler.OUTCOMES[code] for code in run.outcomes] == [request.outcome for request in requests], case
        assert len(engine.free) == limits.blocks
        seen["preemptions"] += int(run.preemptions.sum())
        seen["timeouts"] += int((run.outcomes == 1).sum())
        seen["rejected"] += int((run.outcomes == 2).sum())
        seen["waited"] += int(run.steps[:, scheduler.WAITING].sum())
    assert min(seen.values()) > 100, f"the cases test too little: {seen}"


# What must always hold ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["v1", "v0"])
@pytest.mark.parametrize("timeout", ["none", "queue", "total"])
@pytest.mark.parametrize("most", [None, 40])
def test_laws(kind, timeout, most):
    entropy = np.random.SeedSequence().entropy
    print(f"seed {entropy}")
    rng = np.random.default_rng(entropy)
    for load in (0.05, 0.3, 1.0):
        count = 3000
        arrival = np.cumsum(rng.gamma(0.3, 1e9 / 0.3 / load / 20, count)).astype(np.int64)
        prompt, response = rng.integers(1, 250, count), rng.integers(1, 120, count)
        limits = Limits(150, 32, 399, most)
        run = scheduler.simulate(kind, arrival, prompt, response, limits, TIMES, timeout, 2_000 * MS)
        ok, late, refused = (run.outcomes == code for code in range(3))
        # Every request ends once: with all its tokens, at its deadline, or when it comes.
        assert (run.done_ns >= arrival).all()
        assert (run.response_tokens[ok] == response[ok]).all()
        assert (run.response_tokens[~ok] < response[~ok]).all()
        assert (run.done_ns[late] == arrival[late] + 2_000 * MS).all()
        assert (run.done_ns[refused] == arrival[refused]).all()
        assert (run.first_scheduled_ns[refused] < 0).all()
        assert not late.any() or timeout != "none"
        assert not refused.any() or most
        if most:
            # One is refused if and only if the server is full: in what has come before and is not done.
            inside = np.arange(count) - np.searchsorted(np.sort(run.done_ns[~refused]), arrival, side="right")
            inside -= np.cumsum(refused) - refused
            assert (inside[~refused] < most).all()
            assert (inside[refused] >= most).all()
            assert refused.any() or load < 1
        # In order: scheduled, first token, done.
        began = run.first_scheduled_ns >= 0
        assert (run.first_scheduled_ns[began] >= arrival[began]).all()
        assert (run.first_token_ns[ok] > run.first_scheduled_ns[ok]).all()
        assert (run.done_ns[ok] >= run.first_token_ns[ok]).all()
        # First come, first served.
        assert (np.diff(run.first_scheduled_ns[began]) >= 0).all()
        # The limits hold and blocks are never negative.
        start, duration, prefill, decode, running, waiting, preempted, used = run.steps.T
        assert (used >= 1).all()
        assert (used <= limits.blocks).all()
        assert (running <= limits.max_requests).all()
        assert (waiting >= 0).all()
        assert (prefill + decode >= 1).all()
        assert (prefill + decode <= limits.max_tokens).all()
        assert ((prefill == 0) | (decode == 0)).all() or kind == "v1"
        # One step after the other; the engine sleeps only until an arrival, with nothing left to do.
        end = start + duration
        idle = np.flatnonzero(start[1:] != end[:-1])
        assert (start[1:] >= end[:-1]).all()
        for step in idle:
            assert start[step + 1] in arrival
            assert (run.done_ns[arrival < start[step + 1]] <= start[step + 1]).all()
        # Work is conserved.
        assert preempted.sum() == run.preemptions.sum()
        if timeout == "none":
            again = run.preemptions.sum()
            assert prefill.sum() >= prompt[ok].sum()
            assert (response - 1)[ok].sum() - again <= decode.sum() <= (response - 1)[ok].sum()
            if not again:
                assert prefill.sum() == prompt[ok].sum()
        else:
            assert decode.sum() + prefill.sum() >= (prompt + response - 1)[ok].sum() - run.preemptions[ok].sum()


BLOCKS = [(Limits(blocks, 64, 399), 1.0) for blocks in (60, 120, 400)]
PLACES = [(Limits(400, most, 399), 1.0) for most in (2, 4, 32)]
SPEEDS = [(Limits(120, 64, 399), speed) for speed in (0.7, 1.0, 2.0)]
BUDGETS = [(Limits(400, 64, tokens), 1.0) for tokens in (200, 399, 2000)]


# A larger budget of tokens is no capacity of v0: its prompts are computed together, so the first one of a larger batch
# waits for the last (1 % more latency here).
@pytest.mark.parametrize(
    ("kind", "engines"),
    [*itertools.product(("v1", "v0"), (BLOCKS, PLACES, SPEEDS)), ("v1", BUDGETS)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_more_capacity_does_not_hurt_in_the_mean(kind, engines):
    rng = np.random.default_rng(20240303)
    latency = np.zeros(len(engines))
    for _ in range(20):
        arrival = np.cumsum(rng.exponential(1.2e8, 300)).astype(np.int64)
        prompt, response = rng.integers(1, 250, 300), rng.integers(1, 120, 300)
        for place, (limits, speed) in enumerate(engines):
            run = scheduler.simulate(kind, arrival, prompt, response, limits, step_times(speed, 2000))
            latency[place] += (run.done_ns - arrival).mean()
    assert (np.diff(latency) <= 0).all(), latency
    assert latency[0] > (1 if engines is BUDGETS else 1.2) * latency[-1]


@pytest.mark.parametrize("kind", ["v1", "v0"])
def test_a_timeline_sums_up_the_step_log(kind):
    rng = np.random.default_rng(5)
    arrival = np.cumsum(rng.gamma(0.3, 3e8, 400)).astype(np.int64)
    given = (kind, arrival, rng.integers(1, 250, 400), rng.integers(1, 120, 400), Limits(80, 16, 399), TIMES)
    whole, interval = scheduler.simulate(*given, "total", 9_000 * MS), 20 * MS
    cuts = np.array([3, 25, 300, 301]) * MS
    run = scheduler.simulate(*given, "total", 9_000 * MS, interval_ns=interval, cuts_ns=cuts)
    assert len(run.steps) == len(whole.timeline) == 0
    for name in ("first_scheduled_ns", "first_token_ns", "done_ns", "response_tokens", "preemptions", "outcomes"):
        assert (getattr(run, name) == getattr(whole, name)).all()
    start, duration, prefill, decode, running, waiting, preempted, used = whole.steps.T
    most = [int(of.max()) for of in (prefill + decode, running, used)]
    assert run.totals.tolist() == whole.totals.tolist() == [
        len(start), int((start + duration)[-1]), *most, run.totals[scheduler.PEAK_CONTEXT],
    ]  # fmt: skip
    prompt, produced = given[2], run.response_tokens
    # A request decodes last with all its tokens but the one that it then gives.
    assert run.totals[scheduler.PEAK_CONTEXT] == (prompt + produced - 1)[produced > 1].max()
    assert preempted.sum() > 0
    assert duration.max() > 2 * interval, "steps go over several edges"
    wanted = np.zeros_like(run.timeline)
    grid = np.arange((start + duration)[-1] // interval + 2) * interval
    for place, edges in zip(range(len(wanted)), itertools.pairwise(np.unique(np.append(grid, cuts))), strict=False):
        inside = np.clip(np.minimum(start + duration, edges[1]) - np.maximum(start, edges[0]), 0, None)
        share = inside / duration
        begins = (start >= edges[0]) & (start < edges[1])
        wanted[place] = [
            inside.sum(), prefill @ share, decode @ share, running @ inside, waiting @ inside, used @ inside,
            preempted[begins].sum(), begins.sum(), edges[0],
        ]  # fmt: skip
    assert run.timeline == pytest.approx(wanted, rel=1e-9, abs=1e-6)
    assert wanted[-1, scheduler.SINCE] < (start + duration)[-1] <= edges[1]


def test_the_compiled_step_time_is_the_plain_one():
    times = StepTime(TIMES.linear_s, TIMES.head_s, np.array([1e-3, 1e-4, 2e-4, 3e-6, 5e-6, 7e-6, 1.68, 1.1e-4, 2e-8]))
    run = scheduler.simulate("v1", np.array([0]), np.array([300]), np.array([50]), Limits(100, 4, 256), times)
    plain = [
        steptime.seconds(*(times.linear_s, times.head_s, times.attention), 256, 1, 0, 0, 0, 1, 256 * 798 / 2),
        steptime.seconds(*(times.linear_s, times.head_s, times.attention), 44, 1, 0, 0, 0, 1, 44 * 256 + 44 * 586 / 2),
        *(
            steptime.seconds(*(times.linear_s, times.head_s, times.attention), 1, 1, 1, context, context, 0, 0.0)
            for context in range(301, 350)
        ),
    ]
    assert run.steps[:, scheduler.DURATION] == pytest.approx(np.array(plain) * 1e9, abs=1.5)
