"""Stored baselines: what is kept in the file, and what a plan measured now says beside it."""

from __future__ import annotations

import json
import math
import os
import platform
import random
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from profiler.backends.base import Placement
from profiler.cli.baseline import show
from profiler.errors import StoppedError, UserError
from profiler.gate import stored as baseline
from profiler.gate.against import _with_stored_batches, against
from profiler.gate.baseline import calibrations, update
from profiler.gate.contrast import Visits, contrast, session_of
from profiler.gate.decision import ALPHA, Rule
from profiler.gate.stored import Verdict
from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.measure import calibration
from profiler.measure.calibration import VERSION, Calibration, identity
from profiler.measure.visit import Reply, Task
from profiler.plan.read import from_flags
from profiler.records.disturbance import Levels
from profiler.records.estimate import case_estimate
from profiler.records.intervals import sequential_interval
from profiler.records.journal import Journal
from profiler.records.reading import Run, read
from profiler.records.types import Budget, Case, Conditions, Failure, Measurement, Record, Warmup
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.experiment import measure_into
from profiler.run.lab import Lab

PLACE = Placement(threads=1)
CASE = Case("resnet50", "", 1.0, "fake:duration_ms=2", PLACE)
OTHER = replace(CASE, backend="fake:duration_ms=3")
HERE = {"key": host.key(), **host.facts()}
BUDGET = Budget(rounds=12, min_rounds=5)
LIMIT = 0.05
CALIBRATION = Calibration(7, 1e6, 0.01, 5, "2026-01-01T00:00:00+00:00")
NAME = identity(host.key(), PLACE)


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


# --- the decision


@pytest.mark.parametrize("count", [4, 5, 8, 11])
def test_the_level_of_a_case_is_its_headline(count: int) -> None:
    draw = random.Random(count)
    found = visits([10 * draw.lognormvariate(0, 0.02) for _ in range(count)])
    estimate = case_estimate(found.measured)
    assert found.level.centre == pytest.approx(math.log(estimate.latency_ns))
    if count <= 5:
        logs = found.logs
        assert found.level.error == pytest.approx(stats.sem(logs))
        assert found.level.freedom == count - 1


def test_a_wild_visit_has_no_weight_among_enough() -> None:
    calm = visits([*STEADY, 10.01, 9.99])
    wild = visits([*STEADY, 10.01, 14.0])
    assert wild.level.centre == pytest.approx(calm.level.centre, abs=0.002)


def test_visits_that_agree_by_luck_later_keep_the_error_of_the_pilot() -> None:
    found = visits([9.0, 10.0, 11.0, *[10.0] * 9], pilot=3)
    logs = found.logs
    assert found.level.error >= stats.tstd(logs[:3]) / math.sqrt(12)
    assert found.level.freedom == 2


def test_without_trimming_the_contrast_is_welchs() -> None:
    then, now = visits([10.0, 10.3, 9.9, 10.1]), visits([10.8, 10.6, 11.4, 10.7, 10.9])
    found = contrast(then, now)
    expected = stats.ttest_ind(now.logs, then.logs, equal_var=False).confidence_interval(0.95)
    assert found.bounds(0.025) == pytest.approx((expected.low, expected.high))
    assert found.change.estimate == pytest.approx(math.expm1(sum(now.logs) / 5 - sum(then.logs) / 4))


@pytest.mark.parametrize(
    ("factor", "expected"), [(1.0, "pass"), (0.8, "pass"), (1.02, "pass"), (1.035, "inconclusive"), (1.2, "regression")]
)
def test_the_answer_follows_the_size_of_the_change(factor: float, expected: str) -> None:
    noise = scaled(factor, [10.0, 10.1, 9.9, 10.06, 9.94])
    assert baseline.answer(visits(STEADY), visits(noise), Rule(LIMIT)) == expected


def test_what_slows_model_and_reference_alike_is_divided_out() -> None:
    now = visits(STEADY, slower=1.09)
    assert now.measured[0].samples_ns[0][0] == pytest.approx(1.09 * 10e6)
    assert baseline.answer(visits(STEADY), now, Rule(LIMIT)) == "pass"
    bare = visits(scaled(1.09), nominal=None)
    assert baseline.answer(visits(STEADY, nominal=None), bare, Rule(LIMIT)) == "regression"


@pytest.mark.parametrize("slower", [1.15, 0.85])
def test_a_regression_does_not_count_on_a_machine_that_is_not_as_it_was(slower: float) -> None:
    then, now = visits(STEADY), visits(scaled(1.2), slower=slower)
    assert baseline.answer(then, now, Rule(LIMIT)) == "inconclusive"


def test_a_reference_calibrated_anew_is_doubted() -> None:
    then, now = visits(STEADY), visits(scaled(1.07 / 1.04), nominal=1.04e6)
    found = contrast(then, now)
    assert found.centre == pytest.approx(math.log(1.07))
    assert found.doubt == pytest.approx(math.log(1.04))
    assert baseline.answer(then, visits(scaled(1.07)), Rule(LIMIT)) == "regression"
    assert baseline.answer(then, now, Rule(LIMIT)) == "inconclusive"


def drawn(draw: random.Random, centre: float, noise: float) -> Visits:
    """Visits until their interval is narrow, as a run makes them."""
    times = [centre * draw.lognormvariate(0, noise) for _ in range(BUDGET.rounds)]
    for count in range(BUDGET.min_rounds, BUDGET.rounds):
        _, half = sequential_interval([math.log(t) for t in times[:count]], BUDGET.min_rounds)
        if half is not None and math.expm1(half) <= 0.02:
            return visits(times[:count])
    return visits(times)


@pytest.mark.parametrize(("slowdown", "wrong"), [(LIMIT / 2, "regression"), (LIMIT, "pass")])
def test_wrong_answers_are_as_rare_as_promised(slowdown: float, wrong: str) -> None:
    """At either limit a wrong answer has its largest probability, 0.25%."""
    draw = random.Random(1)
    answers = [
        baseline.answer(drawn(draw, 10.0, 0.02), drawn(draw, 10 * (1 + slowdown), 0.02), Rule(LIMIT))
        for _ in range(800)
    ]
    assert answers.count(wrong) <= stats.binom.isf(0.001, len(answers), ALPHA)


def test_a_large_change_is_found_in_ordinary_noise() -> None:
    draw = random.Random(2)
    answers = [baseline.answer(drawn(draw, 10.0, 0.01), drawn(draw, 11.5, 0.01), Rule(LIMIT)) for _ in range(60)]
    assert answers.count("regression") >= 55


# --- judging


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
    return baseline.judge(stored, [CASE, OTHER], script, LIMIT), script


@pytest.fixture
def stored(tmp_path: Path) -> Run:
    return written(tmp_path / "stored", *visited(CASE, STEADY), *visited(OTHER, STEADY))


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
    assert script.asked[1] == ([OTHER], baseline.AGAIN)
    found = verdicts[1]
    assert "confirmed by fresh visits" in found.reason
    assert found.change is not None
    assert found.change.low < 0.2 < found.change.high
    assert found.reference_ratio == pytest.approx(1.0)
    assert found.latency_ns("candidate") == pytest.approx(1.2 * 10e6, rel=0.01)
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
        return baseline.judge(base, cases, Scripted(tmp_path / str(len(cases)), script, script), LIMIT)[0]

    assert judge(many[:1]).status == "regression"
    assert judge(many).status == "inconclusive"


# --- measuring


class Executor:
    """Every visit takes ``ms``; before the visit of a given number the user asks to stop."""

    def __init__(self, ms: float, stop_at: int | None = None) -> None:
        self.ms, self.stop_at, self.calls = ms, stop_at, 0

    def call(self, function: Callable[[Any], Any], argument: Any, timeout_s: float, limits: Limits) -> Any:
        assert isinstance(argument, Task)
        self.calls += 1
        if self.calls == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return Reply(measured(self.ms, nominal=None))

    def close(self) -> None:
        pass


def measured_by(executor: Executor, folder: Path, *, resume: bool = False) -> Levels:
    plan = from_flags(models="resnet50", backends=[CASE.backend, OTHER.backend], threads="1", rounds=4)
    limits = lambda _: Limits()  # noqa: E731
    lab = Lab(plan.budget, executor, limits, Calibrations(executor, folder, limits))
    measure_into(folder, plan, [CASE, OTHER], lab, resume=resume, go_on="profiler gate --resume")
    return lab.levels


def test_what_was_stopped_keeps_what_was_measured_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match="continue with: profiler gate --resume"):
        measured_by(Executor(2.0, stop_at=3), tmp_path)
    assert len(read(tmp_path).records) == 3
    assert (tmp_path / "cases.csv").exists()
    measured_by(Executor(2.0), tmp_path, resume=True)
    assert sorted((r.case.key, r.round) for r in read(tmp_path).records) == sorted(
        (case.key, number) for case in (CASE, OTHER) for number in range(4)
    )
    assert (tmp_path / "cases.csv").exists()


def test_a_plan_is_measured_and_judged_in_real_processes(tmp_path: Path) -> None:
    slow, fast, broken, new = (f"fake:duration_ms={ms}" for ms in (2, 3, "4,fault=raise", 5))
    quoted = ", ".join(f'"{backend}"' for backend in (slow, fast, broken, new))
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f'models = "resnet50"\nthreads = 1\nbackends = [{quoted}]\n'
        "[budget]\nvisit_s = 0.02\nwarmup_s = 0.05\nrounds = 5\n"
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

    verdicts = against(tmp_path / "baseline.jsonl", str(plan), 0.2, tmp_path / "gate")

    assert [verdict.status for verdict in verdicts] == ["regression", "pass", "error", "not comparable"]
    assert verdicts[0].change is not None
    assert verdicts[0].change.low > 5
    assert "fault=raise" in verdicts[2].reason
    assert "no reference ran" in verdicts[0].reason
    first, again = read(tmp_path / "gate"), read(tmp_path / "gate" / baseline.AGAIN)
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
    base = written(tmp_path / "stored", *visited(replace(asked, batch=48), STEADY))
    assert _with_stored_batches([asked, CASE], base) == [replace(asked, batch=48), CASE]


# --- the file


def keys(file: Path) -> list[str]:
    return [record.case.key for record in read(file).records]


def test_only_latencies_are_stored_and_read_back_to_the_last_bit(tmp_path: Path) -> None:
    good, broken = visited(CASE, STEADY), record(OTHER, Failure("oom", "no room"))
    half = record(CASE, Failure("crashed", "signal 11"), 5)
    memory = replace(record(CASE, Failure("error", "no memory")), measures="memory")
    run = written(tmp_path / "run", *good, half, memory, broken)
    update(tmp_path / "run", tmp_path / "deep" / "baseline.jsonl")
    again = read(tmp_path / "deep" / "baseline.jsonl")
    assert again.records == (*good, half)
    assert again.notices == ()
    assert [dict(s.facts) | {"calibrations": None} for s in again.sessions] == [
        dict(s.facts) | {"calibrations": None} for s in run.sessions
    ]


def test_the_same_cases_are_replaced_and_the_others_kept(tmp_path: Path) -> None:
    file = tmp_path / "baseline.jsonl"
    written(tmp_path / "old", *visited(CASE, STEADY), *visited(OTHER, STEADY))
    third = replace(CASE, batch=2)
    fresh = [record(case, measured(20.0), started="2026-03-01") for case in (OTHER, third)]
    written(tmp_path / "new", *fresh)
    update(tmp_path / "old", file)
    update(tmp_path / "new", file)
    found = read(file)
    assert found.records == (*visited(CASE, STEADY), *fresh)
    owners = [session_of(found, one) for one in found.records]
    assert [str(owner.facts["started"])[:7] for owner in owners if owner] == ["2026-01"] * 5 + ["2026-03"] * 2


def test_sessions_without_visits_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "baseline.jsonl"
    for month in ("01", "02", "03"):
        written(tmp_path / month, record(CASE, measured(10.0), started=f"2026-{month}-01"))
        update(tmp_path / month, file)
    assert len(read(file).sessions) == 1


def elsewhere(tmp_path: Path) -> Path:
    there = HERE | {"key": "elsewhere", "torch": "0.1"}
    written(tmp_path / "there", record(OTHER, measured(10.0), key="elsewhere"), machine=there)
    return tmp_path / "there"


def test_another_machines_baseline_is_not_mixed_with_this_ones(tmp_path: Path) -> None:
    file = tmp_path / "baseline.jsonl"
    written(tmp_path / "run", *visited(CASE, STEADY))
    update(tmp_path / "run", file)
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"torch is '0\.1' here and .* there.*--replace"):
        update(elsewhere(tmp_path), file)
    assert file.read_bytes() == before
    update(elsewhere(tmp_path), file, replace=True)
    assert set(keys(file)) == {OTHER.key}


def test_a_run_without_a_latency_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "run", record(CASE, Failure("oom", "no room")))
    with pytest.raises(UserError, match="no latency to store"):
        update(tmp_path / "run", tmp_path / "baseline.jsonl")
    assert not (tmp_path / "baseline.jsonl").exists()


def test_a_file_that_is_no_baseline_is_not_overwritten(tmp_path: Path) -> None:
    written(tmp_path / "run", *visited(CASE, STEADY))
    table = tmp_path / "table.csv"
    table.write_text("model,latency_ms\nresnet50,3\n")
    with pytest.raises(UserError, match="is no baseline"):
        update(tmp_path / "run", table)
    assert table.read_text().startswith("model")


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """As on a full disk: no file can grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_old_baseline(tmp_path: Path) -> None:
    file = tmp_path / "baseline.jsonl"
    written(tmp_path / "old", *visited(CASE, STEADY))
    written(tmp_path / "new", *visited(OTHER, STEADY))
    update(tmp_path / "old", file)
    before = file.read_bytes()
    with small_files(500), pytest.raises(UserError, match="cannot be written"):
        update(tmp_path / "new", file)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["baseline.jsonl", "new", "old"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    written(tmp_path / "run", *visited(CASE, STEADY))
    (tmp_path / "way").write_text("in the")
    with pytest.raises(UserError, match="cannot be written"):
        update(tmp_path / "run", tmp_path / "way" / "baseline.jsonl")


# --- calibrations


@pytest.mark.parametrize(("nominal", "kept"), [(1e6, {NAME: CALIBRATION}), (1.1e6, {})])
def test_a_baseline_keeps_the_calibration_it_was_measured_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nominal: float, kept: dict[str, object]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    calibration.store(cache_folder(), NAME, CALIBRATION)
    written(tmp_path / "run", *visited(CASE, STEADY, nominal=nominal))
    update(tmp_path / "run", tmp_path / "baseline.jsonl")
    assert calibrations(read(tmp_path / "baseline.jsonl")) == kept


def test_a_kept_calibration_outlives_the_cache_and_further_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    known = {NAME: {"repeats": 7, "nominal_ns": 1e6, "spread": 0.01, "visits": 5, "created": CALIBRATION.created}}
    written(tmp_path / "gate", *visited(CASE, STEADY), calibrations=known | {"odd": {"repeats": 1}})
    update(tmp_path / "gate", tmp_path / "baseline.jsonl")
    assert calibrations(read(tmp_path / "baseline.jsonl")) == {NAME: CALIBRATION}


def test_the_new_run_uses_the_stored_calibration_and_measures_none(tmp_path: Path) -> None:
    class Refusing(Executor):
        def call(self, function: Any, argument: Any, timeout_s: float, limits: Limits) -> Any:
            return Failure("error", "calibrated anew")

    calibrations = Calibrations(Refusing(1.0), tmp_path, lambda _: Limits(), known={NAME: CALIBRATION})
    assert calibrations.get(PLACE) == CALIBRATION
    assert calibrations.get(Placement(threads=2)) == Failure("error", "calibrated anew")


# --- showing


def test_what_is_shown_of_a_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "run", *visited(CASE, STEADY), record(OTHER, measured(3.0)))
    update(tmp_path / "run", tmp_path / "baseline.jsonl")
    capsys.readouterr()
    show(tmp_path / "baseline.jsonl", json=True)
    first, second = json.loads(capsys.readouterr().out)
    assert first["latency_ms"] == pytest.approx(10.0, rel=1e-3)
    assert first["latency_ci_low_ms"] < 10 < first["latency_ci_high_ms"]
    assert (first["visits"], first["host"], first["versions"]) == (5, host.key(), {"torch": "2.9"})
    assert first["started"] == "2026-01-01T00:00:00+00:00"
    assert (second["label"], second["latency_ci_low_ms"]) == (OTHER.label, None)
    show(tmp_path / "baseline.jsonl")
    # A narrow terminal folds cells.
    text = "".join(capsys.readouterr().out.split())
    assert all(shown in text for shown in ("10.0ms", "torch2.9", host.key(), "resnet50"))


def test_no_baseline_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        show(tmp_path / "none.jsonl")
