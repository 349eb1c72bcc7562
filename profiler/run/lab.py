"""What the visits of a run share, and one visit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.measure.describe import Description
from profiler.measure.visit import Task, visit
from profiler.records.types import Budget, Case, Failure, Feed, Outcome, Pass, Record, now
from profiler.run.calibrations import Calibrations
from profiler.run.child import LimitsFor
from profiler.run.preparing import ahead_s
from profiler.run.processes import Executor

#: Seconds. A visit that is no longer only tries whether a batch fits; the pass that counts energy takes two.
_TRIES_S = 0.01


@dataclass(frozen=True, slots=True)
class Lab:
    """What every visit of a run shares.

    Attributes:
        described: What is known of the model of a case, by the case's key.
        another: Returns an executor to use beside ``executor`` before anything is timed; None where there is only one.
    """

    budget: Budget
    executor: Executor
    limits: LimitsFor
    calibrations: Calibrations
    feed: Feed = field(default_factory=Feed)
    described: Mapping[str, Description] = field(default_factory=dict)
    another: Callable[[], Executor] | None = None


def one_visit(case: Case, number: int, lab: Lab, measures: Pass = "latency") -> Record:
    """Visit ``case`` once and return its record, whatever happens."""
    started, begin = now(), time.monotonic()
    simulated = case.backend.partition(":")[0] == "fake"
    timed = measures == "latency" and not simulated
    calibration = lab.calibrations.get(case.placement) if timed else None
    # Where the reference cannot run the backend cannot either, and its own sentence is the better one.
    calibration = None if isinstance(calibration, Failure) else calibration
    energy = number == 0 and lab.budget.visit_s > _TRIES_S
    task = Task(case, lab.budget, calibration, cache_folder(), measures, lab.feed, energy=energy)
    outcome = lab.executor.call(visit, task, lab.budget.timeout_s + ahead_s(case), lab.limits(case.placement))
    return record(case, outcome, lab, number, measures, started, time.monotonic() - begin)


def record(
    case: Case,
    outcome: Outcome,
    lab: Lab,
    number: int = 0,
    measures: Pass = "latency",
    started: str | None = None,
    wall_s: float = 0.0,
) -> Record:
    """Return the record of what came of a visit; ``started`` None is now."""
    known = lab.described.get(case.key)
    return Record(
        case=case,
        complexity=known.complexity if known else None,
        resolution=known.resolution if known else None,
        host=host.key(),
        round=number,
        started=started or now(),
        wall_s=round(wall_s, 6),
        outcome=outcome,
        measures=measures,
        inputs=known.inputs.get(case.batch, "") if known else "",
        uncounted=known.uncounted if known else "",
        family=known.family if known else "",
    )
