"""A model under load, in one process of several: calls one after another, or requests that arrive at random times.

A *closed loop* calls again as soon as the last call is done, or some idle time after it: N such streams at once show
what a service of N workers gives. An *open loop* has requests arrive whether the last is done or not, and times each
from its arrival.
"""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from profiler import backends
from profiler.backends.base import BackendError, Fact, Session
from profiler.measure import parity, warming
from profiler.measure.timing import Clock, Workload, host_clock
from profiler.measure.visit import Task
from profiler.models import source
from profiler.records.load import Load
from profiler.records.types import Failure

#: How often a stream looks whether the others are ready, and how near to a time sleeping comes before it spins, in s.
_LOOK_S, _SPIN_S = 1e-3, 3e-4


@dataclass(frozen=True, slots=True)
class LoadTask:
    """What one process of a load does.

    Attributes:
        task: What is loaded, and how.
        load: What it is put under.
        number: Of this process, from 0.
        processes: How many there are at once; a single one has all streams as threads.
        meeting: A folder in which they wait for each other.
    """

    task: Task
    load: Load
    number: int
    processes: int
    meeting: Path


@dataclass(frozen=True, slots=True)
class Served:
    """The calls of one stream: when each arrived, was begun and was done, in ns of the machine's monotonic clock."""

    arrived_ns: tuple[int, ...]
    begun_ns: tuple[int, ...]
    done_ns: tuple[int, ...]
    facts: dict[str, Fact] = field(default_factory=dict)


def arrivals(rate: float, seconds: float, seed: int) -> list[int]:
    """Return times at which requests arrive, in ns from 0 to ``seconds``: a Poisson process of ``rate`` per second."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    gaps = iter(lambda: draw.expovariate(rate), None)
    times: list[int] = []
    for at in accumulate(gaps):
        if at >= seconds:
            return times
        times.append(round(at * 1e9))
    return times


def closed_loop(
    session: Workload,
    seconds: float,
    clock: Clock = host_clock,
    *,
    gap_s: float = 0.0,
    rest: Callable[[float], None] = time.sleep,
) -> Served:
    """Call ``session`` again and again for ``seconds``, and at least once; idle for ``gap_s`` before each call."""
    begun: list[int] = []
    done: list[int] = []
    end = clock() + round(seconds * 1e9)
    while not done or done[-1] < end:
        if gap_s:
            rest(gap_s)
        begun.append(clock() if gap_s or not done else done[-1])
        session.run()
        session.sync()
        done.append(clock())
    return Served(tuple(begun), tuple(begun), tuple(done))


def open_loop(
    session: Workload,
    at: Sequence[int],
    clock: Clock = host_clock,
    wait_until: Callable[[int], None] | None = None,
    *,
    seconds: float = math.inf,
) -> Served:
    """Serve requests that arrive ``at`` these times in their order, in ns from now: one at a time, the others wait.

    Who has not been served after ``seconds`` is not served any more.
    """
    pause, begin = wait_until or _wait_until, clock()
    begun: list[int] = []
    done: list[int] = []
    for one in at:
        pause(begin + one)
        begun.append(clock())
        session.run()
        session.sync()
        done.append(clock())
        if done[-1] - begin >= seconds * 1e9:
            break
    return Served(tuple(begin + one for one in at[: len(done)]), tuple(begun), tuple(done))


def _wait_until(ns: int) -> None:
    while (left := (ns - host_clock()) / 1e9) > 0:
        if left > _SPIN_S:
            time.sleep(left - _SPIN_S)


def serve_streams(task: LoadTask) -> tuple[Served, ...] | Failure:
    """Load the model for each stream of this process, wait for the others, and be under load; in a fresh process."""
    case = task.task.case
    here = 1 if task.processes > 1 else task.load.streams
    with _failing(task.meeting), contextlib.ExitStack() as stack:
        loaded = source.load_model(case.asked(task.task.cache))
        backend = backends.get(case.backend)
        if (reason := backend.unavailable(case.placement)) is not None:
            raise BackendError(reason)
        sessions = [stack.enter_context(backend.load(loaded.model, loaded.inputs, case.placement)) for _ in range(here)]
        for session in sessions:
            session.run()
            session.sync()
        checked = parity.check(backend, loaded, case, sessions[0], task.task.cache)
        if checked.failure is not None:
            (task.meeting / "failed").touch()
            return checked.failure
        for session in sessions:
            warming.warm_up(session, task.task.budget)
        _meet(task)
        return _served(sessions, task.load)


def _served(sessions: Sequence[Session], load: Load) -> tuple[Served, ...]:
    if load.rate is not None:
        timed = open_loop(sessions[0], arrivals(load.rate, load.seconds, load.seed), seconds=load.seconds)
        loops = [timed]
    elif len(sessions) == 1:
        loops = [closed_loop(sessions[0], load.seconds, gap_s=load.gap_s)]
    else:
        loops = _in_threads(sessions, load)
    return tuple(
        Served(loop.arrived_ns, loop.begun_ns, loop.done_ns, dict(session.facts()))
        for loop, session in zip(loops, sessions, strict=True)
    )


def _in_threads(sessions: Sequence[Session], load: Load) -> list[Served]:
    """Run a closed loop for each session, all at once in threads of this process."""
    together = threading.Barrier(len(sessions))

    def one(session: Session) -> Served:
        try:
            session.run()  # what a runtime sets up in each thread is no part of the load
            session.sync()
        except BaseException:
            together.abort()
            raise
        together.wait()
        return closed_loop(session, load.seconds, gap_s=load.gap_s)

    with ThreadPoolExecutor(len(sessions)) as pool:
        jobs = [pool.submit(one, session) for session in sessions]
        wait(jobs)
    failed = [error for error in (job.exception() for job in jobs) if error is not None]
    for error in sorted(failed, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    return [job.result() for job in jobs]


@contextlib.contextmanager
def _failing(meeting: Path) -> Iterator[None]:
    """Let the other streams know of a failure, or they would wait for this one."""
    try:
        yield
    except BaseException:
        (meeting / "failed").touch()
        raise


def _meet(task: LoadTask) -> None:
    (task.meeting / f"ready-{task.number}").touch()
    while len(list(task.meeting.glob("ready-*"))) < task.processes:
        if (task.meeting / "failed").exists():
            raise BackendError("another stream could not be loaded: see its own reason")
        time.sleep(_LOOK_S)
