"""What the visits of a case say of the clock of their GPU: did it move, and was the GPU held back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from profiler.records.types import Measurement

#: A share. A clock that moved by more within a case has timed two machines. The probe is right to a thousandth, and
#: three of the driver's steps of 15 MHz are as much at 1980 MHz.
_MOVED = 0.02
#: Of so many looks in a visit the lowest and the highest do not count: a look may be interrupted.
_LOOKS = 5
#: The reason for a lower clock that is how a GPU is set up, and no fault: a card of 70 W works at its limit for years.
_POWER_CAP = "power cap"


@dataclass(frozen=True, slots=True)
class Moved:
    """A clock that moved within a case, in MHz."""

    lowest: float
    highest: float

    @property
    def share(self) -> float:
        """By how much, relative to the lowest."""
        return self.highest / self.lowest - 1


def clock_moved(visits: Sequence[Measurement]) -> Moved | None:
    """Return between which clocks the visits of a case were timed; None where they lie within 2%, or nobody tells."""
    clocks = [clock for visit in visits for clock in _clocks(visit)]
    if not clocks or min(clocks) < 1:  # no GPU's clock
        return None
    moved = Moved(min(clocks), max(clocks))
    return moved if moved.share > _MOVED else None


def _clocks(visit: Measurement) -> list[float]:
    """The lowest and highest clock of a visit by its own probe, else its median by the driver."""
    looks = sorted(visit.clock_mhz)
    if looks:
        kept = looks[1:-1] if len(looks) >= _LOOKS else looks
        return [kept[0], kept[-1]]
    told = visit.conditions.gpu_clock_mhz
    return [] if told is None else [told]


def slowdowns(visit: Measurement) -> list[str]:
    """Return why the GPU slowed itself down in a visit, without the power limit that it works under."""
    told = (visit.conditions.gpu_slowdown or "").split(", ")
    return [reason for reason in told if reason and reason != _POWER_CAP]


def at_power_limit(visit: Measurement) -> bool:
    """Whether the power limit held the GPU's clock back in a visit."""
    return _POWER_CAP in (visit.conditions.gpu_slowdown or "")
