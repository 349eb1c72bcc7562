"""A number and how surely it is known."""

from __future__ import annotations

from typing import NamedTuple

from profiler.records.intervals import Interval


class Quantity(NamedTuple):
    """A number, its 95% interval and its standard error, None where they are not known."""

    value: float
    interval: Interval | None = None
    error: float | None = None
