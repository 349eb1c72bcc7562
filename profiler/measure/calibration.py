"""The nominal time of the reference on a machine, measured once and kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from profiler.backends.base import Placement
from profiler.machine import cache

#: Bumped when the workload or its calibration changes: a nominal time holds for one version of them.
VERSION = 12
#: Where calibrations are kept, in the user's cache.
_FILE = "calibration.json"


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

    repeats: int
    nominal_ns: float
    spread: float
    visits: int
    created: str


def identity(host: str, placement: Placement) -> str:
    """Return the name under which a calibration is kept."""
    p = placement
    return f"v{VERSION} {host} {p.device} {p.precision} t{p.threads}"


def stored(folder: Path, name: str) -> Calibration | None:
    """Return the calibration kept under ``name``, or None when there is none or it cannot be read."""
    try:
        return Calibration(**cache.kept(folder / _FILE)[name])
    except (KeyError, TypeError):
        return None


def store(folder: Path, name: str, calibration: Calibration) -> None:
    """Keep a calibration under ``name`` in ``folder``."""
    cache.keep(folder / _FILE, name, asdict(calibration))
