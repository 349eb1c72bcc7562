"""``profiler gate``: is the candidate slower than the baseline by more than is allowed?

Three answers: pass, regression, inconclusive. The decision is in ``profiler.gate.decision``, the data in
``profiler.gate.blocks``; here a regression is confirmed in fresh processes before it fails a build, a limit is refused
that this machine cannot tell from the difference between two processes of the same code, and memory is compared.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from profiler.errors import UserError
from profiler.gate import decision
from profiler.gate.bias import BIAS_FACTOR, Bias, Biases, measure_bias
from profiler.gate.blocks import Trial
from profiler.gate.contest import Contest, Options, open_contest
from profiler.gate.decision import Rule
from profiler.gate.subject import Pair
from profiler.gate.verdict import Verdict
from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.records.types import Failure
from profiler.units import format_bytes, format_share

if TYPE_CHECKING:
    from profiler.run.processes import Executor


#: Peaks of the same model in two fresh processes differ by less than this (tests/studies/study_memory.py), in bytes.
MEMORY_NOISE = 1 << 20


def judge(
    pair: Pair, contest: Contest, rule: Rule | None, bias: Callable[[], Bias | Failure | None], seed: int
) -> Verdict:
    """Compare latency, then memory, as far as ``pair`` asks for them."""
    verdict = Verdict(pair, "pass", "nothing was gated")
    if rule is not None:
        verdict = _latency(pair, contest, rule, bias, seed)
    if pair.max_memory_growth is None or verdict.status == "error":
        return verdict
    return _with_memory(verdict, contest, pair.max_memory_growth)


def _latency(pair: Pair, contest: Contest, rule: Rule, bias: Callable[[], Bias | Failure | None], seed: int) -> Verdict:
    own = bias()
    if isinstance(own, Failure):
        return Verdict(pair, "error", f"baseline: {own.reason}", rule, detail=own.detail)
    size = own.size if own else None
    if size is not None and math.log1p(rule.tolerated) < BIAS_FACTOR * size:
        return Verdict(pair, "inconclusive", _too_fine(rule, size), rule, bias=size)
    first = contest.trial(rule, seed)
    if isinstance(first, Failure):
        return Verdict(pair, "error", first.reason, rule, bias=size, detail=first.detail)
    answer = decision.decide(first.ratios, rule) or "inconclusive"
    if answer != "regression":
        return Verdict(pair, answer, _said(answer, first, rule), rule, (first,), size)
    return _confirmed(pair, contest, rule, first, seed, size)


def _confirmed(pair: Pair, contest: Contest, rule: Rule, first: Trial, seed: int, bias: float | None) -> Verdict:
    """Fail a build only on what fresh processes with fresh data show again."""
    second = contest.trial(rule, seed + 1)
    if isinstance(second, Failure):
        reason = f"{_said('regression', first, rule)}; the trial that was to confirm it failed: {second.reason}"
        return Verdict(pair, "error", reason, rule, (first,), bias, detail=second.detail)
    if decision.decide(second.ratios, rule) == "regression":
        reason = f"{_said('regression', first, rule)}; confirmed in fresh processes: {_change(second)}"
        return Verdict(pair, "regression", reason, rule, (first, second), bias)
    reason = (
        f"not confirmed: {_change(first)} at first, {_change(second)} in fresh processes; "
        "the machine is disturbed or processes of the same code differ: run it again on a quiet machine"
    )
    return Verdict(pair, "inconclusive", reason, rule, (first, second), bias)


def _too_fine(rule: Rule, bias: float) -> str:
    least = math.expm1(2 * BIAS_FACTOR * bias)
    return (
        f"a limit of {format_share(rule.max_slowdown)} is finer than this machine can tell: the same code in two "
        f"fresh processes differs by {format_share(bias)}; use a limit of {format_share(least)} or more"
    )


def _change(trial: Trial) -> str:
    """Say the change of one trial, as ``+6.2% [+5.1%, +7.3%] in 20 blocks``."""
    found = decision.change(trial.ratios)
    low, high = (format_share(bound, signed=True) for bound in (found.low, found.high))
    return f"{format_share(found.estimate, signed=True)} [{low}, {high}] in {len(trial.blocks)} blocks"


def _said(answer: decision.Answer, trial: Trial, rule: Rule) -> str:
    limit, half = format_share(rule.max_slowdown), format_share(rule.tolerated)
    if answer == "pass":
        return f"{_change(trial)}: surely less than {limit}"
    if answer == "regression":
        beyond = decision.change(trial.ratios).low > rule.max_slowdown
        return f"{_change(trial)}: " + (
            f"more than {limit}" if beyond else f"surely more than {half}, half of the limit"
        )
    passing = decision.passing_limit(trial.ratios)
    would = f"; a limit of {format_share(passing)} would have passed" if passing is not None else ""
    late = " when the time was used up" if trial.late else ""
    return f"{_change(trial)}{late}: neither surely less than {limit} nor surely more than {half}{would}"


def _with_memory(verdict: Verdict, contest: Contest, allowed: float) -> Verdict:
    peaks: dict[str, int] = {}
    for side in ("baseline", "candidate"):
        found = contest.peak_bytes(side)
        if isinstance(found, Failure):
            return replace(verdict, status="error", reason=f"memory of the {side}: {found.reason}", detail=found.detail)
        # The device's allocator is what the model asked for; the process is all there is on the CPU.
        peaks[side] = found.get("allocated") or found["process"]
    growth = peaks["candidate"] / peaks["baseline"] - 1
    said = (
        f"peak memory {format_bytes(peaks['baseline'])} -> {format_bytes(peaks['candidate'])} "
        f"({format_share(growth, signed=True)}, {format_share(allowed)} allowed)"
    )
    failed = growth > allowed and peaks["candidate"] - peaks["baseline"] > MEMORY_NOISE
    status = "regression" if failed else verdict.status
    reason = said if verdict.rule is None else f"{verdict.reason}; {said}"
    return replace(verdict, status=status, reason=reason, peaks=peaks)


def run_suite(pairs: Sequence[Pair], options: Options, after: Callable[[Verdict], None]) -> list[Verdict]:
    """Judge every pair in turn; ``after`` is told of each verdict as soon as it is known."""
    from profiler.run.processes import LocalExecutor

    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**31)
    executor = LocalExecutor()
    verdicts: list[Verdict] = []
    try:
        for number, pair in enumerate(pairs):
            verdict = _judged(pair, len(pairs), executor, options, seed + 1000 * number)
            verdicts.append(verdict)
            after(verdict)
    finally:
        executor.close()
    return verdicts


def judge_one(pair: Pair, options: Options, seed: int, among: int = 1) -> Verdict:
    """Judge one pair by itself.

    Args:
        pair: What to compare.
        options: How; their seed is not used.
        seed: Of the order within blocks.
        among: How many pairs are judged together, each by a call of its own, as by the tests of one pytest run.
    """
    from profiler.run.processes import LocalExecutor

    executor = LocalExecutor()
    try:
        return _judged(pair, among, executor, options, seed)
    finally:
        executor.close()


def _judged(pair: Pair, pairs: int, executor: Executor, options: Options, seed: int) -> Verdict:
    try:
        with open_contest(pair, executor, options) as contest:
            name = f"{pair.baseline.case.key} {pair.baseline.revision or ''}"
            return settle(pair, contest, name, options, seed, pairs)
    except UserError as error:
        return Verdict(pair, "error", str(error))


def settle(pair: Pair, contest: Contest, name: str, options: Options, seed: int, among: int) -> Verdict:
    """Judge one of ``among`` pairs, by the bias that is kept for its baseline's ``name`` on this machine."""
    rule = Rule(pair.max_slowdown).shared(among) if pair.max_slowdown is not None else None

    def bias() -> Bias | Failure | None:
        if not options.self_test:
            return None
        whose = f"{host.key()} {name} {type(contest).__name__}"
        return Biases(cache_folder()).get(whose, lambda: measure_bias(contest, seed + 100))

    return judge(pair, contest, rule, bias, seed)
