"""``profiler gate``: is the candidate slower than the baseline by more than is allowed?

Three answers: pass, regression, inconclusive. The decision is in :mod:`profiler.decision`, the data in
:mod:`profiler.duel`; here a regression is confirmed in fresh processes before it fails a build, a limit is refused
that this machine cannot tell from the difference between two processes of the same code, and memory is compared.
"""

from __future__ import annotations

import contextlib
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from profiler import decision, duel, gitref, host, kept, remote, run
from profiler.decision import Interval, Rule
from profiler.duel import Trial
from profiler.errors import UserError
from profiler.records import Budget, Failure, Memory
from profiler.subjects import Subject
from profiler.units import format_bytes, format_share
from profiler.worker import Limits, Task, visit

if TYPE_CHECKING:
    from profiler.executors import Executor

Status = Literal["pass", "regression", "inconclusive", "error", "not comparable"]
EXIT = {"pass": 0, "regression": 1, "error": 2, "inconclusive": 3, "not comparable": 4}
#: Which exit code wins when pairs differ: what fails a build first, what says least last.
_ORDER = ("regression", "error", "not comparable", "inconclusive", "pass")

#: A limit must tolerate this many times the bias between processes of the same code.
BIAS_FACTOR = 3.0
#: Fresh processes that measure that bias, each with as many blocks as the first look has.
SELF_TESTS = 5
#: The bias counts only where the estimates differ from zero by more than their own noise: the 99% point of
#: chi-square with :data:`SELF_TESTS` degrees of freedom.
BIAS_SURE = 15.09
#: A trial begins no further look that would end after this, in seconds.
SECONDS = 300.0
#: Peaks of the same model in two fresh processes differ by less than this (tests/studies/study_memory.py), in bytes.
MEMORY_NOISE = 1 << 20


@dataclass(frozen=True, slots=True)
class Pair:
    """Two subjects and what the second may cost.

    Attributes:
        baseline: As it was.
        candidate: As it is to become.
        max_slowdown: The slow-down that must be caught, as a share; None leaves latency ungated.
        max_memory_growth: The growth of peak memory that fails, as a share; None leaves memory ungated.
        name: For reports; both labels where none is given.
    """

    baseline: Subject
    candidate: Subject
    max_slowdown: float | None = 0.05
    max_memory_growth: float | None = None
    name: str = ""

    @property
    def label(self) -> str:
        """The name, or both sides."""
        return self.name or f"{self.baseline.label} -> {self.candidate.label}"


class Contest(Protocol):
    """Makes trials of one pair, each in fresh processes."""

    def trial(self, rule: Rule, seed: int, *, itself: bool = False) -> Trial | Failure:
        """Return the blocks of one trial; with ``itself`` the baseline stands on both sides."""

    def peak_bytes(self, side: str) -> dict[str, int] | Failure:
        """Return the peaks of memory of ``baseline`` or ``candidate`` by source, above the level before loading."""


@dataclass(frozen=True, slots=True)
class Together:
    """Both sides in one fresh process."""

    pair: Pair
    executor: Executor
    seconds: float = SECONDS
    cache: Path | None = field(default_factory=run.cache_folder)

    def trial(self, rule: Rule, seed: int, *, itself: bool = False) -> Trial | Failure:
        """See :class:`Contest`."""
        old, new = self.pair.baseline.case, self.pair.candidate.case
        job = duel.Job(old, old if itself else new, rule, seed, self.seconds, self.cache)
        return self.executor.call(duel.duel, job, self.seconds + remote.LOAD_S, Limits())

    def peak_bytes(self, side: str) -> dict[str, int] | Failure:
        """See :class:`Contest`."""
        subject: Subject = getattr(self.pair, side)
        task = Task(subject.case, Budget(), None, self.cache, "memory")
        reply = self.executor.call(visit, task, remote.LOAD_S, Limits())
        outcome = reply if isinstance(reply, Failure) else reply.outcome
        return outcome.run_bytes if isinstance(outcome, Memory) else _must_fail(outcome)


@dataclass(frozen=True, slots=True)
class Apart:
    """Each side in a process of its own, under its own version of the code."""

    pair: Pair
    baseline: remote.Code
    candidate: remote.Code
    seconds: float = SECONDS
    cache: Path = field(default_factory=run.cache_folder)

    def trial(self, rule: Rule, seed: int, *, itself: bool = False) -> Trial | Failure:
        """See :class:`Contest`."""
        old = (self.baseline, self.pair.baseline.case)
        new = (self.candidate, self.pair.candidate.case)
        return remote.duel({"baseline": old, "candidate": old if itself else new}, rule, seed, self.seconds, self.cache)

    def peak_bytes(self, side: str) -> dict[str, int] | Failure:
        """See :class:`Contest`."""
        subject: Subject = getattr(self.pair, side)
        return remote.peak_bytes(getattr(self, side), subject.case, self.cache)


def _must_fail(outcome: object) -> Failure:
    return outcome if isinstance(outcome, Failure) else Failure("error", f"no memory was measured: {outcome!r:.100}")


@dataclass(frozen=True, slots=True)
class Bias:
    """How far the same code in fresh processes lies from itself, on a logarithmic scale.

    Attributes:
        estimates: Of ``ln(second ÷ first)``, one per fresh process.
        errors: Their standard errors, from the blocks within.
    """

    estimates: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def size(self) -> float:
        """The part of the estimates' spread about zero that the noise of the blocks does not explain."""
        pairs = list(zip(self.estimates, self.errors, strict=True))
        if sum((y / e) ** 2 for y, e in pairs if e > 0) <= BIAS_SURE:
            return 0.0
        return math.sqrt(max(0.0, statistics.fmean(y * y - e * e for y, e in pairs)))


class Judged(Protocol):
    """A verdict, of a pair or of a case beside a stored run, as far as outputs need to know."""

    @property
    def status(self) -> Status:
        """The answer."""

    @property
    def reason(self) -> str:
        """One sentence."""

    @property
    def label(self) -> str:
        """What was compared, in one line."""

    @property
    def max_slowdown(self) -> float | None:
        """The slow-down that must be caught, as a share."""

    @property
    def seconds(self) -> float | None:
        """Wall time of measuring."""

    @property
    def change(self) -> Interval | None:
        """Candidate over baseline minus one, with its 95% interval."""

    def latency_ns(self, side: str) -> float | None:
        """Return the time of a forward of ``baseline`` or ``candidate``, in ns."""

    def as_dict(self) -> dict[str, Any]:
        """Return everything that is known as plain types."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one pair.

    Attributes:
        pair: What was compared.
        status: The answer, for latency and memory together.
        reason: One sentence.
        rule: What was asked of the latency; None where it was not gated.
        trials: The first, and the one that confirmed or contradicted a regression.
        bias: Of the machine, where it was measured.
        peaks: Peak memory in bytes by side, where it was compared.
        detail: Traceback or output of what failed.
    """

    pair: Pair
    status: Status
    reason: str
    rule: Rule | None = None
    trials: tuple[Trial, ...] = ()
    bias: float | None = None
    peaks: dict[str, int] = field(default_factory=dict)
    detail: str = ""

    @property
    def label(self) -> str:
        """The pair in one line."""
        return self.pair.label

    @property
    def max_slowdown(self) -> float | None:
        """The slow-down that must be caught, as a share; None where latency was not gated."""
        return self.pair.max_slowdown

    @property
    def seconds(self) -> float | None:
        """Wall time of the blocks; None where there are none."""
        return sum(trial.seconds for trial in self.trials) or None

    @property
    def change(self) -> Interval | None:
        """Candidate over baseline minus one over all trials, with its 95% interval."""
        ratios = [ratio for trial in self.trials for ratio in trial.ratios]
        return decision.change(ratios) if ratios else None

    def latency_ns(self, side: str) -> float | None:
        """Return the median time of a forward of one side, as measured, in ns."""
        return statistics.median(trial.latency_ns(side) for trial in self.trials) if self.trials else None

    def as_dict(self) -> dict[str, Any]:
        """Return everything that is known, the raw blocks too, as plain types."""
        sides = {side: self.latency_ns(side) for side in ("baseline", "candidate")}
        return {
            "name": self.label,
            "status": self.status,
            "reason": self.reason,
            "detail": self.detail,
            "max_slowdown": self.max_slowdown,
            "max_memory_growth": self.pair.max_memory_growth,
            "change": asdict(self.change) if self.change else None,
            **{f"{side}_ms": None if ns is None else ns / 1e6 for side, ns in sides.items()},
            "peak_memory_bytes": self.peaks or None,
            "process_bias": self.bias,
            "rule": asdict(self.rule) if self.rule else None,
            "pair": asdict(self.pair),
            "trials": [asdict(trial) for trial in self.trials],
        }


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


def measure_bias(contest: Contest, seed: int) -> Bias | Failure:
    """Compare the baseline with itself in fresh processes."""
    rule = Rule(1.0, looks=decision.LOOKS[:1])
    estimates, errors = [], []
    for number in range(SELF_TESTS):
        trial = contest.trial(rule, seed + number, itself=True)
        if isinstance(trial, Failure):
            return trial
        ratios = trial.ratios
        estimates.append(math.log1p(decision.change(ratios).estimate))
        errors.append(statistics.stdev(ratios) / math.sqrt(len(ratios)))
    return Bias(tuple(estimates), tuple(errors))


class Biases:
    """Biases that were measured on this machine, kept in the user's cache by machine and baseline."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "gate.json"

    def get(self, name: str, measured: Callable[[], Bias | Failure]) -> Bias | Failure:
        """Return the bias kept under ``name``; measure and keep it where there is none."""
        known = kept.load(self._file)
        with contextlib.suppress(KeyError, TypeError):
            return Bias(tuple(known[name]["estimates"]), tuple(known[name]["errors"]))
        bias = measured()
        if isinstance(bias, Bias):
            try:
                kept.keep(self._file, name, asdict(bias))
            except OSError as error:
                print(f"the self-test could not be kept ({error}); it is made again next time", file=sys.stderr)
        return bias


def exit_code(verdicts: Iterable[Judged]) -> int:
    """Return the exit code of a suite: its gravest verdict's."""
    found = {verdict.status for verdict in verdicts}
    return next((EXIT[status] for status in _ORDER if status in found), EXIT["error"])


@dataclass(frozen=True, slots=True)
class Options:
    """How a suite is run.

    Attributes:
        seconds: A trial begins no look that would end after this.
        self_test: Whether the bias of the machine is looked at.
        seed: Of the order within blocks; None draws one.
        baseline_python: Interpreter of a ``git:`` baseline; None for this one.
    """

    seconds: float = SECONDS
    self_test: bool = True
    seed: int | None = None
    baseline_python: str | None = None


def run_suite(pairs: Sequence[Pair], options: Options, after: Callable[[Verdict], None]) -> list[Verdict]:
    """Judge every pair in turn; ``after`` is told of each verdict as soon as it is known."""
    from profiler.executors import LocalExecutor

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
    from profiler.executors import LocalExecutor

    executor = LocalExecutor()
    try:
        return _judged(pair, among, executor, options, seed)
    finally:
        executor.close()


def _judged(pair: Pair, pairs: int, executor: Executor, options: Options, seed: int) -> Verdict:
    try:
        with _contest(pair, executor, options) as contest:
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
        return Biases(run.cache_folder()).get(whose, lambda: measure_bias(contest, seed + 100))

    return judge(pair, contest, rule, bias, seed)


@contextlib.contextmanager
def _contest(pair: Pair, executor: Executor, options: Options) -> Iterator[Contest]:
    if pair.baseline.revision is None and pair.candidate.revision is None:
        yield Together(pair, executor, options.seconds)
        return
    with ExitStack() as stack:
        codes = {}
        for side, python in (("baseline", options.baseline_python), ("candidate", None)):
            revision = getattr(pair, side).revision
            codes[side] = (
                stack.enter_context(gitref.checked_out(revision, Path.cwd(), python))
                if revision is not None
                else remote.Code(Path.cwd())
            )
        yield Apart(pair, codes["baseline"], codes["candidate"], options.seconds)
