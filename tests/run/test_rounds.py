"""Rounds, resuming and interrupting, with an executor whose visits cost nothing; real processes at the end."""

from __future__ import annotations

import csv
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiler.backends.base import Placement
from profiler.measure.visit import CalibrationTask, Task
from profiler.plan.cases import expand
from profiler.plan.read import from_flags
from profiler.records.circumstances import Conditions
from profiler.records.journal import Journal
from profiler.records.nominal import Calls
from profiler.records.reading import NAME, read
from profiler.records.types import Budget, Case, Failure, Measurement, Pass, Record, Warmup
from profiler.run.calibrations import _CALIBRATION_VISITS, Calibrations
from profiler.run.child import Limits
from profiler.run.display import Display
from profiler.run.experiment import measure_into
from profiler.run.going_on import again
from profiler.run.lab import Lab
from profiler.run.rounds import Measuring, measure_within
from profiler.run.schedule import Progress
from tests import ROOT


def measurement(ns: int) -> Measurement:
    return Measurement(((ns,) * 10,) * 3, 1, (), None, Warmup((ns,), steady=True), 0.0, Conditions(), {}, {})


class Scripted:
    """Answers visits from a function of (case, how often it was visited before)."""

    def __init__(self, outcome: Callable[[Case, int], Measurement | Failure]) -> None:
        self.outcome = outcome
        self.visited: list[Case] = []
        self.crowded = False
        self.calibrated = 0

    def call(self, function: Any, argument: Any, timeout_s: float, limits: Limits) -> Any:
        if isinstance(argument, CalibrationTask):
            self.calibrated += 1
            return 1, Calls([5_000_000] * 50, crowded=self.crowded)
        assert isinstance(argument, Task)
        before = self.visited.count(argument.case)
        self.visited.append(argument.case)
        return self.outcome(argument.case, before)

    def close(self) -> None:
        pass


def setup(tmp_path: Path, executor: Scripted, budget: Budget, models: str = "resnet50,resnet101,resnet152") -> Any:
    plan = from_flags(models=models, backends="fake")
    cases = expand(plan, 1)
    calibrations = Calibrations(executor, tmp_path / "cache", lambda _: Limits())
    lab = Lab(budget, executor, lambda _: Limits(), calibrations)
    return plan, cases, lab


def go(tmp_path: Path, executor: Scripted, budget: Budget, *, resume: bool = False, seed: int = 7) -> list[Record]:
    plan, cases, lab = setup(tmp_path, executor, budget)
    measure_into(tmp_path / "run", plan.model_copy(update={"seed": seed}), cases, lab, resume=resume)
    return list(read(tmp_path / "run").records)


def test_equal_visits_finish_a_case_after_the_fewest_rounds(tmp_path: Path) -> None:
    records = go(tmp_path, Scripted(lambda _c, _n: measurement(10_000_000)), Budget(min_rounds=3, rounds=10))
    assert Counter(record.case.model for record in records) == {"resnet50": 3, "resnet101": 3, "resnet152": 3}


def test_noisy_cases_go_on_until_their_rounds_are_used(tmp_path: Path) -> None:
    def noisy(case: Case, visit: int) -> Measurement:
        return measurement(10_000_000 + (visit % 2) * 2_000_000 * (case.model == "resnet101"))

    records = go(tmp_path, Scripted(noisy), Budget(min_rounds=3, rounds=8))
    assert Counter(record.case.model for record in records) == {"resnet50": 3, "resnet101": 8, "resnet152": 3}


def test_each_round_visits_every_case_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    budget = Budget(min_rounds=6, rounds=6)
    records = go(tmp_path, Scripted(lambda _c, _n: measurement(10_000_000)), budget)
    rounds = [[r.case.model for r in records if r.round == number] for number in range(6)]
    assert all(sorted(models) == ["resnet101", "resnet152", "resnet50"] for models in rounds)
    assert len({tuple(models) for models in rounds}) > 1
    assert [r.round for r in records] == sorted(r.round for r in records)


def test_the_order_follows_from_the_seed(tmp_path: Path) -> None:
    def order(seed: int) -> list[str]:
        executor = Scripted(lambda _c, _n: measurement(10_000_000))
        go(tmp_path / f"{seed}-{random.random()}", executor, Budget(min_rounds=6, rounds=6), seed=seed)
        return [case.model for case in executor.visited]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_calibration_beside_busy_cores_is_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every latency would be many times too long by it."""
    executor = Scripted(lambda _c, _n: measurement(1))
    executor.crowded = True
    calibrations = Calibrations(executor, tmp_path, lambda _: Limits())
    made = [calibrations.get(Placement(threads=2)) for _ in range(3)]
    assert isinstance(made[0], Failure)
    assert made[1:] == made[:1] * 2
    assert executor.calibrated == _CALIBRATION_VISITS
    assert not list(tmp_path.glob("*.json"))
    (said,) = capsys.readouterr().err.splitlines()
    assert "with threads=2 on cpu the reference always waited for a core" in said
    assert "use fewer threads" in said


def test_a_case_that_fails_at_first_is_not_visited_again(tmp_path: Path) -> None:
    def outcome(case: Case, _visit: int) -> Measurement | Failure:
        return Failure("oom", "no room") if case.model == "resnet101" else measurement(10_000_000)

    records = go(tmp_path, Scripted(outcome), Budget())
    assert Counter(record.case.model for record in records)["resnet101"] == 1


def test_a_failure_after_good_visits_is_one_visit_among_others(tmp_path: Path) -> None:
    def outcome(case: Case, visit: int) -> Measurement | Failure:
        broken = case.model == "resnet101" and visit == 1
        return Failure("crashed", "signal 11") if broken else measurement(10_000_000)

    records = go(tmp_path, Scripted(outcome), Budget(min_rounds=3, rounds=10))
    assert Counter(record.case.model for record in records) == {"resnet50": 3, "resnet101": 4, "resnet152": 3}


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_resumed_run_measures_what_is_missing_and_nothing_twice(tmp_path: Path, cut: int) -> None:
    budget = Budget(min_rounds=3, rounds=3)
    whole = go(tmp_path / "whole", Scripted(lambda _c, _n: measurement(10_000_000)), budget)
    go(tmp_path, Scripted(lambda _c, _n: measurement(10_000_000)), budget)
    journal = tmp_path / "run" / NAME
    lines = journal.read_bytes().splitlines(keepends=True)
    # Killed while the visit after `cut` was being written.
    journal.write_bytes(b"".join(lines[: cut + 1]) + lines[cut + 1][:50])
    resumed = go(tmp_path, Scripted(lambda _c, _n: measurement(10_000_000)), budget, resume=True)
    assert [(r.case.key, r.round) for r in resumed] == [(r.case.key, r.round) for r in whole]


def test_a_slow_down_of_the_machine_falls_on_all_cases_alike(tmp_path: Path) -> None:
    """A linear 20% slow-down over a run that has no reference to divide it out: no case is favoured."""
    budget = Budget(min_rounds=10, rounds=10)
    visits = 0

    def slowing(_case: Case, _visit: int) -> Measurement:
        nonlocal visits
        visits += 1
        return measurement(round(10_000_000 * (1 + 0.2 * visits / 30)))

    records = go(tmp_path, Scripted(slowing), budget)
    means = {
        model: sum(r.outcome.samples_ns[0][0] for r in records if r.case.model == model) / 10  # type: ignore[union-attr]
        for model in ("resnet50", "resnet101", "resnet152")
    }
    assert max(means.values()) / min(means.values()) < 1.02


# --- real processes ---------------------------------------------------------------------------------------------


#: The command without what takes most of its time and is not asked here: runtimes in the fork server, and pictures.
_BARE = """
from profiler.report import summary
from profiler.run import processes
summary.finish = lambda *_, **__: None
processes._PRELOAD[:] = ["numpy.random", "profiler.measure.visit", "profiler.run.child", "profiler.backends.fake"]
from profiler.cli.app import main
main()
"""
PROFILER = (sys.executable, "-c", _BARE)


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: PLW1510 - the caller looks at the exit code
        [*PROFILER, *arguments],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=120,
        **options,
    )


FAST = ("--visit", "0.05s", "--model", "resnet50")


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "cases.csv").open(newline="") as file:
        return {row["backend"]: row for row in csv.DictReader(file)}


def test_every_fault_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    faults = ["raise", "segfault", "kill", "oom", "hang", "exit", "flood", "none"]
    backends = ",".join(f"fake:duration_ms=1,fault={fault}" for fault in faults)
    folder = tmp_path / "run"
    done = command("run", *FAST, "--backend", backends, "--timeout", "4s", "--out", str(folder))
    assert done.returncode == 1, done.stderr
    statuses = {backend.rpartition("=")[2]: row["status"] for backend, row in rows(folder).items()}
    assert {name: statuses[name] for name in faults[:6]} == {
        "raise": "error", "segfault": "crashed", "kill": "crashed", "oom": "oom", "hang": "timeout", "exit": "crashed",
    }  # fmt: skip
    assert {statuses["flood"], statuses["none"]} <= {"ok", "unstable"}
    for row in rows(folder).values():
        assert bool(row["latency_ms"]) == (row["status"] in ("ok", "unstable"))
        assert row["reason"] or row["status"] == "ok"


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    backends = ",".join(f"fake:duration_ms={ms}" for ms in (1, 2, 3))
    arguments = [
        "--visit",
        "0.1s",
        "--model",
        "resnet50",
        "--rounds",
        "3",
        "--backend",
        backends,
        "--precision",
        "0.0001%",
    ]
    return subprocess.Popen(
        [*PROFILER, "run", *arguments, "--out", str(folder), *more],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for_visits(folder: Path, number: int) -> None:
    journal = folder / NAME
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b'"kind":"visit"') >= number:
            return
        time.sleep(0.02)
    pytest.fail("no visits")


def check_complete(folder: Path) -> None:
    records = read(folder).records
    assert max(Counter((r.case.key, r.round) for r in records).values()) == 1
    assert len(records) == 9


def test_ctrl_c_finishes_the_visit_and_saves_and_resume_does_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder)
    wait_for_visits(folder, 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert (folder / "cases.csv").exists()
    before = len(read(folder).records)
    assert 2 <= before < 9
    program, *words = shlex.split(err.rpartition("continue with: ")[2])
    assert program == "profiler"
    done = command(*words)
    assert done.returncode == 0, done.stderr
    check_complete(folder)


def test_the_command_that_continues_is_the_one_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["profiler", "run", "--model", "a b.onnx", "--threads", "1"]
    for last in (["--resume"], ["--out=made"], ["--out", "made", "--resume"], ["--out", "before it was moved"]):
        monkeypatch.setattr(sys, "argv", given + last)
        assert again(Path("made")) == "profiler run --model 'a b.onnx' --threads 1 --out made --resume"


@pytest.mark.parametrize("last", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_twice_or_a_signal_to_end_stops_now(tmp_path: Path, last: signal.Signals) -> None:
    folder = tmp_path / "run"
    backend = "fake:duration_ms=1,fault=hang,at=run"
    process = subprocess.Popen(
        [*PROFILER, "run", "--model", "resnet50", "--backend", backend, "--out", str(folder)],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (folder / NAME).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(last)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert f"profiler: stopped at once; continue with: profiler run --model resnet50 --backend {backend}" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_answer_that_is_stopped_says_so_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [*PROFILER, "latency", "resnet50", "--backend", "fake:duration_ms=1,fault=hang,at=run"],
        cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not [*tmp_path.glob(f"latency-profiler-*/{NAME}")] and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.0)
    process.send_signal(number)
    if number == signal.SIGINT:
        time.sleep(0.5)
        process.send_signal(number)
    said = process.communicate(timeout=60)
    assert (process.returncode, said[0], said[1].splitlines()[-1]) == (130, "", "profiler: stopped")
    assert not [*tmp_path.glob("latency-profiler-*")]


def test_a_killed_run_resumes_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder)
    wait_for_visits(folder, 2)
    process.kill()
    process.communicate(timeout=30)
    _ = start(folder, "--resume").communicate(timeout=60)
    check_complete(folder)


def test_two_runs_into_one_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = start(folder, "--rounds", "100")
    wait_for_visits(folder, 1)
    second = command("run", *FAST, "--backend", "fake", "--out", str(folder), "--resume")
    first.kill()
    first.communicate(timeout=30)
    assert second.returncode == 2
    assert str(first.pid) in second.stderr


def test_a_file_size_limit_reached_keeps_what_was_measured(tmp_path: Path) -> None:
    """As on a full disk: writing fails in the middle of a run."""
    import resource

    folder = tmp_path / "run"

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = command(
        "run", *FAST, "--backend", "fake:duration_ms=0.1", "--precision", "0.0001%", "--rounds", "50",
        "--out", str(folder), preexec_fn=small_files,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--resume" in done.stderr
    records = read(folder).records
    assert records
    assert read(folder).notices == ()


def test_the_journal_says_how_the_run_was_made(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ["run", *FAST, "--backend", "fake", "--seed", "11", "--out", str(folder)]
    done = subprocess.run([sys.executable, "-m", "profiler", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first = json.loads((folder / NAME).read_text().splitlines()[0])
    facts = first["facts"]
    assert facts["seed"] == 11
    assert facts["host"]["cores"] >= 1
    assert "--model" in facts["argv"]
    assert "resnet50" in facts["plan"]
    assert not (folder / "report.html").exists()


class Passing:
    """A clock on which each visit takes a second."""

    def __init__(self, executor: Scripted) -> None:
        self.executor = executor

    def __call__(self) -> float:
        return float(len(self.executor.visited))


def within(tmp_path: Path, executor: Scripted, seconds: float, passes: tuple[Pass, ...] = ()) -> Counter[str]:
    _, cases, lab = setup(tmp_path, executor, Budget(min_rounds=2, rounds=100))
    with Journal.open(tmp_path / "run", {"cases": list(cases)}) as journal:
        measuring = Measuring(journal, Progress(cases, lab.budget), lab, Display(None), 7)
        assert measure_within(measuring, seconds, passes, Passing(executor))
    return Counter(record.case.model for record in read(tmp_path / "run").records)


def test_a_time_is_spent_on_what_is_not_known_as_well_as_asked(tmp_path: Path) -> None:
    def noisy(case: Case, visit: int) -> Measurement:
        return measurement(10_000_000 + (visit % 2) * 5_000_000 * (case.model == "resnet101"))

    visits = within(tmp_path, Scripted(noisy), 40.0)
    assert visits == {"resnet50": 2, "resnet152": 2, "resnet101": 36}


def timed(models: str, spread: dict[str, int], made: int, once: str = "") -> tuple[Progress, tuple[Case, ...]]:
    """A progress in which each case has had ``made`` visits of a second, by turns slower; ``once`` has had one."""
    cases = expand(from_flags(models=models, backends="fake"), 1)
    progress = Progress(cases, Budget(min_rounds=2, precision=None, rounds=10**9))
    for number in range(made):
        for case in [case for case in cases if not number or case.model != once]:
            outcome = measurement(10_000_000 + (number % 2) * spread.get(case.model, 1000))
            progress.add(Record(case, None, 224, "h", number, "2026-01-01T00:00:00+00:00", 1.0, outcome))
    return progress, cases


NINE = (
    "resnet50,resnet101,resnet152,resnext50,regnety_200mf,regnety_400mf,efficientnet_b0,efficientnet_b1,efficientnet_b2"
)


def test_the_half_that_gains_most_is_visited_next() -> None:
    wide = {"resnet50": 5_000_000, "resnet152": 4_000_000, "regnety_200mf": 3_000_000, "efficientnet_b2": 2_000_000}
    progress, _ = timed(NINE, wide, 4)
    assert {case.model for case in progress.worthwhile(100.0, 7)} == wide.keys()
    assert progress.worthwhile(100.0, 7) == progress.worthwhile(100.0, 7)
    assert progress.worthwhile(0.5, 7) == []


def test_a_case_with_fewer_visits_than_an_interval_needs_comes_first() -> None:
    progress, cases = timed(NINE, dict.fromkeys(NINE.split(","), 5_000_000), 4, NINE.split(",")[3])
    assert cases[3] in progress.worthwhile(100.0, 7)


def test_an_export_that_a_visit_made_is_no_cost_of_the_next() -> None:
    progress, (case, *_) = timed(NINE, {}, 0)
    made = replace(measurement(10_000_000), facts={"cached": False}, phases_s={"load": 9.0})
    progress.add(Record(case, None, 224, "h", 0, "2026-01-01T00:00:00+00:00", 10.0, made))
    assert progress.cost(case) == pytest.approx(1.0)


def test_every_case_is_visited_once_whatever_the_time(tmp_path: Path) -> None:
    assert within(tmp_path, Scripted(lambda _c, _n: measurement(10_000_000)), 0.0) == {
        "resnet50": 1,
        "resnet101": 1,
        "resnet152": 1,
    }


def test_a_case_that_failed_gets_none_of_the_time(tmp_path: Path) -> None:
    def outcome(case: Case, _visit: int) -> Measurement | Failure:
        return Failure("oom", "no room") if case.model == "resnet101" else measurement(10_000_000)

    assert within(tmp_path, Scripted(outcome), 12.0)["resnet101"] == 1
