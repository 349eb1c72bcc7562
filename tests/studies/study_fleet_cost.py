"""What a worker costs: while it idles, for each errand, and of the latency of what runs beside it or in its visits."""

from __future__ import annotations

import csv
import math
import multiprocessing.forkserver
import os
import random
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from profiler.backends.base import Placement, Session
from profiler.machine import allocator
from profiler.records.estimate import visit_estimate
from profiler.records.intervals import interval
from profiler.records.journal import Journal
from profiler.records.types import Budget, Case, Feed, Measurement, Record
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.errand import Errand
from profiler.run.fleet import Fleet
from profiler.run.lab import Lab, one_visit
from profiler.run.meeting import Meeting
from profiler.run.processes import LocalExecutor
from tests.run.fleets import LocalFleet, local_fleet, wait_for
from tests.studies.lab import RESULTS, Job, call, session
from tests.studies.study_fleet import cpu_s, scaled

pytest.importorskip("distributed")

#: How long a network runs in one state of the fleet, in seconds; not so long that a stopped worker is missed.
_TURN_S = 0.4
#: What it is left to itself after each change, in seconds: a fleet that goes on catches up.
_SETTLED_S = 0.05
#: Visits of each side until both sides are started anew.
_GROUP = 3


def keep(what: str, unit: str, measured: float, low: object = "", high: object = "", of: object = "") -> None:
    """Keep a figure in the table of what a worker costs, in place of an earlier one of that name."""
    path, head = RESULTS / "fleet_cost.csv", ["what", "measured", "low", "high", "of", "unit"]
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))[1:] if path.is_file() else []
    row = [what, *(f"{v:.6g}" if isinstance(v, float) else str(v) for v in (measured, low, high, of)), unit]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *(r for r in rows if r[0] != what), row])
    print(row)


def keep_ratio(what: str, logs: Sequence[float], of: str) -> float:
    """Keep a ratio with its interval, from its logarithms; return the low end."""
    mean, half = interval(logs, len(logs) - 1)
    assert half is not None
    low, high = math.exp(mean - half), math.exp(mean + half)
    keep(what, "ratio", math.exp(mean), low, high, of)
    return low


def processes(fleet: LocalFleet) -> list[psutil.Process]:
    """The scheduler and the worker, with all that they started."""
    assert fleet.scheduler is not None
    roots = [psutil.Process(fleet.scheduler.pid), fleet.nanny("a")]
    return [each for root in roots for each in (root, *root.children(recursive=True))]


@contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """Keep a fleet from running for a moment, shorter than it takes to be missed."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


class Asking:
    """Asks the one worker of a fleet for visits."""

    def __init__(self, driver: Fleet, budget: Budget) -> None:
        wait_for(driver.members, 60)
        self.driver, self.budget = driver, budget
        [self.member] = driver.members()

    def visit(self, case: Case, number: int) -> Record:
        sent = self.driver.send(self.member, Errand(case, number, "latency", self.budget, Feed()))
        landed = self.driver.landed(120)
        assert landed is not None
        assert landed[0] == sent
        assert isinstance(landed[1], Record)
        return landed[1]


def test_a_worker_costs_next_to_nothing(tmp_path: Path) -> None:
    idle_s, number = scaled(60), scaled(100, 5)
    fake = Case("resnet50", "", 1.0, "fake:duration_ms=0.1", Placement(), fleet_label="a")
    with local_fleet(tmp_path / "fleet") as fleet:
        fleet.add("a")
        with Fleet(Meeting(fleet.address)) as driver, Journal.open(tmp_path / "out", {}) as journal:
            asking = Asking(driver, Budget(visit_s=0.01, warmup_s=0.01))
            asking.visit(fake, 0)
            time.sleep(3)
            worker = [fleet.nanny("a"), *fleet.nanny("a").children(recursive=True)]
            both = processes(fleet)
            before, before_both = cpu_s(worker), cpu_s(both)
            time.sleep(idle_s)
            idle, idle_both = ((cpu_s(of) - b) / idle_s for of, b in ((worker, before), (both, before_both)))
            beyond = []
            for n in range(number):
                begin = time.monotonic()
                record = asking.visit(fake, n)
                journal.append(record)
                beyond.append(time.monotonic() - begin - record.wall_s)
    keep("idle worker", "of a core", idle, of=f"{idle_s} s")
    keep("idle worker and scheduler", "of a core", idle_both, of=f"{idle_s} s")
    keep("a visit beyond its child, median", "ms", 1e3 * statistics.median(beyond), of=f"{number} visits")
    keep(
        "a visit beyond its child, nine in ten under",
        "ms",
        1e3 * sorted(beyond)[number * 9 // 10],
        of=f"{number} visits",
    )
    assert idle < 0.004
    assert statistics.median(beyond) < 0.010


@dataclass(frozen=True, slots=True)
class Beside:
    """A network that runs in one process, with a fleet beside it and with that stopped, in turn."""

    job: Job
    pids: tuple[int, ...]
    pairs: int
    seed: int


def forwards_ns(loaded: Session) -> list[int]:
    times, end = list[int](), time.perf_counter_ns() + round(1e9 * _TURN_S)
    while (begin := time.perf_counter_ns()) < end:
        loaded.run()
        loaded.sync()
        times.append(time.perf_counter_ns() - begin)
    return times


def in_turn(beside: Beside) -> list[tuple[list[int], list[int]]]:
    """Return the times of forwards in pairs of turns: with the fleet, and with that stopped."""
    allocator.keep_freed()
    chance, pairs = random.Random(beside.seed), list[tuple[list[int], list[int]]]()

    def taken(loaded: Session, pids: Sequence[int]) -> list[int]:
        with stopped(pids):
            time.sleep(_SETTLED_S)
            return forwards_ns(loaded)

    with session(beside.job) as (loaded, _):
        forwards_ns(loaded)
        for _ in range(beside.pairs):
            first = chance.random() < 0.5
            one, other = (taken(loaded, pids) for pids in ((), beside.pids)[:: 1 if first else -1])
            pairs.append((one, other) if first else (other, one))
    return pairs


@pytest.mark.parametrize("backend", ["eager", "onnxruntime"])
def test_what_runs_beside_a_worker_takes_as_long(tmp_path: Path, backend: str) -> None:
    visits, pairs, executor = 4, scaled(30, 2), LocalExecutor()
    job, made = Job(Case("regnety_200mf", "", 1.0, backend, Placement()), 0.0), list[tuple[list[int], list[int]]]()
    with local_fleet(tmp_path / "fleet") as fleet:
        fleet.add("a")
        wait_for(lambda: "worker a on cpu serves" in fleet.said(), 60)
        time.sleep(3)
        pids = tuple(process.pid for process in processes(fleet))
        for seed in range(visits):
            made += call(executor, in_turn, Beside(job, pids, pairs, seed))
    executor.close()
    of = f"{len(made)} pairs in {visits} processes"

    def logs(of_turn: object) -> list[float]:
        return [math.log(of_turn(a) / of_turn(b)) for a, b in made]  # type: ignore[operator]

    low = keep_ratio(f"{backend} beside a worker over beside none, medians of turns", logs(statistics.median), of)
    keep_ratio(f"{backend} beside a worker over beside none, means of turns", logs(statistics.fmean), of)
    assert low < 1.005


def ratio_to_reference(record: Record) -> float:
    """A latency that does not depend on what either side takes for the reference's nominal time."""
    made = record.outcome
    assert isinstance(made, Measurement), made
    assert made.nominal_ns is not None
    return visit_estimate(made).normalised_ns / made.nominal_ns


def start_anew(fleet: LocalFleet, driver: Fleet) -> None:
    """Start the processes anew from which both sides fork their visits: all of one have its layout of memory."""
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]
    before = {member.address for member in driver.members()}
    fleet.engine("a").kill()
    wait_for(lambda: {member.address for member in driver.members()} - before, 60)


def test_a_visit_of_a_worker_takes_as_long(tmp_path: Path) -> None:
    groups, budget = scaled(12, 2), Budget(visit_s=0.4, warmup_s=0.4)
    real = Case("regnety_200mf", "", 1.0, "eager", Placement(), fleet_label="a")
    chance, executor = random.Random(1), LocalExecutor()
    home = tmp_path / "fleet" / "cache" / "latency-profiler"
    lab = Lab(budget, executor, lambda _: Limits(), Calibrations(executor, home, lambda _: Limits()), Feed())
    logs, each = list[float](), list[float]()
    with local_fleet(tmp_path / "fleet") as fleet:
        fleet.add("a")
        with Fleet(Meeting(fleet.address)) as driver:
            for group in range(groups):
                start_anew(fleet, driver) if group else None
                asking = Asking(driver, budget)

                def alone(n: int) -> float:
                    with stopped([process.pid for process in processes(fleet)]):
                        return ratio_to_reference(one_visit(replace(real, fleet_label=""), n, lab))

                def under(n: int, asking: Asking = asking) -> float:
                    return ratio_to_reference(asking.visit(real, n))

                sides = {"under": under, "alone": alone}
                found = []
                for n in range(_GROUP + 1):
                    order = chance.sample(list(sides), 2)
                    took = {side: sides[side](n) for side in order}
                    found.append(math.log(took["under"] / took["alone"]))
                logs.append(
                    statistics.fmean(found[1:])
                )  # the first of a group may export, calibrate, or wait for its server
                each += found[1:]
    print({"within": statistics.stdev(each), "groups": statistics.stdev(logs)})
    low = keep_ratio("a visit under a worker over one without", logs, f"{len(each)} pairs in {groups} groups")
    assert low < 1.005
