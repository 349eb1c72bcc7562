"""A model under load, in one process of several: calls one after another, or requests that arrive at random times.

A *closed loop* calls again as soon as the last call is done: N such streams at once show what a service of N workers
gives. An *open loop* has requests arrive whether the last is done or not, and times each from its arrival.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from profiler import backends
from profiler.backends.base import BackendError, Fact
from profiler.measure import parity, timing
from profiler.measure.timing import Clock, Workload, host_clock
from profiler.measure.visit import Task
from profiler.models import source
from profiler.records.types import Failure

#: How often a stream looks whether the others are ready, and how near to a time sleeping comes before it spins, in s.
_LOOK_S, _SPIN_S = 1e-3, 3e-4


@dataclass(frozen=True, slots=True)
class LoadTask:
    """One stream of a load.

    Attributes:
        task: What is loaded, and how.
        seconds: How long it is under load.
        number: Of this stream, from 0.
        streams: How many there are at once, each in a process of its own.
        meeting: A folder in which they wait for each other.
        rate: Requests per second of an open loop; None for a closed one.
        seed: Of the times of arrival.
    """

    task: Task
    seconds: float
    number: int
    streams: int
    meeting: Path
    rate: float | None = None
    seed: int = 0


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


def closed_loop(session: Workload, seconds: float, clock: Clock = host_clock) -> Served:
    """Call ``session`` again and again for ``seconds``, and at least once."""
    stamps = [clock()]
    while len(stamps) < 2 or stamps[-1] - stamps[0] < seconds * 1e9:
        session.run()
        session.sync()
        stamps.append(clock())
    return Served(tuple(stamps[:-1]), tuple(stamps[:-1]), tuple(stamps[1:]))


def open_loop(
    session: Workload,
    at: list[int],
    clock: Clock = host_clock,
    wait_until: Callable[[int], None] | None = None,
) -> Served:
    """Serve requests that arrive ``at`` these times in their order, in ns from now: one at a time, the others wait."""
    wait, begin = wait_until or _wait_until, clock()
    begun, done = [], []
    for one in at:
        wait(begin + one)
        begun.append(clock())
        session.run()
        session.sync()
        done.append(clock())
    return Served(tuple(begin + one for one in at), tuple(begun), tuple(done))


def _wait_until(ns: int) -> None:
    while (left := (ns - host_clock()) / 1e9) > 0:
        if left > _SPIN_S:
            time.sleep(left - _SPIN_S)


def serve_stream(task: LoadTask) -> Served | Failure:
    """Load the model, wait for the other streams, and be under load; to be called in a fresh process."""
    case = task.task.case
    with _failing(task.meeting), contextlib.ExitStack() as stack:
        loaded = source.load_model(case.asked(task.task.cache))
        backend = backends.get(case.backend)
        if (reason := backend.unavailable(case.placement)) is not None:
            raise BackendError(reason)
        session = stack.enter_context(backend.load(loaded.model, loaded.inputs, case.placement))
        session.run()
        session.sync()
        checked = parity.check(backend, loaded, case, session, task.task.cache)
        if checked.failure is not None:
            (task.meeting / "failed").touch()
            return checked.failure
        timing.warm_up(session, task.task.budget)
        _meet(task)
        if task.rate is None:
            served = closed_loop(session, task.seconds)
        else:
            served = open_loop(session, arrivals(task.rate, task.seconds, task.seed))
        return Served(served.arrived_ns, served.begun_ns, served.done_ns, dict(session.facts()))


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
    while len(list(task.meeting.glob("ready-*"))) < task.streams:
        if (task.meeting / "failed").exists():
            raise BackendError("another stream could not be loaded: see its own reason")
        time.sleep(_LOOK_S)
