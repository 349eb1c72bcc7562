"""When a model is over its budget."""

from __future__ import annotations

import pytest

from profiler.records.types import Conditions, Measurement, Warmup
from profiler.testing.budget import _budgeted


def measured(ms: float) -> Measurement:
    samples = ((round(ms * 1e6),) * 5,)
    return Measurement(samples, 1, (), None, Warmup((1, 1, 1), steady=True), None, Conditions(), {})


@pytest.mark.parametrize(
    ("sets", "status"),
    [
        ([[1.0, 1.1, 0.9]], "pass"),
        ([[2.0, 2.1, 1.9], [2.0, 2.1, 1.9]], "over budget"),
        ([[2.0, 2.1, 1.9], [1.0, 1.1, 0.9]], "inconclusive"),
        ([[1.0, 2.0, 1.5]], "inconclusive"),
    ],
)
def test_a_budget_is_exceeded_only_twice(sets: list[list[float]], status: str) -> None:
    outcome = _budgeted([[measured(ms) for ms in one] for one in sets], 1.5e6, "")
    assert outcome.status == status
    assert outcome.facts["processes"] == sum(map(len, sets))
