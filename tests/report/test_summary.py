"""What is said at the end of a run."""

from __future__ import annotations

import io
import resource
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.records.circumstances import Conditions
from profiler.records.journal import Journal
from profiler.records.types import Case, Measurement, Record, Warmup
from profiler.report import drawer, render, summary
from profiler.report.extra import NotDrawnError, drawing
from profiler.report.summary import _recalibrate


def visit(slowness: float, threads: int = 1) -> Record:
    """A visit whose reference took ``slowness`` times its nominal time."""
    case = Case("resnet50", "", 1.0, "eager", Placement(threads=threads))
    reference = ((round(1e6 * slowness),),) * 2
    made = Measurement(((5_000_000,),), 1, reference, 1e6, Warmup((), steady=True), 0.0, Conditions(), {})
    return Record(case, None, 224, "h1", 0, "2026-01-01T00:00:00+00:00", 1.0, made)


@pytest.mark.parametrize(
    ("slowness", "said"),
    [
        (
            0.8,
            "0.80 times its nominal time at its best: it was calibrated on a slower machine, and latency_ms is longer",
        ),
        (1.2, "1.20 times its nominal time at its best: it was calibrated on a faster machine, as which"),
    ],
)
def test_a_calibration_of_another_state_of_the_machine_is_said_with_its_remedy(slowness: float, said: str) -> None:
    (sentence,) = _recalibrate([visit(slowness, 2), visit(slowness * 1.3, 2), visit(1.0)])
    assert sentence.startswith("cpu · fp32 · 2 threads: the reference takes")
    assert said in sentence
    assert "profiler calibrate" in sentence


@pytest.mark.parametrize("slowness", [0.95, 1.05, 2.0])
def test_nothing_is_said_of_what_is_usual_or_in_every_row(slowness: float) -> None:
    assert not list(_recalibrate([visit(slowness)]))


class Panic(BaseException):
    """As pyo3 raises where Rust panics: no Exception."""


def test_visits_beside_no_reference_are_said_among_others_that_had_one() -> None:
    with_it, without = visit(1.0), visit(1.0)
    assert isinstance(without.outcome, Measurement)
    without = replace(without, outcome=replace(without.outcome, nominal_ns=None, reference_ns=()))
    assert [*_recalibrate([with_it])] == [*_recalibrate([without])] == []
    (said,) = _recalibrate([with_it, without, with_it])
    assert said.startswith("1 of 3 visits ran beside no reference")


@pytest.fixture
def finished(tmp_path):
    """Finish a run of one case; return what was printed and which files there are."""
    with Journal.open(tmp_path / "run", {}) as journal:
        journal.append(visit(1.0))

    def finish(**options):
        console = Console(file=io.StringIO(), width=200)
        summary.finish(tmp_path / "run", 1.0, console, **options)
        return console.file.getvalue(), {file.name for file in (tmp_path / "run").iterdir()} - {".lock"}

    return finish


def test_a_run_ends_with_its_table_alone_unless_a_page_is_asked_for(finished):
    said, files = finished()
    assert files == {"journal.jsonl", "cases.csv"}
    assert said.splitlines()[-1].strip().endswith("cases.csv")
    assert "eager (ms)" in said
    assert "1 case: 1 " in said
    assert " 1 visit in " in said


def test_quiet_prints_the_files_alone(finished):
    said, _ = finished(detail="quiet")
    assert [line.strip().rpartition("/")[2] for line in said.splitlines()] == ["cases.csv"]


def test_charts_that_cannot_be_drawn_cost_the_page_nothing_else(finished, tmp_path, monkeypatch):
    def panic(*_):
        raise Panic("the converter is poisoned\nstack backtrace:")

    monkeypatch.setattr(drawer, "start", lambda: None)
    monkeypatch.setattr(drawer, "_waiting", [])  # another test may have left one
    monkeypatch.setattr(render, "svg", panic)
    said, files = finished(report=True)
    assert files == {"journal.jsonl", "cases.csv", "report.html"}
    assert "1 case: 1 unstable" in said
    assert "backtrace" not in said
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "No charts: charts cannot be made here: Panic: the converter is poisoned." in page


def test_a_page_that_grows_too_large_costs_itself(finished):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, before[1]))
    try:
        said, files = finished(report=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files == {"journal.jsonl", "cases.csv"}
    assert said.count("report.html cannot be written (File too large)") == 1


def test_pictures_leave_files_to_whoever_cleans_up(monkeypatch):
    monkeypatch.delitem(sys.modules, "vl_convert", raising=False)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len([*Path("/proc/self/fd").iterdir()])
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 12, before[1]))
    try:
        with pytest.raises(NotDrawnError, match=r"^a chart .* too few files may be open"), drawing("a chart"):
            pytest.fail("drawn")
        with drawing("a page", draws=False):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_what_a_user_did_wrong_is_told_as_it_is_and_a_stop_stops():
    for error in (UserError("no such column"), KeyboardInterrupt()):
        with pytest.raises(type(error), match=str(error) or None), drawing("a chart"):
            raise error
