"""Warming up on a scripted clock."""

from __future__ import annotations

from itertools import chain, repeat

import pytest

from profiler.measure import timing, warming
from profiler.records.types import Budget, Warmup
from tests.measure.test_timing import MS, Clock, Scripted


def test_warm_up_ends_when_samples_stop_getting_faster() -> None:
    clock = Clock()
    times = chain([900 * MS, 400 * MS, 100 * MS, 30 * MS, 20 * MS], repeat(10 * MS))
    warmup = warming.warm_up(Scripted(clock, times), Budget(warmup_s=10.0), clock)
    assert warmup.steady
    assert min(warmup.samples_ns[-3:]) == 10 * MS


def test_warm_up_is_short_for_a_model_that_is_warm() -> None:
    clock = Clock()
    warmup = warming.warm_up(Scripted(clock, repeat(10 * MS)), Budget(), clock)
    assert warmup == Warmup((10 * MS,) * 3, steady=True)


def test_warm_up_gives_up_and_says_so() -> None:
    clock = Clock()
    getting_faster = (round(100 * MS * 0.9**i) for i in range(1000))
    warmup = warming.warm_up(Scripted(clock, getting_faster), Budget(warmup_s=0.5), clock)
    assert not warmup.steady
    assert clock.now <= 500 * MS


def test_warm_up_goes_on_until_the_devices_clock_stands_still() -> None:
    clock = Clock()
    warmup = warming.warm_up(Scripted(clock, repeat(10 * MS)), Budget(), clock, lambda: clock.now >= 500 * MS)
    assert warmup == Warmup((10 * MS,) * 50, steady=True)


def test_a_devices_clock_that_never_stands_still_is_given_up_and_said() -> None:
    clock = Clock()
    warmup = warming.warm_up(Scripted(clock, repeat(10 * MS)), Budget(warmup_s=0.5), clock, lambda: False)
    assert warmup == Warmup((10 * MS,) * 50, steady=False)


def test_a_devices_clock_that_stands_still_makes_no_drifting_sample_steady() -> None:
    clock = Clock()
    getting_faster = (round(100 * MS * 0.9**i) for i in range(1000))
    assert not warming.warm_up(Scripted(clock, getting_faster), Budget(warmup_s=0.5), clock, lambda: True).steady


def test_a_disturbance_in_the_warm_up_is_not_taken_for_warming() -> None:
    clock = Clock()
    times = chain([10 * MS, 80 * MS, 70 * MS], repeat(10 * MS))
    warmup = warming.warm_up(Scripted(clock, times), Budget(), clock)
    assert warmup.steady
    assert len(warmup.samples_ns) <= 8


@pytest.mark.parametrize(
    ("samples", "counts"),
    [
        ([30, 10, 10], [10, 10]),
        ([30, 10, 11, 12, 13, 14], [12, 13, 14]),
        ([4, 3, 3], []),  # 10 ms settle, and what ends after them counts
        ([4, 3, 4], []),
        ([4, 3, 4, 5, 6], [5, 6]),
        ([1] * 30, [1] * 15),
        ([1] * 14, [1] * 4),
    ],
)
def test_what_is_steady_and_settled_of_a_warm_up_counts(samples: list[int], counts: list[int]) -> None:
    times = [ms * MS for ms in samples]
    assert warming.counting_samples(Warmup(tuple(times), steady=True)) == tuple(ms * MS for ms in counts)
    assert warming.counting_samples(Warmup(tuple(times), steady=False)) == ()


def test_beside_the_reference_it_runs_before_the_warm_up_and_waiting_is_of_the_warm_up_alone() -> None:
    clock = Clock()
    session, reference = Scripted(clock, repeat(20 * MS)), Scripted(clock, repeat(5 * MS))
    waits = iter([100, 130])
    warmup, begun = warming.warm_up_beside(session, reference, Budget(), clock, core_wait=lambda: next(waits))
    assert warmup == Warmup((20 * MS,) * 3, steady=True)
    assert begun == timing.Begun((5 * MS,) * timing.REFERENCE_CALLS, (20 * MS,) * 2, 30)
    assert warming.warm_up_beside(session, reference, Budget(), clock)[1].core_wait_ns == 0
