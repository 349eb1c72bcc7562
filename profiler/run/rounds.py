"""Rounds over cases, a fresh process per visit, every visit kept.

Each round visits every unfinished case once, in random order, so that a drift of the machine spreads over all cases
instead of falling on the last ones. A case is finished when the interval over its visits is narrow enough.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from profiler.records.types import Case, Pass, Record
from profiler.run.display import Watcher
from profiler.run.lab import Lab, one_visit
from profiler.run.schedule import Progress


class Interrupt:
    """Ctrl-C once finishes the visit that runs and saves; twice stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print(
            "\nfinishing the visit that runs, then saving; Ctrl-C again stops now",
            file=sys.stderr,
            flush=True,
        )

    @contextmanager
    def watch(self) -> Iterator[Interrupt]:
        """Take over SIGINT for the duration of the context."""
        if threading.current_thread() is not threading.main_thread():  # which alone may handle a signal
            yield self
            return
        before = signal.signal(signal.SIGINT, self._handle)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, before)


class Keeper(Protocol):
    """Where records go: a journal, or whoever wants what came of visits alone."""

    def append(self, record: Record) -> int:
        """Keep a record; return where it is."""


@dataclass(frozen=True, slots=True)
class Measuring:
    """What measuring needs: where records go, what is known, who makes visits and who watches."""

    journal: Keeper
    progress: Progress
    lab: Lab
    shown: Watcher
    seed: int

    def visit(self, case: Case, number: int, measures: Pass = "latency") -> None:
        """Visit ``case`` once and keep the record."""
        self.shown.before(case, number, self.progress)
        record = one_visit(case, number, self.lab, measures)
        at = self.journal.append(record)
        self.progress.add(record, at)
        self.shown.after(record)


def measure_all(measuring: Measuring, passes: Sequence[Pass] = ()) -> bool:
    """Visit until every case is finished, then make the visits of ``passes``; return False when the user stopped it."""
    progress = measuring.progress
    with Interrupt().watch() as interrupt:
        for number in range(progress.budget.rounds):
            for case in progress.round_order(number, measuring.seed):
                if interrupt.asked:
                    return False
                measuring.visit(case, number)
        return _make_passes(measuring, passes, interrupt)


def measure_within(
    measuring: Measuring, seconds: float, passes: Sequence[Pass] = (), clock: Callable[[], float] = time.monotonic
) -> bool:
    """Visit every case once and make the visits of ``passes``, then spend what time is left; False when stopped.

    It is spent where it narrows intervals most, see ``Progress.worthwhile``, as long as another visit would end in
    time. A case that has failed is not visited again.

    Args:
        measuring: What it needs.
        seconds: Wall time of it all; the first visits are made whatever they take.
        passes: Further visits of each case that has a latency.
        clock: In seconds.
    """
    progress, begin = measuring.progress, clock()
    with Interrupt().watch() as interrupt:
        for case in progress.round_order(0, measuring.seed):
            if interrupt.asked:
                return False
            measuring.visit(case, 0)
        if not _make_passes(measuring, passes, interrupt):
            return False
        while worthwhile := progress.worthwhile(begin + seconds - clock(), measuring.seed):
            for case in worthwhile:
                if interrupt.asked:
                    return False
                if progress.cost(case) <= begin + seconds - clock():
                    measuring.visit(case, progress.made(case))
    return True


def _make_passes(measuring: Measuring, passes: Sequence[Pass], interrupt: Interrupt) -> bool:
    for case, measures in measuring.progress.missing(passes):
        if interrupt.asked:
            return False
        measuring.visit(case, 0, measures)
    return True
