"""vLLM's continuous batching as a discrete-event simulation, compiled by Numba.

One loop serves both schedulers; they differ in `_schedule_v1` and `_schedule_v0`. Time is integer nanoseconds. The
engine looks at its queue only between steps, as vLLM does; when it has nothing to do it jumps to the next arrival.

Waiting requests are two queues: those preempted (a stack; the latest preempted is first, as vLLM puts it in front) and,
behind them, those never scheduled, which are a range [head, taken) of the queue of requests in order of arrival. A
request that is refused never enters that queue.

Most steps only repeat the one before: every running request decodes one more token and nothing else happens. Such a
stretch is foreseen (`_outlook`), its steps cost the same whatever the size of the batch, and what they did to each
request is written down once, at its end (`_settle`).
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from burstbench.errors import UserError
from burstbench.serve import steptime
from burstbench.serve.capacity import BLOCK_TOKENS
from burstbench.serve.compiled import compile_once
from burstbench.serve.steptime import StepTime

Ints = npt.NDArray[np.int64]

SCHEDULERS = ("v1", "v0")
TIMEOUTS = ("none", "queue", "total")
OUTCOMES = ("ok", "timeout", "rejected")
# Rows of the step log.
START, DURATION, PREFILL, DECODE, RUNNING, WAITING, PREEMPTED, USED = range(8)
# Columns of the timeline: time in steps, tokens, integrals over that time, counts, and the start, of each interval.
BUSY_NS, PREFILL_SUM, DECODE_SUM, RUNNING_NS, WAITING_NS, USED_NS, PREEMPTIONS, STEPS, SINCE = range(9)
# What a run adds up to: steps; end of the last one, ns; most tokens, requests and blocks in use of any, and the longest
# context of a decoding request.
STEP_COUNT, END, PEAK_TOKENS, PEAK_RUNNING, PEAK_USED, PEAK_CONTEXT = range(6)
# v0 replays CUDA graphs of these batch sizes; a batch between two of them is padded to the larger.
GRAPH_SIZES = (1, 2, 4, *range(8, 257, 8))
MAX_PADDINGS = 256
WATERMARK = 0.01

# What a request is doing.
_UNSEEN, _RUNS, _PREEMPTED, _ENDED = 0, 1, 2, 3
# Counters: requests running; blocks free; in the queue, first never scheduled, and number taken in; height of the stack
# of preempted requests; how many of these have not timed out; in the queue, first whose total time may still run out.
# Four are of prefix caching: whether it is on; free blocks that hold nothing; first and end of the leavings.
# The last two: requests of the plan that have arrived, refused ones among them; prompt tokens of those taken in that
# have no token yet.
_N, _FREE, _HEAD, _TAKEN, _HEIGHT, _STACKED, _EXPIRY, _CACHES, _EMPTY, _OLDEST, _NEWEST, _ARRIVED, _PENDING = range(13)
# Rows of the leavings: what free blocks still hold, in the order in which they will be taken.
_OWNER, _LEFT = 0, 1
# What a scheduling decision sums up. _PADDED: tokens the linear kernels run over; _BATCH: requests in the batch.
_TOKENS, _DECODES, _PADDED, _BATCH, _CONTEXT_SUM, _CONTEXT_MAX, _CHUNKS, _VICTIMS, _LONGEST = range(9)


@dataclass(frozen=True)
class Limits:
    """What bounds a batch.

    Attributes:
        blocks: KV-cache blocks that requests can use.
        max_requests: max_num_seqs.
        max_tokens: max_num_batched_tokens.
        max_inside: max_num_queued_reqs: a request that finds so many unfinished ones, running or waiting, is refused;
            None: no bound.
        max_pending_tokens: max_num_queued_tokens: one that finds requests without a first token whose prompts have so
            many tokens together is; None: no bound.
    """

    blocks: int
    max_requests: int
    max_tokens: int
    max_inside: int | None = None
    max_pending_tokens: int | None = None

    @classmethod
    def of_card(cls, scheduler: str, blocks: int, name: str, memory_gib: float, max_model_len: int) -> "Limits":
        """The defaults of vLLM's API server.

        v1: 8192 tokens and 1024 requests on a card of 70 GiB or more whose name has no "a100" (an A800 has none), else
        2048 and 256. v0: 256 requests and padded tokens up to the model's length, at least 2048.
        """
        if scheduler == "v0":
            return cls(blocks, 256, max(max_model_len, 2048))
        if memory_gib >= 70 and "a100" not in name.lower():
            return cls(blocks, 1024, 8192)
        return cls(blocks, 256, 2048)


@dataclass(frozen=True)
class Run:
    """What the simulated engine did.

    Attributes:
        first_scheduled_ns, first_token_ns, done_ns: [requests] from the start; -1 where it did not happen.
        response_tokens, preemptions: [requests].
        outcomes: [requests] index into `OUTCOMES`.
        steps: [steps, 8] the step log: start and duration in ns, prefill and decode tokens, requests running and
            waiting after scheduling, preemptions of the step, blocks in use after scheduling. Empty where a timeline
            was asked for.
        timeline: [intervals, 9] sums over each interval: time in steps (ns), prefill and decode tokens, integrals over
            the time in steps of requests running and waiting and of blocks in use (their unit times ns), preemptions,
            steps; and its start (ns). A step that goes over an edge counts by its share of time; its preemptions and
            itself where it starts. The last interval ends with the last step or later. Empty where the step log was
            asked for.
        totals: [6] steps, end of the last one (ns), the most tokens, running requests and blocks in use of a step, and
            the longest context of a decoding request.
    """

    first_scheduled_ns: Ints
    first_token_ns: Ints
    done_ns: Ints
    response_tokens: Ints
    preemptions: Ints
    outcomes: Ints
    steps: Ints
    timeline: npt.NDArray[np.float64]
    totals: Ints


class NeverFitsError(UserError):
    """A request can never be served within the limits."""


def simulate(
    scheduler: str,
    arrival_ns: Ints,
    prompt_tokens: Ints,
    response_tokens: Ints,
    limits: Limits,
    times: StepTime,
    timeout: str = "none",
    timeout_ns: int = 0,
    prefix_caching: bool = False,
    interval_ns: int = 0,
    cuts_ns: Ints | None = None,
) -> Run:
    """Run every request through the simulated engine.

    Args:
        scheduler: "v1" or "v0".
        arrival_ns: [requests] never decreasing.
        prompt_tokens: [requests] at least 1.
        response_tokens: [requests] at least 1; a response ends at exactly so many tokens.
        limits: of the batch.
        times: step times up to `limits.max_tokens` tokens and `limits.max_requests` requests.
        timeout: "queue": a request that waited longer than `timeout_ns` for its first schedule is given up; "total":
            one whose last token would come later than that after its arrival is; "none". Its end is noted at the
            deadline; blocks of a running one are free at the next scheduling.
        timeout_ns: the limit.
        prefix_caching: v1 alone: a preempted request finds again those of its blocks that nobody has taken since. No
            two requests share a prefix.
        interval_ns: 0: the result has the log of all steps. Above: sums over intervals of this length instead, whose
            memory does not grow with the number of steps.
        cuts_ns: [cuts] ascending: where intervals end, too.

    Raises:
        NeverFitsError: a request can never be scheduled; names the first.
        ValueError: the arguments do not belong together.
    """
    if scheduler not in SCHEDULERS or timeout not in TIMEOUTS:
        raise ValueError(f"no such scheduler or timeout: {scheduler!r}, {timeout!r}")
    if prefix_caching and scheduler != "v1":
        raise ValueError("prefix caching is v1's")
    arrival, prompt, response = (
        np.ascontiguousarray(values, dtype=np.int64) for values in (arrival_ns, prompt_tokens, response_tokens)
    )
    if arrival.size and (np.diff(arrival, prepend=0).min() < 0 or min(prompt.min(), response.min()) < 1):
        raise ValueError("arrivals must not decrease, and prompt and response have at least one token")
    if times.linear_s.size <= max(limits.max_tokens, limits.max_requests) or times.head_s.size <= limits.max_requests:
        raise ValueError("the step times do not reach the limits of the batch")
    for bound in (limits.max_inside, limits.max_pending_tokens):
        if bound is not None and bound < 0:
            raise ValueError(f"a bound on what waits is at least 0, not {bound}")
    _check_fits(scheduler, prompt, response, limits)
    graphs = np.array(GRAPH_SIZES, dtype=np.int64)
    padded = np.arange(limits.max_requests + 1)
    if scheduler == "v0":
        inside = padded <= graphs[-1]
        padded[inside] = graphs[np.searchsorted(graphs, padded[inside])]
        padded = np.minimum(padded, times.linear_s.size - 1)
    return Run(
        *_compiled()(
            scheduler == "v1",
            arrival,
            prompt,
            response,
            limits.blocks,
            limits.max_requests,
            limits.max_tokens,
            int(limits.blocks * WATERMARK) if scheduler == "v0" else 0,
            MAX_PADDINGS,
            padded.astype(np.int64),
            TIMEOUTS.index(timeout),
            timeout_ns,
            -1 if limits.max_inside is None else limits.max_inside,
            -1 if limits.max_pending_tokens is None else limits.max_pending_tokens,
            prefix_caching,
            interval_ns,
            np.zeros(0, np.int64) if cuts_ns is None else np.ascontiguousarray(cuts_ns, dtype=np.int64),
            times.linear_s,
            times.head_s,
            times.attention,
        )
    )


def _check_fits(scheduler: str, prompt: Ints, response: Ints, limits: Limits) -> None:
    """Refuse what would wait for ever. A request's last token is never stored, so it needs one token less."""
    reserve = max(int(limits.blocks * WATERMARK), 1) if scheduler == "v0" else 0
    needed = -(-(prompt + response - 1) // BLOCK_TOKENS) + reserve
    too_large = np.flatnonzero(needed > limits.blocks)
    if too_large.size:
        first = int(too_large[0])
        raise NeverFitsError(
            f"request {first}: {prompt[first]} prompt and {response[first]} response tokens need "
            f"{needed[first]} blocks of KV cache; the engine has {limits.blocks}"
        )
    too_long = np.flatnonzero(prompt + response - 1 > limits.max_tokens)
    if scheduler == "v0" and too_long.size:
        first = int(too_long[0])
        raise NeverFitsError(
            f"request {first}: {prompt[first]} prompt and {response[first]} response tokens exceed the "
            f"{limits.max_tokens} tokens of a step, and v0 computes a prompt in one step"
        )


_step_seconds = numba.njit(steptime.seconds)
_prefill_work = numba.njit(steptime.prefill_work)

# What follows is compiled ---------------------------------------------------------------------------------------------


@numba.njit
def _take(count: Ints, leavings: Ints, blocks: int) -> None:
    """Take free blocks: empty ones first, then the oldest leavings, the end of each request's prefix first."""
    count[_FREE] -= blocks
    if not count[_CACHES]:
        return
    empty = min(blocks, count[_EMPTY])
    count[_EMPTY] -= empty
    blocks -= empty
    while blocks > 0:
        oldest = count[_OLDEST]
        taken = min(blocks, leavings[_LEFT, oldest])
        leavings[_LEFT, oldest] -= taken
        blocks -= taken
        if leavings[_LEFT, oldest] == 0:
            count[_OLDEST] += 1


@numba.njit
def _leave(count: Ints, leavings: Ints, place: Ints, held: Ints, computed: Ints, request: int) -> None:
    """Free a request's blocks. With prefix caching the full ones keep what they hold until they are taken."""
    blocks = held[request]
    held[request] = 0
    count[_FREE] += blocks
    if not count[_CACHES]:
        return
    full = min(blocks, computed[request] // BLOCK_TOKENS)
    count[_EMPTY] += blocks - full
    if full == 0:
        return
    if count[_NEWEST] == leavings.shape[1]:
        # A leaving with something left has a block of the pool, so at least half of the places are free again.
        kept = 0
        for old in range(count[_OLDEST], count[_NEWEST]):
            if leavings[_LEFT, old] > 0:
                leavings[_OWNER, kept] = leavings[_OWNER, old]
                leavings[_LEFT, kept] = leavings[_LEFT, old]
                place[leavings[_OWNER, kept]] = kept
                kept += 1
        count[_OLDEST] = 0
        count[_NEWEST] = kept
    newest = count[_NEWEST]
    leavings[_OWNER, newest] = request
    leavings[_LEFT, newest] = full
    place[request] = newest
    count[_NEWEST] += 1


@numba.njit
def _preempt(
    count: Ints, run: Ints, stack: Ints, state: Ints, computed: Ints, held: Ints, prefilling: Ints, preemptions: Ints,
    leavings: Ints, place: Ints,
) -> int:  # fmt: skip
    """Take the last running request's blocks and put it in front of the waiting ones; it will be recomputed."""
    count[_N] -= 1
    victim = run[count[_N]]
    _leave(count, leavings, place, held, computed, victim)
    computed[victim] = 0
    prefilling[victim] = 1
    preemptions[victim] += 1
    state[victim] = _PREEMPTED
    stack[count[_HEIGHT]] = victim
    count[_HEIGHT] += 1
    count[_STACKED] += 1
    return victim


@numba.njit
def _front(count: Ints, queue: Ints, stack: Ints, state: Ints) -> int:
    """The first waiting request, or -1. Requests on the stack that have timed out are dropped on the way."""
    while count[_HEIGHT] > 0 and state[stack[count[_HEIGHT] - 1]] == _ENDED:
        count[_HEIGHT] -= 1
    if count[_HEIGHT] > 0:
        return stack[count[_HEIGHT] - 1]
    if count[_HEAD] < count[_TAKEN]:
        return queue[count[_HEAD]]
    return -1


@numba.njit
def _admit(now: int, count: Ints, run: Ints, state: Ints, first_scheduled: Ints, request: int) -> None:
    """Move the first waiting request to the end of the running ones."""
    if first_scheduled[request] < 0:
        first_scheduled[request] = now
    if state[request] == _PREEMPTED:
        count[_HEIGHT] -= 1
        count[_STACKED] -= 1
    else:
        count[_HEAD] += 1
    state[request] = _RUNS
    run[count[_N]] = request
    count[_N] += 1


@numba.njit
def _schedule_v1(
    now: int, max_requests: int, max_tokens: int, count: Ints, batch: Ints, run: Ints, queue: Ints, stack: Ints,
    state: Ints, computed: Ints, held: Ints, chunk: Ints, prefilling: Ints, preemptions: Ints, prompt: Ints,
    produced: Ints, first_scheduled: Ints, leavings: Ints, place: Ints,
) -> float:  # fmt: skip
    """Today: every running request first, then waiting ones, in one budget of tokens; prompts in chunks.

    Returns the prefill work and fills `batch` and `chunk`.
    """
    budget = max_tokens
    work = 0.0
    position = 0
    while position < count[_N] and budget > 0:
        request = run[position]
        position += 1
        context = computed[request]
        tokens = 1
        if prefilling[request]:
            tokens = min(prompt[request] + produced[request] - context, budget)
        needed = (context + tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS - held[request]
        itself = False
        while needed > count[_FREE] and not itself:
            victim = _preempt(count, run, stack, state, computed, held, prefilling, preemptions, leavings, place)
            batch[_VICTIMS] += 1
            itself = victim == request
        if itself:
            break
        if needed > 0:
            held[request] += needed
            _take(count, leavings, needed)
        chunk[request] = tokens
        budget -= tokens
        batch[_BATCH] += 1
        if prefilling[request]:
            batch[_CHUNKS] += 1
            batch[_TOKENS] += tokens
            work += _prefill_work(tokens, context)
        else:
            batch[_DECODES] += 1
            batch[_CONTEXT_SUM] += context + 1
            batch[_CONTEXT_MAX] = max(batch[_CONTEXT_MAX], context + 1)
    # None is admitted in a step that preempted.
    while batch[_VICTIMS] == 0 and budget > 0 and count[_N] < max_requests:
        request = _front(count, queue, stack, state)
        if request < 0:
            break
        whole = prompt[request] + produced[request]
        # The whole prompt must fit although only a chunk of it may be computed (and held) now.
        if (whole + BLOCK_TOKENS - 1) // BLOCK_TOKENS > count[_FREE]:
            break
        context = 0
        where = place[request]
        if where >= count[_OLDEST] and where < count[_NEWEST] and leavings[_OWNER, where] == request:
            # Its leavings are the start of its prefix, and never all of it: its last token was not computed.
            held[request] = leavings[_LEFT, where]
            leavings[_LEFT, where] = 0
            count[_FREE] -= held[request]
            context = held[request] * BLOCK_TOKENS
            computed[request] = context
        tokens = min(whole - context, budget)
        _admit(now, count, run, state, first_scheduled, request)
        more = (context + tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS - held[request]
        held[request] += more
        _take(count, leavings, more)
        chunk[request] = tokens
        budget -= tokens
        batch[_BATCH] += 1
        batch[_CHUNKS] += 1
        batch[_TOKENS] += tokens
        work += _prefill_work(tokens, context)
    batch[_PADDED] = batch[_TOKENS] + batch[_DECODES]
    return work


@numba.njit
def _schedule_v0(
    now: int, max_requests: int, max_tokens: int, watermark: int, max_paddings: int, padded: Ints, count: Ints,
    batch: Ints, run: Ints, queue: Ints, stack: Ints, state: Ints, computed: Ints, held: Ints, chunk: Ints,
    prefilling: Ints, preemptions: Ints, prompt: Ints, produced: Ints, first_scheduled: Ints, leavings: Ints,
    place: Ints,
) -> float:  # fmt: skip
    """Early 2024: whole prompts only, whenever one fits; else every running request decodes.

    Returns the prefill work and fills `batch` and `chunk`.
    """
    work = 0.0
    while count[_N] < max_requests:
        request = _front(count, queue, stack, state)
        if request < 0:
            break
        tokens = prompt[request] + produced[request]
        needed = (tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS
        if count[_FREE] - needed < watermark:
            break
        # The batch is a matrix: every prompt is padded to the longest.
        longest = max(batch[_LONGEST], tokens)
        area = (batch[_BATCH] + 1) * longest
        if area > max_tokens or area - batch[_TOKENS] - tokens > max_paddings:
            break
        _admit(now, count, run, state, first_scheduled, request)
        held[request] = needed
        count[_FREE] -= needed
        chunk[request] = tokens
        batch[_LONGEST] = longest
        batch[_PADDED] = area
        batch[_BATCH] += 1
        batch[_CHUNKS] += 1
        batch[_TOKENS] += tokens
        work += _prefill_work(tokens, 0)
    if batch[_BATCH] > 0:
        return work
    position = 0
    while position < count[_N]:
        request = run[position]
        position += 1
        itself = False
        # One block must be free even where the request still has room in its last one.
        while count[_FREE] < 1 and not itself:
            victim = _preempt(count, run, stack, state, computed, held, prefilling, preemptions, leavings, place)
            batch[_VICTIMS] += 1
            itself = victim == request
        if itself:
            break
        context = computed[request] + 1
        if context > held[request] * BLOCK_TOKENS:
            held[request] += 1
            count[_FREE] -= 1
        chunk[request] = 1
        batch[_DECODES] += 1
        batch[_CONTEXT_SUM] += context
        batch[_CONTEXT_MAX] = max(batch[_CONTEXT_MAX], context)
    batch[_BATCH] = batch[_DECODES]
    batch[_PADDED] = padded[batch[_DECODES]]
    return work


@numba.njit
def _give_up(
    now: int, timeout: int, limit: int, count: Ints, run: Ints, queue: Ints, state: Ints, held: Ints, arrival: Ints,
    done: Ints, outcomes: Ints, computed: Ints, chunk: Ints, prompt: Ints, first_token: Ints, leavings: Ints,
    place: Ints,
) -> None:  # fmt: skip
    """Give up every request whose time ran out by `now`. Deadlines are in the order of the queue.

    A queue wait may last the whole limit; a total time that has lasted it is over.
    """
    while timeout == 1 and count[_HEAD] < count[_TAKEN] and now - arrival[queue[count[_HEAD]]] > limit:
        request = queue[count[_HEAD]]
        count[_HEAD] += 1
        count[_PENDING] -= prompt[request]
        state[request] = _ENDED
        done[request] = arrival[request] + limit
        outcomes[request] = 1
    while timeout == 2 and count[_EXPIRY] < count[_TAKEN] and arrival[queue[count[_EXPIRY]]] + limit <= now:
        request = queue[count[_EXPIRY]]
        count[_EXPIRY] += 1
        if state[request] == _ENDED:
            continue
        if state[request] == _RUNS:
            position = 0
            while run[position] != request:
                position += 1
            count[_N] -= 1
            for later in range(position, count[_N]):
                run[later] = run[later + 1]
            # What the present step computes for it is in its blocks, too.
            computed[request] += chunk[request]
            _leave(count, leavings, place, held, computed, request)
        elif state[request] == _PREEMPTED:
            count[_STACKED] -= 1
        else:
            count[_HEAD] += 1
        if first_token[request] < 0:
            count[_PENDING] -= prompt[request]
        state[request] = _ENDED
        done[request] = arrival[request] + limit
        outcomes[request] = 1


@numba.njit
def _receive(
    until: int, max_inside: int, max_pending: int, timeout: int, limit: int, count: Ints, run: Ints, queue: Ints,
    state: Ints, held: Ints, arrival: Ints, done: Ints, outcomes: Ints, computed: Ints, chunk: Ints, prompt: Ints,
    first_token: Ints, leavings: Ints, place: Ints,
) -> None:  # fmt: skip
    """Take in, or refuse, what arrives by then, and give up what has run out of time by then.

    Where requests are bounded, each finds those that are unfinished when it arrives: one that ends with the present
    step still is.
    """
    bounded = max_inside >= 0 or max_pending >= 0
    while count[_ARRIVED] < arrival.size and arrival[count[_ARRIVED]] <= until:
        request = count[_ARRIVED]
        count[_ARRIVED] += 1
        if bounded:
            _give_up(
                arrival[request], timeout, limit, count, run, queue, state, held, arrival, done, outcomes, computed,
                chunk, prompt, first_token, leavings, place,
            )  # fmt: skip
            inside = count[_N] + count[_STACKED] + count[_TAKEN] - count[_HEAD]
            if (max_inside >= 0 and inside >= max_inside) or (max_pending >= 0 and count[_PENDING] >= max_pending):
                state[request] = _ENDED
                done[request] = arrival[request]
                outcomes[request] = 2
                continue
        queue[count[_TAKEN]] = request
        count[_TAKEN] += 1
        count[_PENDING] += prompt[request]
    _give_up(
        until, timeout, limit, count, run, queue, state, held, arrival, done, outcomes, computed, chunk, prompt,
        first_token, leavings, place,
    )  # fmt: skip


@numba.njit
def _outlook(
    waiting: int, same: bool, count: Ints, batch: Ints, run: Ints, response: Ints, computed: Ints, produced: Ints,
    held: Ints, prefilling: Ints, padded: Ints, phases: Ints,
) -> int:  # fmt: skip
    """Return in how many of the next steps, at most, every running request decodes and none ends; 0 if not foreseen.

    What waits must still be blocked: `same`, the last step was one of decoding alone after which all go on, so that
    fewer blocks are free than when the first in the queue did not fit. All that run fit into the budget of tokens, as
    none is admitted beyond it. The caller watches the clock and the free blocks. Fills `batch` as for the step before
    the first, and `phases`: [16] blocks that each of 16 steps takes; then they repeat.
    """
    running = count[_N]
    if running == 0 or (waiting > 0 and not same):
        return 0
    steps = response[run[0]] - produced[run[0]]
    for position in range(running):
        request = run[position]
        steps = min(steps, response[request] - produced[request])
        if steps < 3 or prefilling[request]:
            return 0
    phases[:] = 0
    batch[:] = 0
    for position in range(running):
        request = run[position]
        room = held[request] * BLOCK_TOKENS - computed[request]
        if room >= BLOCK_TOKENS:
            return 0
        phases[room] += 1
        batch[_CONTEXT_SUM] += computed[request]
        batch[_CONTEXT_MAX] = max(batch[_CONTEXT_MAX], computed[request])
    batch[_BATCH] = batch[_DECODES] = running
    batch[_PADDED] = padded[running]
    return steps - 1


@numba.njit
def _settle(ahead: int, count: Ints, run: Ints, computed: Ints, produced: Ints, held: Ints) -> None:
    """Write down what so many steps of a stretch did to each running request; their blocks are taken already."""
    for position in range(count[_N]):
        request = run[position]
        computed[request] += ahead
        produced[request] += ahead
        held[request] = max(held[request], (computed[request] + BLOCK_TOKENS - 1) // BLOCK_TOKENS)


@numba.njit
def _next_event(timeout: int, limit: int, count: Ints, queue: Ints, state: Ints, arrival: Ints) -> int:
    """Return when the next request arrives or runs out of time, whichever is first."""
    event = np.iinfo(np.int64).max
    if count[_ARRIVED] < arrival.size:
        event = arrival[count[_ARRIVED]]
    if timeout == 1 and count[_HEAD] < count[_TAKEN]:
        event = min(event, arrival[queue[count[_HEAD]]] + limit + 1)
    if timeout == 2:
        while count[_EXPIRY] < count[_TAKEN] and state[queue[count[_EXPIRY]]] == _ENDED:
            count[_EXPIRY] += 1
        if count[_EXPIRY] < count[_TAKEN]:
            event = min(event, arrival[queue[count[_EXPIRY]]] + limit)
    return event


def _simulate(
    is_v1: bool, arrival: Ints, prompt: Ints, response: Ints, blocks: int, max_requests: int, max_tokens: int,
    watermark: int, max_paddings: int, padded: Ints, timeout: int, limit: int, max_inside: int, max_pending: int,
    caches: bool, interval: int, cuts: Ints, linear_s: Any, head_s: Any, attention: Any,
) -> Any:  # fmt: skip
    """The event loop; see `simulate`."""
    requests = arrival.size
    first_scheduled = np.full(requests, -1, np.int64)
    first_token = np.full(requests, -1, np.int64)
    done = np.full(requests, -1, np.int64)
    produced = np.zeros(requests, np.int64)
    preemptions = np.zeros(requests, np.int64)
    outcomes = np.zeros(requests, np.int64)
    state = np.zeros(requests, np.int64)
    computed = np.zeros(requests, np.int64)
    held = np.zeros(requests, np.int64)
    chunk = np.zeros(requests, np.int64)
    prefilling = np.ones(requests, np.int64)
    run = np.zeros(max_requests + 1, np.int64)
    queue = np.zeros(requests, np.int64)
    stack = np.zeros(requests + 1, np.int64)
    count = np.zeros(13, np.int64)
    count[_FREE] = blocks
    count[_EMPTY] = blocks
    count[_CACHES] = caches
    leavings = np.zeros((2, 2 * blocks + 2 if caches else 0), np.int64)
    place = np.full(requests, -1, np.int64)
    batch = np.zeros(9, np.int64)
    log = np.empty((1024, 8), np.int64)
    timeline = np.zeros((1024 if interval > 0 else 0, 9))
    row, row_start, row_end, cut = -1, np.int64(0), np.int64(0), 0
    totals = np.zeros(6, np.int64)
    steps = 0
    now = np.int64(0)
    # Whether what happens within a step, not only between two, can change the batch.
    strict = timeout == 2 or max_inside >= 0 or max_pending >= 0
    # v0 decodes only while a block is free, whether it is needed or not.
    spare = 0 if is_v1 else 1
    # The present stretch: steps left, steps done, when something ends it early, blocks that each step takes.
    left, ahead, event = 0, 0, np.int64(0)
    phases = np.zeros(BLOCK_TOKENS, np.int64)
    work = 0.0
    while True:
        if event <= now or count[_FREE] - phases[ahead % BLOCK_TOKENS] < spare:
            left = 0
        if left == 0 and ahead > 0:
            _settle(ahead, count, run, computed, produced, held)
            ahead = 0
        if left > 0:
            batch[_CONTEXT_SUM] += batch[_DECODES]
            batch[_CONTEXT_MAX] += 1
            work = 0.0
        else:
            _receive(
                now, max_inside, max_pending, timeout, limit, count, run, queue, state, held, arrival, done, outcomes,
                computed, chunk, prompt, first_token, leavings, place,
            )  # fmt: skip
            if count[_N] == 0 and count[_STACKED] == 0 and count[_HEAD] == count[_TAKEN]:
                if count[_ARRIVED] == requests:
                    break
                now = arrival[count[_ARRIVED]]
                continue
            batch[:] = 0
            if is_v1:
                work = _schedule_v1(
                    now, max_requests, max_tokens, count, batch, run, queue, stack, state, computed, held, chunk,
                    prefilling, preemptions, prompt, produced, first_scheduled, leavings, place,
                )  # fmt: skip
            else:
                work = _schedule_v0(
                    now, max_requests, max_tokens, watermark, max_paddings, padded, count, batch, run, queue, stack,
                    state, computed, held, chunk, prefilling, preemptions, prompt, produced, first_scheduled, leavings,
                    place,
                )  # fmt: skip
            if batch[_BATCH] == 0:
                # v0 alone: the only running request preempted itself. It is admitted at once, without a step.
                continue
        time_s = _step_seconds(
            linear_s, head_s, attention, batch[_PADDED], batch[_BATCH], batch[_DECODES], batch[_CONTEXT_SUM],
            batch[_CONTEXT_MAX], batch[_CHUNKS], work,
        )  # fmt: skip
        duration = max(np.int64(1), np.int64(np.floor(time_s * 1e9 + 0.5)))
        if left > 0:
            if strict and event < now + duration:
                left = 0
                continue
            _take(count, leavings, phases[ahead % BLOCK_TOKENS])
        waiting = count[_TAKEN] - count[_HEAD] + count[_STACKED]
        totals[STEP_COUNT] += 1
        totals[END] = now + duration
        totals[PEAK_TOKENS] = max(totals[PEAK_TOKENS], batch[_TOKENS] + batch[_DECODES])
        totals[PEAK_RUNNING] = max(totals[PEAK_RUNNING], count[_N])
        totals[PEAK_USED] = max(totals[PEAK_USED], blocks - count[_FREE])
        totals[PEAK_CONTEXT] = max(totals[PEAK_CONTEXT], batch[_CONTEXT_MAX])
        if interval > 0:
            begun = False
            while row < 0 or row_end < now + duration or not begun:
                if row < 0 or row_end <= now or begun:
                    row += 1
                    if row == timeline.shape[0]:
                        grown = np.zeros((2 * row, 9))
                        grown[:row] = timeline
                        timeline = grown
                    row_start = row_end
                    row_end = (row_start // interval + 1) * interval
                    while cut < cuts.size and cuts[cut] <= row_start:
                        cut += 1
                    if cut < cuts.size:
                        row_end = min(row_end, cuts[cut])
                    timeline[row, SINCE] = row_start
                    if row_end <= now:
                        continue
                if not begun:
                    begun = True
                    timeline[row, PREEMPTIONS] += batch[_VICTIMS]
                    timeline[row, STEPS] += 1
                inside = min(now + duration, row_end) - max(now, row_start)
                timeline[row, BUSY_NS] += inside
                timeline[row, PREFILL_SUM] += batch[_TOKENS] * (inside / duration)
                timeline[row, DECODE_SUM] += batch[_DECODES] * (inside / duration)
                timeline[row, RUNNING_NS] += count[_N] * inside
                timeline[row, WAITING_NS] += waiting * inside
                timeline[row, USED_NS] += (blocks - count[_FREE]) * inside
        else:
            if steps == log.shape[0]:
                larger = np.empty((2 * steps, 8), np.int64)
                larger[:steps] = log
                log = larger
            log[steps, START] = now
            log[steps, DURATION] = duration
            log[steps, PREFILL] = batch[_TOKENS]
            log[steps, DECODE] = batch[_DECODES]
            log[steps, RUNNING] = count[_N]
            log[steps, WAITING] = waiting
            log[steps, PREEMPTED] = batch[_VICTIMS]
            log[steps, USED] = blocks - count[_FREE]
            steps += 1

        end = now + duration
        if left > 0:
            left -= 1
            ahead += 1
            now = end
            continue
        if strict:
            # A token that comes after its request's deadline is not delivered; what the step ends is not ended yet.
            _receive(
                end - 1, max_inside, max_pending, timeout, limit, count, run, queue, state, held, arrival, done,
                outcomes, computed, chunk, prompt, first_token, leavings, place,
            )  # fmt: skip
        kept = 0
        for position in range(count[_N]):
            request = run[position]
            tokens = chunk[request]
            chunk[request] = 0
            if tokens > 0:
                computed[request] += tokens
                if computed[request] == prompt[request] + produced[request]:
                    prefilling[request] = 0
                    produced[request] += 1
                    if first_token[request] < 0:
                        first_token[request] = end
                        count[_PENDING] -= prompt[request]
                    if produced[request] == response[request]:
                        done[request] = end
                        state[request] = _ENDED
                        _leave(count, leavings, place, held, computed, request)
                        continue
            run[kept] = request
            kept += 1
        count[_N] = kept
        now = end
        waiting = count[_TAKEN] - count[_HEAD] + count[_STACKED]
        same = not strict and kept == batch[_DECODES] and batch[_CHUNKS] == 0 and batch[_VICTIMS] == 0
        left = _outlook(
            waiting, same, count, batch, run, response, computed, produced, held, prefilling, padded, phases,
        )  # fmt: skip
        if left > 0:
            event = _next_event(timeout, limit, count, queue, state, arrival)
    return (
        first_scheduled, first_token, done, produced, preemptions, outcomes, log[:steps].copy(),
        timeline[: row + 1].copy(), totals,
    )  # fmt: skip


@functools.cache
def _compiled() -> Any:
    """The event loop, compiled at its first use or taken from the cache."""
    ints, floats, whole = numba.int64[::1], numba.float64[::1], numba.int64
    signature = (
        numba.boolean, ints, ints, ints, whole, whole, whole, whole, whole, ints, whole, whole, whole, whole,
        numba.boolean, whole, ints, floats, floats, floats,
    )  # fmt: skip
    return compile_once(_simulate, signature, (Path(__file__), Path(steptime.__file__)))
