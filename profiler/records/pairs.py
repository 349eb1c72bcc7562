"""How many times as fast a case is as the same on another backend, from the visits that both had in one round.

What slows the machine for minutes slows neighbouring visits alike: their ratio repeats where each alone does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import variance

from profiler.records.columns import Row
from profiler.records.disturbance import quiet_level
from profiler.records.estimate import VisitEstimate, visit_estimate
from profiler.records.intervals import interval
from profiler.records.spread import Spread
from profiler.records.types import Case, Measurement, Record

#: The backend that the others are compared with, where it is among them; else the first.
_BASE = "eager"
#: Pairs whose spread says something: of two, the interval is wider than that of two rows by themselves.
_FEWEST = 3


def bases(cases: Sequence[Case]) -> dict[str, Case]:
    """Return the case that each is compared with, by its key: the same in all but the backend."""
    groups: dict[Case, list[Case]] = {}
    for case in cases:
        groups.setdefault(replace(case, backend="any"), []).append(case)
    found: dict[str, Case] = {}
    for group in groups.values():
        base = next((case for case in group if case.backend == _BASE), group[0])
        found |= {case.key: base for case in group if case is not base}
    return found


def of_pairs(
    base: Case, theirs: Sequence[Record], mine: Sequence[Record], pilot: int, common: Spread | None = None
) -> Row:
    """Return the columns of the speed-up over ``base``; none where both were measured in too few rounds.

    Args:
        base: What it is over.
        theirs: Its visits.
        mine: Those of the case.
        pilot: As for ``profiler.records.intervals.interval``.
        common: What other speed-ups tell of their spread; of two rounds, only this tells anything.
    """
    logs = _log_ratios(theirs, mine)
    if len(logs) < (_FEWEST if common is None else 2):
        return {}
    centre, half = interval(logs, pilot, common)
    return {
        "speed_up": math.exp(centre),
        "speed_up_ci_low": math.exp(centre - (half or 0.0)),
        "speed_up_ci_high": math.exp(centre + (half or 0.0)),
        "speed_up_over": base.backend,
    }


def spread_of_pairs(theirs: Sequence[Record], mine: Sequence[Record]) -> Spread | None:
    """Return how the ratios of the visits of two cases scatter; None of fewer than two rounds."""
    logs = _log_ratios(theirs, mine)
    return Spread(variance(logs), len(logs) - 1) if len(logs) > 1 else None


def _log_ratios(theirs: Sequence[Record], mine: Sequence[Record]) -> list[float]:
    """Return the logarithm of the ratio in each round in which both were measured; undisturbed ones where enough."""
    before, after = _by_round(theirs), _by_round(mine)
    pairs = [(before[number], after[number]) for number in sorted(before.keys() & after.keys())]
    undisturbed = [pair for pair in pairs if all(one.samples for one in pair)]
    kept = undisturbed if len(undisturbed) >= _FEWEST else pairs
    return [math.log(a.normalised_ns / b.normalised_ns) for a, b in kept]


def _by_round(visits: Sequence[Record]) -> Mapping[int, VisitEstimate]:
    timed = {
        record.round: record.outcome
        for record in visits
        if record.measures == "latency" and isinstance(record.outcome, Measurement)
    }
    level = quiet_level(list(timed.values()))
    return {number: visit_estimate(visit, level) for number, visit in timed.items()}
