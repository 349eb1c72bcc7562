"""A kept calibration that the machine beats is measured anew; one that it does not is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from profiler.backends.base import Placement
from profiler.machine import host
from profiler.measure.calibration import identity, store
from profiler.measure.visit import CalibrationTask
from profiler.records.nominal import Calibration, Calls
from profiler.records.types import Failure
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits

PLACE = Placement(threads=1)
KEPT = Calibration(repeats=7, nominal_ns=10e6, spread=0.01, visits=5, created="2026-01-01T00:00:00+00:00")


class Takes:
    """Processes in which a call of the reference takes so long, in ms."""

    def __init__(self, ms: float) -> None:
        self.ms = ms
        self.asked: list[CalibrationTask] = []

    def call(self, function: Any, argument: Any, timeout_s: float, limits: Limits) -> Any:
        self.asked.append(argument)
        if self.ms < 0:
            return Failure("error", "no process")
        return argument.repeats or 7, Calls([round(self.ms * 1e6)] * 9, crowded=False)

    def close(self) -> None:
        pass


def known(folder: Path, executor: Takes, **how: Any) -> Calibration | Failure:
    return Calibrations(executor, folder, lambda _: Limits(), **how).get(PLACE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store(tmp_path, identity(host.key(), PLACE), KEPT)
    return tmp_path


def test_a_machine_that_became_faster_is_calibrated_anew(folder: Path) -> None:
    found = known(folder, faster := Takes(8.7))
    assert isinstance(found, Calibration)
    assert found.nominal_ns == 8.7e6
    assert faster.asked[0].repeats == KEPT.repeats
    assert known(folder, again := Takes(8.7)) == found
    assert not again.asked


@pytest.mark.parametrize("ms", [9.8, 10.0, 17.0, -1.0])
def test_one_that_is_as_fast_or_slower_or_cannot_tell_keeps_it(folder: Path, ms: float) -> None:
    assert known(folder, executor := Takes(ms)) == KEPT
    assert len(executor.asked) == 1


def test_whoever_measures_no_reference_looks_at_none(folder: Path) -> None:
    assert known(folder, executor := Takes(5.0), measure=False) == KEPT
    assert known(folder, executor, known={identity(host.key(), PLACE): KEPT}) == KEPT
    assert not executor.asked
