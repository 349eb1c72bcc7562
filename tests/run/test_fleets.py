"""The fleet that tests hurt leaves nothing behind, also where it does not start."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest

from tests.run import fleets


def test_a_scheduler_that_does_not_come_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(fleets, "PROFILER", (sys.executable, "-c", "import time; time.sleep(120)"))
    monkeypatch.setattr(fleets, "wait_for", partial(fleets.wait_for, seconds=0.5))
    with pytest.raises(AssertionError, match="waited in vain"), fleets.local_fleet(tmp_path):
        pass
    assert not fleets.orphans(tmp_path)


def test_a_scheduler_that_ends_at_once_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(fleets, "PROFILER", (sys.executable, "-c", "raise SystemExit('no room')"))
    with pytest.raises(AssertionError, match="no room"), fleets.local_fleet(tmp_path):
        pass
