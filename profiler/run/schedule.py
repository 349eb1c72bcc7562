"""Which case is visited next."""

from __future__ import annotations

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from profiler.records.clocks import clock_moved, slowdowns
from profiler.records.estimate import case_estimate
from profiler.records.types import Budget, Case, Measurement, Pass, Record

#: Cases that take turns at least, where there are as many: two visits of one case in a row share what disturbs them.
_TOGETHER = 4


def _shuffled(cases: Sequence[Case], seed: str) -> list[Case]:
    order = list(cases)
    random.Random(seed).shuffle(order)  # noqa: S311 - an order, not a secret
    return order


def _made_s(record: Record) -> float:
    """Return how long a visit took for a form that the next one finds in the cache, in seconds."""
    found = record.outcome
    made = isinstance(found, Measurement) and found.facts.get("cached") is False
    return found.phases_s.get("load", 0.0) if made and isinstance(found, Measurement) else 0.0


@dataclass
class Progress:
    """What is known of each case so far: the state that decides what is visited next."""

    cases: Sequence[Case]
    budget: Budget
    visits: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    passes: set[tuple[str, Pass]] = field(default_factory=set)
    _finished: set[str] = field(default_factory=set)

    def part(self, cases: Sequence[Case]) -> Progress:
        """Return the progress of some of the cases; what is added to it is added to this one too."""
        return Progress(cases, self.budget, self.visits, self.passes, self._finished)

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
        if len(done) >= self.budget.rounds or (done and not good):
            return True
        if self.budget.precision is None:
            return False
        # Where the GPU's clock moved one more visit follows those that were enough.
        return self._narrow(good) and (clock_moved(good) is None or self._narrow(good[:-1]))

    def _narrow(self, good: Sequence[Measurement]) -> bool:
        """Whether visits are as many and as much alike as was asked for."""
        # A visit in which the GPU slowed itself down is kept and marked, and another one is tried in a later round.
        if not good or sum(not slowdowns(measured) for measured in good) < self.budget.min_rounds:
            return False
        width = case_estimate(good, self.budget.pilot).relative_half_width
        return width is not None and self.budget.precision is not None and width <= self.budget.precision

    def worthwhile(self, seconds: float, seed: int) -> list[Case]:
        """Return what to visit next, in random order: the half of the cases that a second of visits narrows most.

        Args:
            seconds: A case whose visit takes longer is left out.
            seed: Of the order.
        """
        open_cases = [case for case in self.cases if not self.finished(case) and self.cost(case) <= seconds]
        ranked = sorted(open_cases, key=self._gain, reverse=True)
        made = sum(map(len, self.visits.values()))
        return _shuffled(ranked[: max(len(ranked) // 2, _TOGETHER)], f"{seed}:time:{made}")

    def cost(self, case: Case) -> float:
        """Return how long another visit of ``case`` takes, in seconds: as the latest did, without exports they made."""
        return statistics.median(record.wall_s - _made_s(record) for record in self.visits[case.key][-3:])

    def _gain(self, case: Case) -> tuple[float, int]:
        """Return by how much of what is asked of it a case's interval narrows per second; fewest visits first.

        An interval narrows with the root of the number of visits. Before the fewest visits it is as good as none.
        """
        good = self.good(case)
        visits, width = len(good), case_estimate(good, self.budget.pilot).relative_half_width
        if width is None or visits < self.budget.min_rounds:
            return math.inf, -visits
        narrowing = width * (1 - math.sqrt(visits / (visits + 1)))
        return narrowing / (self.budget.precision or 1.0) / self.cost(case), -visits

    def round_order(self, number: int, seed: int) -> list[Case]:
        """Return the unfinished cases that round ``number`` has not visited, in its random order."""
        order = _shuffled(self.cases, f"{seed}:{number}")
        return [case for case in order if not self.finished(case) and len(self.visits[case.key]) <= number]
