"""What the reference says of the machine beside each block of samples."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from profiler.records.types import Measurement, Outcome

if TYPE_CHECKING:
    from profiler.backends.base import Placement


# A block of the reference slower than this, relative to quiet ones, says that its neighbours are disturbed.
QUIET = 1.10

# Share of a block's time that its threads may wait for a core, all together. On two cores that nothing else wanted it
# was below 0.03 in nine of ten blocks and 0.06 in 99 of 100; beside a competitor, 0.4 and more.
CROWDED = 0.05

# A reference this many times slower than its level has a competitor for its cores, which doubles its time at least.
# Cores that the host moved apart slow it by 1.25, neighbours on the other halves of both cores by 1.65 at most. Where
# quiet blocks of the reference take so many times their nominal time no block counts as quiet: with both cores taken
# all along, a model of 6 ms has read 0.3 ms beside a reference that suffered more.
FAR = 1.8

# A reference that is faster than its nominal time by more than chance was calibrated on a disturbed machine.
FASTER = 0.92

# Blocks of the reference that say what it takes on the machine as it is now, and that say it of a whole run.
LATEST = 120
ENOUGH = 30


def slowness_beside(visit: Measurement) -> list[float]:
    """How slow the slower of the references around each block was, over its nominal time; infinite without cores."""
    pairs = itertools.pairwise(reference_slowness(visit))
    return [max(pair) if had else math.inf for had, pair in zip(kept_cores(visit), pairs, strict=False)]


def kept_cores(visit: Measurement) -> list[bool]:
    """Whether the threads of each block had their cores; taken for granted where the system does not tell."""
    if not visit.core_wait_ns:
        return [True] * len(visit.samples_ns)
    return [not crowded(*block) for block in zip(visit.core_wait_ns, visit.samples_ns, strict=True)]


def reference_slowness(visit: Measurement) -> list[float]:
    """Median time of each block of the reference over its nominal time; empty without a reference.

    Raises:
        ValueError: There is not exactly one reference block more than there are blocks of samples.
    """
    if not visit.reference_ns or visit.nominal_ns is None:
        return []
    if len(visit.reference_ns) != len(visit.samples_ns) + 1:
        raise ValueError(
            f"{len(visit.samples_ns)} blocks of samples need {len(visit.samples_ns) + 1} of the reference, "
            f"not {len(visit.reference_ns)}"
        )
    return [median(block) / visit.nominal_ns for block in visit.reference_ns]


def quiet_level(visits: Sequence[Measurement]) -> float:
    """What the reference takes while nothing disturbs it, relative to its nominal time.

    The median of its blocks that are within ``QUIET`` of their 10th percentile: at least a tenth of all blocks are
    quiet, or the machine is evenly slow, which the ratio to the reference divides out.
    """
    return level_of(sorted(slow for visit in visits for slow in reference_slowness(visit)))


def level_of(slowness: Sequence[float]) -> float:
    """``quiet_level`` of ascending times of the reference, in any unit; 1.0 of none."""
    if not slowness:
        return 1.0
    quiet = bisect.bisect_right(slowness, QUIET * slowness[len(slowness) // 10])
    return median(slowness[:quiet])


def near(level: float) -> bool:
    """Whether a level of the reference is near enough to its nominal time for a ratio to mean anything."""
    return level <= FAR


class Levels:
    """What the reference takes while nothing disturbs it, over its nominal time, as the visits of a run show it.

    Beside one case it tells of the machine for all others: a case that was always visited while the machine was slow
    is known by that.
    """

    def __init__(self) -> None:
        self._all: dict[tuple[object, ...], list[float]] = {}
        self._latest: dict[tuple[object, ...], deque[float]] = {}

    def add(self, placement: Placement, visit: Outcome) -> None:
        """Take note of a visit; one that timed nothing says nothing."""
        if not isinstance(visit, Measurement):
            return
        key = _level_key(placement, visit.nominal_ns)
        slowness = reference_slowness(visit)
        known, latest = self._all.setdefault(key, []), self._latest.setdefault(key, deque(maxlen=LATEST))
        latest.extend(slowness)
        for slow in slowness:
            bisect.insort(known, slow)

    def latest(self, placement: Placement, nominal_ns: float | None) -> float:
        """Return the level of the latest ``LATEST`` blocks of the reference; 1.0 where there are none."""
        return level_of(sorted(self._latest.get(_level_key(placement, nominal_ns), ())))

    def overall(self, placement: Placement, nominal_ns: float | None) -> float | None:
        """Return the level over all visits; None below ``ENOUGH`` blocks of the reference."""
        known = self._all.get(_level_key(placement, nominal_ns), [])
        return level_of(known) if len(known) >= ENOUGH else None

    def of(self, placement: Placement, visits: Sequence[Measurement]) -> float | None:
        """Return the level by which ``visits`` are judged; None where they are not of one calibration, or too few."""
        nominals = {visit.nominal_ns for visit in visits}
        return self.overall(placement, nominals.pop()) if len(nominals) == 1 else None


def recalibrated(visits: list[Measurement], level: float | None) -> tuple[list[Measurement], float | None]:
    """Visits of one calibration, and their level, over the nominal time that their run found where that is shorter.

    Beside a competitor a reference on two threads was once calibrated at 23 times its time, and every headline was 23
    times what a clock shows. Only the level of a whole run tells that well enough, see ``Levels.of``: two sets of a
    few visits would be told apart by it.
    """
    if level is None or level >= FASTER:
        return visits, level
    return [replace(v, nominal_ns=v.nominal_ns and level * v.nominal_ns) for v in visits], 1.0


def _level_key(placement: Placement, nominal_ns: float | None) -> tuple[object, ...]:
    return placement.device, placement.precision, placement.threads, nominal_ns


def crowded(core_wait_ns: int, samples_ns: Sequence[int]) -> bool:
    """Whether threads waited for a core for more than ``CROWDED`` of the time of a block of samples."""
    return core_wait_ns > CROWDED * sum(samples_ns)


def quiet_blocks(visit: Measurement, level: float) -> list[bool]:
    """Whether each block of samples had its cores, and lies between two reference blocks that were not disturbed.

    Reference and scheduler decide, never the samples themselves, so that a slow model is not mistaken for a slow
    machine. The ratio divides out what slows model and reference alike; a competitor for a core slows a model that
    waits for its slowest thread at every layer far more than it slows the reference, and no ratio mends that. It can
    come and go between two blocks of the reference: a forward of 36 ms on two threads then takes half a second, all of
    it beside half a second of a competitor. Where even the level lies far from the nominal time no block is quiet, see
    ``FAR``.
    """
    had_cores = kept_cores(visit)
    if not reference_slowness(visit):
        return had_cores
    return [near(level) and slow <= QUIET * level for slow in slowness_beside(visit)]
