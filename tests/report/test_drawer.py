"""The process that draws: its charts are those drawn here, and whatever becomes of it, they are drawn."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest

from profiler.report import drawer, render
from profiler.report.render import empty


@pytest.fixture(autouse=True)
def none_waits() -> Iterator[None]:
    """No process waits before a test, nor after it."""
    drawer.dismiss()
    yield
    drawer.dismiss()


CHARTS = {"one": empty("a < b"), "two": empty("nothing")}


def test_charts_drawn_by_the_process_are_those_drawn_here() -> None:
    drawer.start()
    drawer.start()
    (process,) = drawer._waiting
    later = render.svgs(CHARTS.items())
    assert drawer._waiting == []
    assert later() == {name: render.svg(chart) for name, chart in CHARTS.items()}
    assert process.returncode == 0


def test_a_process_that_is_not_wanted_is_ended() -> None:
    drawer.start()
    (process,) = drawer._waiting
    drawer.dismiss()
    assert (drawer._waiting, process.returncode) == ([], -signal.SIGKILL)


def test_nothing_is_drawn_ahead_where_no_process_waits() -> None:
    assert drawer.ahead(chart.to_dict() for chart in CHARTS.values())() is None
    assert [*render.svgs(CHARTS.items())()] == ["one", "two"]


def test_charts_are_drawn_here_where_the_process_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    drawer.start()
    drawer._waiting[0].kill()
    monkeypatch.setattr(render, "svg", lambda chart: chart.to_dict()["datasets"]["data-0"][0]["text"])
    assert render.svgs(CHARTS.items())() == {"one": "Nothing to draw: a < b", "two": "Nothing to draw: nothing"}


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false"])
def test_charts_are_drawn_here_where_no_process_can_be_had(monkeypatch: pytest.MonkeyPatch, python: str) -> None:
    monkeypatch.setattr(sys, "executable", python)
    drawer.start()
    assert all("svg" in drawn for drawn in render.svgs(CHARTS.items())().values())
