"""What the visits of a run share, and one visit."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.measure.visit import Reply, Task, visit
from profiler.records.types import Budget, Case, Failure, Feed, Pass, Record, now
from profiler.run.calibrations import Calibrations
from profiler.run.child import LimitsFor
from profiler.run.processes import Executor


@dataclass(frozen=True, slots=True)
class Lab:
    """What every visit of a run shares."""

    budget: Budget
    executor: Executor
    limits: LimitsFor
    calibrations: Calibrations
    feed: Feed = field(default_factory=Feed)


def one_visit(case: Case, number: int, lab: Lab, measures: Pass = "latency") -> Record:
    """Visit ``case`` once and return its record, whatever happens."""
    started, begin = now(), time.monotonic()
    simulated = case.backend.partition(":")[0] == "fake"
    timed = measures == "latency" and not simulated
    calibration = lab.calibrations.get(case.placement) if timed else None
    # Where the reference cannot run the backend cannot either, and its own sentence is the better one.
    calibration = None if isinstance(calibration, Failure) else calibration
    task = Task(case, lab.budget, calibration, cache_folder(), measures, lab.feed, energy=number == 0)
    answer = lab.executor.call(visit, task, lab.budget.timeout_s, lab.limits(case.placement))
    reply = Reply(answer) if isinstance(answer, Failure) else answer
    return Record(
        case=case,
        complexity=reply.complexity,
        resolution=reply.resolution,
        host=host.key(),
        round=number,
        started=started,
        wall_s=round(time.monotonic() - begin, 6),
        outcome=reply.outcome,
        measures=measures,
    )
