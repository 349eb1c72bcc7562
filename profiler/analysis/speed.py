"""Which of a few settings is fastest, and how surely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from profiler.analysis.quantity import Quantity
from profiler.records.columns import Row
from profiler.records.intervals import Interval

#: What two rows have in common that differ in their backend alone.
_SAME = (
    *("model", "scaling", "factor", "step", "shape", "inputs", "content", "device", "precision", "memory_format"),
    *("threads", "batch", "mode", "gap_ms", "host", "fleet_label", "run"),
)


def ratio_interval(top: Quantity, bottom: Quantity) -> Interval | None:
    """95% interval of ``top / bottom`` from the interval of each; None where one has none.

    The method of variance estimates recovery (Zou and Donner 2008) in logarithms: distances to the limits add in
    squares, so that intervals that are not symmetric stay so.
    """
    if top.interval is None or bottom.interval is None:
        return None
    a, b = math.log(top.value), math.log(bottom.value)
    a_low, a_high = (math.log(end) for end in top.interval)
    b_low, b_high = (math.log(end) for end in bottom.interval)
    low = a - b - math.hypot(a - a_low, b_high - b)
    high = a - b + math.hypot(a_high - a, b - b_low)
    return (math.exp(low), math.exp(high))


def latency_of(row: Row) -> Quantity | None:
    """Return the latency of a row in ms, with its interval where it has one; None where it failed."""
    value, low, high = (row.get(name) for name in ("latency_ms", "latency_ci_low_ms", "latency_ci_high_ms"))
    if not isinstance(value, float):
        return None
    return Quantity(value, (low, high) if isinstance(low, float) and isinstance(high, float) else None)


def speed_up(row: Row, base: Row) -> Quantity | None:
    """Return how many times as fast ``row`` is as ``base``; None where one of them failed.

    From visits in pairs where ``row`` tells that of this base, see ``profiler.records.pairs``.
    """
    mine, other = latency_of(row), latency_of(base)
    if mine is None or other is None:
        return None
    if row.get("speed_up_over") == base.get("backend") and all(row.get(key) == base.get(key) for key in _SAME):
        value, low, high = (row.get(f"speed_up{end}") for end in ("", "_ci_low", "_ci_high"))
        if isinstance(value, float) and isinstance(low, float) and isinstance(high, float):
            return Quantity(value, (low, high))
    return Quantity(other.value / mine.value, ratio_interval(other, mine))


@dataclass(frozen=True, slots=True)
class Fastest:
    """The fastest of a few rows.

    Attributes:
        row: The fastest.
        second: The next one; None where there is no other.
        lead: How many times as fast it is as the next one.
    """

    row: Row
    second: Row | None
    lead: Quantity | None

    @property
    def sure(self) -> bool:
        """Whether the interval of its lead lies above 1."""
        return self.lead is not None and self.lead.interval is not None and self.lead.interval[0] > 1


def fastest(rows: Sequence[Row]) -> Fastest | None:
    """Return the fastest of ``rows``, which measured the same work; None where none was measured."""
    ranked = sorted((found.value, i) for i, row in enumerate(rows) if (found := latency_of(row)))
    if not ranked:
        return None
    first, *others = (rows[i] for _, i in ranked)
    second = others[0] if others else None
    return Fastest(first, second, speed_up(first, second) if second else None)
