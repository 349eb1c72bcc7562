"""What streams under load say: latency and throughput while all of them were at work."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from profiler.records.intervals import effective_samples, percentiles

#: One call: when it arrived, was begun and was done, in ns.
Call = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One load, and what came of it.

    Attributes:
        calls: Calls that were done while all streams were at work.
        throughput_per_s: Calls per second, of all streams together.
        service_ms: Median time from begin to end of a call.
        p50_ms: Median latency, from arrival.
        p90_ms: 90th percentile; None where too few independent calls support it, as the next.
        p99_ms: 99th percentile.
        waiting_ms: Mean time between arrival and begin.
        busy: Share of the time in which a stream was serving.
    """

    calls: int
    throughput_per_s: float
    service_ms: float
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    waiting_ms: float
    busy: float


def load_point(streams: Sequence[Sequence[Call]]) -> LoadPoint | None:
    """Return what the calls of ``streams`` say, from when the last began to when the first had ended.

    Throughput is, of each stream, its calls over the time that they took, so that no call is cut in two. None where no
    stream has a whole call in that time.
    """
    begin, end = max(one[0][1] for one in streams), min(one[-1][2] for one in streams)
    kept = [[call for call in one if call[1] >= begin and call[2] <= end] for one in streams]
    if not all(kept):
        return None
    whole = [call for one in kept for call in one]
    latencies = [done - arrived for arrived, _, done in whole]
    effective = sum(effective_samples([float(done - arrived) for arrived, _, done in one]) for one in kept)
    _, p90, p99 = percentiles([float(ns) for ns in latencies], effective)
    rates = [len(one) / (one[-1][2] - one[0][0]) for one in kept]
    spans = sum(one[-1][2] - one[0][0] for one in kept)
    return LoadPoint(
        calls=len(whole),
        throughput_per_s=sum(rates) * 1e9,
        service_ms=statistics.median(done - begun for _, begun, done in whole) / 1e6,
        p50_ms=statistics.median(latencies) / 1e6,
        p90_ms=None if p90 is None else p90 / 1e6,
        p99_ms=None if p99 is None else p99 / 1e6,
        waiting_ms=statistics.fmean(begun - arrived for arrived, begun, _ in whole) / 1e6,
        busy=min(1.0, sum(done - begun for _, begun, done in whole) / spans),
    )


def keeping(points: Sequence[tuple[int, LoadPoint]], limit_ms: float) -> int | None:
    """Return the most streams that keep p99 under ``limit_ms``; None where none does, or its p99 is not known."""
    return max((n for n, point in points if point.p99_ms is not None and point.p99_ms < limit_ms), default=None)
