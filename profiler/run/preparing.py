"""Exports and traces are made before timing begins, as many at once as there are cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue

from profiler import __version__, backends
from profiler.backends.cache import content_name
from profiler.machine import host
from profiler.measure.ahead import make_ahead
from profiler.measure.visit import Task
from profiler.models import zoo
from profiler.records.types import Budget, Case
from profiler.run.child import Limits, LimitsFor
from profiler.run.processes import Executor

#: Where the cache notes what has been prepared, as empty files.
_NOTES = "prepared"


def prepare_exports(
    cases: Sequence[Case],
    cache: Path,
    budget: Budget,
    limits: LimitsFor,
    another: Callable[[], Executor],
    told: Callable[[int, int], None] = lambda _done, _of: None,
) -> None:
    """Load each case once whose backend exports or traces, where the cache does not say that this was done.

    Args:
        cases: With their contents.
        cache: Where the forms are kept; what has been prepared is noted there.
        budget: Its time limit holds for each case, on top of what its backend needs.
        limits: Of a process, by its placement.
        another: Returns an executor that runs beside those that it has returned before.
        told: Hears how many are done, and of how many.
    """
    missing = {_note(case): case for case in cases if case.mode == "infer" and case.content and _exports(case)}
    missing = {name: case for name, case in missing.items() if not (cache / _NOTES / name).exists()}
    if not missing or not _can_keep(cache / _NOTES):
        return
    told(0, len(missing))
    # On a device they would share its memory.
    alone = any(case.placement.device_type != "cpu" for case in missing.values())
    together = 1 if alone else min(host.usable_cores(), len(missing))
    with ExitStack() as stack:
        free: SimpleQueue[Executor] = SimpleQueue()
        pool = stack.enter_context(ThreadPoolExecutor(together))
        for _ in range(together):
            executor = another()
            stack.callback(executor.close)  # before the pool waits: whoever stops this waits for no export
            free.put(executor)

        def one(name: str, case: Case) -> None:
            executor = free.get()
            try:
                task = Task(case, budget, None, cache)
                memory = Limits(memory_bytes=limits(case.placement).memory_bytes)
                made = executor.call(make_ahead, task, budget.timeout_s + ahead_s(case), memory)
            finally:
                free.put(executor)
            if made is True:
                _keep(cache / _NOTES / name)

        pending: list[Future[None]] = [pool.submit(one, name, case) for name, case in missing.items()]
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        for done, future in enumerate(as_completed(pending), start=1):
            future.result()
            told(done, len(pending))


def ahead_s(case: Case) -> float:
    """Return how much longer than a visit the backend of ``case`` may take where it finds nothing kept, in seconds."""
    return float(getattr(backends.get(case.backend), "ahead_s", 0.0))


def _exports(case: Case) -> bool:
    return bool(getattr(backends.get(case.backend), "exports", False))


def _note(case: Case) -> str:
    versions = {"latency-profiler": __version__, **host.versions()}
    return content_name(case=case.key, code=zoo.code(), versions=versions, host=host.key())


def _can_keep(folder: Path) -> bool:
    """Return whether anything can be kept; else it would all be made twice."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return os.access(folder, os.W_OK)
    return False


def _keep(note: Path) -> None:
    with suppress(OSError):
        note.touch()
