"""Changes of level in series whose changes are known, and histories of runs with known samples."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from profiler.analysis import changepoints, history
from profiler.analysis.changepoints import _LEAST_RUNS, _LEVEL, _distances, _divergence, _divisions, change_points
from profiler.backends.base import Placement
from profiler.cli.history import history_command
from profiler.errors import UserError
from profiler.records.circumstances import Conditions
from profiler.records.journal import Journal
from profiler.records.reading import NAME
from profiler.records.types import SCHEMA, Budget, Case, Failure, Measurement, Record, Warmup

CASE = Case("resnet50", "", 1.0, "fake", Placement(threads=1))
OTHER = Case("resnet101", "", 1.0, "fake", Placement(threads=1))


def noisy(seed: int, *levels: float, noise: float = 0.02) -> list[float]:
    draw = np.random.default_rng(seed)
    return [float(level * np.exp(noise * draw.normal())) for level in levels]


def naive(values: list[float], tau: int, kappa: int) -> float:
    """The scaled divergence as its definition says it."""
    x, y = values[:tau], values[tau:kappa]
    n, m = len(x), len(y)
    between = 2 / (n * m) * sum(abs(a - b) for a in x for b in y)
    within = sum(
        sum(abs(part[i] - part[k]) for i in range(len(part)) for k in range(i)) / math.comb(len(part), 2)
        for part in (x, y)
    )
    return n * m / (n + m) * (between - within)


def test_the_divergence_is_that_of_its_definition() -> None:
    values = noisy(0, *[1.0] * 6, *[1.5] * 5)
    divisions = list(zip(*_divisions(len(values)), strict=True))
    assert min(tau for tau, _ in divisions) == min(kappa - tau for tau, kappa in divisions) == _LEAST_RUNS
    assert len(divisions) == sum(range(1, len(values) - 2 * _LEAST_RUNS + 2))
    found = _divergence(_distances(np.array(values)))
    assert found == pytest.approx([naive(values, tau, kappa) for tau, kappa in divisions])


def test_a_step_of_10_percent_in_2_percent_noise_is_found_where_it_is() -> None:
    found = [change_points(noisy(seed, *[10.0] * 12, *[11.0] * 8)) for seed in range(20)]
    steps = [(change, p) for changes in found for index, change, p in changes if index == 12]
    assert len(steps) >= 19
    assert all(change == pytest.approx(0.1, abs=0.04) for change, _ in steps)
    assert all(p <= _LEVEL for _, p in steps)
    assert sum(map(len, found)) <= len(found) + 2


def test_noise_alone_shows_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changepoints, "_PERMUTATIONS", 199)  # enough for a level of 1%
    found = [change_points(noisy(seed, *[10.0] * 20)) for seed in range(100)]
    assert sum(not changes for changes in found) >= 95


def test_a_step_and_its_return_are_two_changes() -> None:
    found = change_points(noisy(3, *[10.0] * 12, *[11.0] * 12, *[10.0] * 12))
    assert [index for index, _, _ in found] == [12, 24]
    assert found[0][1] > 0 > found[1][1]


def test_a_long_history_is_looked_at_in_parts_and_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = noisy(5, *[10.0] * 15, *[11.0] * 15)
    whole = change_points(values)
    monkeypatch.setattr(changepoints, "_HELD", 5000)
    assert change_points(values) == whole
    assert [index for index, _, _ in whole] == [15]


def test_changes_are_relative() -> None:
    values = noisy(4, *[10.0] * 10, *[12.0] * 10)
    found = change_points(values)
    scaled = change_points([1000 * value for value in values])
    assert found
    assert [(index, p) for index, _, p in scaled] == [(index, p) for index, _, p in found]
    assert [change for _, change, _ in scaled] == pytest.approx([change for _, change, _ in found])


@pytest.mark.parametrize(
    "values", [[], [1.0], [1.0, 2.0, 3.0], [5.0] * 30, [1.0] * 4 + [9.0] * 4, [10.0] * 19 + [15.0]]
)
def test_too_little_to_tell_is_no_change(values: list[float]) -> None:
    """Nothing, constants, so few runs that chance orders them as well, and one odd run at the end."""
    assert change_points(values) == []


def measured(ms: float, nominal_ms: float | None = None, reference_ms: float = 4.0) -> Measurement:
    samples, reference = ((round(ms * 1e6),) * 5,) * 2, ()
    if nominal_ms is not None:
        reference = ((round(reference_ms * 1e6),) * 3,) * 3
    nominal = nominal_ms and nominal_ms * 1e6
    return Measurement(samples, 1, reference, nominal, Warmup((), steady=True), 0.0, Conditions(), {}, {})


def calibrated(folder: Path, day: int, ms: float, nominal_ms: float, version: int = 13) -> None:
    """A run in which the model took ``ms`` beside a reference of 4 ms that was calibrated at ``nominal_ms``."""
    facts = {"host": {"key": "aaaa"}, "budget": Budget(rounds=1), "reference": version}
    started = f"2026-01-{day:02}T00:00:00+00:00"
    with Journal.open(folder, facts | {"started": started, "cases": [CASE]}) as journal:
        journal.append(Record(CASE, None, 224, "aaaa", 0, started, 1.0, measured(ms, nominal_ms)))


def test_a_calibration_made_anew_is_no_change_of_the_code(tmp_path: Path) -> None:
    for day, nominal_ms in enumerate((4.0, 4.4, 3.6, 4.2), 1):
        calibrated(tmp_path / f"run-{day}", day, 10.0, nominal_ms)
    [(one,), _] = history.histories(tmp_path)
    assert [point.value for point in one.points] == pytest.approx([10.5] * 4)
    [(raw,), _] = history.histories(tmp_path, "latency_raw_ms")
    assert [point.value for point in raw.points] == pytest.approx([10.0] * 4)


def test_times_beside_another_version_of_the_reference_stay_as_they_are(tmp_path: Path) -> None:
    calibrated(tmp_path / "old", 1, 10.0, 4.0, version=12)
    calibrated(tmp_path / "new", 2, 10.0, 4.4)
    [(one,), _] = history.histories(tmp_path)
    assert [point.value for point in one.points] == pytest.approx([10, 11])


def written(folder: Path, day: int, times: dict[Case, float | Failure], key: str = "aaaa") -> None:
    started = f"2026-01-{day:02}T00:00:00+00:00"
    facts = {"host": {"key": key, "cpu": "A CPU", "os": "Linux"}, "budget": Budget(rounds=1), "started": started}
    with Journal.open(folder, facts | {"cases": list(times)}) as journal:
        for case, ms in times.items():
            outcome = ms if isinstance(ms, Failure) else measured(ms)
            journal.append(Record(case, None, 224, key, 0, started, 1.0, outcome))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Twelve runs, not in the order of their names; one case is slower from the eighth on, the other is not."""
    slow, same = noisy(1, *[10.0] * 7, *[11.5] * 5), noisy(2, *[20.0] * 12)
    for day, (a, b) in enumerate(zip(slow, same, strict=True), 1):
        written(tmp_path / "deep" / f"run-{(7 * day) % 13}", day, {CASE: a, OTHER: b})
    return tmp_path


def test_runs_are_put_in_the_order_of_their_times(runs: Path) -> None:
    (first, second), notices = history.histories(runs)
    assert notices == []
    assert (first.label, second.label) == (CASE.label, OTHER.label)
    assert [point.started[8:10] for point in first.points] == [f"{day:02}" for day in range(1, 13)]
    assert first.points[0].run == "deep/run-7"
    assert [point.value for point in first.points] == pytest.approx(noisy(1, *[10.0] * 7, *[11.5] * 5), rel=1e-6)


def test_the_run_at_which_a_case_changed_is_said(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history_command(runs, json=True)
    first, second = json.loads(capsys.readouterr().out)["cases"]
    assert [(change["index"], change["run"]) for change in first["changes"]] == [(7, "deep/run-4")]
    assert second["changes"] == []
    history_command(runs)
    text = capsys.readouterr().out
    assert "machine aaaa: A CPU, Linux" in text
    assert text.count("from here") == 1
    assert "every case" not in text


def test_of_many_cases_those_that_changed_are_printed_whole_and_the_others_in_a_row_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [replace(OTHER, batch=batch, model=model) for batch in (1, 2) for model in ("resnet101", "resnet152")]
    steps = noisy(1, *[10.0] * 7, *[11.5] * 5)
    for day, ms in enumerate(steps, 1):
        written(tmp_path / f"run-{day:02}", day, {CASE: ms, **dict.fromkeys(cases, 20.0)})
    history_command(tmp_path)
    text = capsys.readouterr().out
    changed, _, rest = text.partition("no change seen: ")
    assert changed.count("2026-01-") == len(steps)
    assert [line.split()[:3] for line in rest.splitlines() if "2026" in line] == [
        [model, "12", "20?"] for model in ("resnet101", "resnet152") * 2
    ]
    assert rest.count("no change seen: ") == 1
    history_command(tmp_path, verbose=True)
    assert capsys.readouterr().out.count("2026-01-") == 5 * len(steps)


def test_a_change_of_every_case_points_at_the_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    levels = noisy(1, *[10.0] * 7, *[11.5] * 5)
    for day, ms in enumerate(levels, 1):
        written(tmp_path / f"run-{day:02}", day, {CASE: ms, OTHER: 3 * ms})
    history_command(tmp_path)
    assert "every case changed at run-08" in capsys.readouterr().out


def test_machines_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for day in range(1, 13):
        written(tmp_path / f"run-{day}", day, {CASE: 10.0 * day}, key="bbbb" if day % 2 else "aaaa")
    found, _ = history.histories(tmp_path)
    assert [(one.host, len(one.points)) for one in found] == [("aaaa", 6), ("bbbb", 6)]
    history_command(tmp_path)
    text = capsys.readouterr().out
    assert 0 <= text.index("machine aaaa") < text.index("machine bbbb")


def test_a_case_that_failed_is_in_its_history_with_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "a", 1, {CASE: 10.0})
    written(tmp_path / "b", 2, {CASE: Failure("oom", "no room")})
    (found,), _ = history.histories(tmp_path)
    assert [point.value for point in found.points] == [pytest.approx(10.0), None]
    assert [point.status for point in found.points] == ["unstable", "oom"]
    history_command(tmp_path)
    text = capsys.readouterr().out
    assert "oom" in text
    assert "oom?" not in text
    assert "10?" in text
    assert "?: 1 of 1 are unstable" in text


def test_a_run_that_cannot_be_read_is_said_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "a", 1, {CASE: 10.0})
    (tmp_path / "b").mkdir()
    line = json.dumps({"kind": "session", "schema": SCHEMA + 1, "pid": 1, "facts": {}})
    (tmp_path / "b" / NAME).write_text(line + "\n")
    found, notices = history.histories(tmp_path)
    assert len(found) == len(notices) == 1
    assert capsys.readouterr().err == ""
    history_command(tmp_path)
    assert "upgrade latency-profiler" in capsys.readouterr().err


def test_a_single_run_has_a_history_too(tmp_path: Path) -> None:
    written(tmp_path / "alone", 1, {CASE: 10.0})
    (found,), _ = history.histories(tmp_path / "alone")
    assert [point.run for point in found.points] == ["alone"]


@pytest.mark.parametrize(
    ("column", "sentence"),
    [(None, "holds no run"), ("speed", "no column 'speed'"), ("energy_j", "no run under .* has")],
)
def test_what_cannot_be_shown_is_one_sentence(tmp_path: Path, column: str | None, sentence: str) -> None:
    if column is not None:
        written(tmp_path / "a", 1, {CASE: 10.0})
    with pytest.raises(UserError, match=sentence):
        history_command(tmp_path, y=column)
