"""What a run on a fleet shows where it is no terminal: also while batches are tried, of which no visit is kept."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from profiler.run import far
from profiler.run.far import FleetDisplay
from tests.run.test_placing import member

THERE = [member("big", "b1"), member("small", "s1")]


@pytest.mark.parametrize(
    ("busy", "said"),
    [
        ({}, "visits: big 0, small 0; 2 workers\n"),
        ({"b1": "net [b8]"}, "visits: big 0, small 0; 2 workers; now net [b8]\n"),
        (dict.fromkeys("abc", "net b8"), "visits: big 0, small 0; 2 workers; now net b8; net b8 and others\n"),
    ],
)
def test_a_log_says_what_is_under_way(busy: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "_LOGGED_S", 0.0)
    out = StringIO()
    with FleetDisplay(Console(file=out, width=40), ["big", "small"]) as shown:
        shown.fleet(THERE, busy)
    assert out.getvalue() == said
