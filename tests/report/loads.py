"""Loads whose figures are known, for tests."""

from __future__ import annotations

from profiler.analysis.load import Limit
from profiler.backends.base import Placement
from profiler.records.load import Load, LoadPoint, LoadRecord
from profiler.records.types import Case

LIMIT = Limit("p99", 50.0)


def point(per_s: float = 100.0, p99: float = 10.0, *, known: bool = True, busy: float = 0.5) -> LoadPoint:
    """What came of a load; without ``known`` the percentile has no upper end."""
    ends = (p99 * 0.95, p99 * 1.05 if known else None)
    return LoadPoint(
        1000, per_s, per_s * 0.98, per_s * 1.02, p99 / 2, p99 * 0.49, p99 * 0.51, p99 * 0.8, p99 * 0.7, p99 * 0.85,
        p99 if known else None, *ends, p99 / 2, 0.0, busy,
    )  # fmt: skip


def under(
    streams: int, per_s: float, p99: float = 10.0, *, known: bool = True, backend: str = "onnxruntime",
    gap_s: float = 0.0, threads: int = 1,
) -> tuple[LoadRecord, LoadPoint]:  # fmt: skip
    """Closed loops and what came of them."""
    case = Case("resnet50", "", 1.0, backend, Placement(threads=threads))
    return LoadRecord(case, Load(streams, gap_s=gap_s)), point(per_s, p99, known=known)


def opened(rate: float, p99: float = 10.0, busy: float = 0.5) -> tuple[LoadRecord, LoadPoint]:
    """An open loop and what came of it."""
    case = Case("resnet50", "", 1.0, "onnxruntime", Placement())
    return LoadRecord(case, Load(rate=rate)), point(rate, p99, busy=busy)
