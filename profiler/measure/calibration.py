"""The nominal time of the reference on a machine, measured once and kept."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from profiler.backends.base import Placement
from profiler.machine import cache
from profiler.records.nominal import Calibration

#: Bumped when the workload or its calibration changes: a nominal time holds for one version of them.
VERSION = 13
#: Where calibrations are kept, in the user's cache.
_FILE = "calibration.json"


def identity(host: str, placement: Placement) -> str:
    """Return the name under which a calibration is kept."""
    p = placement
    return f"v{VERSION} {host} {p.device} {p.precision} t{p.threads}"


def stored(folder: Path, name: str) -> Calibration | None:
    """Return the calibration kept under ``name``, or None when there is none or it cannot be one."""
    return cache.kept(folder / _FILE, name, Calibration)


def store(folder: Path, name: str, calibration: Calibration) -> None:
    """Keep a calibration under ``name`` in ``folder``."""
    cache.keep(folder / _FILE, name, asdict(calibration))
