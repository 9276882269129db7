"""An absolute timer of the monotonic clock for an event loop, good to some tens of microseconds.

The timers of uvloop (libuv) and of asyncio's selector loop are rounded to whole milliseconds. On Linux a timerfd,
watched by the loop like a socket, wakes it on time at no cost in between. Elsewhere the loop's own timer wakes it a
little early and the loop turns until the time has come.
"""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_EARLY_S = 0.002  # of the portable way: above the rounding of the loop's own timers


class _Times(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


class Timer:
    """Calls back on the loop, once, at or after an absolute time."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None], *, timerfd: bool = sys.platform == "linux"
    ) -> None:
        self.callback, self._loop = callback, loop
        self._handle: asyncio.Handle | None = None
        self._fd = -1
        if timerfd:
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd < 0:
                raise OSError(ctypes.get_errno(), "timerfd_create")
            self._times = _Times()
            self._pointer = ctypes.byref(self._times)
            loop.add_reader(self._fd, callback)

    def at(self, monotonic_ns: int) -> None:
        """Call back at this time of `time.monotonic_ns()`, at once if it is past; replaces an earlier setting.

        The callback must call `at` or `off`.
        """
        if self._fd >= 0:
            self._set(max(monotonic_ns, 1))
            return
        self.off()
        wait_s = (monotonic_ns - time.monotonic_ns()) / 1e9 - _EARLY_S
        if wait_s > 0:
            self._handle = self._loop.call_later(wait_s, self.at, monotonic_ns)
        elif monotonic_ns > time.monotonic_ns():
            self._handle = self._loop.call_soon(self.at, monotonic_ns)
        else:
            self._handle = self._loop.call_soon(self.callback)

    def off(self) -> None:
        """Do not call back."""
        if self._fd >= 0:
            self._set(0)
        elif self._handle:
            self._handle.cancel()

    def close(self) -> None:
        """Never call back again."""
        self.off()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _set(self, monotonic_ns: int) -> None:
        # Setting it also takes back an expiry that was signalled: the descriptor needs no reading. 0 means off.
        self._times.s, self._times.ns = divmod(monotonic_ns, 1_000_000_000)
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._pointer, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")
