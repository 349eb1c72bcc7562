"""Which case is visited next."""

from __future__ import annotations

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from profiler.records.estimate import case_estimate
from profiler.records.types import Budget, Case, Measurement, Pass, Record


@dataclass
class Progress:
    """What is known of each case so far: the state that decides what is visited next."""

    cases: Sequence[Case]
    budget: Budget
    visits: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    passes: set[tuple[str, Pass]] = field(default_factory=set)
    _finished: set[str] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Count one visit; only those for latency count as rounds."""
        if record.measures == "latency":
            self.visits[record.case.key].append(record)
            # Decided once per visit: asking again for every case before every visit would keep a core busy.
            if self._enough(record.case):
                self._finished.add(record.case.key)
        else:
            self.passes.add((record.case.key, record.measures))

    def missing(self, passes: Sequence[Pass]) -> list[tuple[Case, Pass]]:
        """Return the visits for ``passes`` that are still to be made: one for each case that has a latency."""
        return [
            (case, measures)
            for measures in passes
            for case in self.cases
            if self.good(case)
            and (case.key, measures) not in self.passes
            and (case.mode == "train" or measures != "epoch")
        ]

    def good(self, case: Case) -> list[Measurement]:
        """Return the measurements of ``case``."""
        outcomes = [record.outcome for record in self.visits[case.key]]
        return [outcome for outcome in outcomes if isinstance(outcome, Measurement)]

    def finished(self, case: Case) -> bool:
        """Whether ``case`` needs no further visit."""
        return case.key in self._finished

    def _enough(self, case: Case) -> bool:
        """Whether the visits of ``case`` so far are enough.

        Its rounds are used up, its interval is within the precision asked for, or it has failed: a failure is
        repeated only where earlier visits of the same case succeeded.
        """
        done, good = self.visits[case.key], self.good(case)
        if len(done) >= self.budget.rounds:
            return True
        if done and not good:
            return True
        # A visit in which the GPU slowed itself down is kept and marked, and another one is tried in a later round.
        if sum(not measured.conditions.gpu_slowdown for measured in good) < self.budget.min_rounds:
            return False
        width = case_estimate(good, self.budget.min_rounds).relative_half_width
        return width is not None and width <= self.budget.precision

    def widest(self, seconds: float) -> Case | None:
        """Return the case whose interval is widest among those of which another visit ends within ``seconds``."""
        open_cases = [case for case in self.cases if self.good(case) and self._cost(case) <= seconds]
        return max(open_cases, key=self._width, default=None)

    def _cost(self, case: Case) -> float:
        """Return how long another visit takes, in seconds: as the latest; the first may have made an export."""
        return statistics.median(record.wall_s for record in self.visits[case.key][-3:])

    def _width(self, case: Case) -> tuple[float, int]:
        """Return the relative half width of a case's interval; infinite where there is none, fewest visits first."""
        good = self.good(case)
        width = case_estimate(good, self.budget.min_rounds).relative_half_width
        return math.inf if width is None else width, -len(good)

    def round_order(self, number: int, seed: int) -> list[Case]:
        """Return the unfinished cases that round ``number`` has not visited, in its random order."""
        order = list(self.cases)
        random.Random(f"{seed}:{number}").shuffle(order)  # noqa: S311 - an order, not a secret
        return [case for case in order if not self.finished(case) and len(self.visits[case.key]) <= number]
