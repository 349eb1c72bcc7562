"""Batch ``max`` on a fleet: each step of the searches for all labels and models is tried at once, on their machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from profiler.errors import StoppedError
from profiler.measure.describe import Description
from profiler.records.types import Case, Failure, Outcome, Record
from profiler.run.batch import Probe, brief_budget
from profiler.run.describing import described
from profiler.run.lab import Lab
from profiler.run.placing import Placing
from profiler.run.rounds import Measuring
from profiler.run.schedule import Progress


@dataclass
class _Tried:
    """What came of tries, which are no results and stand in no journal; nothing is shown of them."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def append(self, record: Record) -> int:
        self.outcomes[record.case.key] = record.outcome
        return 0

    def preparing(self, done: int, total: int) -> None:
        pass

    def before(self, case: Case, number: int, progress: Progress) -> None:
        pass

    def after(self, record: Record) -> None:
        pass


def fleet_probe(placing: Placing, lab: Lab, cases: Sequence[Case]) -> Probe:
    """Return what tries batches on the machines of a fleet.

    Args:
        placing: Of the run.
        lab: Of the run.
        cases: Of the run; the models of those that ask for the largest batch are looked at first.
    """
    asked = [case for case in cases if case.batch_asked]
    known = described(asked, lab.executor)
    looked_at = dict(zip(asked, known.cases, strict=True))
    brief = replace(lab, budget=brief_budget(lab.budget))

    def probe(tried: Sequence[Case]) -> list[Failure | None]:
        firsts = [looked_at[replace(case, batch=1)] for case in tried]
        here = [replace(first, batch=case.batch) for first, case in zip(firsts, tried, strict=True)]
        found: dict[str, Description] = {
            case.key: known.found[first.key]
            for case, first in zip(here, firsts, strict=True)
            if first.key in known.found
        }
        kept = _Tried()
        made = Measuring(
            kept, Progress([c for c in here if c.key in found], brief.budget), replace(brief, described=found), kept, 0
        )
        if stopped := placing(made, (), None):
            raise StoppedError(f"{stopped} while the largest batch was searched for; repeat the command")
        outcomes = [kept.outcomes.get(c.key) or known.failed[f.key] for c, f in zip(here, firsts, strict=True)]
        return [outcome if isinstance(outcome, Failure) else None for outcome in outcomes]

    return probe
