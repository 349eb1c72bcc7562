"""Load on a clock that moves only when told to: queueing theory, and what streams add up to."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import pytest

from profiler.backends.base import BackendError, Placement
from profiler.backends.fake import FakeSession
from profiler.backends.fake_clock import FakeClock
from profiler.measure.load import LoadTask, Served, arrivals, closed_loop, open_loop, serve_stream
from profiler.measure.visit import Task
from profiler.records.load import LoadPoint, keeping, load_point
from profiler.records.types import Budget, Case, Failure

SERVICE_NS = 10_000_000


def calls(served: Served):
    return list(zip(served.arrived_ns, served.begun_ns, served.done_ns, strict=True))


def opened(rate: float, seconds: float, seed: int = 1) -> LoadPoint:
    clock = FakeClock()
    served = open_loop(
        FakeSession([SERVICE_NS], clock), arrivals(rate, seconds, seed), clock=clock, wait_until=clock.wait_until
    )
    return load_point([calls(served)])


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_waiting_is_what_queueing_theory_says(busy):
    """M/D/1 by Pollaczek and Khinchine: the mean wait is busy / (2 (1 - busy)) times the service."""
    point = opened(busy * 1e9 / SERVICE_NS, 1000)
    expected = busy / (2 * (1 - busy)) * SERVICE_NS / 1e6
    assert point.waiting_ms == pytest.approx(expected, rel=0.05)
    assert point.busy == pytest.approx(busy, rel=0.02)
    assert point.throughput_per_s == pytest.approx(busy * 1e9 / SERVICE_NS, rel=0.02)
    assert point.service_ms == SERVICE_NS / 1e6


def test_more_than_is_served_keeps_it_busy_and_the_queue_grows():
    short, long = (opened(150, seconds) for seconds in (10, 40))
    assert short.busy > 0.98
    assert long.waiting_ms > 3 * short.waiting_ms


@pytest.mark.parametrize("streams", [1, 2, 4])
def test_closed_loops_add_up(streams):
    served = []
    for number in range(streams):
        clock = FakeClock()
        clock.advance(number * 3_000_000)  # no two begin at once
        served.append(calls(closed_loop(FakeSession([SERVICE_NS], clock), 5, clock)))
    point = load_point(served)
    assert point.throughput_per_s == pytest.approx(streams * 1e9 / SERVICE_NS, rel=0.02)
    assert (point.p50_ms, point.waiting_ms, point.busy) == (10, 0, 1)


def test_calls_outside_of_the_time_when_all_are_at_work_do_not_count():
    alone, late = [(0, 0, 10), (10, 10, 20), (50, 50, 90), (90, 90, 130)], [(45, 45, 95), (95, 95, 120)]
    assert load_point([alone, late]).calls == 3  # one of the first, which began within, and both of the second
    assert load_point([[(0, 0, 10)], [(20, 20, 30)]]) is None


def test_arrivals_are_a_poisson_process_that_can_be_had_again():
    times = arrivals(100, 100, 3)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert times == arrivals(100, 100, 3) != arrivals(100, 100, 4)
    assert statistics.fmean(gaps) == pytest.approx(1e7, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(1e7, rel=0.05)
    assert max(times) < 100e9


def test_latency_is_from_arrival():
    clock = FakeClock()
    served = open_loop(FakeSession([SERVICE_NS], clock), [0, 1_000_000], clock, clock.wait_until)
    (_, _, first), (arrived, begun, done) = calls(served)
    assert (first, arrived, begun, done) == (10_000_000, 1_000_000, 10_000_000, 20_000_000)


def test_percentiles_need_calls():
    assert opened(30, 1).p99_ms is None
    assert opened(30, 1000).p99_ms > opened(30, 1000).p90_ms


@pytest.mark.parametrize(("limit", "expected"), [(5, None), (15, 1), (25, 2), (1e3, 2)])
def test_how_many_streams_keep_a_limit(limit, expected):
    points = [(n, LoadPoint(1000, 1, 1, 1, 1, p99, 0, 1)) for n, p99 in ((1, 10), (2, 20), (4, None))]
    assert keeping(points, limit) == expected


def task(backend: str, meeting: Path, streams: int = 1, rate: float | None = None) -> LoadTask:
    case = Case("regnety_200mf", "", 1.0, backend, Placement())
    return LoadTask(Task(case, Budget(warmup_s=0.01), None, None), 0.02, 0, streams, meeting, rate)


@pytest.mark.parametrize("rate", [None, 1000.0])
def test_a_stream_serves_for_real(tmp_path, rate):
    served = serve_stream(task("fake:duration_ms=0.1", tmp_path, rate=rate))
    assert len(served.done_ns) > 3
    assert all(arrived <= begun < done for arrived, begun, done in calls(served))


def test_a_stream_that_fails_tells_the_others(tmp_path):
    assert isinstance(serve_stream(task("fake:fault=parity", tmp_path)), Failure)
    with pytest.raises(BackendError, match="another stream"):
        serve_stream(task("fake:duration_ms=0.1", tmp_path, streams=2))
