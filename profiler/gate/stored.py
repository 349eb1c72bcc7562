"""The verdict on the cases of a stored run, beside the same cases measured now.

The two runs were made at different times, so nothing cancels as it does in the interleaved blocks of
``profiler.gate.blocks``. What is compared are the visits' normalised latencies: ratios to the reference workload that
ran beside them. They divide out what slows model and reference alike, such as a lower clock; not what slows a model
more than the reference, such as a competitor for a core. Hence a regression does not count while the reference itself
takes another time than it did, it must be seen again in fresh visits, and both runs must come from like machines with
the same runtimes. Where both sides can still be run, ``profiler gate --baseline A --candidate B`` tells smaller
changes.

A stored baseline keeps the calibration of its reference, and the new run uses it: a reference that is calibrated anew
would shift every case by the noise of the calibration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from profiler.gate.contrast import LEAST_VISITS, Visits, contrast, reference_ratio, visits_of
from profiler.gate.decision import ALPHA, Answer, Rule, weigh
from profiler.gate.verdict import Status, Verdict
from profiler.machine import host
from profiler.measure.calibration import VERSION
from profiler.records.disturbance import QUIET
from profiler.records.estimate import case_estimate
from profiler.records.reading import Run
from profiler.records.types import Case, Failure
from profiler.units import format_share

#: Subfolder of a gate's run with the visits that confirm a regression.
_AGAIN = "again"

#: Measures cases into a subfolder of the run, empty for the run itself, and returns what came out.
_Measure = Callable[[Sequence[Case], str], Run]


def _verdict(
    case: Case,
    status: Status,
    reason: str,
    max_slowdown: float,
    then: Visits | None = None,
    now: Visits | None = None,
    detail: str = "",
) -> Verdict:
    """Return what is known of a case; the raw visits are in the run's journal.

    Args:
        case: What was compared.
        status: The answer.
        reason: One sentence.
        max_slowdown: The slow-down that must be caught, as a share.
        then: Visits of the stored run; None where there is nothing to compare.
        now: All visits that were made now.
        detail: Traceback or output of what failed.
    """
    both = (then, now) if then is not None and now is not None else None
    enough = both is not None and min(len(visits.measured) for visits in both) >= 2
    sides = {"baseline": then, "candidate": now}
    return Verdict(
        label=case.label,
        status=status,
        reason=reason,
        detail=detail,
        max_slowdown=max_slowdown,
        change=contrast(*both).change if both and enough else None,
        latency_ns={
            side: case_estimate(visits.measured, visits.pilot).latency_ns
            for side, visits in sides.items()
            if visits and visits.measured
        },
        facts={"case": case.key, "reference_ratio": reference_ratio(*both) if both else None},
    )


def answer(then: Visits, now: Visits, rule: Rule) -> Answer:
    """Say what two runs show of one case, as ``profiler.gate.decision.decide`` does for blocks.

    A regression does not count when the quiet reference takes a time that would mark a block as disturbed.
    """
    if min(len(then.measured), len(now.measured)) < LEAST_VISITS:
        return "inconclusive"
    found = contrast(then, now)
    decided = weigh(found.bounds(rule.alpha)[0], found.bounds(ALPHA)[1], rule)
    if decided == "pass":
        return "pass"
    return "regression" if decided == "regression" and not _disturbed(then, now) else "inconclusive"


def _disturbed(then: Visits, now: Visits) -> bool:
    ratio = reference_ratio(then, now)
    return ratio is not None and not 1 / QUIET <= ratio <= QUIET


def judge_stored(stored: Run, cases: Sequence[Case], measure: _Measure, max_slowdown: float) -> list[Verdict]:
    """Measure the cases that a stored run has, and judge each.

    Args:
        stored: The run to compare with.
        cases: Of the plan, in the order of the verdicts.
        measure: Makes the visits.
        max_slowdown: The slow-down that must be caught, as a share.
    """
    then = _known(visits_of(stored), cases)
    reasons = {case: _why_not(stored.path, then, case) for case in cases}
    known = [case for case in cases if reasons[case] is None]
    rule = Rule(max_slowdown).shared(max(1, len(known)))
    now = visits_of(measure(known, "")) if known else {}
    verdicts = {
        case: _verdict(case, "not comparable", reason, max_slowdown)
        if reason is not None
        else _judged(case, then[case], now.get(case, Visits()), rule)
        for case, reason in reasons.items()
    }
    suspects = [case for case, verdict in verdicts.items() if verdict.status == "regression"]
    again = visits_of(measure(suspects, _AGAIN)) if suspects else {}
    for case in suspects:
        verdicts[case] = _confirmed(case, then[case], now[case], again.get(case, Visits()), rule)
    return list(verdicts.values())


def _known(stored: Mapping[Case, Visits], cases: Sequence[Case]) -> dict[Case, Visits]:
    """Return the visits of a stored run by case; one from before contents were kept is of the model as it is."""
    unnamed = {case: replace(case, content="") for case in cases if case not in stored}
    return {**stored, **{case: stored[old] for case, old in unnamed.items() if old in stored}}


def _why_not(path: Path, stored: Mapping[Case, Visits], case: Case) -> str | None:
    """Return why a case cannot be compared with a stored run on this machine, or None when it can.

    Args:
        path: Of the stored run.
        stored: From ``visits_of``.
        case: Of the plan.
    """
    # A case of another machine may differ in its threads alone, and the machine is the better reason.
    visits = stored.get(case) or next(iter(stored.values()), Visits(host=host.key()))
    if visits.host != host.key():
        told = host.difference(host.facts(), visits.session.host) if visits.session else None
        return told or f"not the same machine: its key is {host.key()} here and {visits.host} there"
    if changed := next((old for old in stored if case.another_content(old)), None):
        return (
            f"{case.model} has changed since it was stored (content {changed.content} there, {case.content} here): "
            f"compare both versions with `profiler gate --baseline git:REF`, or measure it anew and store that with "
            "`profiler baseline update`"
        )
    if case not in stored:
        return f"{path} has no such case; measure it with `profiler run` and add it with `profiler baseline update`"
    if not visits.measured and visits.failure:
        return f"{path} has no latency of it ({visits.failure.status}: {visits.failure.reason})"
    if visits.session is not None and visits.session.facts.get("reference", VERSION) != VERSION:
        return f"{path} was measured beside an older reference workload; measure it again and store it"
    return None


def _judged(case: Case, then: Visits, now: Visits, rule: Rule) -> Verdict:
    limit, failure = rule.max_slowdown, now.failure
    if not now.measured:
        reason = f"{failure.status}: {failure.reason}" if failure else "no visit was made"
        return _verdict(case, "error", reason, limit, then, now, failure.detail if failure else "")
    unlike = _unlike(then, now)
    if unlike:
        reason = f"the visits were not made alike: {unlike}; measure both with the same version of this program"
        return _verdict(case, "not comparable", reason, limit, then, now)
    found = answer(then, now, rule)
    return _verdict(case, found, f"{_said(found, then, now, rule)}; {_when(then, now)}", limit, then, now)


def _unlike(then: Visits, now: Visits) -> str:
    """Say in what the way of measuring differs; empty where it does not."""
    old, new = ("beside a reference" if visits.nominal_ns else "without a reference" for visits in (then, now))
    if old != new:
        return f"now {new}, then {old}"
    old, new = (str(visits.measured[-1].facts.get("heap", "unset")) for visits in (then, now))
    return f"the heap's policy is {new} now and was {old} then" if old != new else ""


def _confirmed(case: Case, then: Visits, now: Visits, again: Visits, rule: Rule) -> Verdict:
    """Fail a build only on what fresh visits show again."""
    limit, at_first = rule.max_slowdown, _said("regression", then, now, rule)
    both = replace(now, measured=now.measured + again.measured)
    if not again.measured:
        failed = again.failure or Failure("error", "no visit was made")
        reason = f"{at_first}; the visits that were to confirm it failed: {failed.reason}"
        return _verdict(case, "error", reason, limit, then, both, failed.detail)
    if answer(then, again, rule) == "regression":
        reason = f"{at_first}; confirmed by fresh visits: {_change(then, again)}; {_when(then, again)}"
        return _verdict(case, "regression", reason, limit, then, both)
    reason = (
        f"not confirmed: {_change(then, now)} at first, {_change(then, again)} in fresh visits; {_when(then, again)}; "
        "run it again on a quiet machine"
    )
    return _verdict(case, "inconclusive", reason, limit, then, both)


def _change(then: Visits, now: Visits) -> str:
    """Say a change, as ``+6.2% [+5.1%, +7.3%] (6 stored and 5 new visits)``."""
    counts = f"({len(then.measured)} stored and {len(now.measured)} new visits)"
    if min(len(then.measured), len(now.measured)) < 2:
        return f"a change of unknown certainty {counts}"
    estimate, interval = contrast(then, now).change
    low, high = (format_share(end, signed=True) for end in interval)
    return f"{format_share(estimate, signed=True)} [{low}, {high}] {counts}"


def _said(found: Answer, then: Visits, now: Visits, rule: Rule) -> str:
    limit, half, change = format_share(rule.max_slowdown), format_share(rule.tolerated), _change(then, now)
    if found == "pass":
        return f"{change}: surely less than {limit}"
    if found == "regression":
        return f"{change}: surely more than {half}, half of the limit"
    if len(then.measured) < LEAST_VISITS:
        return f"{change}: {LEAST_VISITS} at least are needed; store a run with more rounds (--rounds)"
    if len(now.measured) < LEAST_VISITS:
        return f"{change}: {LEAST_VISITS} at least are needed; raise rounds in the plan's [budget]"
    if contrast(then, now).bounds(rule.alpha)[0] > math.log1p(rule.tolerated):
        return f"{change}: slower, but the machine is not as quiet as it was; run it again when it is"
    return (
        f"{change}: neither surely less than {limit} nor surely more than {half}; "
        "raise rounds or visit_s in the plan's [budget], or the limit"
    )


def _when(then: Visits, now: Visits) -> str:
    """Say that the runs lie apart in time, and what the reference makes of it."""
    apart = f"measured {now.started or 'now'}, the baseline {then.started or 'earlier'}, not side by side: "
    ratio = reference_ratio(then, now)
    if ratio is None:
        return f"{apart}no reference ran beside them, so a slower machine looks like a slower model"
    told = f"{apart}the reference beside each, now {ratio:.2f} times as slow, is divided out"
    doubt = contrast(then, now).doubt if min(len(then.measured), len(now.measured)) >= 2 else 0.0
    if doubt:
        told += (
            f"; it was calibrated anew, which may have shifted the change by {format_share(math.expm1(doubt))}: "
            "`profiler baseline update` keeps the calibration where the baseline was measured"
        )
    return told
