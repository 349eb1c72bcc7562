"""What training costs: the parts of a step, and an epoch.

An epoch is predicted from a step and a loader that were timed alone, and measured as a mini-epoch in which the loader
feeds the steps. Both are taken by turns in one visit, so that a restless machine disturbs both alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, TypeAlias

from profiler.backends.base import Backend, PartsTimed, Placement, Trainer, TrainingSession
from profiler.measure import timing
from profiler.measure.images import AHEAD
from profiler.measure.timing import Clock, host_clock
from profiler.records.types import Budget, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_Batches: TypeAlias = "Iterator[tuple[Tensor, Tensor]]"
_Times: TypeAlias = tuple[float, ...]

#: Steps of which the parts are timed, where the budget has room for them.
_PART_STEPS = 20
#: Rounds of steps, loader and both in a visit for an epoch.
_ROUNDS = 5


def trainer(backend: Backend, placement: Placement) -> Trainer | str:
    """Return ``backend`` as one that trains on ``placement``, or why it cannot, with the remedy."""
    if not isinstance(backend, Trainer):
        return f"{backend.name} cannot train: use backend eager, or mode infer"
    return backend.untrainable(placement) or backend


def time_parts(session: TrainingSession, budget: Budget, clock: Clock = host_clock) -> dict[str, tuple[int, ...]]:
    """Return the times of each part over a few steps, in nanoseconds; they add up to the step.

    By the device's own events where it has them: to wait between two parts would add a launch and a wait to each.

    Args:
        session: Warm.
        budget: Steps end after half of ``visit_s``, but not before ``min_samples`` of them, nor after
            ``_PART_STEPS``.
        clock: Monotonic, in nanoseconds.
    """
    if isinstance(session, PartsTimed) and (told := session.device_parts_ns(_PART_STEPS)):
        return dict(told)
    parts = session.parts
    times: list[list[int]] = []
    session.sync()
    deadline = clock() + round(budget.visit_s * 0.5e9)
    while len(times) < _PART_STEPS and (len(times) < budget.min_samples or clock() < deadline):
        times.append(timing.time_in_turn(parts.values(), session.sync, clock))
    return dict(zip(parts, zip(*times, strict=True), strict=True))


def nonsense(session: TrainingSession) -> Failure | None:
    """Return the row for a step that computed something that is no number, or None."""
    loss = session.loss()
    if math.isfinite(loss):
        return None
    return Failure("error", f"the loss is {loss} after training on random images: its time would mislead")


def measure_epoch(
    session: TrainingSession,
    loading: Callable[[], AbstractContextManager[_Batches]],
    workers: int,
    budget: Budget,
    clock: Clock = host_clock,
) -> tuple[_Times, _Times, _Times]:
    """Time steps alone, the loader alone and both together, by turns, each for about ``budget.visit_s``.

    What the loader has made ahead would flatter it, so in each block so many batches pass untimed first.

    Args:
        session: Trains.
        loading: Starts a loader, whose batches never end.
        workers: Processes of the loader; 0 where this one loads.
        budget: ``visit_s`` and ``min_samples`` count, in each block.
        clock: Monotonic, in nanoseconds.

    Returns:
        Mean times of the blocks of each kind, in nanoseconds, of one step or batch.
    """
    group = max(1, workers)  # what workers deliver at once

    def pace(work: Callable[[], object], untimed: int, group: int) -> float:
        for _ in range(untimed):
            work()
        return _mean_ns(work, budget.visit_s, budget.min_samples, group, clock)

    ahead = AHEAD * workers + 1
    steps, loads, joint = [], [], []
    for _ in range(_ROUNDS):
        with loading() as batches:
            loads.append(pace(partial(next, batches), ahead, group))
            kept = next(batches)
        steps.append(pace(partial(_train_on, session, repeat(kept)), 1, 1))
        with loading() as batches:
            joint.append(pace(partial(_train_on, session, batches), ahead, group))
    return tuple(steps), tuple(loads), tuple(joint)


def _train_on(session: TrainingSession, batches: _Batches) -> None:
    session.feed(*next(batches))
    session.run()
    session.sync()


def _mean_ns(work: Callable[[], object], seconds: float, fewest: int, group: int, clock: Clock) -> float:
    """Return the mean time of ``work`` over a block of ``seconds``, in ns.

    Args:
        work: Returns when it is done.
        seconds: The block ends with the first group of calls after them,
        fewest: but not before so many calls.
        group: Calls between two readings of the clock.
        clock: Monotonic, in nanoseconds.
    """
    calls, start = 0, clock()
    deadline = start + round(seconds * 1e9)
    while True:
        for _ in range(group):
            work()
        calls += group
        if clock() >= deadline and calls >= fewest:
            return (clock() - start) / calls
