"""What loads answer: the knee of a curve, and how many streams keep a limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from profiler.errors import UserError
from profiler.records.load import QUANTILES, LoadPoint, LoadRecord
from profiler.units import format_duration, parse_duration

#: The knee is the smallest batch that was measured, or the fewest streams, with at least this share of the best
#: throughput measured.
NEAR_BEST = 0.9
#: The most streams that are tried where nobody says how many.
MOST_STREAMS = 32

#: A load and what came of it.
UnderLoad: TypeAlias = tuple[LoadRecord, LoadPoint]


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of latency: ``percentile`` (``p99``) under ``ms``."""

    percentile: str
    ms: float

    def __str__(self) -> str:
        """The limit as people say it."""
        return f"{self.percentile} under {format_duration(self.ms / 1e3)}"

    def held(self, point: LoadPoint) -> bool | None:
        """Whether the whole interval of the percentile is below the limit; None where it is not known to be or not."""
        low, high = (getattr(point, f"{self.percentile}_{end}_ms") for end in ("low", "high"))
        if high is not None and high < self.ms:
            return True
        return False if low >= self.ms else None


def limit_of(text: str) -> Limit:
    """Read ``p99=50ms``, or ``50ms`` for the same; UserError for anything else."""
    name, equals, duration = text.partition("=")
    percentile = name.strip().lower() if equals else "p99"
    try:
        ms = parse_duration(duration if equals else name) * 1e3
    except UserError:
        ms = 0.0
    if percentile not in QUANTILES or ms <= 0:
        raise UserError(f"--keep is {text[:40]!r}: expected {', '.join(QUANTILES)} and a duration, as p99=50ms")
    return Limit(percentile, ms)


@dataclass(frozen=True, slots=True)
class Curve:
    """Loads that differ in nothing but how many streams there were, or requests per second.

    Attributes:
        name: What tells it from the other curves.
        closed: Closed loops, by the number of streams.
        opened: Open loops, by their rate.
    """

    name: str
    closed: tuple[UnderLoad, ...]
    opened: tuple[UnderLoad, ...]

    @property
    def knee(self) -> UnderLoad | None:
        """The fewest streams with ``NEAR_BEST`` of the most calls per second; None where one number was tried."""
        if len(self.closed) < 2:
            return None
        best = max(point.calls_per_s for _, point in self.closed)
        return next(one for one in self.closed if one[1].calls_per_s >= NEAR_BEST * best)


def load_curves(told: Iterable[UnderLoad]) -> list[Curve]:
    """Put loads in order, those together that can be compared."""
    groups: dict[tuple[str, ...], list[UnderLoad]] = {}
    for one in told:
        groups.setdefault(_setting(one[0]), []).append(one)
    varies = [len(set(column)) > 1 for column in zip(*groups, strict=True)]
    return [
        Curve(
            _name(key, varies, group[0][0]),
            tuple(sorted((one for one in group if not one[0].load.rate), key=lambda one: one[0].load.streams)),
            tuple(sorted((one for one in group if one[0].load.rate), key=lambda one: one[0].load.rate or 0)),
        )
        for key, group in groups.items()
    ]


def _name(key: Sequence[str], varies: Sequence[bool], record: LoadRecord) -> str:
    """The backend, idle times where there are some, and what else differs between curves."""
    always = (record.case.backend, record.load.gap)
    return " · ".join(text for text, differs in zip(key, varies, strict=True) if differs or text in always)


def _setting(record: LoadRecord) -> tuple[str, ...]:
    case, load = record.case, record.load
    where, apart = case.placement, load.gap or "back to back"
    return (case.network, case.backend, where.device, where.precision, f"batch {case.batch}", apart, load.ways)


def most_kept(told: Sequence[UnderLoad], limit: Limit) -> UnderLoad | None:
    """Return the last of loads, which grow, that keeps ``limit``; None where none is known to."""
    return next((one for one in reversed(told) if limit.held(one[1])), None)


def next_streams(tried: Mapping[int, bool]) -> int | None:
    """Return how many streams to try next to find the most that keep a limit; None once that is known.

    Doubled as long as they keep it, and halved between; ``MOST_STREAMS`` end it.

    Args:
        tried: Whether so many streams keep it.
    """
    kept = max((n for n, held in tried.items() if held), default=0)
    broken = min((n for n, held in tried.items() if not held and n > kept), default=None)
    if broken is None:
        return None if kept >= MOST_STREAMS else min(max(1, 2 * kept), MOST_STREAMS)
    return (kept + broken) // 2 if broken - kept > 1 else None
