"""A model that fails with inputs that somebody chose says with which."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler.backends.base import BackendError, Placement
from profiler.measure.visit import Task, visit
from profiler.records.types import Budget, Case

SAMPLES = Path(__file__).parents[1] / "models" / "samples.py"


@pytest.mark.parametrize("backend", ["eager", "torchscript"])
@pytest.mark.usefixtures("one_thread")
def test_a_shape_that_a_model_cannot_take_is_one_sentence(backend: str) -> None:
    case = Case(f"{SAMPLES}:graph", "", 1.0, backend, Placement(), shape="input=5x3")
    with pytest.raises(BackendError) as caught:
        visit(Task(case, Budget(visit_s=0.01), None, None, fresh=False))
    said = str(caught.value)
    assert "\n" not in said
    assert "shapes cannot be multiplied (5x3 and 4x4)" in said
    if backend == "eager":
        assert "samples.py:graph does not run with --shape input=5x3 (RuntimeError: " in said
        assert said.endswith(": give other inputs, or its own")
