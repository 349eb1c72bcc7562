"""A limit in milliseconds: visits of their own, and whether their latency is within it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from profiler.gate.side import Side
from profiler.gate.verdict import Status, Verdict
from profiler.machine.cache import cache_folder
from profiler.measure.visit import Task
from profiler.records.estimate import CaseEstimate, case_estimate, normalised_blocks
from profiler.records.types import Budget, Failure, Measurement
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.lab import Lab, one_visit
from profiler.run.processes import LocalExecutor
from profiler.testing.arguments import Given, side_of
from profiler.testing.rerun import Rerun
from profiler.units import format_duration

#: Fresh processes that measure a model for an absolute budget, and the longest that each takes, in seconds.
_VISITS = 5
_VISIT_S = 1.0
BUDGET_RULE = (
    f"the latency of {_VISITS} fresh processes, normalised by the reference workload, has a 95% interval; "
    "a model is over its budget when the whole interval is, twice"
)


def judge_budget(model: Given, limit_s: float, rerun: Rerun, seconds: float) -> Verdict:
    """Measure a model in fresh processes and compare it with a limit.

    Args:
        model: By name, or live in the process of its test.
        limit_s: Of one forward, in seconds.
        rerun: How the test is run again, for a live model.
        seconds: All visits of one answer together take no longer.
    """
    label, limit_ns = f"{side_of(model).label} against a budget of {format_duration(limit_s)}", limit_s * 1e9
    executor = LocalExecutor()
    try:
        visit = _visitor(model, rerun, Budget(visit_s=min(_VISIT_S, seconds / _VISITS)), executor)
        sets: list[list[Measurement]] = []
        while len(sets) < 2:
            visits = _visits(visit)
            if isinstance(visits, Failure):
                return Verdict(label, "error", visits.reason, visits.detail)
            sets.append(visits)
            if _answer(case_estimate(visits), limit_ns) != "over budget":
                break
    finally:
        executor.close()
    return _budgeted(sets, limit_ns, label)


def _visitor(
    model: Given, rerun: Rerun, budget: Budget, executor: LocalExecutor
) -> Callable[[], Measurement | Failure]:
    """Return what measures ``model`` once, in a fresh process."""
    limits = lambda _placement: Limits()  # noqa: E731
    calibrations = Calibrations(executor, cache_folder(), limits)
    if isinstance(model, Side):
        lab = Lab(budget, executor, limits, calibrations)
        return lambda: _measurement(one_visit(model.case, 0, lab).outcome)
    case = model.side.case
    simulated = case.backend.partition(":")[0] == "fake"
    found = None if simulated else calibrations.get(case.placement)
    calibration = None if isinstance(found, Failure) else found
    return lambda: rerun.visit(Task(case, budget, calibration, None, energy=False))


def _measurement(outcome: object) -> Measurement | Failure:
    if isinstance(outcome, Measurement | Failure):
        return outcome
    return Failure("error", f"no latency was measured: {outcome!r:.100}")


def _visits(visit: Callable[[], Measurement | Failure]) -> list[Measurement] | Failure:
    """Return the measurements of fresh processes, or the first failure."""
    found = []
    for _ in range(_VISITS):
        outcome = visit()
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


def _budgeted(sets: Sequence[list[Measurement]], limit_ns: float, label: str) -> Verdict:
    """Decide by one set of visits, or by two that must agree where the first was over the budget.

    Args:
        sets: Visits of the model.
        limit_ns: Of one forward, in ns.
        label: What is compared, in one line.
    """
    estimates = [case_estimate(visits) for visits in sets]
    answers = {_answer(found, limit_ns) for found in estimates}
    status: Status = answers.pop() if len(answers) == 1 else "inconclusive"
    last = estimates[-1]
    facts = {
        "latency_s": last.latency_ns / 1e9,
        "interval_s": [bound / 1e9 for bound in (last.ci_low_ns, last.ci_high_ns) if bound is not None],
        "processes": sum(map(len, sets)),
        "limit_s": limit_ns / 1e9,
    }
    reason = f"{'; then '.join(map(_interval, estimates))}, of {format_duration(limit_ns / 1e9)} allowed"
    samples = tuple(ns for visits in sets for one in visits for block in normalised_blocks(one) for ns in block)
    return Verdict(label, status, reason, samples_ns=samples, facts=facts)


def _interval(found: CaseEstimate) -> str:
    """Say an estimate, as ``12.3 ms [12.1 ms, 12.5 ms] in 5 processes``."""
    bounds = [format_duration(bound / 1e9) for bound in (found.ci_low_ns, found.ci_high_ns) if bound is not None]
    return f"{format_duration(found.latency_ns / 1e9)} [{', '.join(bounds)}] in {found.visits} processes"
