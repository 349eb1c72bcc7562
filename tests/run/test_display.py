"""What is shown while cases are measured."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from profiler.records.types import Budget
from profiler.run import display
from profiler.run.schedule import Progress
from tests.gate.runs import CASE, OTHER, measured, record


@pytest.mark.parametrize("terminal", [False, True])
def test_when_the_time_asked_for_is_spent_the_first_visits_left_are_said(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: now[0]))
    console = Console(file=io.StringIO(), width=200, force_terminal=terminal)
    progress = Progress([CASE, OTHER], Budget())
    with display.Display(console, 20.0) as shown:
        shown.before(CASE, 0, progress)
        made = record(CASE, measured(10.0))
        progress.add(made)
        shown.after(made)
        now[0] = 30.0
        shown.before(OTHER, 0, progress)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    before, _, after = said.partition("time is up: 1 first visit left, about 1.00 s")
    assert "20.0 s left" in before
    assert after
