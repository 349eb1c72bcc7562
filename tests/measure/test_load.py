"""Load on a clock that moves only when told to: queueing theory, and what streams add up to."""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from profiler.backends.base import BackendError, Placement
from profiler.backends.fake import FakeSession
from profiler.backends.fake_clock import FakeClock, WallClock
from profiler.measure.load import LoadTask, Served, _in_threads, arrivals, closed_loop, open_loop, serve_streams
from profiler.measure.visit import Task
from profiler.records.load import Load, LoadPoint, load_point
from profiler.records.types import Budget, Case, Failure

SERVICE_NS = 10_000_000


def calls(served: Served):
    return list(zip(served.arrived_ns, served.begun_ns, served.done_ns, strict=True))


def opened(rate: float, seconds: float, seed: int = 1, until_s: float = math.inf) -> LoadPoint:
    clock = FakeClock()
    at = arrivals(rate, seconds, seed)
    served = open_loop(FakeSession([SERVICE_NS], clock), at, clock, clock.wait_until, seconds=until_s)
    return load_point([calls(served)])


def closed(seconds: float, start_ns: int = 0, gap_s: float = 0.0) -> Served:
    clock = FakeClock()
    clock.advance(start_ns)
    session = FakeSession([SERVICE_NS], clock)
    return closed_loop(session, seconds, clock, gap_s=gap_s, rest=lambda s: clock.advance(round(s * 1e9)))


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_waiting_is_what_queueing_theory_says(busy):
    """M/D/1 by Pollaczek and Khinchine: the mean wait is busy / (2 (1 - busy)) times the service."""
    point = opened(busy * 1e9 / SERVICE_NS, 1000)
    expected = busy / (2 * (1 - busy)) * SERVICE_NS / 1e6
    assert point.waiting_ms == pytest.approx(expected, rel=0.05)
    assert point.busy == pytest.approx(busy, rel=0.02)
    assert point.calls_per_s == pytest.approx(busy * 1e9 / SERVICE_NS, rel=0.02)
    assert point.service_ms == SERVICE_NS / 1e6


def test_more_than_is_served_keeps_it_busy_and_the_queue_grows():
    short, long = (opened(150, seconds) for seconds in (10, 40))
    assert short.busy > 0.98
    assert long.waiting_ms > 3 * short.waiting_ms


def test_who_still_waits_when_time_is_up_is_not_waited_for():
    assert opened(1000, 2, until_s=2).calls == 200


@pytest.mark.parametrize("gap_s", [0, 0.03])
@pytest.mark.parametrize("streams", [1, 2, 4])
def test_closed_loops_add_up(streams, gap_s):
    # No two begin at once.
    served = [calls(closed(5, number * 3_000_000, gap_s)) for number in range(streams)]
    point = load_point(served)
    assert point.calls_per_s == pytest.approx(streams / (SERVICE_NS / 1e9 + gap_s), rel=1e-3)
    assert (point.p50_ms, point.waiting_ms) == (10, 0)
    assert point.busy == pytest.approx(SERVICE_NS / 1e9 / (SERVICE_NS / 1e9 + gap_s), rel=0.02)


def test_idle_time_is_no_part_of_a_call():
    (_, first, done), (_, second, _) = calls(closed(0.05, gap_s=0.03))[:2]
    assert (first, done, second) == (30_000_000, 40_000_000, 70_000_000)


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


def task(backend: str, meeting: Path, load: Load, processes: int = 1) -> LoadTask:
    case = Case("regnety_200mf", "", 1.0, backend, Placement())
    return LoadTask(Task(case, Budget(warmup_s=0.01), None, None), load, 0, processes, meeting)


@pytest.mark.parametrize(
    "load", [Load(), Load(rate=1000.0), Load(gap_s=1e-3), Load(streams=3, ways="threads")], ids=str
)
def test_streams_serve_for_real(tmp_path, load):
    found = serve_streams(task("fake:duration_ms=0.1", tmp_path, replace(load, seconds=0.02)))
    assert len(found) == load.streams
    for served in found:
        assert served.done_ns
        assert all(arrived <= begun < done for arrived, begun, done in calls(served))
        assert all(after[1] - before[2] >= load.gap_s * 1e9 for before, after in itertools.pairwise(calls(served)))


def test_a_thread_that_fails_fails_all_of_them_with_its_own_reason():
    broken = FakeSession([1000], WallClock())
    broken.close()
    with pytest.raises(BackendError, match="the session is closed"):
        _in_threads([FakeSession([1000], WallClock()), broken], Load(seconds=60))


def test_a_stream_that_fails_tells_the_others(tmp_path):
    assert isinstance(serve_streams(task("fake:fault=parity", tmp_path, Load(seconds=0.02))), Failure)
    with pytest.raises(BackendError, match="another stream"):
        serve_streams(task("fake:duration_ms=0.1", tmp_path, Load(streams=2, seconds=0.02), processes=2))
