"""Limits in milliseconds: visits of their own, and whether their latency is within them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from profiler.gate.side import Side
from profiler.gate.tail import percentile_ns
from profiler.gate.verdict import Status, Verdict
from profiler.machine.cache import cache_folder
from profiler.measure.visit import Task, visit
from profiler.records.disturbance import quiet_level
from profiler.records.estimate import case_estimate, kept_blocks, normalised_blocks
from profiler.records.intervals import calls_to_bound, interval, tail_interval
from profiler.records.types import Budget, Failure, Measurement
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.preparing import ahead_s
from profiler.run.processes import LocalExecutor
from profiler.testing.arguments import Given, Limited, side_of
from profiler.testing.rerun import Rerun
from profiler.units import format_duration

#: Fresh processes that measure a model for an absolute budget, and the longest that each takes, in seconds.
_VISITS = 5
_VISIT_S = 1.0
#: Single calls of all of them where their 99th percentile is limited: twice as many as independent ones would take.
_TAIL_CALLS = 1000
BUDGET_RULE = (
    f"the median, mean or 99th percentile of {_VISITS} fresh processes, normalised by the reference workload, has a "
    "95% interval; a model is over its budget when the whole interval is, twice"
)
#: How each limited quantity is called.
_NAMES: Mapping[Limited, str] = {"median": "", "mean": "mean ", "p99": "99th percentile "}

_Visitor = Callable[[Budget], Measurement | Failure]


@dataclass(frozen=True, slots=True)
class _Estimate:
    """One quantity in one set of visits, in ns, with its interval; an end that nobody knows is None."""

    ns: float
    low: float | None
    high: float | None
    needed: int = 0

    def answer(self, limit_ns: float) -> Status:
        if self.low is not None and self.low > limit_ns:
            return "over budget"
        return "pass" if self.high is not None and self.high < limit_ns else "inconclusive"

    @property
    def text(self) -> str:
        return format_duration(self.ns / 1e9)

    @property
    def said(self) -> str:
        """As ``12.3 ms [12.1 ms, 12.5 ms]``, or why there is no interval."""
        if self.low is None and self.high is None:
            return f"{self.text} with no interval: one process alone was undisturbed"
        ends = ["?" if end is None else format_duration(end / 1e9) for end in (self.low, self.high)]
        return f"{self.text} [{', '.join(ends)}]"


def judge_budget(model: Given, limits_s: Mapping[Limited, float], rerun: Rerun, seconds: float) -> Verdict:
    """Measure a model in fresh processes and compare it with its limits.

    Args:
        model: By name, or live in the process of its test.
        limits_s: Of one forward, in seconds, by what they limit.
        rerun: How the test is run again, for a live model.
        seconds: All visits of one answer together take no longer.
    """
    limits = [
        f"{format_duration(limit)}{f' ({_NAMES[of].strip()})' if _NAMES[of] else ''}" for of, limit in limits_s.items()
    ]
    label, limits_ns = f"{side_of(model).label} against a budget of {', '.join(limits)}", _scaled(limits_s)
    executor = LocalExecutor()
    try:
        visitor = _visitor(model, rerun, executor, single="p99" in limits_s)
        sets: list[list[Measurement]] = []
        while len(sets) < 2:
            visits = _visits(visitor, seconds, _TAIL_CALLS if "p99" in limits_s else 0)
            if isinstance(visits, Failure):
                return Verdict(label, "error", visits.reason, visits.detail)
            sets.append(visits)
            if not any(_estimate(visits, of).answer(limit) == "over budget" for of, limit in limits_ns.items()):
                break
    finally:
        executor.close()
    return _budgeted(sets, limits_ns, label)


def _scaled(limits_s: Mapping[Limited, float]) -> dict[Limited, float]:
    return {of: limit * 1e9 for of, limit in limits_s.items()}


def _visitor(model: Given, rerun: Rerun, executor: LocalExecutor, *, single: bool) -> _Visitor:
    """Return what measures ``model`` once, in a fresh process; ``single`` times every forward by itself."""
    case = side_of(model).case
    calibrations = Calibrations(executor, cache_folder(), lambda _placement: Limits())
    simulated = case.backend.partition(":")[0] == "fake"
    found = None if simulated else calibrations.get(case.placement)
    calibration = None if isinstance(found, Failure) else found

    def measured(budget: Budget) -> Measurement | Failure:
        task = Task(case, budget, calibration, cache_folder(), energy=False, single=single)
        if not isinstance(model, Side):
            return replace(rerun, longer_s=ahead_s(case)).visit(replace(task, cache=None))
        outcome = executor.call(visit, task, budget.timeout_s + ahead_s(case), Limits())
        if isinstance(outcome, Measurement | Failure):
            return outcome
        return Failure("error", f"no latency was measured: {outcome!r:.100}")

    return measured


def _visits(visitor: _Visitor, seconds: float, calls: int) -> list[Measurement] | Failure:
    """Return the measurements of fresh processes, or the first failure.

    So many of their calls count in all, as far as time allows.
    """
    budget = Budget(visit_s=min(_VISIT_S, seconds / _VISITS), timeout_s=Budget().timeout_s + seconds)
    found: list[Measurement] = []
    for left in range(_VISITS, 0, -1):
        outcome = visitor(budget)
        if isinstance(outcome, Failure):
            return outcome
        found.append(outcome)
        made = [ns for blocks in _blocks(found) for block in blocks for ns in block]
        affordable = seconds / _VISITS / (fmean(made) / 1e9)
        missing = math.ceil((calls - len(made)) / max(1, left - 1))
        budget = replace(budget, min_samples=max(Budget().min_samples, min(missing, int(affordable))))
    return found


def _estimate(visits: Sequence[Measurement], of: Limited) -> _Estimate:
    if of == "median":
        found = case_estimate(visits)
        return _Estimate(found.latency_ns, found.ci_low_ns, found.ci_high_ns)
    blocks = _blocks(visits)
    if of == "p99":
        calls = list(itertools.chain.from_iterable(blocks))
        low, high = tail_interval(calls)
        bounded = math.isfinite(high)
        return _Estimate(percentile_ns(calls), low, high if bounded else None, 0 if bounded else calls_to_bound(calls))
    centre, half = interval([math.log(fmean(itertools.chain.from_iterable(one))) for one in blocks], len(blocks))
    ends = (None, None) if half is None else (math.exp(centre - half), math.exp(centre + half))
    return _Estimate(math.exp(centre), *ends)


def _blocks(visits: Sequence[Measurement]) -> list[list[list[float]]]:
    """Return the blocks of each visit that count, and all of one in which every block was disturbed."""
    level = quiet_level(visits)
    return [kept_blocks(one, level) or normalised_blocks(one) for one in visits]


def _budgeted(sets: Sequence[list[Measurement]], limits_ns: Mapping[Limited, float], label: str) -> Verdict:
    """Decide by one set of visits, or by two that must agree where the first was over the budget.

    Args:
        sets: Visits of the model.
        limits_ns: Of one forward, in ns, by what they limit.
        label: What is compared, in one line.
    """
    samples = tuple(ns for visits in sets for blocks in _blocks(visits) for block in blocks for ns in block)
    estimates = {of: [_estimate(visits, of) for visits in sets] for of in limits_ns}
    answers = {of: {one.answer(limits_ns[of]) for one in found} for of, found in estimates.items()}
    found: set[Status] = {answer.pop() if len(answer) == 1 else "inconclusive" for answer in answers.values()}
    hidden = _hidden(samples, limits_ns) if found == {"pass"} else ""
    worst: list[Status] = ["over budget", "inconclusive", "pass"]
    status = "inconclusive" if hidden else next(one for one in worst if one in found)
    told = [_said(of, estimates[of], limits_ns[of], sets) for of in limits_ns]
    reason = "; ".join(filter(None, (*told, _besides(samples, estimates), hidden)))
    return Verdict(label, status, reason, samples_ns=samples, facts=_facts(sets, limits_ns, samples))


def _facts(
    sets: Sequence[list[Measurement]], limits_ns: Mapping[Limited, float], samples: Sequence[float]
) -> dict[str, object]:
    last = _estimate(sets[-1], "median")
    return {
        "latency_s": last.ns / 1e9,
        "interval_s": [None if end is None else end / 1e9 for end in (last.low, last.high)],
        "mean_s": fmean(samples) / 1e9,
        "processes": sum(map(len, sets)),
        "limits_s": {of: limit / 1e9 for of, limit in limits_ns.items()},
    }


def _said(of: Limited, found: Sequence[_Estimate], limit_ns: float, sets: Sequence[list[Measurement]]) -> str:
    """Say the estimates of a quantity, as ``12.3 ms [12.1 ms, 12.5 ms] in 5 processes, of 15.0 ms allowed``."""
    each = "; then ".join(f"{one.said} in {len(visits)} processes" for one, visits in zip(found, sets, strict=True))
    told = f"{_NAMES[of]}{each}, of {format_duration(limit_ns / 1e9)} allowed"
    needed = found[-1].needed
    if of != "p99" or found[-1].high is not None or found[-1].answer(limit_ns) != "inconclusive":
        return told
    made = sum(len(block) for blocks in _blocks(sets[-1]) for block in blocks)
    return f"{told}; {made:,} calls that count are too few: about {needed:,} are needed, in more time or less disturbed"


def _hidden(samples: Sequence[float], limits_ns: Mapping[Limited, float]) -> str:
    """Say that the mean is beyond the limit of the median; empty where something else is limited, too."""
    if set(limits_ns) != {"median"} or fmean(samples) <= limits_ns["median"]:
        return ""
    return (
        "but the mean is more than allowed: some calls take far longer than the others; limit them with max_p99= or "
        "max_mean="
    )


def _besides(samples: Sequence[float], estimates: Mapping[Limited, Sequence[_Estimate]]) -> str:
    """Say what pytest-benchmark's table shows and no estimate does: it holds the calls of all processes alike."""
    shown: dict[Limited, float] = {"median": median(samples), "mean": fmean(samples)}
    told = []
    for of, ns in shown.items():
        text = format_duration(ns / 1e9)
        if of not in estimates:
            told.append(f"{of} {text}")
        elif not any(one.text == text for one in estimates[of]):
            told.append(f"{of} of all calls {text}")
    return ", ".join(told)
