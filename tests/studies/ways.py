"""Ways to time a model, each run in a fresh process; nothing here imports what a process does not need."""

from __future__ import annotations

import time
from statistics import fmean, median
from typing import Any

from profiler.machine import allocator, conditions
from profiler.measure import reference, warming
from profiler.measure import timing as measure
from profiler.records.circumstances import Conditions
from profiler.records.estimate import visit_estimate
from profiler.records.types import Budget, Measurement
from tests.studies import lab

TURNS = 20


def torch_timer(job: lab.Job) -> float:
    """Return the median that torch.utils.benchmark reports, in ns."""
    from torch.utils.benchmark import Timer

    with lab.session(job) as (loaded, deadline):
        timer = Timer(
            "run(); sync()", globals={"run": loaded.run, "sync": loaded.sync}, num_threads=job.case.placement.threads
        )
        loaded.run()
        loaded.run()
        left = max(0.1, deadline - time.perf_counter())
        return float(timer.blocked_autorange(min_run_time=left).median * 1e9)


def mean_of_calls(job: lab.Job) -> float:
    """Return the mean of as many calls as fit, after ten to warm up, in ns: the way of timm's benchmark script."""
    with lab.session(job) as (loaded, deadline):
        begin = time.perf_counter()
        warm = 0
        while warm < 10 and time.perf_counter() - begin < 0.7:
            loaded.run()
            loaded.sync()
            warm += 1
        per_call = (time.perf_counter() - begin) / warm
        calls = max(3, round((deadline - time.perf_counter()) / per_call))
        start = time.perf_counter_ns()
        for _ in range(calls):
            loaded.run()
        loaded.sync()
        return (time.perf_counter_ns() - start) / calls


def side_by_side(job: lab.Job) -> list[dict[str, float]]:
    """Return, for each turn in one process, ns of ours, raw beside the reference, alone, a bare loop, nominal.

    Each takes ``job.seconds`` in a turn. They are short, as the machine changes from one second to the next, and the
    nominal time, from the same buffers, is the mean of one before and one after the others.
    """
    allocator.keep_freed()
    placement = job.case.placement
    turns: list[dict[str, float]] = []
    with lab.session(job) as (loaded, _):
        beside, stand_in = lab.workload(job), reference.StandIn(placement)
        assert beside is not None
        settle_ns = measure.reference_settle_ns(placement.threads)

        def nominal_ns() -> float:
            return median(reference._sample_beside(stand_in, beside, job.seconds, settle_ns).times_ns)

        warmup = warming.warm_up(loaded, Budget())
        forward, budget = warmup.typical_ns, Budget(visit_s=job.seconds, min_samples=1)
        core_wait = conditions.core_wait(placement.threads)
        reference._sample_beside(stand_in, beside, reference._WARM_UP_S, settle_ns)
        before = nominal_ns()
        for _ in range(TURNS):
            alone = measure.measure(loaded, None, budget, forward)
            bare = bare_loop(loaded, job.seconds)
            # Last, so that its first reference finds what a model left, as in a visit.
            timing = measure.measure(loaded, beside, budget, forward, core_wait=core_wait)
            after = nominal_ns()
            nominal = fmean((before, after))
            ours = visit_estimate(
                Measurement(
                    timing.samples_ns, timing.calls_per_sample, timing.reference_ns, nominal, warmup, None,
                    Conditions(), {}, core_wait_ns=timing.core_wait_ns,
                )
            )  # fmt: skip
            turns.append(
                {
                    "headline": ours.normalised_ns,
                    "beside": ours.raw_ns,
                    "alone": median(s / alone.calls_per_sample for block in alone.samples_ns for s in block),
                    "bare": bare,
                    "nominal": nominal,
                }
            )
            before = after
    return turns


def bare_loop(loaded: Any, seconds: float) -> float:
    """Return the median of single forwards in a plain loop, in ns."""
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter_ns()
        loaded.run()
        loaded.sync()
        times.append(time.perf_counter_ns() - start)
    return median(times)


def calls_after_a_model(job: lab.Job) -> list[list[int]]:
    """Return the times in ns of the first twelve calls of the reference after each block of the model."""
    allocator.keep_freed()
    with lab.session(job) as (loaded, _):
        beside, clock = lab.workload(job), measure.host_clock
        assert isinstance(beside, reference.Reference)
        block = measure.shape(warming.warm_up(loaded, Budget()).typical_ns, job.case.placement.threads)
        blocks, end = [], clock() + job.seconds * 1e9
        while clock() < end:
            measure.time_block(loaded, block, clock)
            with beside.apart():
                blocks.append([measure.time_one(beside, clock) for _ in range(12)])
        return blocks
