"""The file of a stored baseline: what is kept in it, what is refused, and how it is shown."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiler.backends.base import Placement
from profiler.cli.baseline import show
from profiler.errors import UserError
from profiler.gate.against import against
from profiler.gate.baseline import calibrations, update
from profiler.gate.contrast import session_of
from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.measure import calibration
from profiler.measure.calibration import identity
from profiler.records.nominal import Calibration
from profiler.records.reading import read
from profiler.records.types import Failure
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from tests.gate.runs import BUDGET, CASE, HERE, OTHER, PLACE, STEADY, measured, record, visited, written


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


# --- calibrations ------------------------------------------------------------

CALIBRATION = Calibration(7, 1e6, 0.01, 5, "2026-01-01T00:00:00+00:00")
NAME = identity(host.key(), PLACE)


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
    class Refusing:
        def call(self, function: Any, argument: Any, timeout_s: float, limits: Limits) -> Any:
            return Failure("error", "calibrated anew")

        def close(self) -> None:
            pass

    calibrations = Calibrations(Refusing(), tmp_path, lambda _: Limits(), known={NAME: CALIBRATION})
    assert calibrations.get(PLACE) == CALIBRATION
    assert calibrations.get(Placement(threads=2)) == Failure("error", "calibrated anew")


def test_cases_that_guard_little_are_said_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, how = tmp_path / "baseline.jsonl", {"argv": ["run", "quick"], "budget": replace(BUDGET, precision=0.02)}
    written(tmp_path / "run", *visited(CASE, (10.0, 14.0, 9.0, 12.0, 8.0)), *visited(OTHER, (3.0,)), **how)
    update(tmp_path / "run", file)
    stored, weak = capsys.readouterr().out.splitlines()
    assert "2 cases stored" in stored
    said = (
        "1 of 2 have fewer than 3 visits, too few to tell any change; 1 of 2 are unstable, and tell large changes alone"
    )
    assert weak.startswith(f"{said}: visit them more often and store that: ")
    assert weak.endswith(f": profiler run quick --out {tmp_path / 'run'} --resume --time 3min")
    written(tmp_path / "steady", *visited(CASE, STEADY))
    update(tmp_path / "steady", file)
    assert len(capsys.readouterr().out.splitlines()) == 1


# --- showing ------------------------------------------------------------


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


def test_no_baseline_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="does not exist: make a baseline of a run with `profiler baseline update RUN"):
        show(tmp_path / "none.jsonl")
    (tmp_path / "table.csv").write_text("model,latency_ms\n")
    with pytest.raises(UserError, match=r"table\.csv holds no case"):
        show(tmp_path / "table.csv")
    with pytest.raises(UserError, match=r"table\.csv holds no line of a run"):
        against(tmp_path / "table.csv", "quick", 0.05)
    assert capsys.readouterr().err == ""
