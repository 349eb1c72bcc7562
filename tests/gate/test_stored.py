"""Verdicts on a plan measured now beside a stored run, on scripted visits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiler.gate.stored import _AGAIN, judge_stored
from profiler.gate.verdict import Verdict
from profiler.measure.calibration import VERSION
from profiler.records.reading import Run
from profiler.records.types import Case, Failure
from tests.gate.runs import CASE, HERE, LIMIT, OTHER, STEADY, measured, record, scaled, visited, written


class Scripted:
    """Answers each measurement with a run of the times given for it."""

    def __init__(self, folder: Path, *outcomes: dict[str, Sequence[Any]]) -> None:
        self.folder = folder
        self.outcomes = list(outcomes)
        self.asked: list[tuple[list[Case], str]] = []

    def __call__(self, cases: Sequence[Case], subfolder: str) -> Run:
        self.asked.append((list(cases), subfolder))
        script = self.outcomes.pop(0)
        made = [
            record(case, ms if isinstance(ms, Failure) else measured(ms), number, started="2026-02-01")
            for case in cases
            for number, ms in enumerate(script[case.key])
        ]
        return written(self.folder / f"new{len(self.asked)}", *made)


def judged(tmp_path: Path, stored: Run, *outcomes: dict[str, Sequence[Any]]) -> tuple[list[Verdict], Scripted]:
    script = Scripted(tmp_path, *outcomes)
    return judge_stored(stored, [CASE, OTHER], script, LIMIT), script


def test_equal_runs_pass_and_nothing_is_measured_again(tmp_path: Path, stored: Run) -> None:
    verdicts, script = judged(tmp_path, stored, {CASE.key: STEADY, OTHER.key: STEADY})
    assert [verdict.status for verdict in verdicts] == ["pass", "pass"]
    assert [subfolder for _, subfolder in script.asked] == [""]
    reason = verdicts[0].reason
    assert "surely less than 5%" in reason
    assert "not side by side" in reason
    assert "1.00 times" in reason


def test_a_regression_is_confirmed_by_measuring_that_case_again(tmp_path: Path, stored: Run) -> None:
    slow = {CASE.key: STEADY, OTHER.key: scaled(1.2)}
    verdicts, script = judged(tmp_path, stored, slow, slow)
    assert [verdict.status for verdict in verdicts] == ["pass", "regression"]
    assert script.asked[1] == ([OTHER], _AGAIN)
    found = verdicts[1]
    assert "confirmed by fresh visits" in found.reason
    assert found.change is not None
    assert found.change[1][0] < 0.2 < found.change[1][1]
    assert found.facts["reference_ratio"] == pytest.approx(1.0)
    assert found.latency_ns["candidate"] == pytest.approx(1.2 * 10e6, rel=0.01)
    assert json.loads(json.dumps(found.as_dict()))["status"] == "regression"


def test_a_regression_that_fresh_visits_do_not_show_is_inconclusive(tmp_path: Path, stored: Run) -> None:
    verdicts, _ = judged(tmp_path, stored, {CASE.key: STEADY, OTHER.key: scaled(1.2)}, {OTHER.key: STEADY})
    assert verdicts[1].status == "inconclusive"
    assert verdicts[1].reason.startswith("not confirmed: +20%")


def test_a_regression_whose_fresh_visits_fail_is_an_error(tmp_path: Path, stored: Run) -> None:
    broken = [Failure("crashed", "signal 11", "trace")]
    verdicts, _ = judged(tmp_path, stored, {CASE.key: STEADY, OTHER.key: scaled(1.2)}, {OTHER.key: broken})
    assert (verdicts[1].status, verdicts[1].detail) == ("error", "trace")
    assert "signal 11" in verdicts[1].reason


def test_a_case_that_fails_now_is_an_error_with_its_reason(tmp_path: Path, stored: Run) -> None:
    verdicts, _ = judged(tmp_path, stored, {CASE.key: [Failure("oom", "no room")], OTHER.key: STEADY})
    assert (verdicts[0].status, verdicts[0].reason) == ("error", "oom: no room")
    assert verdicts[1].status == "pass"


@pytest.mark.parametrize(("then", "now", "remedy"), [(2, 5, "--rounds"), (5, 2, "[budget]"), (5, 1, "[budget]")])
def test_too_few_visits_say_what_to_raise(tmp_path: Path, then: int, now: int, remedy: str) -> None:
    base = written(tmp_path / "stored", *visited(CASE, STEADY[:then]))
    verdicts, _ = judged(tmp_path, base, {CASE.key: STEADY[:now]})
    assert verdicts[0].status == "inconclusive"
    assert remedy in verdicts[0].reason


def test_a_case_that_was_not_stored_is_not_comparable_and_not_measured(tmp_path: Path) -> None:
    base = written(tmp_path / "stored", *visited(CASE, STEADY))
    verdicts, script = judged(tmp_path, base, {CASE.key: STEADY})
    assert [verdict.status for verdict in verdicts] == ["pass", "not comparable"]
    assert "profiler baseline update" in verdicts[1].reason
    assert script.asked == [([CASE], "")]
    assert verdicts[1].change is None


def test_a_case_that_failed_when_it_was_stored_is_not_comparable(tmp_path: Path) -> None:
    base = written(tmp_path / "stored", record(CASE, Failure("oom", "no room")))
    verdicts, script = judged(tmp_path, base)
    assert verdicts[0].status == "not comparable"
    assert "oom: no room" in verdicts[0].reason
    assert script.asked == []


def test_another_machine_is_not_comparable_and_is_named(tmp_path: Path) -> None:
    there = HERE | {"key": "elsewhere", "cores": 64}
    made = [replace(one, host="elsewhere") for one in visited(CASE, STEADY)]
    verdicts, script = judged(tmp_path, written(tmp_path / "stored", *made, machine=there))
    assert {verdict.status for verdict in verdicts} == {"not comparable"}
    for verdict in verdicts:
        assert f"cores is {HERE['cores']} here and 64 there" in verdict.reason
    assert script.asked == []


def test_a_side_without_a_reference_is_not_comparable_to_one_with_it(tmp_path: Path) -> None:
    base = written(tmp_path / "stored", *visited(CASE, STEADY, nominal=None))
    verdicts, _ = judged(tmp_path, base, {CASE.key: STEADY})
    assert verdicts[0].status == "not comparable"
    assert "now beside a reference, then without a reference" in verdicts[0].reason


def test_visits_under_another_policy_of_the_heap_are_not_comparable(tmp_path: Path) -> None:
    old = [record(CASE, replace(measured(ms), facts={"heap": "kept"}), number) for number, ms in enumerate(STEADY)]
    verdicts, _ = judged(tmp_path, written(tmp_path / "stored", *old), {CASE.key: STEADY})
    assert verdicts[0].status == "not comparable"
    assert "unset now and was kept then" in verdicts[0].reason


@pytest.mark.parametrize(("version", "expected"), [(VERSION, "pass"), (VERSION - 1, "not comparable")])
def test_another_version_of_the_reference_is_not_comparable(tmp_path: Path, version: int, expected: str) -> None:
    base = written(tmp_path / "stored", *visited(CASE, STEADY), reference=version)
    verdicts, _ = judged(tmp_path, base, {CASE.key: STEADY})
    assert verdicts[0].status == expected


def test_a_disturbed_machine_is_said_with_the_references_ratio(tmp_path: Path) -> None:
    base = written(tmp_path / "stored", *visited(CASE, STEADY, slower=0.8))
    verdicts, _ = judged(tmp_path, base, {CASE.key: scaled(1.2)})
    assert verdicts[0].status == "inconclusive"
    assert "1.25 times as slow" in verdicts[0].reason
    assert "not as quiet as it was" in verdicts[0].reason


def test_many_cases_share_the_level_of_one(tmp_path: Path) -> None:
    noise = [10.0, 10.1, 9.9, 10.12, 9.88]
    many = [replace(CASE, batch=batch) for batch in range(1, 51)]
    base = written(tmp_path / "stored", *(r for case in many for r in visited(case, noise)))

    def judge(cases: Sequence[Case]) -> Verdict:
        script = {case.key: scaled(1.06, noise) if case == many[0] else noise for case in cases}
        return judge_stored(base, cases, Scripted(tmp_path / str(len(cases)), script, script), LIMIT)[0]

    assert judge(many[:1]).status == "regression"
    assert judge(many).status == "inconclusive"
