"""Clocks on which a fake session spends its time: one that moves only when told to, and the machine's own.

No other backend reads a clock: only the profiler measures. This one has to make real time pass exactly.
"""

from __future__ import annotations

import time
from typing import Protocol


class SpendableClock(Protocol):
    """Time that can be read and spent."""

    def __call__(self) -> int:
        """Return the time in nanoseconds."""

    def advance(self, ns: int) -> None:
        """Let ``ns`` nanoseconds pass."""

    def wait_until(self, ns: int) -> None:
        """Let time pass until the clock reads ``ns``, if it does not already."""


class FakeClock:
    """A clock that moves only when told to; starts at 0 ns."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        """Return the time in nanoseconds."""
        return self.now

    def advance(self, ns: int) -> None:
        """Let ``ns`` nanoseconds pass at once."""
        self.now += ns

    def wait_until(self, ns: int) -> None:
        """Let time pass at once until the clock reads ``ns``."""
        self.now = max(self.now, ns)


#: How near to a time sleeping comes before it spins, in ns: a sleep overshoots by less.
_SPIN_NS = 300_000


class WallClock:
    """Real time, spent by spinning: sleeping would overshoot by the scheduler's 50 microseconds or more.

    Each layer of calls between the end of a wait and the caller makes a run 0.1 µs longer than its script says, so that
    there are as few as possible.
    """

    __call__ = staticmethod(time.perf_counter_ns)

    def advance(self, ns: int) -> None:
        """Keep a core busy for ``ns`` nanoseconds."""
        self.wait_until(time.perf_counter_ns() + ns)

    @staticmethod
    def wait_until(ns: int) -> None:
        """Keep a core busy until the clock reads ``ns``."""
        now = time.perf_counter_ns
        while now() < ns:
            pass


class RestingClock(WallClock):
    """Real time, spent asleep until shortly before its end: who spins loses the core on a busy machine more often."""

    def advance(self, ns: int) -> None:
        """Let ``ns`` nanoseconds pass."""
        self.wait_until(time.perf_counter_ns() + ns)

    @staticmethod
    def wait_until(ns: int) -> None:
        """Sleep, and keep a core busy until the clock reads ``ns``."""
        left = ns - time.perf_counter_ns() - _SPIN_NS
        if left > 0:
            time.sleep(left / 1e9)
        WallClock.wait_until(ns)
