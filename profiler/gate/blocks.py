"""Two models against each other in interleaved blocks: the data that the gate decides on.

A block is four slots, ABBA or BAAB by the toss of a coin: a drift of the machine cancels within a block, and a
disturbance in step with the slots is as likely to fall on one side as on the other. Both sides stay loaded. Whatever
disturbs the machine for longer than a slot disturbs both.
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from profiler import backends
from profiler.backends.base import BackendError, Fact, Model, Placement, Precision, Session
from profiler.backends.inputs import Inputs
from profiler.gate.decision import Answer, Rule, first_answer, look, look_at_means
from profiler.gate.likeness import Computed, Input, Kind, Output, Unlike, is_refused, unlike, values_differ
from profiler.gate.tail import Calls, decide_tail
from profiler.machine import allocator
from profiler.measure import timing, warming
from profiler.measure.describe import counts_or_why
from profiler.measure.visit import fed_as_asked
from profiler.models import naming, source
from profiler.records.types import Budget, Case

#: A slot lasts at least this long and holds at least this many samples.
_SLOT_NS = 20_000_000
_SLOT_SAMPLES = 8
#: Untimed forwards at the start of a slot, with both models in one process and with each in its own: after a
#: hand-over between processes a core's caches hold the other one's data.
_SETTLE_TOGETHER = 1
SETTLE_APART = 3
#: Warming up a side takes at most this long.
_WARMUP_S = 2.0

#: One slot: times per forward, in ns.
_Slot = Callable[[], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Block:
    """Four slots of one block.

    Attributes:
        candidate_first: Whether the order was BAAB instead of ABBA, A being the baseline.
        baseline_ns: Times per forward of the baseline's two slots.
        candidate_ns: Times per forward of the candidate's two slots.
    """

    candidate_first: bool
    baseline_ns: tuple[float, ...]
    candidate_ns: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The natural logarithm of median candidate over median baseline."""
        return math.log(statistics.median(self.candidate_ns) / statistics.median(self.baseline_ns))

    @property
    def mean_ratio(self) -> float:
        """The same of the means."""
        return math.log(statistics.fmean(self.candidate_ns) / statistics.fmean(self.baseline_ns))


@dataclass(frozen=True, slots=True)
class Trial:
    """The blocks of one pair from one fresh process, or from one fresh process of each side.

    Attributes:
        blocks: In their order.
        seconds: Wall time of the blocks.
        late: Whether the time allowed was used up before the last look.
        facts: What the backends say really ran, by side.
        unlike: In what the sides differ apart from their times; None where they compute the same.
    """

    blocks: tuple[Block, ...]
    seconds: float
    late: bool = False
    facts: dict[str, dict[str, Fact]] = field(default_factory=dict)
    unlike: Unlike | None = None

    @property
    def ratios(self) -> tuple[float, ...]:
        """One number per block."""
        return tuple(block.ratio for block in self.blocks)

    def times_ns(self, side: str) -> Calls:
        """Return the times of a forward of ``baseline`` or ``candidate``, as measured, block by block, in ns."""
        return [getattr(block, f"{side}_ns") for block in self.blocks]

    def latency_ns(self, side: str) -> float:
        """Return the median of ``times_ns``."""
        return statistics.median(ns for block in self.times_ns(side) for ns in block)

    def first(self, blocks: int) -> Trial:
        """Return the trial as it was after so many blocks."""
        return replace(self, blocks=self.blocks[:blocks])

    def answer(self, rule: Rule) -> tuple[Answer | None, int]:
        """Return the first answer that the blocks give to a rule, and after how many; None where they give none."""
        if rule.of == "p99":
            return decide_tail(self.times_ns("baseline"), self.times_ns("candidate"), rule)
        if rule.of == "mean":
            means = [block.mean_ratio for block in self.blocks]
            return first_answer(len(means), rule, lambda blocks: look_at_means(means[:blocks], rule))
        return first_answer(len(self.blocks), rule, lambda blocks: look(self.ratios[:blocks], rule))


def _slot_shape(forward_ns: float, settle: int, *, single: bool) -> timing.Shape:
    """Return the slot of a model whose forward takes about ``forward_ns`` nanoseconds."""
    calls = timing.shape(forward_ns, single=single).calls
    samples = max(_SLOT_SAMPLES, math.ceil(_SLOT_NS / (max(forward_ns, 1.0) * calls)))
    return timing.Shape(calls, settle, samples)


def prepared(
    session: timing.Workload, settle: int, clock: timing.Clock = timing.host_clock, *, single: bool = False
) -> _Slot:
    """Warm up a session and return its slot; ``single`` times every call by itself, however short it is."""
    warmup = warming.warm_up(session, Budget(warmup_s=_WARMUP_S), clock)
    shape = _slot_shape(warmup.typical_ns, settle, single=single)
    return lambda: [ns / shape.calls for ns in timing.time_block(session, shape, clock)]


def failing(rules: Iterable[Rule]) -> list[Rule]:
    """Return the rules that can fail a build."""
    return [rule for rule in rules if rule.of != "mean"]


def single_calls(rules: Iterable[Rule]) -> bool:
    """Whether a rule asks for the time of every call by itself."""
    return any(rule.of == "p99" for rule in rules)


def collect(
    baseline: _Slot,
    candidate: _Slot,
    rules: Sequence[Rule],
    flip: Callable[[], bool],
    seconds: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> Trial:
    """Alternate blocks until the rules have an answer, or another look would take longer than ``seconds`` in all.

    Args:
        baseline: Times one slot of the baseline.
        candidate: Times one slot of the candidate.
        rules: Decide when there are blocks enough: each has its answer, or one that can fail a build says regression.
        flip: Returns whether the candidate comes first in a block.
        seconds: Wall time that may be used; the first look is always reached.
        clock: In seconds.
    """
    blocks: list[Block] = []
    start = clock()
    for due in sorted({count for rule in rules for count in rule.looks}):
        spent = clock() - start
        if blocks and spent * due / len(blocks) > seconds:
            return Trial(tuple(blocks), spent, late=True)
        while len(blocks) < due:
            blocks.append(_block(baseline, candidate, candidate_first=flip()))
        answers = {rule: Trial(tuple(blocks), 0.0).answer(rule)[0] for rule in rules}
        if None not in answers.values() or any(answers[rule] == "regression" for rule in failing(rules)):
            break
    return Trial(tuple(blocks), clock() - start)


def _block(baseline: _Slot, candidate: _Slot, *, candidate_first: bool) -> Block:
    outer, inner = (candidate, baseline) if candidate_first else (baseline, candidate)
    first, second, third, fourth = outer(), inner(), inner(), outer()
    outside, inside = (*first, *fourth), (*second, *third)
    if candidate_first:
        return Block(candidate_first, baseline_ns=inside, candidate_ns=outside)
    return Block(candidate_first, baseline_ns=outside, candidate_ns=inside)


def coin(seed: int) -> Callable[[], bool]:
    """Return a coin that falls the same way for the same seed."""
    draw = random.Random(seed)  # noqa: S311 - an order, not a secret
    return lambda: draw.random() < 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A loaded model that has run once, and what goes into it."""

    session: Session
    inputs: tuple[Input, ...]
    precision: Precision

    @property
    def on_accelerator(self) -> bool:
        """Whether it runs on one, where several calls before one wait are the throughput of a pipeline."""
        return str(self.session.facts().get("device", "cpu")).partition(":")[0] != "cpu"

    def computed(self) -> Computed:
        """Return what it computes, by another forward."""
        first = self._outputs()
        self.session.run()
        self.session.sync()
        again = self._outputs()
        same_forms = [(one.dtype, one.shape) for _, one in first] == [(one.dtype, one.shape) for _, one in again]
        steady = same_forms and not values_differ(first, again, self.precision)
        return Computed(self.inputs, first, steady)

    def _outputs(self) -> list[Output]:
        outputs = self.session.outputs()
        if len(outputs) == 1:
            return [("the output", outputs[0])]
        return [(f"output {number}", output) for number, output in enumerate(outputs, 1)]


@contextlib.contextmanager
def loaded(case: Case, cache: Path | None) -> Iterator[Ready]:
    """Load ``case`` and run it once."""

    def build() -> tuple[Model, Inputs]:
        found = source.load_model(case.asked(cache))
        if naming.is_brought(case.model) and found.model.module is not None:
            counts_or_why(found)  # refuses one that looks its results up
        return found.model, found.inputs

    with ExitStack() as stack:
        with fed_as_asked(case):
            ready = stack.enter_context(opened(case.backend, case.placement, build))
        yield ready


@contextlib.contextmanager
def opened(name: str, placement: Placement, build: Callable[[], tuple[Model, Inputs]]) -> Iterator[Ready]:
    """Load what ``build`` returns, a model and its inputs, and run it once.

    Raises:
        BackendError: The backend ``name`` cannot serve ``placement`` here; nothing was built.
    """
    backend = backends.get(name)
    reason = backend.unavailable(placement)
    if reason is not None:
        raise BackendError(reason)
    model, inputs = build()
    with backend.load(model, inputs, placement) as session:
        session.run()
        session.sync()
        given = tuple((name, str(array.dtype), tuple(array.shape)) for name, array in inputs.arrays.items())
        yield Ready(session, given, placement.precision)


def of_cases(
    baseline: Case,
    candidate: Case,
    rules: Sequence[Rule],
    seed: int,
    seconds: float,
    cache: Path | None,
    allowed: Sequence[Kind],
) -> Trial:
    """Load two cases in this process and let them alternate; to be called in a fresh process.

    Args:
        baseline: The model as it was.
        candidate: The model as it is to become.
        rules: Decide when there are blocks enough.
        seed: Of the order within blocks.
        seconds: No further look is begun when it would end after this.
        cache: Folder for exported forms.
        allowed: In what the sides may differ.
    """
    allocator.keep_freed()
    with ExitStack() as stack:
        cases = {"baseline": baseline, "candidate": candidate}
        sides = {side: stack.enter_context(loaded(case, cache)) for side, case in cases.items()}
        return alternate(sides, rules, seed, seconds, allowed)


def alternate(
    sides: Mapping[str, Ready], rules: Sequence[Rule], seed: int, seconds: float, allowed: Sequence[Kind]
) -> Trial:
    """Let the two loaded ``sides``, ``baseline`` and ``candidate``, alternate in this process; see ``of_cases``."""
    computed = {side: ready.computed() for side, ready in sides.items()}
    differ = unlike(computed["baseline"], computed["candidate"], sides["baseline"].precision)
    if is_refused(differ, allowed):
        return Trial((), 0.0, unlike=differ)
    single = single_calls(rules) or any(ready.on_accelerator for ready in sides.values())
    slots = {side: prepared(ready.session, _SETTLE_TOGETHER, single=single) for side, ready in sides.items()}
    gc.collect()
    gc.disable()
    try:
        trial = collect(slots["baseline"], slots["candidate"], rules, coin(seed), seconds)
    finally:
        gc.enable()
    facts = {side: dict(ready.session.facts()) for side, ready in sides.items()}
    return replace(trial, facts=facts, unlike=differ)
