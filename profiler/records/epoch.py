"""The time of an epoch, from a step and a loader."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from profiler.backends.base import Placement
from profiler.records.types import Epoch


def _predict_ns(step_ns: float, loader_ns: float, workers: int, threads: int, cores: int) -> float:
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
        _predict_ns(step, loading, epoch.workers, threads, epoch.cores)
        for step, loading in zip(epoch.step_ns, epoch.loader_ns, strict=True)
    ]
    seconds = steps_per_epoch(epoch.images, batch) / 1e9
    return EpochTime(
        predicted_s=seconds * median(predicted),
        measured_s=seconds * median(epoch.joint_ns),
        error=median(ours / joint - 1 for ours, joint in zip(predicted, epoch.joint_ns, strict=True)),
        loader_ns=median(epoch.loader_ns),
    )
