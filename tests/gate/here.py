"""Gates without fresh processes, for tests that ask about something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from profiler.gate import blocks, judge
from profiler.machine import allocator
from profiler.measure import visit
from profiler.run import experiment
from profiler.run.child import Limits, failure
from profiler.testing import budget


class Here:
    """An executor that calls in this process."""

    def __init__(self, *_: object) -> None:
        pass

    def call(self, function: Callable[[Any], Any], argument: Any, timeout_s: float, limits: Limits) -> Any:
        try:
            return function(argument)
        except Exception as error:  # noqa: BLE001 - as a process would
            return failure(error)

    def wait(self) -> None:
        """Nothing starts processes here."""

    def close(self) -> None:
        pass


def stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out processes, and what makes slots as long as a busy machine asks for."""
    for module in (judge, experiment, budget):
        monkeypatch.setattr(module, "LocalExecutor", Here)
    monkeypatch.setattr(blocks, "_SLOT_NS", 1_000_000)
    monkeypatch.setattr(blocks, "_SLOT_SAMPLES", 4)
    monkeypatch.setattr(allocator, "keep_freed", lambda: "kept")
    # Otherwise a busy machine marks every block of a visit as disturbed.
    monkeypatch.setattr(visit, "core_wait", lambda _threads: None)
