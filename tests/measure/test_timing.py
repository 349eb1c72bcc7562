"""The measuring loop on a scripted clock: no real time passes, every figure is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise, repeat
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.measure import timing
from profiler.records.types import Budget

MS = 1_000_000


class Clock:
    """Nanoseconds that pass only when something spends them; reading costs ``tick``."""

    def __init__(self, tick: int = 0) -> None:
        self.now = 0
        self.tick = tick

    def __call__(self) -> int:
        self.now += self.tick
        return self.now


class Scripted:
    """A workload whose forwards take the scripted times; the time passes in ``sync``, as on a GPU."""

    def __init__(self, clock: Clock, times: Iterable[int]) -> None:
        self.clock = clock
        self.times: Iterator[int] = iter(times)
        self.calls = 0
        self.pending = 0

    def run(self) -> None:
        self.calls += 1
        self.pending += next(self.times)

    def sync(self) -> None:
        self.clock.now += self.pending
        self.pending = 0


def test_a_sample_outweighs_the_clock() -> None:
    clock = Clock(tick=100)
    session = Scripted(clock, repeat(50_000))
    timed = timing.measure(session, None, Budget(visit_s=0.01), 50_000, clock)
    per_forward = [sample / timed.calls_per_sample for block in timed.samples_ns for sample in block]
    assert max(abs(time / 50_000 - 1) for time in per_forward) < 1e-3


@pytest.mark.parametrize(("ms", "settle", "samples"), [(4.5, 3, 20), (47, 1, 2), (100, 1, 2), (2000, 1, 2)])
def test_however_slow_a_model_is_an_untimed_forward_precedes_two_samples(ms: float, settle: int, samples: int) -> None:
    assert timing.shape(ms * MS, threads=2) == timing.Shape(1, settle, samples)


@pytest.mark.parametrize(("ms", "expected"), [(99, (1, 1, 2)), (101, (1, 0, 1))])
def test_on_one_thread_a_slow_model_has_blocks_of_one(ms: float, expected: tuple[int, int, int]) -> None:
    assert timing.shape(ms * MS, threads=1) == timing.Shape(*expected)


@given(st.floats(1.0, 1e11))
def test_shape_bounds(forward_ns: float) -> None:
    block = timing.shape(forward_ns, threads=2)
    assert block.calls * forward_ns >= timing.SAMPLE_NS * (1 - 1e-9)
    assert block.samples >= 2
    # No block spends more without recording anything than on one forward, or a hundredth of a second.
    assert block.settle * forward_ns <= timing.SETTLE_NS + forward_ns


def test_blocks_alternate_with_the_reference_and_first_calls_are_not_recorded() -> None:
    clock = Clock()
    block = timing.shape(10 * MS, threads=1)
    # The first forward of every block is slow, because the reference took its caches.
    one_block = [15 * MS] * block.settle + [10 * MS] * block.samples
    session = Scripted(clock, chain.from_iterable(repeat(one_block)))
    one_reference = [9 * MS] * math.ceil(timing.reference_settle_ns(1) / (9 * MS)) + [5 * MS] * timing.REFERENCE_CALLS
    reference = Scripted(clock, chain.from_iterable(repeat(one_reference)))
    timed = timing.measure(session, reference, Budget(visit_s=1.0), 10 * MS, clock)
    assert len(timed.reference_ns) == len(timed.samples_ns) + 1
    assert {sample for samples in timed.samples_ns for sample in samples} == {10 * MS}
    assert {sample for samples in timed.reference_ns for sample in samples} == {5 * MS}
    assert session.calls == len(timed.samples_ns) * (block.settle + block.samples)


@pytest.mark.parametrize("gap_s", [0.0, 0.02, 5.0])
def test_a_gap_is_before_each_timed_forward_and_in_none(gap_s: float) -> None:
    clock, rested = Clock(), list[float]()
    session = Scripted(clock, iter(lambda: (9 if rested and rested.pop() else 5) * MS, None))

    def rest(seconds: float) -> None:
        clock.now += round(seconds * 1e9)
        rested.append(seconds)

    timed = timing.measure(session, None, Budget(visit_s=1.0), 5 * MS, clock, gap_s=gap_s, rest=rest)
    samples = list(chain.from_iterable(timed.samples_ns))
    assert set(samples) == {(9 if gap_s else 5) * MS}
    assert (timed.calls_per_sample, rested) == (1, [])
    assert all(len(block) >= 2 for block in timed.samples_ns)
    assert clock.now <= 1000 * MS + max(100 * MS, 12 * gap_s * 1e9)


def test_beside_a_competitor_the_reference_does_not_settle_for_longer_than_it_must() -> None:
    clock = Clock()
    reference = Scripted(clock, repeat(200 * MS))
    assert timing.reference_block(reference, clock, 25 * MS) == (200 * MS,) * timing.REFERENCE_CALLS
    assert reference.calls == 1 + timing.REFERENCE_CALLS


def test_a_visit_ends_when_its_time_is_up() -> None:
    clock = Clock()
    timed = timing.measure(Scripted(clock, repeat(10 * MS)), None, Budget(visit_s=1.0), 10 * MS, clock)
    one_block = 110 * MS
    assert 1000 * MS <= clock.now <= 1000 * MS + one_block
    assert timed.reference_ns == ()


def hogged(clock: Clock, busy: Callable[[int], bool]) -> tuple[Scripted, Scripted]:
    """A model of 10 ms and a reference of 4 ms, each three times as slow while ``busy`` holds."""

    def times(usual: int) -> Iterator[int]:
        while True:
            yield usual * (3 if busy(clock.now) else 1)

    return Scripted(clock, times(10 * MS)), Scripted(clock, times(4 * MS))


def quiet_pairs(timed: timing.Timing, quiet_ns: float) -> int:
    levels = [median(block) for block in timed.reference_ns]
    assert len(levels) == len(timed.samples_ns) + 1
    return sum(max(pair) <= quiet_ns for pair in pairwise(levels))


def test_a_visit_waits_for_the_reference_to_have_its_cores() -> None:
    """Half of every second is hogged: blocks begin in the other half, all but those that the hog surprises."""
    found = {}
    for alone_ns in (None, 6.0 * MS):
        clock = Clock()
        session, reference = hogged(clock, lambda now: now // (500 * MS) % 2 == 0)
        timed = timing.measure(session, reference, Budget(visit_s=2.0), 10 * MS, clock, alone_ns=alone_ns)
        found[alone_ns] = quiet_pairs(timed, 4.4 * MS) / len(timed.samples_ns), timed.waited_ns / MS
        assert clock.now <= 2400 * MS
    assert found[None][0] <= 0.55
    assert found[6.0 * MS][0] >= 0.6
    assert found[None][1] == 0
    assert 500 < found[6.0 * MS][1] < 1100


def test_a_visit_neither_waits_nor_goes_on_for_what_slows_the_reference_less_than_a_competitor() -> None:
    clock = Clock()
    session, reference = Scripted(clock, repeat(12 * MS)), Scripted(clock, repeat(5 * MS))
    timed = timing.measure(session, reference, Budget(visit_s=1.0), 10 * MS, clock, alone_ns=6.0 * MS)
    assert timed.waited_ns == 0
    assert 1000 * MS <= clock.now < 1200 * MS


def test_a_visit_whose_blocks_had_a_competitor_goes_on_until_one_has_none() -> None:
    clock = Clock()
    session, reference = hogged(clock, lambda now: now < 1400 * MS)
    timed = timing.measure(session, reference, Budget(visit_s=1.0), 10 * MS, clock, alone_ns=6.0 * MS)
    assert 1400 * MS < clock.now < 1800 * MS
    assert quiet_pairs(timed, 4.4 * MS) == 1


def test_a_visit_goes_on_until_a_block_has_its_cores() -> None:
    """The reference is quiet all along, and the model's threads wait for a core until 1.4 s have passed."""
    clock = Clock()
    session, reference = Scripted(clock, repeat(10 * MS)), Scripted(clock, repeat(4 * MS))

    def core_wait() -> int:
        return min(clock.now, 1400 * MS) // 2

    timed = timing.measure(
        session, reference, Budget(visit_s=1.0), 10 * MS, clock, alone_ns=6.0 * MS, core_wait=core_wait
    )
    assert 1400 * MS < clock.now < 1700 * MS
    assert len(timed.core_wait_ns) == len(timed.samples_ns)
    crowded = [wait > 0.05 * sum(block) for wait, block in zip(timed.core_wait_ns, timed.samples_ns, strict=True)]
    assert crowded == [True] * (len(crowded) - 1) + [False]


def test_only_waiting_during_the_samples_is_the_blocks() -> None:
    """Untimed forwards and the reference may wait for cores as long as they like."""
    clock = Clock()
    session, reference = Scripted(clock, repeat(10 * MS)), Scripted(clock, repeat(4 * MS))
    timed = timing.measure(
        session,
        reference,
        Budget(visit_s=0.5),
        10 * MS,
        clock,
        core_wait=lambda: MS * (session.calls + 9 * reference.calls),
    )
    assert list(timed.core_wait_ns) == [MS * len(block) for block in timed.samples_ns]


def test_a_thread_that_has_ended_takes_its_count_with_it() -> None:
    clock, readings = Clock(), iter([5 * MS, 3 * MS])
    session = Scripted(clock, repeat(10 * MS))
    timed = timing.measure(session, None, Budget(visit_s=0.05), 10 * MS, clock, core_wait=lambda: next(readings))
    assert timed.core_wait_ns == (0,)


@pytest.mark.parametrize(("visit_s", "end", "waited"), [(2.0, 4000 * MS, 4000 * MS), (0.5, 1000 * MS, 1000 * MS)])
def test_on_a_machine_that_is_never_quiet_a_visit_goes_on_for_so_long(visit_s: float, end: int, waited: int) -> None:
    clock = Clock()
    session, reference = hogged(clock, lambda _: True)
    timed = timing.measure(session, reference, Budget(visit_s=visit_s), 10 * MS, clock, alone_ns=6.0 * MS)
    assert end <= clock.now <= end + 500 * MS
    assert waited - 100 * MS <= timed.waited_ns <= waited + 50 * MS
    assert sum(map(len, timed.samples_ns)) >= 5


@pytest.mark.parametrize(("threads", "blocks"), [(1, [1] * 5), (2, [2] * 3)])
def test_a_slow_model_gets_its_fewest_samples_however_long_they_take(threads: int, blocks: list[int]) -> None:
    clock = Clock()
    budget = Budget(visit_s=1.0, min_samples=5)
    timed = timing.measure(Scripted(clock, repeat(2000 * MS)), None, budget, 2000 * MS, clock, threads=threads)
    assert [len(block) for block in timed.samples_ns] == blocks


def test_a_forgotten_sync_would_be_seen() -> None:
    """The scripted workload spends its time in ``sync``: without one, samples would be 0."""
    clock = Clock()
    timed = timing.measure(Scripted(clock, repeat(MS)), None, Budget(visit_s=0.01), MS, clock)
    assert min(min(block) for block in timed.samples_ns) == MS


@pytest.mark.parametrize("reference_ms", [5, 9])
def test_a_steady_warm_up_begins_the_first_block_unless_it_was_beside_a_competitor(reference_ms: int) -> None:
    clock = Clock()
    block = timing.shape(10 * MS)
    session, reference = Scripted(clock, repeat(10 * MS)), Scripted(clock, repeat(5 * MS))
    begun = timing.Begun((reference_ms * MS,) * 3, (11 * MS, 12 * MS, 13 * MS), core_wait_ns=7)
    given = {"alone_ns": 6.0 * MS, "core_wait": lambda: 100}
    timed = timing.measure(session, reference, Budget(visit_s=0.5), 10 * MS, clock, begun=begun, **given)
    assert len(timed.reference_ns) == len(timed.samples_ns) + 1
    assert {*map(len, timed.samples_ns)} == {block.samples}
    if reference_ms == 5:
        assert timed.samples_ns[0] == (*begun.samples_ns, *[10 * MS] * (block.samples - 3))
        assert timed.core_wait_ns[:2] == (7, 0)
        assert session.calls == len(timed.samples_ns) * (block.settle + block.samples) - 3 - block.settle
    else:
        assert begun.reference_ns not in timed.reference_ns
        assert timed.core_wait_ns[:2] == (0, 0)
        assert session.calls == len(timed.samples_ns) * (block.settle + block.samples)


def test_a_warm_up_fills_no_more_than_the_first_block_and_no_sample_of_several_forwards() -> None:
    begun = timing.Begun((5 * MS,), tuple(range(40 * MS, 60 * MS, MS)))
    clock = Clock()
    session, reference = Scripted(clock, repeat(50 * MS)), Scripted(clock, repeat(5 * MS))
    timed = timing.measure(session, reference, Budget(visit_s=0.3), 50 * MS, clock, begun=begun)
    assert timed.samples_ns[0] == (58 * MS, 59 * MS)
    clock = Clock()
    session, reference = Scripted(clock, repeat(50_000)), Scripted(clock, repeat(5 * MS))
    timed = timing.measure(session, reference, Budget(visit_s=0.3), 50_000, clock, begun=begun)
    assert {sample for samples in timed.samples_ns for sample in samples} == {250_000}
    clock = Clock()
    session, reference = Scripted(clock, repeat(10 * MS)), Scripted(clock, repeat(5 * MS))
    timed = timing.measure(
        session, reference, Budget(visit_s=0.3), 10 * MS, clock, begun=begun, gap_s=0.01, rest=lambda _: None
    )
    assert {sample for samples in timed.samples_ns for sample in samples} == {10 * MS}


def test_a_clock_that_jumps_forwards_costs_one_sample() -> None:
    clock = Clock()
    jump = 3600 * 1000 * MS
    times = chain(repeat(10 * MS, 25), [jump], repeat(10 * MS))
    timed = timing.measure(Scripted(clock, times), None, Budget(visit_s=1.0), 10 * MS, clock)
    flat = [sample for block in timed.samples_ns for sample in block]
    assert sum(sample > 10 * MS for sample in flat) == 1


def test_a_clock_that_goes_backwards_is_an_error_not_a_latency() -> None:
    clock = Clock()
    times = chain(repeat(10 * MS, 25), [-5 * MS], repeat(10 * MS))
    with pytest.raises(timing.ClockError, match="backwards"):
        timing.measure(Scripted(clock, times), None, Budget(visit_s=1.0), 10 * MS, clock)
