"""A plan is measured and judged beside a stored run: by real visits, and stopped."""

from __future__ import annotations

import math
import os
import platform
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiler.errors import StoppedError, UserError
from profiler.gate.against import _with_stored_batches, against
from profiler.gate.baseline import update
from profiler.gate.stored import _AGAIN
from profiler.measure.visit import Task
from profiler.plan.read import from_flags
from profiler.records.reading import Run, read
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.experiment import measure_into
from profiler.run.lab import Lab
from tests.gate.runs import CASE, LIMIT, OTHER, STEADY, measured, record, visited, written


class Executor:
    """Every visit takes ``ms``; before the visit of a given number the user asks to stop."""

    def __init__(self, ms: float, stop_at: int | None = None) -> None:
        self.ms, self.stop_at, self.calls = ms, stop_at, 0

    def call(self, function: Callable[[Any], Any], argument: Any, timeout_s: float, limits: Limits) -> Any:
        assert isinstance(argument, Task)
        self.calls += 1
        if self.calls == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return measured(self.ms, nominal=None)

    def close(self) -> None:
        pass


def measured_by(executor: Executor, folder: Path, *, resume: bool = False) -> None:
    plan = from_flags(models="resnet50", backends=[CASE.backend, OTHER.backend], threads="1", rounds=4)
    limits = lambda _: Limits()  # noqa: E731
    lab = Lab(plan.budget, executor, limits, Calibrations(executor, folder, limits))
    measure_into(folder, plan, [CASE, OTHER], lab, resume=resume, go_on="profiler gate --resume")


def test_what_was_stopped_keeps_what_was_measured_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match="continue with: profiler gate --resume"):
        measured_by(Executor(2.0, stop_at=3), tmp_path)
    assert len(read(tmp_path).records) == 3
    assert (tmp_path / "cases.csv").exists()
    measured_by(Executor(2.0), tmp_path, resume=True)
    assert sorted((r.case.backend, r.round) for r in read(tmp_path).records) == sorted(
        (case.backend, number) for case in (CASE, OTHER) for number in range(4)
    )
    assert (tmp_path / "cases.csv").exists()


def test_a_plan_is_measured_and_judged_in_real_processes(tmp_path: Path) -> None:
    slow, fast, broken, new = (f"fake:duration_ms={ms}" for ms in (2, 3, "4,fault=raise", 5))
    quoted = ", ".join(f'"{backend}"' for backend in (slow, fast, broken, new))
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f'models = "resnet50"\nthreads = 1\nbackends = [{quoted}]\n'
        "[budget]\nvisit_s = 0.02\nwarmup_s = 0.05\nrounds = 3\nmin_rounds = 3\n"
    )
    times = {slow: 0.1, fast: 60.0, broken: 4.0}
    known = [replace(CASE, backend=backend) for backend in times]
    policy = "kept" if platform.libc_ver()[0] == "glibc" else "system"
    stored = [
        record(case, replace(measured(times[case.backend], nominal=None), facts={"heap": policy}), number)
        for case in known
        for number in range(5)
    ]
    written(tmp_path / "run", *stored)
    update(tmp_path / "run", tmp_path / "baseline.jsonl")

    for attempt in range(3):  # visits beside a busy neighbour leave it open
        folder = tmp_path / f"gate{attempt}"
        verdicts = against(tmp_path / "baseline.jsonl", str(plan), 0.2, folder)
        if verdicts[0].status != "inconclusive":
            break

    assert [verdict.status for verdict in verdicts] == ["regression", "pass", "error", "not comparable"]
    assert verdicts[0].change is not None
    assert verdicts[0].change[1][0] > 5
    assert "fault=raise" in verdicts[2].reason
    assert "no reference ran" in verdicts[0].reason
    first, again = read(folder), read(folder / _AGAIN)
    assert {record.case.backend for record in first.records} == {slow, fast, broken}
    assert {record.case.backend for record in again.records} == {slow}


def test_the_same_folder_is_not_written_twice(tmp_path: Path, stored: Run) -> None:
    written(tmp_path / "gate", *visited(CASE, STEADY))
    plan = tmp_path / "plan.toml"
    plan.write_text(f'models = "resnet50"\nthreads = 1\nbackends = "{CASE.backend}"\n')
    with pytest.raises(UserError, match="already holds a run"):
        against(stored.path, str(plan), LIMIT, tmp_path / "gate")


@pytest.mark.parametrize("limit", [0.0, -0.1, math.inf, math.nan])
def test_a_limit_that_is_none_is_refused(stored: Run, limit: float) -> None:
    with pytest.raises(UserError, match="share above 0"):
        against(stored.path, "quick", limit)


def test_a_largest_batch_is_the_one_of_the_stored_run(tmp_path: Path) -> None:
    asked = replace(CASE, batch_asked="max")
    base = written(tmp_path / "stored", *visited(replace(asked, batch=48, content="of the model"), STEADY))
    assert _with_stored_batches([asked, CASE], base) == [replace(asked, batch=48), CASE]
