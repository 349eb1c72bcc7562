"""Which case is visited next."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from profiler.records.clocks import clock_moved, slowdowns
from profiler.records.estimate import relative_half_width, spread_of
from profiler.records.spread import Pool, Spread, looked_at, pool_of, shared
from profiler.records.types import Budget, Case, Measurement, Pass, Record

#: Cases that take turns at least, where there are as many: two visits of one case in a row share what disturbs them.
_TOGETHER = 4
#: Visits of a case whose median is what another one costs.
_LATEST = 3


def _shuffled(cases: Sequence[Case], seed: str) -> list[Case]:
    order = list(cases)
    random.Random(seed).shuffle(order)  # noqa: S311 - an order, not a secret
    return order


def _made_s(record: Record) -> float:
    """Return how long a visit took for a form that the next one finds in the cache, in seconds."""
    found = record.outcome
    made = isinstance(found, Measurement) and found.facts.get("cached") is False
    return found.phases_s.get("load", 0.0) if made and isinstance(found, Measurement) else 0.0


@dataclass(slots=True)
class _Seen:
    """What is kept of the visits of a case for latency.

    Attributes:
        made: How many there are.
        good: Their measurements, or where these are.
        costs: How long the latest took, in seconds.
        spread: Of ``spread_of`` visits.
        width: As in ``CaseEstimate.relative_half_width``, for ``width_of``: so many visits, and what others tell.
    """

    made: int = 0
    good: list[Measurement | int] = field(default_factory=list)
    costs: tuple[float, ...] = ()
    spread: Spread | None = None
    spread_of: int = 0
    width: float | None = None
    width_of: tuple[int, Spread | None] = (0, None)


@dataclass
class Progress:
    """What is known of each case so far: the state that decides what is visited next.

    Attributes:
        cases: To be measured.
        budget: Of the run.
        again: Reads visits by where they are, so that nothing of them is kept in memory; None keeps measurements.
        passes: Visits that were made for something else than latency, by the key of their case.
        done: How many cases of each label are known to be finished.
        visits: How many visits for latency those of each label have had.
    """

    cases: Sequence[Case]
    budget: Budget
    again: Callable[[Sequence[int]], Iterable[Record]] | None = None
    passes: set[tuple[str, Pass]] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)
    visits: Counter[str] = field(default_factory=Counter)
    _seen: dict[str, _Seen] = field(default_factory=lambda: defaultdict(_Seen))
    _finished: set[str] = field(default_factory=set)
    _undecided: set[str] = field(default_factory=set)
    _spreads: dict[Pool, Spread | None] = field(default_factory=dict)
    #: From so many visits on they are looked at again.
    _due: int = 0

    def part(self, cases: Sequence[Case]) -> Progress:
        """Return the progress of some of the cases; what is added to it is added to this one too."""
        shared = (self.passes, self.done, self.visits, self._seen, self._finished, self._undecided)
        return Progress(cases, self.budget, self.again, *shared)

    def add(self, record: Record, at: int | None = None) -> None:
        """Count one visit; only those for latency count as rounds.

        Args:
            record: Of the visit.
            at: Where ``again`` finds it.
        """
        key = record.case.key
        if record.measures != "latency":
            self.passes.add((key, record.measures))
            return
        seen = self._seen[key]
        seen.made += 1
        self.visits[record.case.fleet_label] += 1
        seen.costs = (*seen.costs[1 - _LATEST :], record.wall_s - _made_s(record))
        if isinstance(record.outcome, Measurement):
            seen.good.append(record.outcome if self.again is None or at is None else at)
        if key not in self._finished:
            self._undecided.add(key)

    def missing(self, passes: Sequence[Pass]) -> list[tuple[Case, Pass]]:
        """Return the visits for ``passes`` that are still to be made: one for each case that has a latency."""
        return [
            (case, measures)
            for measures in passes
            for case in self.cases
            if self.measured(case)
            and (case.key, measures) not in self.passes
            and (case.mode == "train" or measures != "epoch")
        ]

    def made(self, case: Case) -> int:
        """Return how many visits for latency ``case`` has had."""
        key = case.key
        return self._seen[key].made if key in self._seen else 0

    @property
    def total(self) -> int:
        """How many visits for latency all cases have had."""
        return self.visits.total()

    def measured(self, case: Case) -> bool:
        """Whether ``case`` has a latency."""
        key = case.key
        return key in self._seen and bool(self._seen[key].good)

    def good(self, case: Case) -> list[Measurement]:
        """Return the measurements of ``case``."""
        kept = self._seen[case.key].good if self.measured(case) else []
        found = {n: kept_one for n, kept_one in enumerate(kept) if isinstance(kept_one, Measurement)}
        places = {n: at for n, at in enumerate(kept) if isinstance(at, int)}
        if self.again is not None and places:
            read = zip(places, self.again(list(places.values())), strict=True)
            found |= {n: record.outcome for n, record in read if isinstance(record.outcome, Measurement)}
        return [found[n] for n in sorted(found)]

    def finished(self, case: Case) -> bool:
        """Whether ``case`` needs no further visit."""
        key = case.key
        # Decided once per visit, and not before anybody asks: a run that goes on need not estimate all that it has.
        if key in self._undecided:
            self._undecided.discard(key)
            if self._enough(case):
                self._finished.add(key)
                self.done[case.fleet_label] += 1
        return key in self._finished

    def _enough(self, case: Case) -> bool:
        """Whether the visits of ``case`` so far are enough.

        Its rounds are used up, its interval is within the precision asked for, or it has failed: a failure is
        repeated only where earlier visits of the same case succeeded.
        """
        seen = self._seen[case.key]
        if seen.made >= self.budget.rounds or not seen.good:
            return True
        if self.budget.precision is None or len(seen.good) < self.budget.min_rounds:
            return False
        good = self.good(case)
        # Where the GPU's clock moved one more visit follows those that were enough.
        common = self._shared(case)
        return self._narrow(good, common) and (clock_moved(good) is None or self._narrow(good[:-1], common))

    def _narrow(self, good: Sequence[Measurement], common: Spread | None) -> bool:
        """Whether visits are as many and as much alike as was asked for."""
        # A visit in which the GPU slowed itself down is kept and marked, and another one is tried in a later round.
        if not good or sum(not slowdowns(measured) for measured in good) < self.budget.min_rounds:
            return False
        width = relative_half_width(good, self.budget.pilot, common)
        return width is not None and self.budget.precision is not None and width <= self.budget.precision

    def worthwhile(self, seconds: float, seed: int) -> list[Case]:
        """Return what to visit next, in random order: the half of the cases that a second of visits narrows most.

        Args:
            seconds: A case whose visit takes longer is left out.
            seed: Of the order.
        """
        open_cases = [case for case in self.cases if not self.finished(case) and self.cost(case) <= seconds]
        ranked = sorted(open_cases, key=self._gain, reverse=True)
        return _shuffled(ranked[: max(len(ranked) // 2, _TOGETHER)], f"{seed}:time:{self.total}")

    def cost(self, case: Case) -> float:
        """Return how long another visit of ``case`` takes, in seconds: as the latest did, without exports they made."""
        return statistics.median(self._seen[case.key].costs)

    def _gain(self, case: Case) -> tuple[float, int]:
        """Return by how much of what is asked of it a case's interval narrows per second; fewest visits first.

        An interval narrows with the root of the number of visits. Without one, and before the fewest visits where
        nothing but these tells how they scatter, it is as good as none.
        """
        common, width = self._shared(case), self._width(case)
        visits = len(self._seen[case.key].good)
        if width is None or (common is None and visits < self.budget.min_rounds):
            return math.inf, -visits
        narrowing = width * (1 - math.sqrt(visits / (visits + 1)))
        return narrowing / (self.budget.precision or 1.0) / self.cost(case), -visits

    def _width(self, case: Case) -> float | None:
        """Return the relative half width of the interval of ``case``, computed once for what is known."""
        seen, common = self._seen[case.key], self._shared(case)
        if seen.width_of != (len(seen.good), common):
            seen.width = relative_half_width(self.good(case), self.budget.pilot, common)
            seen.width_of = len(seen.good), common
        return seen.width

    def _shared(self, case: Case) -> Spread | None:
        """Return what the other cases tell of the spread of ``case``, looked at again when a tenth more is known."""
        if self.total >= self._due:
            self._due = max(self.total + 1, math.ceil(1.1 * self.total))
            pools = looked_at([each for each in self.cases if self.measured(each)])
            own = {pool: [self._spread(each) for each in cases] for pool, cases in pools.items()}
            self._spreads = {pool: shared(filter(None, found)) for pool, found in own.items()}
        return self._spreads.get(pool_of(case))

    def _spread(self, case: Case) -> Spread | None:
        """Return how the visits of ``case`` scatter, computed once per visit."""
        seen = self._seen[case.key]
        if seen.spread_of != len(seen.good):
            seen.spread, seen.spread_of = spread_of(self.good(case)), len(seen.good)
        return seen.spread

    def round_order(self, number: int, seed: int) -> list[Case]:
        """Return the unfinished cases that round ``number`` has not visited, in its random order."""
        order = _shuffled(self.cases, f"{seed}:{number}")
        return [case for case in order if not self.finished(case) and self.made(case) <= number]
