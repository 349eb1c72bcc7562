"""What is visited next where several visits are under way: the order of ``profiler.run.rounds``, one turn at a time."""

from __future__ import annotations

import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from profiler.records.types import Case, Pass, Record
from profiler.run.schedule import Progress


class Turn(NamedTuple):
    """One visit to be made."""

    case: Case
    number: int
    measures: Pass


class Turns:
    """Hands out the visits of some cases, each case to one worker at a time.

    A case that was visited less goes first; among equals the order is random, and another one in each round. Then come
    the visits of ``passes``, and with ``seconds`` what ``Progress.worthwhile`` says until the time is over.

    Args:
        progress: Of these cases; it hears of records before ``done`` does.
        passes: Further visits of each case that has a latency.
        seed: Of the order.
        seconds: Wall time of it all; None for as many rounds as it takes.
        clock: In seconds.
    """

    def __init__(
        self,
        progress: Progress,
        passes: Sequence[Pass],
        seed: int,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress, self._passes, self._seed = progress, passes, seed
        self._clock, self._end = clock, None if seconds is None else clock() + seconds
        self._cases = {case.key: case for case in progress.cases}
        self._rounds: list[tuple[int, float, str]] = []
        self._later: deque[Turn] | None = None
        self._again: deque[Turn] = deque()
        self._out: dict[str, Turn] = {}
        for case in progress.cases:
            self._enter(case)

    @property
    def out(self) -> int:
        """How many turns are under way."""
        return len(self._out)

    def take(self) -> Turn | None:
        """Return the next turn; None where there is none, or none before one that is under way ends."""
        turn = self._next()
        if turn is not None:
            self._out[turn.case.key] = turn
        return turn

    def done(self, record: Record) -> None:
        """Hear that a turn has brought a record."""
        del self._out[record.case.key]
        if record.measures == "latency" and not self._progress.finished(record.case):
            self._enter(record.case)

    def lost(self, turn: Turn) -> None:
        """Hear that a turn has brought nothing: it is handed out again, before others."""
        del self._out[turn.case.key]
        self._again.append(turn)

    def _enter(self, case: Case) -> None:
        made = self._progress.made(case)
        if self._end is None or not made:
            order = random.Random(f"{self._seed}:{made}:{case.key}").random()  # noqa: S311 - an order, not a secret
            heapq.heappush(self._rounds, (made, order, case.key))

    def _next(self) -> Turn | None:
        while self._again:
            if self._fits(turn := self._again.popleft()):
                return turn
        while self._rounds:
            made, _, key = heapq.heappop(self._rounds)
            if not self._progress.finished(self._cases[key]):
                return Turn(self._cases[key], made, "latency")
        if self._later is None:
            if self._out:  # its latency may be the first of its case
                return None
            missing = self._progress.missing(self._passes)
            self._later = deque(Turn(case, 0, measures) for case, measures in missing)
        while self._later:
            turn = self._later.popleft()
            if not self._fits(turn):
                continue
            if turn.case.key not in self._out:
                return turn
            self._later.append(turn)
            if all(each.case.key in self._out for each in self._later):
                return None
        return self._worthwhile()

    def _fits(self, turn: Turn) -> bool:
        """Whether a visit is made whatever it takes, or would end in time."""
        first = turn.measures != "latency" or not self._progress.made(turn.case)
        return first or self._end is None or self._progress.cost(turn.case) <= self._end - self._clock()

    def _worthwhile(self) -> Turn | None:
        """Fill what comes later anew where there is time, and take from it."""
        if self._end is None:
            return None
        left = self._end - self._clock()
        cases = [case for case in self._progress.worthwhile(left, self._seed) if case.key not in self._out]
        turns = [Turn(case, self._progress.made(case), "latency") for case in cases]
        self._later = deque(turns[1:])
        return turns[0] if turns else None
