"""What tests of the gate share."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler.records.reading import Run
from tests.gate.runs import CASE, OTHER, STEADY, visited, written


@pytest.fixture
def stored(tmp_path: Path) -> Run:
    return written(tmp_path / "stored", *visited(CASE, STEADY), *visited(OTHER, STEADY))
