"""What training costs: the parts of a step, and an epoch.

An epoch is predicted from a step and a loader that were timed alone, and measured as a mini-epoch in which the loader
feeds the steps. Both are taken by turns in one visit, so that a restless machine disturbs both alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, repeat
from typing import TYPE_CHECKING, TypeAlias

from profiler.backends.base import Backend, Placement, Trainer, TrainingSession
from profiler.measure import images as loader
from profiler.measure.timing import Clock
from profiler.records.types import Budget, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

Batches: TypeAlias = "Iterator[tuple[Tensor, Tensor]]"
Times: TypeAlias = tuple[float, ...]

#: Steps of which the parts are timed, where the budget has room for them.
PART_STEPS = 20
#: Rounds of steps, loader and both in a visit for an epoch.
ROUNDS = 5


def trainer(backend: Backend, placement: Placement) -> Trainer | str:
    """Return ``backend`` as one that trains on ``placement``, or why it cannot, with the remedy."""
    if not isinstance(backend, Trainer):
        return f"{backend.name} cannot train: use backend eager, or mode infer"
    return backend.untrainable(placement) or backend


def time_parts(
    session: TrainingSession, budget: Budget, clock: Clock = time.perf_counter_ns
) -> dict[str, tuple[int, ...]]:
    """Return the times of each part over a few steps, in nanoseconds.

    The clock is read once between two parts, after the device has finished the first: what one part does not take the
    next one does, and the parts add up to the step.

    Args:
        session: Warm.
        budget: Steps end after half of ``visit_s``, but not before ``min_samples`` of them, nor after
            ``PART_STEPS``.
        clock: Monotonic, in nanoseconds.
    """
    parts = session.parts
    times: list[list[int]] = []
    session.sync()
    deadline = clock() + round(budget.visit_s * 0.5e9)
    while len(times) < PART_STEPS and (len(times) < budget.min_samples or clock() < deadline):
        times.append(_one_step(session, list(parts.values()), clock))
    return dict(zip(parts, zip(*times, strict=True), strict=True))


def _one_step(session: TrainingSession, parts: Sequence[Callable[[], None]], clock: Clock) -> list[int]:
    marks = [clock()]
    for part in parts:
        part()
        session.sync()
        marks.append(clock())
    return [end - start for start, end in pairwise(marks)]


def nonsense(session: TrainingSession) -> Failure | None:
    """Return the row for a step that computed something that is no number, or None."""
    loss = session.loss()
    if math.isfinite(loss):
        return None
    return Failure("error", f"the loss is {loss} after training on random images: its time would mislead")


@dataclass(frozen=True, slots=True)
class Source:
    """What a DataLoader needs to know.

    Attributes:
        images: The samples.
        batch: Images per batch.
        workers: Processes that load.
        pin: Put batches into pinned memory.
    """

    images: loader.Images
    batch: int
    workers: int
    pin: bool = False

    def opened(self) -> AbstractContextManager[Batches]:
        """Start a loader."""
        return loader.batches(self.images, self.batch, self.workers, pin=self.pin)


def measure_epoch(
    session: TrainingSession, source: Source, budget: Budget, clock: Clock = time.perf_counter_ns
) -> tuple[Times, Times, Times]:
    """Time steps alone, the loader alone and both together, by turns, each for about ``budget.visit_s``.

    What the loader has made ahead would flatter it, so in each block so many batches pass untimed first.

    Returns:
        Mean times of the blocks of each kind, in nanoseconds, of one step or batch.
    """
    ahead = loader.AHEAD * source.workers + 1
    steps, loads, joint = [], [], []
    for _ in range(ROUNDS):
        with source.opened() as batches:
            loads.append(_pace(partial(next, batches), ahead, budget, clock, source.workers))
            kept = next(batches)
        steps.append(_pace(partial(_train_on, session, repeat(kept)), 1, budget, clock))
        with source.opened() as batches:
            joint.append(_pace(partial(_train_on, session, batches), ahead, budget, clock, source.workers))
    return tuple(steps), tuple(loads), tuple(joint)


def _train_on(session: TrainingSession, batches: Batches) -> None:
    session.feed(*next(batches))
    session.run()
    session.sync()


def _pace(work: Callable[[], object], untimed: int, budget: Budget, clock: Clock, group: int = 1) -> float:
    """Return the mean time of ``work`` over a block, in nanoseconds; a group is what workers deliver at once."""
    for _ in range(untimed):
        work()
    calls, start = 0, clock()
    deadline = start + round(budget.visit_s * 1e9)
    while True:
        for _ in range(max(1, group)):
            work()
        calls += max(1, group)
        if clock() >= deadline and calls >= budget.min_samples:
            return (clock() - start) / calls
