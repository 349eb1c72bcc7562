"""Visits in this process: for models that live in it, and cannot be rebuilt elsewhere by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

from profiler.measure.visit import Task
from profiler.records.types import Failure
from profiler.run.child import Limits, failure

_A = TypeVar("_A")
_R = TypeVar("_R")


class HereExecutor:
    """Calls what it is given, as ``LocalExecutor`` does in a fresh process; without limits and without a time-out.

    What a visit would change for the whole process it leaves alone.
    """

    def call(self, function: Callable[[_A], _R], argument: _A, timeout_s: float, limits: Limits) -> _R | Failure:  # noqa: ARG002 - a process of its own has them
        """Return what ``function(argument)`` returns, or its exception as a failure."""
        given: Any = replace(argument, fresh=False) if isinstance(argument, Task) else argument
        try:
            return function(cast("_A", given))
        except Exception as error:  # noqa: BLE001 - whatever it is, the row must say it
            return failure(error)

    def close(self) -> None:
        """Nothing runs on."""
