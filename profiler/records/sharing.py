"""What the cases of a run share: how their visits scatter, and how their speed-ups do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from profiler.records.estimate import spread_of
from profiler.records.pairs import bases, spread_of_pairs
from profiler.records.reading import Run
from profiler.records.spread import Pool, Spread, looked_at, pool_of, shared
from profiler.records.types import Case, Measurement, Record


@dataclass(frozen=True, slots=True)
class Shared:
    """The spread that is common to the cases of a pool, where there are enough of them.

    Attributes:
        latency: Of logarithms of visits.
        speed_up: Of logarithms of ratios of two visits.
    """

    latency: Mapping[Pool, Spread] = field(default_factory=dict)
    speed_up: Mapping[Pool, Spread] = field(default_factory=dict)

    def of(self, case: Case) -> Spread | None:
        """Return what others tell of the spread of ``case``."""
        return self.latency.get(pool_of(case))

    def of_speed_up(self, case: Case) -> Spread | None:
        """Return what others tell of the spread of its speed-ups."""
        return self.speed_up.get(pool_of(case))


def _measured(visits: Sequence[Record]) -> list[Measurement]:
    """Return the measurements of latency among visits."""
    outcomes = [record.outcome for record in visits if record.measures == "latency"]
    return [outcome for outcome in outcomes if isinstance(outcome, Measurement)]


def sharing(run: Run) -> Shared:
    """Return what the cases of ``run`` share; of many, some are looked at."""
    by_case = run.by_case
    visited = [visits[0].case for visits in by_case.values()]
    compared = bases(visited)
    latency, speed_up = {}, {}
    for pool, cases in looked_at(visited).items():
        own, ratios = [], []
        for case in cases:
            visits, base = by_case[case.key], compared.get(case.key)
            own.append(spread_of(_measured(visits)))
            ratios.append(spread_of_pairs(by_case[base.key], visits) if base else None)
        latency[pool] = shared(filter(None, own))
        speed_up[pool] = shared(filter(None, ratios))
    return Shared(_known(latency), _known(speed_up))


def _known(found: Mapping[Pool, Spread | None]) -> dict[Pool, Spread]:
    return {pool: spread for pool, spread in found.items() if spread is not None}
