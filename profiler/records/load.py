"""What streams under load say: latency and calls per second while all of them were at work."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from profiler.backends.base import Fact
from profiler.records.columns import Row
from profiler.records.intervals import effective_samples, mean_interval, percentiles, tail_interval
from profiler.records.ranges import Amount, Count, Name, Positive
from profiler.records.types import Case, Failure
from profiler.units import format_duration

#: One call: when it arrived, was begun and was done, in ns.
Call: TypeAlias = tuple[Count, Count, Count]
#: What each stream is: a process of its own, or a thread beside the others in one process.
Ways: TypeAlias = Literal["processes", "threads"]

#: Percentiles of latency by name.
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
#: Into so many parts the time is cut for intervals.
_PARTS = 10


@dataclass(frozen=True, slots=True)
class Load:
    """What a model is put under.

    Attributes:
        streams: Closed loops at once; 1 for an open loop.
        rate: Requests per second of an open loop; None for closed loops.
        gap_s: How long a closed loop idles before each call, in seconds.
        ways: What a stream is.
        seconds: How long it lasts.
        seed: Of the times at which requests arrive.
    """

    streams: Positive = 1
    rate: Amount | None = None
    gap_s: Amount = 0.0
    ways: Ways = "processes"
    seconds: Amount = 5.0
    seed: int = 0

    def __str__(self) -> str:
        """The load as people say it."""
        return f"{self.rate:g} per s" if self.rate else f"{self.streams} stream{'s' * (self.streams != 1)}"

    @property
    def gap(self) -> str:
        """The idle time between calls as people say it; empty where there is none."""
        return f"{format_duration(self.gap_s)} apart" if self.gap_s else ""


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """One load that a case was put under, and every call of it.

    Attributes:
        case: Its threads are those of each stream.
        load: What it was put under.
        streams: The calls of each stream in their order, in ns from the first; none where it failed.
        failure: Why there are no calls.
        facts: What the backend of the first stream says really ran.
        host: Key of the machine.
        started: UTC time, ISO 8601.
    """

    case: Case
    load: Load
    streams: tuple[tuple[Call, ...], ...] = ()
    failure: Failure | None = None
    facts: dict[str, Fact] = field(default_factory=dict)
    host: Name = ""
    started: Name = ""


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One load, and what came of it; intervals are of 95%, and None where too few calls support them.

    Attributes:
        calls: Calls that were done while all streams were at work.
        calls_per_s: Calls per second, of all streams together.
        calls_low_per_s: Lower end of its interval,
        calls_high_per_s: and the upper one.
        p50_ms: Median latency, from arrival.
        p90_ms: 90th percentile; None where too few independent calls support it, as the next.
        p99_ms: 99th percentile.
        p50_low_ms: Lower end of the interval of the median,
        p50_high_ms: and the upper one; the same of the other percentiles.
        service_ms: Median time from begin to end of a call.
        waiting_ms: Mean time between arrival and begin.
        busy: Share of the time in which a stream was serving.
    """

    calls: int
    calls_per_s: float
    calls_low_per_s: float | None
    calls_high_per_s: float | None
    p50_ms: float | None
    p50_low_ms: float | None
    p50_high_ms: float | None
    p90_ms: float | None
    p90_low_ms: float | None
    p90_high_ms: float | None
    p99_ms: float | None
    p99_low_ms: float | None
    p99_high_ms: float | None
    service_ms: float
    waiting_ms: float
    busy: float


#: Columns of a table of loads.
LOAD_COLUMNS = (
    *("model", "backend", "device", "precision", "batch", "shape", "input_file", "load", "streams", "rate_per_s"),
    *("gap_ms", "ways", "threads", "seconds", "throughput_per_s"),
    *LoadPoint.__dataclass_fields__,
    *("status", "reason", "content", "host", "started"),
)


def load_row(record: LoadRecord, point: LoadPoint | None) -> Row:
    """Return a load as a row of a table; ``throughput_per_s`` is in examples, as everywhere."""
    case, load, failure = record.case, record.load, record.failure
    row: Row = {
        "model": case.network,
        "backend": case.backend,
        "device": case.placement.device,
        "precision": case.placement.precision,
        "batch": case.batch,
        "shape": case.shape,
        "input_file": case.input_file,
        "load": str(load),
        "streams": load.streams,
        "rate_per_s": load.rate,
        "gap_ms": load.gap_s * 1e3,
        "ways": load.ways,
        "threads": case.placement.threads,
        "seconds": load.seconds,
        "status": failure.status if failure else "ok",
        "reason": failure.reason if failure else "",
        "content": case.content,
        "host": record.host,
        "started": record.started,
    }
    told: Row = asdict(point) | {"throughput_per_s": case.batch * point.calls_per_s} if point else {}
    return dict.fromkeys(LOAD_COLUMNS) | row | told


def load_point(streams: Sequence[Sequence[Call]]) -> LoadPoint | None:
    """Return what the calls of ``streams`` say, from when the last began to when the first had ended.

    Latency is that of calls that began and ended within. None where a stream has no such call.
    """
    if not streams or not all(streams):
        return None
    begin, end = max(one[0][1] for one in streams), min(one[-1][2] for one in streams)
    kept = [[call for call in one if call[1] >= begin and call[2] <= end] for one in streams]
    if not all(kept):
        return None
    whole = [call for one in kept for call in one]
    rates = _rates(streams, begin, end)
    low, high = mean_interval(rates) if min(map(len, kept)) >= _PARTS else (None, None)
    spans = sum(one[-1][2] - one[0][0] for one in kept)
    return LoadPoint(
        calls=len(whole),
        calls_per_s=statistics.fmean(rates),
        calls_low_per_s=None if low is None else max(0.0, low),
        calls_high_per_s=high,
        **_latencies([[float(done - arrived) for arrived, _, done in one] for one in kept]),
        service_ms=statistics.median(done - begun for _, begun, done in whole) / 1e6,
        waiting_ms=statistics.fmean(begun - arrived for arrived, begun, _ in whole) / 1e6,
        busy=min(1.0, sum(done - begun for _, begun, done in whole) / spans),
    )


def _rates(streams: Sequence[Sequence[Call]], begin: int, end: int) -> list[float]:
    """Return the calls per second of all streams in each part of the time; a call that is cut counts by its share."""
    import numpy as np

    edges = np.linspace(begin, end, _PARTS + 1)
    done = np.zeros(_PARTS + 1)
    for one in streams:
        begun = [call[1] for call in one]
        idle = [after - before[2] for before, after in zip(one, begun[1:], strict=False)]
        # The last call too is followed by the time between two calls.
        last = one[-1][2] + (statistics.fmean(idle) if idle else 0)
        done += np.interp(edges, [*begun, last], np.arange(len(one) + 1))
    return [float(each) for each in np.diff(done) * _PARTS / (end - begin) * 1e9]


def _latencies(streams: Sequence[Sequence[float]]) -> Mapping[str, Any]:
    """Return percentiles of latencies in ns and their intervals, as the fields of ``LoadPoint``."""
    whole = [ns for one in streams for ns in one]
    _, p90, p99 = percentiles(whole, sum(map(effective_samples, streams)))
    found: dict[str, float | None] = {"p50": statistics.median(whole), "p90": p90, "p99": p99}
    blocks = [part for one in streams for part in _blocks(one)]
    told: dict[str, float | None] = {}
    for name, quantile in QUANTILES.items():
        low, high = tail_interval(blocks, quantile=quantile)
        told |= {f"{name}_ms": found[name], f"{name}_low_ms": low, f"{name}_high_ms": high}
    return {name: ns / 1e6 if ns is not None and ns < float("inf") else None for name, ns in told.items()}


def _blocks(values: Sequence[float]) -> list[Sequence[float]]:
    """Cut values into about as many blocks as there are parts of the time."""
    size = max(1, -(-len(values) // _PARTS))
    return [values[start : start + size] for start in range(0, len(values), size)]
