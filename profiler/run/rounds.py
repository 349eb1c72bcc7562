"""Rounds over cases, a fresh process per visit, every visit kept.

Each round visits every unfinished case once, in random order, so that a drift of the machine spreads over all cases
instead of falling on the last ones. A case is finished when the interval over its visits is narrow enough.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from profiler.records.journal import Journal
from profiler.records.types import Pass, Record
from profiler.run.display import Display
from profiler.run.lab import Lab, one_visit
from profiler.run.schedule import Progress


class _Interrupt:
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
    def watch(self) -> Iterator[_Interrupt]:
        """Take over SIGINT for the duration of the context."""
        before = signal.signal(signal.SIGINT, self._handle)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, before)


def measure_all(
    journal: Journal, progress: Progress, seed: int, lab: Lab, shown: Display, passes: Sequence[Pass] = ()
) -> bool:
    """Visit until every case is finished, then make the visits of ``passes``; return False when the user stopped it."""

    def note(record: Record) -> None:
        journal.append(record)
        progress.add(record)
        shown.after(record)

    with _Interrupt().watch() as interrupt:
        for number in range(progress.budget.rounds):
            for case in progress.round_order(number, seed):
                if interrupt.asked:
                    return False
                shown.before(case, number, progress)
                note(one_visit(case, number, lab))
        for case, measures in progress.missing(passes):
            if interrupt.asked:
                return False
            shown.before(case, 0, progress)
            note(one_visit(case, 0, lab, measures))
    return True
