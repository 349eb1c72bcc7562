"""Time a session: the only clock around a model.

A visit warms up until its samples stop getting faster and an accelerator's clock stands still, then alternates blocks
of samples with blocks of a fixed reference workload until its time is up. What was steady of the warm-up begins the
first block where the reference ran before it. Whatever slows the machine slows both, so the
ratio of a sample to its neighbouring reference repeats where the sample alone does not.

A reference call between every two forwards would slow the model itself (caches and thread pools are taken from it);
blocks of several forwards, the first of each untimed, leave it alone.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Protocol, runtime_checkable

from profiler.records.disturbance import crowded
from profiler.records.types import Budget

Clock = Callable[[], int]
Pause = Callable[[], object] | None

#: The clock of this machine, in nanoseconds.
host_clock: Clock = time.perf_counter_ns

#: In ns. A sample lasts at least this long: reading the clock (about 0.1 µs) costs below 0.1% of it. study_truth tells.
SAMPLE_NS = 250_000
#: In ns. A block of samples lasts about this long. Shorter blocks follow a restless machine more closely, but after
#: every change of workload caches and thread pools must be won back. study_repeatability tells.
_BLOCK_NS = 90_000_000
#: In ns. Forwards at the start of a block that are not recorded take about this long: the model wins its caches back,
#: and idle threads of another pool stop spinning on its cores. study_truth tells on two threads.
SETTLE_NS = 10_000_000
#: In ns. A slower model has blocks of one sample on one thread, so that a short visit has several, each beside its own
#: reference. study_repeatability tells.
_SLOW_NS = 100_000_000
#: Timed calls of the reference in a block: with their median two that are disturbed, or not settled, move nothing.
REFERENCE_CALLS = 5
#: In ns, for each thread up to two. So long the reference runs before them, for what a model left in caches and on
#: cores: on one thread the third call is 0.6% slow at most, on two the sixth still 1%. study_truth tells on two.
_REFERENCE_SETTLE_NS = 12_500_000


class ClockError(Exception):
    """The clock did not do what a clock does."""


class Workload(Protocol):
    """What can be timed: submit one unit of work, and wait for everything submitted."""

    def run(self) -> None:
        """Submit one unit of work."""

    def sync(self) -> None:
        """Block until everything submitted has finished."""


@runtime_checkable
class Apart(Protocol):
    """What a ``Workload`` has too that needs the process in another state than the one it runs beside."""

    def apart(self) -> AbstractContextManager[object]:
        """Hold that state for several calls; leaving gives back what was there."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Raw times of one visit; the fields are those of ``Measurement``.

    Attributes:
        waited_ns: Of the visit's time, what was spent on waiting for the reference to have its cores.
    """

    samples_ns: tuple[tuple[int, ...], ...]
    calls_per_sample: int
    reference_ns: tuple[tuple[int, ...], ...]
    core_wait_ns: tuple[int, ...] = ()
    waited_ns: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """How a block is built for a model of a given speed.

    Attributes:
        calls: Forwards per sample.
        settle: Untimed forwards at the start of a block.
        samples: Timed samples in a block.
    """

    calls: int
    settle: int
    samples: int


def shape(forward_ns: float, threads: int = 1, *, single: bool = False, gap_s: float = 0.0) -> Shape:
    """Return the block for a model whose forward takes ``forward_ns`` nanoseconds on so many threads.

    Two samples at least, after one; a single one of a model slower than ``_SLOW_NS`` on one thread. With ``single`` a
    sample is one forward, however short; and where each waits for ``gap_s``, which fills its share of a block.
    """
    forward_ns = max(forward_ns, 1.0)
    if gap_s:
        return Shape(1, 1, max(2, round(_BLOCK_NS / (forward_ns + gap_s * 1e9))))
    if threads == 1 and forward_ns > _SLOW_NS:
        return Shape(1, 0, 1)
    calls = 1 if single else math.ceil(SAMPLE_NS / forward_ns)
    return Shape(calls, math.ceil(SETTLE_NS / forward_ns), max(2, round(_BLOCK_NS / (forward_ns * calls))))


@dataclass(frozen=True, slots=True)
class Begun:
    """What a visit has timed when its warm-up ends, and counts.

    Attributes:
        reference_ns: A block of the reference, from before the warm-up.
        samples_ns: What was steady and settled of the warm-up, each sample of one forward.
        core_wait_ns: How long threads were ready without a core during the whole warm-up.
    """

    reference_ns: tuple[int, ...]
    samples_ns: tuple[int, ...]
    core_wait_ns: int = 0


@contextmanager
def stage_timer() -> Iterator[Callable[[], float]]:
    """Give a function of the seconds since the context began, for ``profiler.backends.stages.timed_by``."""
    start = host_clock()
    yield lambda: _elapsed(start, host_clock()) / 1e9


def time_one(session: Workload, clock: Clock) -> int:
    """Return the time in ns of one unit of work, from its submission until the device has finished."""
    start = clock()
    session.run()
    session.sync()
    return _elapsed(start, clock())


def _elapsed(start: int, end: int) -> int:
    if end < start:
        raise ClockError(f"the clock went backwards by {start - end} ns during a sample; nothing was measured")
    return end - start


def measure(
    session: Workload,
    reference: Workload | None,
    budget: Budget,
    forward_ns: float,
    clock: Clock = host_clock,
    *,
    threads: int = 1,
    single: bool = False,
    alone_ns: float | None = None,
    core_wait: Clock | None = None,
    look: Callable[[], object] | None = None,
    gap_s: float = 0.0,
    rest: Callable[[float], object] = time.sleep,
    begun: Begun | None = None,
) -> Timing:
    """Time ``session`` in blocks between blocks of ``reference`` until ``budget.visit_s`` is over.

    A block that begins beside a competitor for the cores will not count, so a visit waits with it until the reference
    has them to itself; and one that has seen no block without one when its time is up goes on for as long again. The
    reference is asked, and the scheduler, never the samples. What slows it less is left to a later visit.

    Args:
        session: The model, warm.
        reference: The fixed workload on the same device with the same threads, or None to go without.
        budget: ``visit_s`` and ``min_samples`` count.
        forward_ns: Rough time of one forward; decides the shape of a block, never the result.
        clock: Monotonic, in nanoseconds.
        threads: Of the model; with ``forward_ns`` and ``single`` they decide the shape of a block.
        single: Whether every forward is timed by itself.
        alone_ns: The most a call of the reference takes with its cores to itself; None to neither wait nor go on.
        core_wait: How long this process's threads have been ready without a core, in ns; None where nobody tells.
        look: Looks at the device before the first block and after each.
        gap_s: How long to ``rest`` before each timed forward, in seconds.
        rest: Lets so many pass.
        begun: What the warm-up leaves for the first block; None where the reference did not run before it.
    """
    block = shape(forward_ns, threads, single=single, gap_s=gap_s)
    pause = partial(rest, gap_s) if gap_s else None
    alone = math.inf if reference is None or alone_ns is None else alone_ns
    lead = _lead(begun, block, alone) if pause is None else None
    references = [] if lead is None else [lead.reference_ns]
    samples, waits, waited_ns = list[tuple[int, ...]](), list[int](), 0
    with _no_garbage_collection():
        visit_ns = round(budget.visit_s * 1e9)
        deadline = clock() + visit_ns
        end = deadline if math.isinf(alone) else deadline + visit_ns
        between = partial(_between, reference, references, look, clock, reference_settle_ns(threads))
        if lead is None:
            between()
        while True:
            if lead is None:
                waited_ns += _wait_for_cores(reference, references, alone, end, clock)
                if clock() >= end and sum(map(len, samples)) >= budget.min_samples:
                    return Timing(tuple(samples), block.calls, tuple(references), tuple(waits), waited_ns)
            taken, waited = _timed_block(session, block, lead, clock, pause, core_wait)
            lead, samples, waits = None, [*samples, taken], [*waits, *waited]
            between()
            if not crowded(sum(waited), taken) and all(median(one) <= alone for one in references[-2:]):
                end = deadline


def _lead(begun: Begun | None, block: Shape, alone: float) -> Begun | None:
    """Return what the first block begins with; None where samples are of several forwards, or beside a competitor."""
    if begun is None or not begun.samples_ns or block.calls > 1 or median(begun.reference_ns) > alone:
        return None
    return replace(begun, samples_ns=begun.samples_ns[-block.samples :])


def _timed_block(
    session: Workload, block: Shape, lead: Begun | None, clock: Clock, pause: Pause, core_wait: Clock | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return a block's samples, after forwards that settle where there is no ``lead``, and how long threads waited."""
    first, waited = (lead.samples_ns, lead.core_wait_ns) if lead is not None else ((), 0)
    if lead is None:
        _settle(session, block)
    before = core_wait() if core_wait is not None else 0
    samples = first + _samples(session, replace(block, samples=block.samples - len(first)), clock, pause)
    return samples, (waited + max(0, core_wait() - before),) if core_wait is not None else ()


def _between(
    reference: Workload | None,
    blocks: list[tuple[int, ...]],
    look: Callable[[], object] | None,
    clock: Clock,
    settle_ns: int,
) -> None:
    """Do what stands between two blocks of samples: look at the device, and add a block of the reference."""
    if look is not None:
        look()
    if reference is not None:
        blocks.append(reference_block(reference, clock, settle_ns))


def _wait_for_cores(
    reference: Workload | None, blocks: list[tuple[int, ...]], alone: float, until: int, clock: Clock
) -> int:
    """Repeat the last of ``blocks`` until the reference has its cores or time is up; return how long that took."""
    begin = clock()
    while reference is not None and median(blocks[-1]) > alone and clock() < until:
        blocks[-1] = reference_block(reference, clock, settle_ns=0)
    return clock() - begin


def reference_settle_ns(threads: int) -> int:
    """Return for how long the reference runs untimed at the start of its block."""
    return min(threads, 2) * _REFERENCE_SETTLE_NS


def reference_block(reference: Workload, clock: Clock, settle_ns: int) -> tuple[int, ...]:
    """Return the times in ns of ``REFERENCE_CALLS`` calls of the reference, after untimed ones for ``settle_ns``."""
    with reference.apart() if isinstance(reference, Apart) else nullcontext():
        enough = clock() + settle_ns
        while clock() < enough:
            reference.run()
            reference.sync()
        return tuple(time_one(reference, clock) for _ in range(REFERENCE_CALLS))


def time_block(session: Workload, block: Shape, clock: Clock) -> tuple[int, ...]:
    """Return the times in ns of a block's samples, each of ``block.calls`` forwards and one sync."""
    _settle(session, block)
    return _samples(session, block, clock)


def _settle(session: Workload, block: Shape) -> None:
    for _ in range(block.settle):
        session.run()
    session.sync()


def _samples(session: Workload, block: Shape, clock: Clock, pause: Pause = None) -> tuple[int, ...]:
    times, calls = [], range(block.calls)
    run, sync = session.run, session.sync
    for _ in range(block.samples):
        if pause is not None:
            pause()
        start = clock()
        for _ in calls:
            run()
        sync()
        times.append(_elapsed(start, clock()))
    return tuple(times)


def time_each(
    work: Callable[[], object], sync: Callable[[], object], calls: int, clock: Clock = host_clock
) -> tuple[int, ...]:
    """Return the times in ns of so many calls of ``work``, each until the device has finished, after an untimed one."""
    times = []
    for _ in range(calls + 1):
        sync()
        start = clock()
        work()
        sync()
        times.append(_elapsed(start, clock()))
    return tuple(times[1:])


def time_in_turn(parts: Iterable[Callable[[], None]], sync: Callable[[], None], clock: Clock) -> list[int]:
    """Return the times in ns of parts that follow each other.

    The clock is read once between two parts, after the device has finished the first: what one part does not take the
    next one does, and the parts add up to the whole.
    """
    marks = [clock()]
    for part in parts:
        part()
        sync()
        marks.append(clock())
    return [_elapsed(start, end) for start, end in pairwise(marks)]


def repeat_for(session: Workload, seconds: float, clock: Clock) -> tuple[int, int, int]:
    """Repeat one unit of work for ``seconds``; return when that began and ended, and how many there were."""
    start, calls = clock(), 0
    while clock() < start + round(seconds * 1e9):
        session.run()
        session.sync()
        calls += 1
    return start, clock(), calls


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
