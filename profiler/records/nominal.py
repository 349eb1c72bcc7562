"""The nominal time of the reference, from its calls in several processes."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from profiler.records.disturbance import level_of
from profiler.records.ranges import Amount, Count, Name, ReferenceNs, Repeats


@dataclass(frozen=True, slots=True)
class Calibration:
    """The reference on one machine, device, thread count and precision.

    Attributes:
        repeats: Units of work in one call.
        nominal_ns: Time of one call when nothing disturbs the machine.
        spread: Relative standard deviation of the nominal over the processes that measured it.
        visits: Fresh processes that measured it.
        created: UTC time, ISO 8601.
    """

    repeats: Repeats
    nominal_ns: ReferenceNs
    spread: Amount
    visits: Count
    created: Name


@dataclass(frozen=True, slots=True)
class Calls:
    """Single calls of the reference in one process.

    Attributes:
        times_ns: How long each took.
        crowded: In every block of them threads waited for a core; elsewhere the blocks that waited are left out.
    """

    times_ns: list[int]
    crowded: bool


def nominal(visits: Sequence[Calls]) -> tuple[float, float]:
    """Return (nominal time in ns, relative spread) from calls in several fresh processes.

    Processes that always waited for a core count only where all did.

    The median of the times near the shortest, see ``quiet_level``: most of the processes may be
    disturbed without moving the result, and on a quiet machine, where the median is what a plain loop sees, so is the
    latency that the nominal time gives.
    """
    counted = [visit.times_ns for visit in visits if not visit.crowded] or [visit.times_ns for visit in visits]
    levels = [statistics.median(times) for times in counted]
    centre = level_of(sorted(itertools.chain.from_iterable(counted)))
    return centre, (statistics.stdev(levels) / statistics.median(levels) if len(levels) > 1 else 0.0)
