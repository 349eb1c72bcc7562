"""What the studies share: the networks, the hog, fresh processes, and where results go.

A study is a measured experiment. It takes minutes, wants a machine that does nothing else, and leaves a CSV and a chart
under results/studies/ before it asserts anything, so that a failed study leaves its evidence.
"""

from __future__ import annotations

import contextlib
import csv
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.backends import get
from profiler.backends.base import Placement, Session
from profiler.machine import allocator
from profiler.machine.cache import cache_folder
from profiler.machine.conditions import core_wait
from profiler.measure import reference, warming
from profiler.measure import timing as measure
from profiler.measure.visit import Task
from profiler.models import source
from profiler.records.circumstances import Conditions
from profiler.records.nominal import Calibration
from profiler.records.types import Budget, Case, Failure, Measurement
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.processes import LocalExecutor

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

RESULTS = Path(__file__).parents[2] / "results" / "studies"
NETWORKS = {"light": "regnety_400mf", "wide": "regnety_4.0gf"}
NO_LIMITS = Limits()

#: Keeps one core busy half of the time.
_HOG = """
import sys, time
half = float(sys.argv[1]) / 2
while True:
    end = time.perf_counter() + half
    while time.perf_counter() < end:
        pass
    time.sleep(half)
"""


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement in a fresh process: what, for how many seconds in all, with which reference."""

    case: Case
    seconds: float
    calibration: Calibration | None = None


def case(network: str, backend: str, threads: int) -> Case:
    """Return the case of a cell."""
    return Case(NETWORKS[network], "", 1.0, backend, Placement(threads=threads))


@contextlib.contextmanager
def beside(program: str, *arguments: str) -> Iterator[None]:
    """Run a Python program in a process of its own meanwhile."""
    process = subprocess.Popen([sys.executable, "-c", program, *arguments])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def hog(period_s: float | None) -> contextlib.AbstractContextManager[None]:
    """Keep a core busy for half of every period, in a process of its own; None for a quiet machine."""
    return contextlib.nullcontext() if period_s is None else beside(_HOG, str(period_s))


def calibrations(executor: LocalExecutor, threads: tuple[int, ...] = (1, 2)) -> dict[int, Calibration]:
    """Calibrate anew, now, and return the calibration of each thread count."""
    fresh = Calibrations(executor, cache_folder(), lambda _: NO_LIMITS, redo=True)
    made = {count: fresh.get(Placement(threads=count)) for count in threads}
    return {count: done(one) for count, one in made.items()}


def done(answer: Any) -> Any:
    """Return ``answer``, unless it is a failure."""
    assert not isinstance(answer, Failure), answer
    return answer


@contextlib.contextmanager
def session(job: Job) -> Iterator[tuple[Session, float]]:
    """Load the case of ``job`` and run it once; give the session and the time at which its seconds are over."""
    deadline = time.perf_counter() + job.seconds
    found = source.load_model(job.case.asked(cache_folder()))
    with get(job.case.backend).load(found.model, found.inputs, job.case.placement) as loaded:
        loaded.run()
        loaded.sync()
        yield loaded, deadline


def workload(job: Job) -> reference.Reference | None:
    """Return the reference of ``job``, on as many threads as its case has."""
    import torch

    torch.set_num_threads(job.case.placement.threads)
    return reference.Reference(job.case.placement, job.calibration.repeats) if job.calibration else None


def ours(job: Job) -> Measurement:
    """Measure as a visit does, within ``job.seconds`` of wall time."""
    allocator.keep_freed()
    with session(job) as (loaded, deadline):
        beside = workload(job)
        warmup = warming.warm_up(loaded, Budget(warmup_s=0.5))
        left = max(0.1, deadline - time.perf_counter() - 0.02)
        timing = measure.measure(
            loaded,
            beside,
            Budget(visit_s=left, min_samples=1),
            warmup.typical_ns,
            threads=job.case.placement.threads,
            alone_ns=Task(job.case, Budget(), job.calibration, None).alone_ns,
            core_wait=core_wait(job.case.placement.threads),
        )
    nominal = job.calibration.nominal_ns if job.calibration else None
    return Measurement(
        timing.samples_ns, timing.calls_per_sample, timing.reference_ns, nominal, warmup, None, Conditions(), {},
        core_wait_ns=timing.core_wait_ns,
    )  # fmt: skip


def ready(runtime: str) -> bool:
    """Return once ``runtime`` is loaded in this process."""
    import importlib

    return bool(importlib.import_module(runtime).__version__)


def call(executor: LocalExecutor, function: Callable[[Any], Any], job: Any) -> Any:
    """Run ``function(job)`` in a fresh process and return its result."""
    return done(executor.call(function, job, 120.0, NO_LIMITS))


def shorter(job: Job, parts: int) -> Job:
    """Return the job of one of ``parts`` visits that share its seconds.

    Of each, 120 ms go to starting and ending the process, and to the last block, which ends after its time is up.
    """
    return replace(job, seconds=job.seconds / parts - 0.12)


def spread_chart(table: pd.DataFrame, title: str, y: alt.Y, color: alt.Color) -> alt.FacetChart:
    """Return the column ``cv`` of ``table`` as points on a logarithmic axis, a row for each ``load``."""
    import altair as alt

    x = alt.X("cv:Q", scale=alt.Scale(type="log"), axis=alt.Axis(format=".1%"), title=title)
    points = alt.Chart(table).mark_point(filled=True, size=70).encode(x=x, y=y, color=color)
    return points.properties(width=420).facet(row=alt.Row("load:N", title=None))


def save_rows(name: str, rows: Iterable[Mapping[str, object]]) -> None:
    """Write ``name``.csv under results/studies/."""
    rows = list(rows)
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def save(name: str, frame: pd.DataFrame, chart: alt.Chart | alt.LayerChart | alt.FacetChart) -> None:
    """Write ``name``.csv and ``name``.png under results/studies/."""
    from profiler.report.render import styled, write_chart
    from profiler.report.vega import Chart

    RESULTS.mkdir(parents=True, exist_ok=True)
    frame.to_csv(RESULTS / f"{name}.csv", index=False, float_format="%.6g")
    write_chart(styled(Chart(**chart.to_dict())), RESULTS / f"{name}.png")
