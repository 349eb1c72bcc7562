"""What the reference says of the machine beside each block of samples."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from statistics import fmean, median

from profiler.records.types import Measurement

# A ratio. A reference within it of the fastest tenth of its blocks is quiet; what it takes there is its level. Two
# cores that their host moves apart slow it by 1.18: study_cores tells.
QUIET = 1.10

# Share of a block's time that its threads may wait for a core, all together. Beside nothing it was 0.06 at most in 99
# of 100 blocks, beside a competitor 0.4 and more. study_repeatability tells, beside its hog.
_CROWDED = 0.05

# A ratio. A reference this many times slower than its level has a competitor for its cores, which doubles its time at
# least; neighbours on the other halves of both cores slow it by 1.65 at most. study_repeatability tells.
FAR = 1.8


def _has_competitor(slowness: float, level: float) -> bool:
    """Whether a reference of ``slowness`` times its nominal time shares its cores; ``level`` is what it usually is."""
    return slowness > FAR * level


def _kept_cores(visit: Measurement) -> list[bool]:
    """Whether the threads of each block had their cores; taken for granted where the system does not tell."""
    if not visit.core_wait_ns:
        return [True] * len(visit.samples_ns)
    return [not crowded(*block) for block in zip(visit.core_wait_ns, visit.samples_ns, strict=True)]


def _reference_slowness(visit: Measurement) -> list[float]:
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
    return level_of(sorted(slow for visit in visits for slow in _reference_slowness(visit)))


def level_of(slowness: Sequence[float]) -> float:
    """``quiet_level`` of ascending times of the reference, in any unit; 1.0 of none."""
    if not slowness:
        return 1.0
    quiet = bisect.bisect_right(slowness, QUIET * slowness[len(slowness) // 10])
    return median(slowness[:quiet])


def near(level: float) -> bool:
    """Whether a level of the reference is near enough to its nominal time for a ratio to mean anything.

    It was calibrated beside a competitor where it is far below, and a competitor has its cores where it is far above.
    """
    return 1 / FAR <= level <= FAR


def crowded(core_wait_ns: int, samples_ns: Sequence[int]) -> bool:
    """Whether threads waited for a core for more than ``_CROWDED`` of the time of a block of samples."""
    return core_wait_ns > _CROWDED * sum(samples_ns)


def scales(visit: Measurement) -> list[float]:
    """What the reference around each block of samples took, over its nominal time: the mean of its two medians.

    1.0 for each block without a reference, or without its nominal time.

    Raises:
        ValueError: There is not exactly one reference block more than there are blocks of samples.
    """
    return [fmean(pair) for pair in itertools.pairwise(_reference_slowness(visit))] or [1.0] * len(visit.samples_ns)


def undisturbed_blocks(visit: Measurement, level: float) -> list[bool]:
    """Whether each block of samples had its cores, and both references around it had theirs.

    Reference and scheduler decide, never the samples themselves, so that a slow model is not mistaken for a slow
    machine. The ratio divides out what slows model and reference alike; a competitor for a core slows a model that
    waits for its slowest thread at every layer far more than it slows the reference, and no ratio mends that. Where
    even ``level`` lies far from the nominal time no block counts.
    """
    pairs = list(itertools.pairwise(_reference_slowness(visit))) or [(0.0, 0.0)] * len(visit.samples_ns)
    return [
        near(level) and had and not _has_competitor(max(pair), level)
        for had, pair in zip(_kept_cores(visit), pairs, strict=True)
    ]
