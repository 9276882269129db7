"""A slow scheduler in plain Python, written after vLLM's own lists and loops, to compare the compiled one with."""

import math
from collections import deque
from dataclasses import dataclass, field

BLOCK = 16
GRAPHS = [1, 2, 4] + [8 * k for k in range(1, 33)]


@dataclass
class Request:
    number: int
    arrival: int
    prompt: int
    response: int
    outputs: int = 0
    computed: int = 0
    blocks: list = field(default_factory=list)
    status: str = "waiting"
    decoding: bool = False
    first_scheduled: int = -1
    first_token: int = -1
    done: int = -1
    outcome: str = ""
    preemptions: int = 0

    @property
    def tokens(self):
        return self.prompt + self.outputs


class Engine:
    """One engine with named blocks. `duration_ns(tokens, requests, contexts, chunks)` is the step-time model."""

    def __init__(
        self,
        kind,
        blocks,
        max_requests,
        max_tokens,
        duration_ns,
        timeout,
        limit,
        caching=False,
        most=None,
        pending=None,
    ):
        self.most, self.pending = most, pending  # unfinished requests; prompt tokens of those without a token
        self.caching, self.content = caching, {}  # block: (request, which of its blocks)
        self.kind, self.max_requests, self.max_tokens = kind, max_requests, max_tokens
        self.total, self.free = blocks, list(range(blocks))
        self.duration_ns, self.timeout, self.limit = duration_ns, timeout, limit
        self.waiting, self.running, self.steps = deque(), [], []

    def grow(self, request, tokens):
        """Give the request blocks for so many tokens, or nothing at all."""
        missing = math.ceil(tokens / BLOCK) - len(request.blocks)
        if missing > len(self.free):
            return False
        taken = [self.free.pop(0) for _ in range(missing)]
        for block in taken:
            self.content.pop(block, None)
        request.blocks += taken
        return True

    def release(self, request, computing=0):
        """Full blocks go to the end of the queue, the last one first; what is in none comes first."""
        full = (request.computed + computing) // BLOCK if self.caching else 0
        for place, block in reversed(list(enumerate(request.blocks))):
            if place < full:
                self.content[block] = (request.number, place)
                self.free.append(block)
            else:
                self.free.insert(0, block)
        request.blocks = []

    def find(self, request):
        """Take back what a waiting request once computed, as far as its prefix is whole."""
        places = {content: block for block, content in self.content.items()}
        while (block := places.get((request.number, len(request.blocks)))) is not None:
            if BLOCK * (len(request.blocks) + 1) >= request.tokens:
                break
            self.free.remove(block)
            del self.content[block]
            request.blocks.append(block)
        request.computed = BLOCK * len(request.blocks)

    def preempt(self):
        victim = self.running.pop()
        self.release(victim)
        victim.computed, victim.decoding, victim.status = 0, False, "waiting"
        victim.preemptions += 1
        self.waiting.appendleft(victim)
        return victim

    def schedule_v1(self):
        budget, scheduled, preempted = self.max_tokens, [], 0
        position = 0
        while position < len(self.running) and budget:
            request = self.running[position]
            tokens = min(request.tokens - request.computed, budget)
            while not (placed := self.grow(request, request.computed + tokens)):
                preempted += 1
                if self.preempt() is request:
                    break
            if not placed:
                break
            scheduled.append((request, tokens))
            budget -= tokens
            position += 1
        while not preempted and self.waiting and budget and len(self.running) < self.max_requests:
            request = self.waiting[0]
            if math.ceil(request.tokens / BLOCK) > len(self.free):
                break
            self.find(request)
            tokens = min(request.tokens - request.computed, budget)
            assert self.grow(request, request.computed + tokens)
            self.running.append(self.waiting.popleft())
            request.status = "running"
            scheduled.append((request, tokens))
            budget -= tokens
        return scheduled, preempted, sum(tokens for _, tokens in scheduled)

    def schedule_v0(self):
        scheduled, lengths = [], []
        while self.waiting and len(self.running) < self.max_requests:
            request = self.waiting[0]
            if len(self.free) - math.ceil(request.tokens / BLOCK) < int(0.01 * self.total):
                break
            padded = (len(lengths) + 1) * max([*lengths, request.tokens])
            if padded > self.max_tokens or padded - sum(lengths) - request.tokens > 256:
                break
            lengths.append(request.tokens)
            assert self.grow(request, request.tokens)
            self.running.append(self.waiting.popleft())
            request.status = "running"
            scheduled.append((request, request.tokens))
        if scheduled:
            return scheduled, 0, len(lengths) * max(lengths)
        self.running.sort(key=lambda request: request.number)
        kept, preempted = [], 0
        while self.running:
            request = self.running.pop(0)
            while not self.free:
                preempted += 1
                if not self.running:
                    self.running.append(request)
                    self.preempt()
                    request = None
                    break
                self.preempt()
            if request is None:
                break
            assert self.grow(request, request.computed + 1)
            kept.append(request)
        self.running = kept
        count = len(kept)
        padded = next((size for size in GRAPHS if size >= count), count)
        return [(request, 1) for request in kept], preempted, padded

    def give_up(self, request, computing=0):
        request.status, request.outcome, request.done = "ended", "timeout", request.arrival + self.limit
        self.release(request, computing)
        if request in self.running:
            self.running.remove(request)
        else:
            self.waiting.remove(request)

    def late(self, request, now):
        """Whether its time has run out."""
        if self.timeout == "queue":
            return request.first_scheduled < 0 and now > request.arrival + self.limit
        return self.timeout == "total" and now >= request.arrival + self.limit

    def receive(self, request):
        """Let it in or refuse it, by what the API server knows to be unfinished: it aborts at the deadline."""
        inside = [other for other in [*self.waiting, *self.running] if not self.late(other, request.arrival)]
        prompts = sum(other.prompt for other in inside if other.first_token < 0)
        if (self.most is None or len(inside) < self.most) and (self.pending is None or prompts < self.pending):
            self.waiting.append(request)
        else:
            request.status, request.outcome, request.done = "ended", "rejected", request.arrival

    def run(self, requests):
        coming, now = deque(requests), 0
        while True:
            while coming and coming[0].arrival <= now:
                self.receive(coming.popleft())
            for request in [*self.waiting, *self.running]:
                if self.late(request, now):
                    self.give_up(request)
            if not self.waiting and not self.running:
                if not coming:
                    return
                now = coming[0].arrival
                continue
            scheduled, preempted, width = self.schedule_v1() if self.kind == "v1" else self.schedule_v0()
            if not scheduled:
                continue
            contexts = [request.computed + 1 for request, _ in scheduled if request.decoding]
            chunks = [(tokens, request.computed) for request, tokens in scheduled if not request.decoding]
            duration = self.duration_ns(width, len(scheduled), contexts, chunks)
            used = self.total - len(self.free)
            prefill = sum(tokens for tokens, _ in chunks)
            self.steps.append(
                (now, duration, prefill, len(contexts), len(self.running), len(self.waiting), preempted, used)
            )
            start, now = now, now + duration
            for request, _ in scheduled:
                if request.first_scheduled < 0:
                    request.first_scheduled = start
            while coming and coming[0].arrival < now:
                self.receive(coming.popleft())
            for request in [*self.waiting, *self.running]:
                if self.timeout == "total" and now > request.arrival + self.limit:
                    self.give_up(
                        request, dict((other.number, tokens) for other, tokens in scheduled).get(request.number, 0)
                    )
            for request, tokens in scheduled:
                if request.status == "ended":
                    continue
                request.computed += tokens
                if request.computed < request.tokens:
                    continue
                request.decoding = True
                request.outputs += 1
                if request.first_token < 0:
                    request.first_token = now
                if request.outputs == request.response:
                    request.done, request.outcome, request.status = now, "ok", "ended"
                    self.release(request)
                    self.running.remove(request)
