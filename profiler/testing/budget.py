"""A limit in milliseconds: visits of their own, and whether their latency is within it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from profiler.gate.contest import Options
from profiler.gate.subject import Subject
from profiler.machine.cache import cache_folder
from profiler.measure.calibration import Calibration
from profiler.records import estimate
from profiler.records.estimate import CaseEstimate
from profiler.records.types import Budget, Failure, Measurement
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.lab import Lab, one_visit
from profiler.run.processes import LocalExecutor
from profiler.testing.arguments import Asked, Model, placement_of, subject
from profiler.testing.outcome import Outcome, Status
from profiler.testing.rerun import Rerun, visit
from profiler.units import format_duration

#: Fresh processes that measure a model for an absolute budget, and the longest that each takes, in seconds.
VISITS = 5
VISIT_S = 1.0
BUDGET_RULE = (
    f"the latency of {VISITS} fresh processes, normalised by the reference workload, has a 95% interval; "
    "a model is over its budget when the whole interval is, twice"
)


def absolute(asked: Asked, rerun: Rerun, options: Options, again: str) -> Outcome:
    limit_ns = (asked.max_latency_s or 0.0) * 1e9
    budget = Budget(visit_s=min(VISIT_S, options.seconds / VISITS))
    executor = LocalExecutor()
    try:
        visited = _visitor(asked.candidate, rerun, budget, executor)
        visits = _visits(visited)
        over = not isinstance(visits, Failure) and _answer(estimate.case_estimate(visits), limit_ns) == "over budget"
        second = _visits(visited) if over else None
    finally:
        executor.close()
    label = subject(asked.candidate).label
    title = f"latency gate: {label} against a budget of {format_duration(limit_ns / 1e9)}"
    failed = next((one for one in (visits, second) if isinstance(one, Failure)), None)
    if failed is not None:
        return Outcome("error", failed.reason, title=title, again=again, detail=failed.detail)
    return budgeted([one for one in (visits, second) if isinstance(one, list)], limit_ns, title, again)


def _visitor(
    model: Model, rerun: Rerun, budget: Budget, executor: LocalExecutor
) -> Callable[[], Measurement | Failure]:
    """Return what measures ``model`` once, in a fresh process."""
    calibrations = Calibrations(executor, cache_folder(), lambda _placement: Limits())
    if isinstance(model, Subject):
        lab = Lab(budget, executor, lambda _placement: Limits(), calibrations)
        return lambda: _measurement(one_visit(model.case, 0, lab).outcome)
    simulated = model.backend.partition(":")[0] == "fake"
    found = None if simulated else calibrations.get(placement_of(model))
    calibration = found if isinstance(found, Calibration) else None
    return lambda: visit(rerun, budget, calibration)


def _measurement(outcome: object) -> Measurement | Failure:
    if isinstance(outcome, Measurement | Failure):
        return outcome
    return Failure("error", f"no latency was measured: {outcome!r:.100}")


def _visits(visited: Callable[[], Measurement | Failure]) -> list[Measurement] | Failure:
    """Return the measurements of fresh processes, or the first failure."""
    found: list[Measurement] = []
    for _ in range(VISITS):
        outcome = visited()
        if isinstance(outcome, Failure):
            return outcome
        found.append(outcome)
    return found


def _answer(found: CaseEstimate, limit_ns: float) -> Status:
    if found.ci_low_ns is None or found.ci_high_ns is None:
        return "inconclusive"
    if found.ci_high_ns < limit_ns:
        return "pass"
    return "over budget" if found.ci_low_ns > limit_ns else "inconclusive"


def budgeted(sets: Sequence[list[Measurement]], limit_ns: float, title: str, again: str) -> Outcome:
    """Decide by one set of visits, or by two that must agree where the first was over the budget."""
    estimates = [estimate.case_estimate(visits) for visits in sets]
    answers = {_answer(found, limit_ns) for found in estimates}
    status: Status = answers.pop() if len(answers) == 1 else "inconclusive"
    last = estimates[-1]
    facts = {
        "verdict": status,
        "latency_s": last.latency_ns / 1e9,
        "interval_s": [bound / 1e9 for bound in (last.ci_low_ns, last.ci_high_ns) if bound is not None],
        "processes": sum(map(len, sets)),
        "limit_s": limit_ns / 1e9,
    }
    samples = tuple(
        ns for visits in sets for one in visits for block in estimate.normalised_blocks(one) for ns in block
    )
    reason = f"{'; then '.join(map(_interval, estimates))}, of {format_duration(limit_ns / 1e9)} allowed"
    return Outcome(status, reason, samples, facts, title, BUDGET_RULE, again)


def _interval(found: CaseEstimate) -> str:
    """Say an estimate, as ``12.3 ms [12.1 ms, 12.5 ms] in 5 processes``."""
    bounds = [format_duration(bound / 1e9) for bound in (found.ci_low_ns, found.ci_high_ns) if bound is not None]
    return f"{format_duration(found.latency_ns / 1e9)} [{', '.join(bounds)}] in {found.visits} processes"
