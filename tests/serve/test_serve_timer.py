"""The absolute timer: never early, in both of its ways. How late is measured by tests/benchmarks/compare_clients.py."""

import asyncio
import time

import pytest
import uvloop
from burstbench.serve.timer import Timer


@pytest.mark.parametrize("timerfd", [True, False])
@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_each_time_once_in_order_and_never_early(timerfd, new_loop):
    loop = new_loop()
    start = time.monotonic_ns()
    wanted = [start - 1_000_000, start, start + 3_000_000, start + 3_100_000, start + 41_000_000]
    called = []

    def callback():
        called.append(time.monotonic_ns())
        if len(called) < len(wanted):
            timer.at(wanted[len(called)])
        else:
            timer.off()
            loop.call_later(0.03, loop.stop)

    timer = Timer(loop, callback, timerfd=timerfd)
    timer.at(wanted[0])
    loop.run_forever()
    timer.close()
    loop.close()
    assert len(called) == len(wanted)
    assert all(at >= time_ for at, time_ in zip(called, wanted, strict=True))


@pytest.mark.parametrize("timerfd", [True, False])
def test_a_later_setting_replaces_an_earlier(timerfd):
    loop = uvloop.new_event_loop()
    called = []
    timer = Timer(loop, lambda: (called.append(time.monotonic_ns()), timer.off()), timerfd=timerfd)
    now = time.monotonic_ns()
    timer.at(now + 5_000_000)
    timer.at(now + 30_000_000)
    loop.call_later(0.06, loop.stop)
    loop.run_forever()
    timer.at(time.monotonic_ns() + 1_000_000)
    timer.off()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    timer.close()
    loop.close()
    assert len(called) == 1
    assert called[0] >= now + 30_000_000
