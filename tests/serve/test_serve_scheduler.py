"""The compiled schedulers: scenarios worked out by hand, a reference in plain Python, and what must always hold."""

import numpy as np
import pytest
from serve_reference import Engine, Request

from burstbench.serve import scheduler, steptime
from burstbench.serve.scheduler import Limits, NeverFitsError
from burstbench.serve.steptime import StepTime

MS = 1_000_000


def per_token(max_tokens=4096):
    """A step takes 1 ms for each token its linear kernels run over, and nothing else."""
    return StepTime(np.arange(max_tokens + 1) * 1e-3, np.zeros(max_tokens + 1), np.array([0, 0, 0, 0, 0, 0, 1, 0, 0.0]))


def simulate(requests, blocks=1000, max_requests=256, max_tokens=2048, kind="v1", timeout="none", seconds=0.0):
    """Run requests given as (arrival in ms, prompt, response)."""
    arrival, prompt, response = np.array(requests).T
    return scheduler.simulate(
        kind,
        np.round(arrival * MS).astype(np.int64),
        prompt.astype(np.int64),
        response.astype(np.int64),
        Limits(blocks, max_requests, max_tokens),
        per_token(),
        timeout,
        round(seconds * 1000) * MS,
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
        run, scheduler.START, scheduler.PREFILL, scheduler.DECODE, scheduler.WAITING, scheduler.PREEMPTED, scheduler.USED
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
    # One at a time. The first keeps the engine for 50 ms; waiting is allowed for 20.
    requests = [(0, 10, 41), (2, 5, 1), (30, 5, 1), (31, 5, 1)]
    run = simulate(requests, max_requests=1, timeout="queue", seconds=0.020)
    assert [scheduler.OUTCOMES[code] for code in run.outcomes] == ["ok", "timeout", "ok", "ok"]
    assert in_ms(run.first_scheduled_ns) == [0, None, 50, None][:3] + [55]
    # The third waited for exactly 20 ms, the fourth for 24: too long.
    run = simulate([*requests[:3], (34.9, 5, 1), (35, 5, 1)], max_requests=1, timeout="queue", seconds=0.020)
    assert [scheduler.OUTCOMES[code] for code in run.outcomes] == ["ok", "timeout", "ok", "timeout", "ok"][:3] + ["ok"] * 2
