"""Put a model under load: streams at once, each a fresh process with a session of its own."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from profiler.machine.cache import cache_folder
from profiler.measure.load import LoadTask, Served, serve_stream
from profiler.measure.visit import Task
from profiler.records.load import Call, LoadPoint, load_point
from profiler.records.types import Case, Failure
from profiler.run.lab import Lab
from profiler.run.preparing import ahead_s


def under_load(
    case: Case, lab: Lab, seconds: float, *, streams: int = 1, rate: float | None = None, seed: int = 0
) -> LoadPoint | Failure:
    """Return what ``case`` does under ``streams`` closed loops, or one open loop of ``rate`` requests per second.

    Args:
        case: Its threads are those of each stream.
        lab: Must be able to give another executor.
        seconds: How long it is under load.
        streams: Processes, all at once.
        rate: Requests per second at Poisson times, served by one process; None for closed loops.
        seed: Of the times of arrival.
    """
    if lab.another is None:
        return Failure("unsupported", "streams need several processes at once and there is one: use --streams 1")
    timeout = lab.budget.timeout_s + ahead_s(case) + 3 * seconds
    with ExitStack() as stack:
        meeting = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="latency-profiler-")))
        pool = stack.enter_context(ThreadPoolExecutor(streams))
        executors = [lab.another() for _ in range(streams)]
        for executor in executors:
            stack.callback(executor.close)
        task = Task(case, lab.budget, None, cache_folder())
        jobs = [
            pool.submit(
                executor.call,
                serve_stream,
                LoadTask(task, seconds, number, streams, meeting, rate, seed),
                timeout,
                lab.limits(case.placement),
            )
            for number, executor in enumerate(executors)
        ]
        served = [job.result() for job in jobs]
    failures = [one for one in served if isinstance(one, Failure)]
    if failures:
        return next((one for one in failures if "another stream" not in one.reason), failures[0])
    return _point([one for one in served if isinstance(one, Served)], seconds)


def _point(served: list[Served], seconds: float) -> LoadPoint | Failure:
    calls: list[list[Call]] = [list(zip(one.arrived_ns, one.begun_ns, one.done_ns, strict=True)) for one in served]
    point = load_point(calls) if all(calls) else None
    if point is None:
        return Failure("error", f"no call was served whole within {seconds:g} s: raise --time, or --rate")
    return point
