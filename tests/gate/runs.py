"""Runs whose visits took the times that a test gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.backends.base import Placement
from profiler.gate.contrast import Visits
from profiler.machine import host
from profiler.records.circumstances import Conditions
from profiler.records.journal import Journal
from profiler.records.reading import Run, read
from profiler.records.types import Budget, Case, Measurement, Record, Warmup

PLACE = Placement(threads=1)
CASE = Case("resnet50", "", 1.0, "fake:duration_ms=2", PLACE)
OTHER = replace(CASE, backend="fake:duration_ms=3")
HERE = {"key": host.key(), **host.facts()}
BUDGET = Budget(rounds=12, min_rounds=5)
LIMIT = 0.05


def measured(ms: float, *, slower: float = 1.0, nominal: float | None = 1e6) -> Measurement:
    """A visit of equal samples on a machine that is ``slower`` than at its calibration; no reference without one."""
    blocks = ((round(ms * slower * 1e6),) * 5,) * 2
    reference_ns = ((round(1e6 * slower),),) * 3 if nominal else ()
    return Measurement(blocks, 1, reference_ns, nominal, Warmup((), steady=True), 0.0, Conditions(), {}, {})


def record(case: Case, outcome: Any, number: int = 0, *, started: str = "2026-01-01", key: str = "") -> Record:
    when = f"{started}T00:00:{number:02}+00:00"
    return Record(case, None, 224, key or host.key(), number, when, 1.0, outcome)


def written(folder: Path, *records: Record, machine: dict[str, Any] = HERE, **facts: object) -> Run:
    started = min((r.started for r in records), default="2026-01-01T00:00:00+00:00")
    known = {"host": machine, "versions": {"torch": "2.9"}, "budget": BUDGET, "started": started, "digest": "d"}
    with Journal.open(folder, known | facts, resume=True) as journal:
        for one in records:
            journal.append(one)
    return read(folder)


def visited(case: Case, times: Sequence[float], **how: Any) -> list[Record]:
    return [record(case, measured(ms, **how), number) for number, ms in enumerate(times)]


STEADY = (10.0, 10.05, 9.95, 10.02, 9.98)


def scaled(factor: float, times: Sequence[float] = STEADY) -> list[float]:
    return [factor * ms for ms in times]


def visits(times: Sequence[float], pilot: int = 5, **how: Any) -> Visits:
    return Visits(tuple(measured(ms, **how) for ms in times), pilot)
