"""The verdict on one pair: is the candidate slower than the baseline by more than is allowed?

Three answers: pass, regression, inconclusive. The decision is in ``profiler.gate.decision``, the data in
``profiler.gate.blocks``; here a regression is confirmed in fresh processes before it fails a build, a limit is refused
that this machine cannot tell from the difference between two processes of the same code, and memory is compared.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from profiler.errors import UserError
from profiler.gate import decision, said
from profiler.gate.bias import BIAS_FACTOR, kept_bias, measure_bias
from profiler.gate.blocks import Trial, failing
from profiler.gate.contest import SECONDS, Contest, opened_contest
from profiler.gate.decision import Rule
from profiler.gate.likeness import is_refused
from profiler.gate.side import SIDES, Pair
from profiler.gate.tail import TAIL_LOOKS, percentile_ns, tail_change
from profiler.gate.verdict import Status, Verdict
from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.records.table import headline
from profiler.records.types import Failure
from profiler.run.processes import LocalExecutor
from profiler.units import format_bytes, format_share

#: Peaks of the same model in two fresh processes differ by less than this (tests/studies/study_memory.py), in bytes.
_MEMORY_NOISE = 1 << 20


def judge(
    pair: Pair, contest: Contest, rules: Sequence[Rule], bias: Callable[[], float | Failure | None], seed: int
) -> Verdict:
    """Compare what is computed, latency, then memory, as far as ``pair`` asks for them.

    Args:
        pair: What to compare.
        contest: Its sides, made ready.
        rules: What is asked of the latency; none leaves it ungated.
        bias: Measures how far the baseline differs from itself; gives None where nobody looks at it.
        seed: Of the order within blocks.
    """
    verdict = _latency(pair, contest, rules, bias() if rules else None, seed)
    if pair.max_memory_growth is not None and verdict.status not in ("error", "different output", "not comparable"):
        verdict = _with_memory(verdict, pair, contest, pair.max_memory_growth)
    return verdict if verdict.reason else replace(verdict, reason="both sides compute the same; nothing else was gated")


def _verdict(
    pair: Pair,
    status: Status,
    reason: str,
    rules: Sequence[Rule] = (),
    trials: tuple[Trial, ...] = (),
    bias: float | None = None,
    detail: str = "",
) -> Verdict:
    timed = [trial for trial in trials if trial.blocks]
    ratios = [ratio for trial in timed for ratio in trial.ratios]
    return Verdict(
        label=pair.label,
        status=status,
        reason=reason,
        detail=detail,
        max_slowdown=pair.max_slowdown,
        change=decision.change(ratios) if ratios else None,
        latency_ns={side: statistics.median(one.latency_ns(side) for one in timed) for side in SIDES if timed},
        seconds=sum(trial.seconds for trial in timed) or None,
        trials=trials,
        facts={
            "max_memory_growth": pair.max_memory_growth,
            "max_p99": pair.max_p99,
            "peak_memory_bytes": None,
            "process_bias": bias,
            "rules": tuple(rules),
            "p99": _tail(timed) if any(rule.of == "p99" for rule in rules) and timed else None,
            "pair": pair,
        },
    )


def _tail(trials: Sequence[Trial]) -> dict[str, object]:
    old, new = ([calls for trial in trials for calls in trial.times_ns(side)] for side in SIDES)
    estimate, interval = tail_change(old, new)
    low, high = (bound if math.isfinite(bound) else None for bound in interval)
    ends = {"baseline_ms": percentile_ns(old) / 1e6, "candidate_ms": percentile_ns(new) / 1e6}
    return {"change": estimate, "low": low, "high": high, "calls": sum(map(len, new)), **ends}


def _latency(pair: Pair, contest: Contest, rules: Sequence[Rule], bias: float | Failure | None, seed: int) -> Verdict:
    if isinstance(bias, Failure):
        return _verdict(pair, "error", f"baseline: {bias.reason}", rules, detail=bias.detail)
    for rule in failing(rules):
        if bias is not None and math.log1p(rule.tolerated) < BIAS_FACTOR * bias:
            return _verdict(pair, "inconclusive", said.too_fine(rule, bias), rules, bias=bias)
    first = contest.trial(rules, seed)
    if isinstance(first, Failure):
        return _verdict(pair, "error", first.reason, rules, bias=bias, detail=first.detail)
    if is_refused(first.unlike, pair.allowed):
        return _refused(pair, first)
    found = [said.finding(first, rule) for rule in failing(rules)]
    if any(one.answer == "regression" for one in found):
        verdict = _confirmed(pair, contest, rules, first, seed, bias)
    else:
        unsure = any(one.answer == "inconclusive" for one in found)
        told = "; ".join(one.said for one in found)
        verdict = _verdict(pair, "inconclusive" if unsure else "pass", told, rules, (first,), bias)
    return _with_notes(verdict, first, rules)


def _refused(pair: Pair, trial: Trial) -> Verdict:
    inputs = trial.unlike is not None and trial.unlike.kind == "inputs"
    status: Status = "not comparable" if inputs else "different output"
    return _verdict(pair, status, f"{trial.unlike.said if trial.unlike else ''}; nothing was timed", trials=(trial,))


def _with_notes(verdict: Verdict, trial: Trial, rules: Sequence[Rule]) -> Verdict:
    """Say what else is to be known: sides that differ as they may, and calls that the median hides."""
    notes = [f"{trial.unlike.said}{', as is allowed' if trial.unlike.kind != 'itself' else ''}"] if trial.unlike else []
    status = verdict.status
    for rule in rules:
        if rule.of == "mean" and verdict.status == "pass":
            hidden = said.hidden(trial, rule)
            notes.insert(0, hidden.said)
            status = hidden.answer
    return replace(verdict, status=status, reason="; ".join(filter(None, (verdict.reason, *notes))))


def _confirmed(
    pair: Pair, contest: Contest, rules: Sequence[Rule], first: Trial, seed: int, bias: float | None
) -> Verdict:
    """Fail a build only on what fresh processes with fresh data show again."""
    suspects = [rule for rule in failing(rules) if said.finding(first, rule).answer == "regression"]
    at_first = "; ".join(said.finding(first, rule).said for rule in suspects)
    second = contest.trial(suspects, seed + 1)
    if isinstance(second, Failure):
        reason = f"{at_first}; the trial that was to confirm it failed: {second.reason}"
        return _verdict(pair, "error", reason, rules, (first,), bias, detail=second.detail)
    if is_refused(second.unlike, pair.allowed):
        return _refused(pair, second)
    again = [rule for rule in suspects if said.finding(second, rule).answer == "regression"]
    if again:
        shown = "; ".join(said.told_change(second, rule) for rule in again)
        reason = f"{at_first}; confirmed in fresh processes: {shown}"
        return _verdict(pair, "regression", reason, rules, (first, second), bias)
    then, now = ("; ".join(said.told_change(trial, rule) for rule in suspects) for trial in (first, second))
    reason = (
        f"not confirmed: {then} at first, {now} in fresh processes; "
        "the machine is disturbed or processes of the same code differ: run it again on a quiet machine"
    )
    return _verdict(pair, "inconclusive", reason, rules, (first, second), bias)


def _with_memory(verdict: Verdict, pair: Pair, contest: Contest, allowed: float) -> Verdict:
    peaks: dict[str, int] = {}
    sources: dict[str, str] = {}
    for side in SIDES:
        found = contest.peaks(side)
        if isinstance(found, Failure):
            return replace(verdict, status="error", reason=f"memory of the {side}: {found.reason}", detail=found.detail)
        device = getattr(pair, side).case.placement.device
        source = headline(found, device)
        if source is None:
            reason = f"memory of the {side}: nothing tells what it takes on {device}; gate its latency alone"
            return replace(verdict, status="error", reason=reason)
        peaks[side], sources[side] = found[source], source
    growth = peaks["candidate"] / max(1, peaks["baseline"]) - 1
    told = (
        f"peak memory {format_bytes(peaks['baseline'])} -> {format_bytes(peaks['candidate'])} "
        f"({format_share(growth, signed=True)}, {format_share(allowed)} allowed)"
    )
    if len(set(sources.values())) > 1:
        whose = ", ".join(f"{source} of the {side}" for side, source in sources.items())
        told = f"peak memory is told by unlike sources: {whose}; name sides of one runtime"
        return _also(verdict, "not comparable", told)
    failed = growth > allowed and peaks["candidate"] - peaks["baseline"] > _MEMORY_NOISE
    verdict = replace(verdict, facts={**verdict.facts, "peak_memory_bytes": peaks})
    return _also(verdict, "regression" if failed else "pass", told)


def _also(verdict: Verdict, status: Status, told: str) -> Verdict:
    """Add what memory showed to what latency did."""
    decided = verdict.status if status == "pass" or verdict.status == "regression" else status
    return replace(verdict, status=decided, reason="; ".join(filter(None, (verdict.reason, told))))


def judge_pairs(
    pairs: Sequence[Pair],
    *,
    seed: int | None = None,
    seconds: float = SECONDS,
    self_test: bool = True,
    baseline_python: str | None = None,
    among: int | None = None,
    after: Callable[[Verdict], None] = lambda _: None,
) -> list[Verdict]:
    """Judge every pair in turn.

    Args:
        pairs: What to compare.
        seed: Of the order within blocks; None draws one.
        seconds: A trial begins no look that would end after this.
        self_test: Whether the bias of the machine is looked at.
        baseline_python: Interpreter of a ``git:`` baseline; None for this one.
        among: How many pairs are judged together, as by the tests of one pytest run; None for these.
        after: Is told of each verdict as soon as it is known.
    """
    first = seed if seed is not None else random.SystemRandom().randrange(2**31)
    executor = LocalExecutor()
    verdicts: list[Verdict] = []
    try:
        for number, pair in enumerate(pairs):
            name = f"{pair.baseline.case.key} {pair.baseline.revision or ''}"
            try:
                with opened_contest(pair, executor, seconds, baseline_python) as contest:
                    own, together = first + 1000 * number, among or len(pairs)
                    verdict = settle(pair, contest, name, own, together, self_test=self_test)
            except UserError as error:
                verdict = _verdict(pair, "error", str(error))
            verdicts.append(verdict)
            after(verdict)
    finally:
        executor.close()
    return verdicts


def settle(pair: Pair, contest: Contest, name: str, seed: int, among: int, *, self_test: bool) -> Verdict:
    """Judge one of ``among`` pairs, by the bias that is kept for its baseline's ``name`` on this machine."""
    rules = rules_of(pair, among)

    def bias() -> float | Failure | None:
        if not self_test:
            return None
        whose = f"{host.key()} {name} {contest.kind}"
        return kept_bias(cache_folder(), whose, lambda: measure_bias(contest, seed + 100))

    return judge(pair, contest, rules, bias, seed)


def rules_of(pair: Pair, among: int = 1) -> list[Rule]:
    """Return what one of ``among`` pairs asks of its latency."""
    median, p99 = pair.max_slowdown, pair.max_p99
    asked = [
        *([Rule(median)] if median is not None else []),
        *([Rule(p99, looks=TAIL_LOOKS, of="p99")] if p99 is not None else []),
    ]
    beside = [Rule(median, of="mean")] if median is not None and p99 is None else []
    return [*(rule.shared(among * len(asked)) for rule in asked), *beside]
