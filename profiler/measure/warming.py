"""Warm a session up: run it until it does not get faster any more."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence

from profiler.measure.timing import (
    SETTLE_NS,
    Begun,
    Clock,
    Workload,
    host_clock,
    reference_block,
    reference_settle_ns,
    time_one,
)
from profiler.records.types import Budget, Warmup

#: A share. A warm-up sample this much faster than all before it says that warming up is not over. study_truth tells.
_STEADY = 0.02


def warm_up(
    session: Workload,
    budget: Budget,
    clock: Clock = host_clock,
    settled: Callable[[], bool] | None = None,
) -> Warmup:
    """Run until samples stop getting faster, at least three samples, or until the budget for it is spent.

    The test is one-sided on minima, because a disturbance can only slow a sample: warm-up is over when the last
    two samples, and as many samples as half of all so far, hold none that beats every earlier one by 2%.

    Args:
        session: What is warmed up.
        budget: ``warmup_s`` counts.
        clock: Monotonic, in nanoseconds.
        settled: Whether the device's own clock stands still; asked after every sample, and must hold too. None where
            nobody knows.
    """
    deadline = clock() + round(budget.warmup_s * 1e9)
    samples: list[int] = []
    while True:
        samples.append(time_one(session, clock))
        if (settled is None or settled()) and _is_steady(samples):
            return Warmup(tuple(samples), steady=True)
        if len(samples) >= 2 and clock() + samples[-1] > deadline:
            return Warmup(tuple(samples), steady=False)


def _recent(samples: Sequence[int]) -> int:
    """How many of the last samples of a warm-up must not beat the earlier ones."""
    return max(2, len(samples) // 2)


def _is_steady(samples: list[int]) -> bool:
    recent = _recent(samples)
    early, late = samples[:-recent], samples[-recent:]
    return bool(early) and min(late) > (1 - _STEADY) * min(early)


def counting_samples(warmup: Warmup) -> tuple[int, ...]:
    """Return the last samples of a warm-up: steady, and settled as a block is before it counts.

    None of a warm-up that never was steady.
    """
    if not warmup.steady:
        return ()
    settled = bisect.bisect_left(list(itertools.accumulate(warmup.samples_ns)), SETTLE_NS) + 1
    return warmup.samples_ns[max(settled, len(warmup.samples_ns) - _recent(warmup.samples_ns)) :]


def warm_up_beside(
    session: Workload,
    reference: Workload,
    budget: Budget,
    clock: Clock = host_clock,
    *,
    threads: int = 1,
    core_wait: Clock | None = None,
) -> tuple[Warmup, Begun]:
    """Warm up after a block of ``reference``; return what that says, and what of it the first block counts.

    Args:
        session: What is warmed up.
        reference: The fixed workload that it is measured beside.
        budget: ``warmup_s`` counts.
        clock: Monotonic, in nanoseconds.
        threads: Of both.
        core_wait: How long this process's threads have been ready without a core, in ns; None where nobody tells.
    """
    block = reference_block(reference, clock, reference_settle_ns(threads))
    before = core_wait() if core_wait is not None else 0
    warmup = warm_up(session, budget, clock)
    waited = max(0, core_wait() - before) if core_wait is not None else 0
    return warmup, Begun(block, counting_samples(warmup), waited)
