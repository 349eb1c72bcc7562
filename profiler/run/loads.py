"""Put a model under load: streams at once, each a fresh process with a session of its own, or threads of one."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.measure.load import LoadTask, Served, serve_streams
from profiler.measure.visit import Task
from profiler.records.load import Call, Load, LoadRecord, load_point
from profiler.records.types import Case, Failure, now
from profiler.run.lab import Lab
from profiler.run.preparing import ahead_s
from profiler.run.processes import Executor


def under_load(case: Case, lab: Lab, load: Load) -> LoadRecord:
    """Put ``case``, whose threads are those of each stream, under ``load``; return every call, or why there is none."""
    started = now()
    found = _served(case, lab, load)
    if isinstance(found, Failure):
        return LoadRecord(case, load, failure=found, host=host.key(), started=started)
    calls = [list(zip(one.arrived_ns, one.begun_ns, one.done_ns, strict=True)) for one in found]
    if load_point(calls) is None:
        none = f"no call was served whole within {load.seconds:g} s: raise --time, or --rate"
        return LoadRecord(case, load, failure=Failure("error", none), host=host.key(), started=started)
    first = min(one[0][0] for one in calls)
    streams = tuple(tuple(_since(call, first) for call in one) for one in calls)
    return LoadRecord(case, load, streams, facts=found[0].facts, host=host.key(), started=started)


def _since(call: Call, first: int) -> Call:
    arrived, begun, done = call
    return arrived - first, begun - first, done - first


def _served(case: Case, lab: Lab, load: Load) -> tuple[Served, ...] | Failure:
    """Return the calls of each stream, or the first failure that is a stream's own."""
    processes = load.streams if load.ways == "processes" else 1
    if processes > 1 and lab.another is None:
        return Failure("unsupported", "streams need several processes at once and there is one: use --streams 1")
    # Sessions of one process are loaded one after another.
    timeout = (lab.budget.timeout_s + ahead_s(case)) * (load.streams if processes == 1 else 1) + 3 * load.seconds
    with ExitStack() as stack:
        meeting = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="latency-profiler-")))
        pool = stack.enter_context(ThreadPoolExecutor(processes))
        executors: list[Executor] = [lab.another() if lab.another else lab.executor for _ in range(processes)]
        for executor in executors:
            stack.callback(executor.close)
        task, limits = Task(case, lab.budget, None, cache_folder()), lab.limits(case.placement)
        tasks = [LoadTask(task, load, number, processes, meeting) for number in range(processes)]
        jobs = [
            pool.submit(executor.call, serve_streams, one, timeout, limits)
            for executor, one in zip(executors, tasks, strict=True)
        ]
        served = [job.result() for job in jobs]
    failures = [one for one in served if isinstance(one, Failure)]
    if failures:
        return next((one for one in failures if "another stream" not in one.reason), failures[0])
    return tuple(stream for one in served if not isinstance(one, Failure) for stream in one)
