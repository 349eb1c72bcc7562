"""What a trial shows, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from profiler.gate import decision
from profiler.gate.bias import BIAS_FACTOR
from profiler.gate.blocks import Trial
from profiler.gate.decision import Answer, Change, Rule
from profiler.gate.side import SIDES
from profiler.gate.tail import calls_needed, percentile_ns, tail_change
from profiler.units import format_duration, format_share


@dataclass(frozen=True, slots=True)
class Told:
    """What a trial says of one rule, and how a person would say it."""

    answer: Answer
    said: str


def finding(trial: Trial, rule: Rule) -> Told:
    """Return what a trial shows; nothing yet, as when its time is up, is inconclusive."""
    answer, blocks = trial.answer(rule)
    seen = trial.first(blocks)
    limit, half = format_share(rule.max_slowdown), format_share(rule.tolerated)
    if answer == "pass":
        return Told(answer, f"{told_change(seen, rule)}: surely less than {limit}")
    if answer == "regression":
        _, (low, _) = _change(seen, rule)
        more = f"more than {limit}" if low > rule.max_slowdown else f"surely more than {half}, half of the limit"
        return Told(answer, f"{told_change(seen, rule)}: {more}")
    late = " when the time was used up" if trial.late else ""
    undecided = f"{told_change(seen, rule)}{late}: neither surely less than {limit} nor surely more than {half}"
    return Told("inconclusive", f"{undecided}{_remedy(seen, rule)}")


def _remedy(trial: Trial, rule: Rule) -> str:
    """Say what would have told, as the end of a sentence."""
    if rule.of == "median":
        passing = decision.passing_limit(trial.ratios)
        return f"; a limit of {format_share(passing)} would have passed" if passing is not None else ""
    old, new = trial.times_ns("baseline"), trial.times_ns("candidate")
    needed, made = calls_needed(old, new, rule), min(sum(map(len, old)), sum(map(len, new)))
    if needed is None:
        return f"; {made:,} calls of each side are too few, and far more like these would not tell"
    return f"; {made:,} calls of each side are too few: about {needed:,} are needed"


def told_change(trial: Trial, rule: Rule) -> str:
    """Say the change of one trial, as ``+6.2% [+5.1%, +7.3%] in 20 blocks``."""
    estimate, interval = _change(trial, rule)
    low, high = (format_share(bound, signed=True) if -1 < bound < math.inf else "?" for bound in interval)
    told = f"{format_share(estimate, signed=True)} [{low}, {high}] in {len(trial.blocks)} blocks"
    if rule.of != "p99":
        return told
    old, new = (format_duration(percentile_ns(trial.times_ns(side)) / 1e9) for side in SIDES)
    return f"99th percentile {old} -> {new}, {told}"


def _change(trial: Trial, rule: Rule) -> Change:
    if rule.of == "p99":
        return tail_change(trial.times_ns("baseline"), trial.times_ns("candidate"))
    return decision.change(trial.ratios)


def hidden(trial: Trial, rule: Rule) -> Told:
    """Return what the mean says of a trial whose median passes; it says nothing where it has not grown too much."""
    answer, _ = trial.answer(rule)
    if answer == "pass":
        return Told("pass", "")
    grown = format_share(decision.mean_change([block.mean_ratio for block in trial.blocks]), signed=True)
    advice = "some calls may take far longer than the others; limit them with --max-p99 (max_p99)"
    if answer == "regression":
        return Told("inconclusive", f"but the mean has surely grown by more: {grown}; {advice}")
    return Told("pass", f"but the mean is {grown}, which so few blocks cannot tell from chance; {advice}")


def too_fine(rule: Rule, bias: float) -> str:
    """Say that a limit is finer than the difference between processes of the same code."""
    least = math.expm1(2 * BIAS_FACTOR * bias)
    return (
        f"a limit of {format_share(rule.max_slowdown)} is finer than this machine can tell: the same code in two "
        f"fresh processes differs by {format_share(bias)}; use a limit of {format_share(least)} or more"
    )
