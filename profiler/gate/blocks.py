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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from profiler import backends
from profiler.backends.base import BackendError, Fact, Model, Placement, Session
from profiler.backends.inputs import Inputs
from profiler.gate.decision import Rule, decide
from profiler.machine import allocator
from profiler.measure import timing
from profiler.models import source
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


@dataclass(frozen=True, slots=True)
class Trial:
    """The blocks of one pair from one fresh process, or from one fresh process of each side.

    Attributes:
        blocks: In their order.
        seconds: Wall time of the blocks.
        late: Whether the time allowed was used up before the last look.
        facts: What the backends say really ran, by side.
    """

    blocks: tuple[Block, ...]
    seconds: float
    late: bool = False
    facts: dict[str, dict[str, Fact]] = field(default_factory=dict)

    @property
    def ratios(self) -> tuple[float, ...]:
        """One number per block."""
        return tuple(block.ratio for block in self.blocks)

    def latency_ns(self, side: str) -> float:
        """Return the median time of a forward of ``baseline`` or ``candidate``, as measured, in ns."""
        times: list[tuple[float, ...]] = [getattr(block, f"{side}_ns") for block in self.blocks]
        return statistics.median(ns for block in times for ns in block)


def _slot_shape(forward_ns: float, settle: int) -> timing.Shape:
    """Return the slot of a model whose forward takes about ``forward_ns`` nanoseconds."""
    calls = timing.shape(forward_ns).calls
    samples = max(_SLOT_SAMPLES, math.ceil(_SLOT_NS / (max(forward_ns, 1.0) * calls)))
    return timing.Shape(calls, settle, samples)


def prepared(session: timing.Workload, settle: int, clock: timing.Clock = timing.host_clock) -> _Slot:
    """Warm up a session and return its slot."""
    warmup = timing.warm_up(session, Budget(warmup_s=_WARMUP_S), clock)
    shape = _slot_shape(warmup.typical_ns, settle)
    return lambda: [ns / shape.calls for ns in timing.time_block(session, shape, clock)]


def collect(
    baseline: _Slot,
    candidate: _Slot,
    rule: Rule,
    flip: Callable[[], bool],
    seconds: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> Trial:
    """Alternate blocks until the rule has an answer, or another look would take longer than ``seconds`` in all.

    Args:
        baseline: Times one slot of the baseline.
        candidate: Times one slot of the candidate.
        rule: When to look, and what an answer is.
        flip: Tosses the coin of a block: True begins with the candidate.
        seconds: Wall time that may be used; the first look is always reached.
        clock: In seconds.
    """
    blocks: list[Block] = []
    start = clock()
    for due in rule.looks:
        spent = clock() - start
        if blocks and spent * due / len(blocks) > seconds:
            return Trial(tuple(blocks), spent, late=True)
        while len(blocks) < due:
            blocks.append(_block(baseline, candidate, candidate_first=flip()))
        if decide([block.ratio for block in blocks], rule) not in (None, "inconclusive"):
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


@contextlib.contextmanager
def loaded(case: Case, cache: Path | None) -> Iterator[Session]:
    """Load ``case`` and run it once."""

    def build() -> tuple[Model, Inputs]:
        found = source.load(case.asked(cache))
        return found.model, found.inputs

    with opened(case.backend, case.placement, build) as session:
        yield session


@contextlib.contextmanager
def opened(name: str, placement: Placement, build: Callable[[], tuple[Model, Inputs]]) -> Iterator[Session]:
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
        yield session


def of_cases(baseline: Case, candidate: Case, rule: Rule, seed: int, seconds: float, cache: Path | None) -> Trial:
    """Load two cases in this process and let them alternate; to be called in a fresh process.

    Args:
        baseline: The model as it was.
        candidate: The model as it is to become.
        rule: Decides when there are blocks enough.
        seed: Of the order within blocks.
        seconds: No further look is begun when it would end after this.
        cache: Folder for exported forms.
    """
    allocator.keep_freed()
    with ExitStack() as stack:
        cases = {"baseline": baseline, "candidate": candidate}
        sessions = {side: stack.enter_context(loaded(case, cache)) for side, case in cases.items()}
        return alternate(sessions, rule, seed, seconds)


def alternate(sessions: dict[str, Session], rule: Rule, seed: int, seconds: float) -> Trial:
    """Let the two loaded ``sessions``, ``baseline`` and ``candidate``, alternate in this process."""
    slots = {side: prepared(session, _SETTLE_TOGETHER) for side, session in sessions.items()}
    gc.collect()
    gc.disable()
    try:
        trial = collect(slots["baseline"], slots["candidate"], rule, coin(seed), seconds)
    finally:
        gc.enable()
    facts = {side: dict(session.facts()) for side, session in sessions.items()}
    return Trial(trial.blocks, trial.seconds, trial.late, facts)
