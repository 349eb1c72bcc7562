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
from profiler.gate import decision
from profiler.gate.bias import BIAS_FACTOR, kept_bias, measure_bias
from profiler.gate.blocks import Trial
from profiler.gate.contest import SECONDS, Contest, opened_contest
from profiler.gate.decision import Rule
from profiler.gate.side import SIDES, Pair
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
    pair: Pair, contest: Contest, rule: Rule | None, bias: Callable[[], float | Failure | None], seed: int
) -> Verdict:
    """Compare latency, then memory, as far as ``pair`` asks for them.

    Args:
        pair: What to compare.
        contest: Its sides, made ready.
        rule: What is asked of the latency; None leaves it ungated.
        bias: Measures how far the baseline differs from itself; gives None where nobody looks at it.
        seed: Of the order within blocks.
    """
    verdict = _verdict(pair, "pass", "nothing was gated")
    if rule is not None:
        verdict = _latency(pair, contest, rule, bias(), seed)
    if pair.max_memory_growth is None or verdict.status == "error":
        return verdict
    return _with_memory(verdict, pair, contest, pair.max_memory_growth)


def _verdict(
    pair: Pair,
    status: Status,
    reason: str,
    rule: Rule | None = None,
    trials: tuple[Trial, ...] = (),
    bias: float | None = None,
    detail: str = "",
) -> Verdict:
    ratios = [ratio for trial in trials for ratio in trial.ratios]
    return Verdict(
        label=pair.label,
        status=status,
        reason=reason,
        detail=detail,
        max_slowdown=pair.max_slowdown,
        change=decision.change(ratios) if ratios else None,
        latency_ns={side: statistics.median(one.latency_ns(side) for one in trials) for side in SIDES if trials},
        seconds=sum(trial.seconds for trial in trials) or None,
        trials=trials,
        facts={
            "max_memory_growth": pair.max_memory_growth,
            "peak_memory_bytes": None,
            "process_bias": bias,
            "rule": rule,
            "pair": pair,
        },
    )


def _latency(pair: Pair, contest: Contest, rule: Rule, bias: float | Failure | None, seed: int) -> Verdict:
    if isinstance(bias, Failure):
        return _verdict(pair, "error", f"baseline: {bias.reason}", rule, detail=bias.detail)
    if bias is not None and math.log1p(rule.tolerated) < BIAS_FACTOR * bias:
        return _verdict(pair, "inconclusive", _too_fine(rule, bias), rule, bias=bias)
    first = contest.trial(rule, seed)
    if isinstance(first, Failure):
        return _verdict(pair, "error", first.reason, rule, bias=bias, detail=first.detail)
    answer = decision.decide(first.ratios, rule) or "inconclusive"
    if answer != "regression":
        return _verdict(pair, answer, _said(answer, first, rule), rule, (first,), bias)
    return _confirmed(pair, contest, rule, first, seed, bias)


def _confirmed(pair: Pair, contest: Contest, rule: Rule, first: Trial, seed: int, bias: float | None) -> Verdict:
    """Fail a build only on what fresh processes with fresh data show again."""
    second = contest.trial(rule, seed + 1)
    if isinstance(second, Failure):
        reason = f"{_said('regression', first, rule)}; the trial that was to confirm it failed: {second.reason}"
        return _verdict(pair, "error", reason, rule, (first,), bias, detail=second.detail)
    if decision.decide(second.ratios, rule) == "regression":
        reason = f"{_said('regression', first, rule)}; confirmed in fresh processes: {_change(second)}"
        return _verdict(pair, "regression", reason, rule, (first, second), bias)
    reason = (
        f"not confirmed: {_change(first)} at first, {_change(second)} in fresh processes; "
        "the machine is disturbed or processes of the same code differ: run it again on a quiet machine"
    )
    return _verdict(pair, "inconclusive", reason, rule, (first, second), bias)


def _too_fine(rule: Rule, bias: float) -> str:
    least = math.expm1(2 * BIAS_FACTOR * bias)
    return (
        f"a limit of {format_share(rule.max_slowdown)} is finer than this machine can tell: the same code in two "
        f"fresh processes differs by {format_share(bias)}; use a limit of {format_share(least)} or more"
    )


def _change(trial: Trial) -> str:
    """Say the change of one trial, as ``+6.2% [+5.1%, +7.3%] in 20 blocks``."""
    estimate, interval = decision.change(trial.ratios)
    low, high = (format_share(bound, signed=True) for bound in interval)
    return f"{format_share(estimate, signed=True)} [{low}, {high}] in {len(trial.blocks)} blocks"


def _said(answer: decision.Answer, trial: Trial, rule: Rule) -> str:
    limit, half = format_share(rule.max_slowdown), format_share(rule.tolerated)
    if answer == "pass":
        return f"{_change(trial)}: surely less than {limit}"
    if answer == "regression":
        _, (low, _) = decision.change(trial.ratios)
        return f"{_change(trial)}: " + (
            f"more than {limit}" if low > rule.max_slowdown else f"surely more than {half}, half of the limit"
        )
    passing = decision.passing_limit(trial.ratios)
    would = f"; a limit of {format_share(passing)} would have passed" if passing is not None else ""
    late = " when the time was used up" if trial.late else ""
    return f"{_change(trial)}{late}: neither surely less than {limit} nor surely more than {half}{would}"


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
    said = (
        f"peak memory {format_bytes(peaks['baseline'])} -> {format_bytes(peaks['candidate'])} "
        f"({format_share(growth, signed=True)}, {format_share(allowed)} allowed)"
    )
    if len(set(sources.values())) > 1:
        told = ", ".join(f"{source} of the {side}" for side, source in sources.items())
        said = f"peak memory is told by unlike sources: {told}; name sides of one runtime"
        return _also(verdict, "not comparable", said)
    failed = growth > allowed and peaks["candidate"] - peaks["baseline"] > _MEMORY_NOISE
    verdict = replace(verdict, facts={**verdict.facts, "peak_memory_bytes": peaks})
    return _also(verdict, "regression" if failed else "pass", said)


def _also(verdict: Verdict, status: Status, said: str) -> Verdict:
    """Add what memory showed to what latency did."""
    decided = verdict.status if status == "pass" or verdict.status == "regression" else status
    return replace(verdict, status=decided, reason=f"{verdict.reason}; {said}" if verdict.facts["rule"] else said)


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
    rule = Rule(pair.max_slowdown).shared(among) if pair.max_slowdown is not None else None

    def bias() -> float | Failure | None:
        if not self_test:
            return None
        whose = f"{host.key()} {name} {contest.kind}"
        return kept_bias(cache_folder(), whose, lambda: measure_bias(contest, seed + 100))

    return judge(pair, contest, rule, bias, seed)
