"""Latencies of two calibrations of one machine, brought to one.

A latency is a ratio to the reference beside it times the reference's nominal time, so that two calibrations which
differ by 5% make every latency of their runs differ by 5%. What the model did beside the reference is in the ratios.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from profiler.analysis.frame import plain

#: Columns that are multiples of the nominal time.
_TIMES = ("latency_ms", "p10_ms", "p90_ms", "p99_ms")


class Nominal(NamedTuple):
    """What a latency is a multiple of.

    Attributes:
        version: Of the reference.
        ms: Nominal time of one of its calls.
        where: Machine, device, precision and threads that it is of.
    """

    version: str
    ms: float
    where: tuple[str, ...]


def nominal_of(row: Mapping[str, object], y: str) -> Nominal | None:
    """Return what column ``y`` of a row is a multiple of; None where it is of nothing, or the row does not tell."""
    told = {name: plain(row.get(name)) for name in ("reference_version", "host", "device", "precision", "threads")}
    ms = _number(row.get("nominal_ms"))
    if y not in _TIMES or not (told["reference_version"] and told["host"]) or not 0 < ms < math.inf:
        return None
    version, *where = told.values()
    return Nominal(version, ms, tuple(where))


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def over(to: Nominal | None, own: Nominal | None) -> float:
    """Return by what a time of the calibration ``own`` is multiplied to be one of ``to``; 1.0 of another reference."""
    if to is None or own is None or (to.version, to.where) != (own.version, own.where):
        return 1.0
    return to.ms / own.ms
