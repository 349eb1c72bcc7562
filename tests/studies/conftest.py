"""Fixtures of the studies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from profiler.run.processes import LocalExecutor


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    local = LocalExecutor()
    yield local
    local.close()
