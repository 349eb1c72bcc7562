"""Whoever measures on a host, a run there or a worker, does so by one calibration of it, made by one of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from profiler.backends.base import Placement
from profiler.machine import cache, host
from profiler.measure.calibration import identity, store
from profiler.records.nominal import Calibration, Calls
from profiler.records.types import Budget, Case, Failure, Feed, Pass, Record
from profiler.run import agent
from profiler.run.calibrations import _CALIBRATION_VISITS, Calibrations
from profiler.run.child import Limits
from profiler.run.errand import Errand
from profiler.run.lab import Lab

PLACE = Placement(threads=1)
KEPT = Calibration(repeats=7, nominal_ns=10e6, spread=0.01, visits=5, created="2026-01-01T00:00:00+00:00")
ERRAND = Errand(Case("resnet50", "", 1.0, "eager", PLACE), 0, "latency", Budget(), Feed())


class Answers:
    """Processes in which a call of the reference takes so long, in ms; the first is held until something was seen."""

    def __init__(self, ms: float, until: threading.Event | None = None) -> None:
        self.ms, self.until = ms, until
        self.asked = threading.Event()
        self.calls, self.crowded = 0, False

    def call(self, function: Any, argument: Any, timeout_s: float, limits: Limits) -> Any:
        self.asked.set()
        self.calls += 1
        if self.until is not None:
            self.until.wait(0.5)
        return argument.repeats or 7, Calls([round(self.ms * 1e6)] * 9, crowded=self.crowded)

    def close(self) -> None:
        pass


def of(folder: Path, executor: Answers, **how: Any) -> Calibrations:
    return Calibrations(executor, folder, lambda _: Limits(), **how)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache.cache_folder()


def test_a_worker_takes_the_calibration_of_a_run_on_its_host(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "_executor", lambda _: Answers(10.0))
    store(home, identity(host.key(), PLACE), KEPT)
    assert agent._lab(ERRAND, PLACE).calibrations.get(PLACE) == KEPT


def test_a_run_takes_the_calibration_of_a_worker_on_its_host(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "_executor", lambda _: Answers(9.0))
    made = agent._lab(ERRAND, PLACE).calibrations.get(PLACE)
    assert isinstance(made, Calibration)
    assert made.nominal_ns == 9e6
    assert of(home, Answers(9.5)).get(PLACE) == made


@pytest.mark.parametrize("before", [None, KEPT])
def test_two_that_find_none_or_a_slow_one_make_one(
    tmp_path: Path, before: Calibration | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Calibrations, "_outdated", lambda *_: True)
    if before is not None:
        store(tmp_path, identity(host.key(), PLACE), before)
    found: dict[str, Calibration | Failure] = {}
    second = Answers(8.9)
    first = Answers(8.7, until=second.asked)

    def ask(name: str, executor: Answers) -> threading.Thread:
        thread = threading.Thread(target=lambda: found.update({name: of(tmp_path, executor).get(PLACE)}), daemon=True)
        thread.start()
        return thread

    one = ask("first", first)
    assert first.asked.wait(10)
    other = ask("second", second)
    one.join(20)
    other.join(20)
    assert not second.asked.is_set()
    assert found["first"] == found["second"]
    assert isinstance(found["first"], Calibration)
    assert found["first"].nominal_ns == 8.7e6


def test_where_no_lock_can_be_made_the_reference_is_measured_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    found = of(tmp_path / "file", Answers(9.0)).get(PLACE)
    assert isinstance(found, Calibration)
    assert found.nominal_ns == 9e6


@pytest.fixture
def worker(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """The processes of a worker whose visits are none: they ask for their calibration."""
    answers = Answers(9.0)
    for name, value in {agent.LABEL: "a", agent.DEVICE: "cpu", agent.TOGETHER: "1"}.items():
        monkeypatch.setenv(name, value)
    agent.introduction.cache_clear()
    monkeypatch.setattr(agent, "_STATE", agent._State(folder=home))
    monkeypatch.setattr(agent, "_executor", lambda _: answers)
    monkeypatch.setattr(agent, "prepare_exports", lambda *_: None)
    monkeypatch.setattr(agent, "one_visit", visited)
    yield answers
    agent.introduction.cache_clear()


def visited(case: Case, number: int, lab: Lab, measures: Pass) -> Record:
    lab.calibrations.get(case.placement)
    return Record(case, None, None, "cafe", number, "now", 0.1, Failure("error", "no visit"), measures=measures)


def test_a_worker_beside_busy_cores_does_not_calibrate_before_each_visit(
    worker: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    worker.crowded = True
    for _ in range(1 + agent._WITHOUT):
        agent._visited(ERRAND)
    assert worker.calls == _CALIBRATION_VISITS
    assert len(capsys.readouterr().err.splitlines()) == 1
    worker.crowded = False
    agent._visited(ERRAND)
    assert agent._STATE.calibrated
    assert worker.calls == 2 * _CALIBRATION_VISITS
