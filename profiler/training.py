"""What training costs: the parts of a step, and an epoch.

An epoch is predicted from a step and a loader that were timed alone, and measured as a mini-epoch in which the loader
feeds the steps. Both are taken by turns in one visit, so that a restless machine disturbs both alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, repeat
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

from backends.base import Backend, Placement, Trainer, TrainingSession
from profiler import loader
from profiler.measure import Clock
from profiler.records import Budget, Epoch, Failure

if TYPE_CHECKING:
    from torch import Tensor

Batches: TypeAlias = "Iterator[tuple[Tensor, Tensor]]"
Times: TypeAlias = tuple[float, ...]

#: Images of ImageNet-1k's training set.
IMAGENET = 1_281_167
#: Steps of which the parts are timed, where the budget has room for them.
PART_STEPS = 20
#: Rounds of steps, loader and both in a visit for an epoch.
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Feed:
    """The epoch asked about, and where its images come from.

    Attributes:
        images: Images of one epoch.
        folder: The user's images; None makes a small set once.
        workers: Processes that load; None takes the cores that training leaves.
    """

    images: int = IMAGENET
    folder: str | None = None
    workers: int | None = None


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
            :data:`PART_STEPS`.
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


# --- epochs ------------------------------------------------------------


def predict_ns(step_ns: float, loader_ns: float, workers: int, threads: int, cores: int) -> float:
    """Return the time per step of an epoch, in nanoseconds, from a step and a loader that were timed alone.

    The slower one sets the pace, max(step, loader). Without workers the training process loads between its steps,
    and nothing overlaps: step + loader. Neither can be faster than all cores working without a pause: on a CPU
    whose cores both share, (threads · step + workers · loader) / cores is a lower bound.

    Args:
        step_ns: Time of a step alone.
        loader_ns: Time per batch of the loader alone.
        workers: Processes that load.
        threads: Cores of the host that a step keeps busy; 0 when it runs on an accelerator.
        cores: Cores there are for both.
    """
    if workers == 0:
        return step_ns + loader_ns
    work = (threads * step_ns + workers * loader_ns) / cores
    return max(step_ns, loader_ns, work)


def steps_per_epoch(images: int, batch: int) -> int:
    """Return the steps of an epoch; the last batch may be a smaller one, and counts as a whole."""
    return -(-images // batch)


@dataclass(frozen=True, slots=True)
class EpochTime:
    """An epoch, in seconds: as predicted, and as a mini-epoch measured it.

    Attributes:
        predicted_s: From step and loader alone.
        measured_s: From steps that the loader fed.
        error: How far the prediction is from the measurement, relative to the latter: median over the rounds, each
            compared within itself, so that a drift of the machine does not count as an error.
        loader_ns: Time per batch of the loader alone.
    """

    predicted_s: float
    measured_s: float
    error: float
    loader_ns: float


def epoch_time(epoch: Epoch, placement: Placement, batch: int) -> EpochTime:
    """Return the time of an epoch in batches of ``batch``."""
    threads = placement.threads if placement.device_type == "cpu" else 0
    predicted = [
        predict_ns(step, loading, epoch.workers, threads, epoch.cores)
        for step, loading in zip(epoch.step_ns, epoch.loader_ns, strict=True)
    ]
    seconds = steps_per_epoch(epoch.images, batch) / 1e9
    return EpochTime(
        predicted_s=seconds * median(predicted),
        measured_s=seconds * median(epoch.joint_ns),
        error=median(ours / joint - 1 for ours, joint in zip(predicted, epoch.joint_ns, strict=True)),
        loader_ns=median(epoch.loader_ns),
    )


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
