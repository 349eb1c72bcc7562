"""A model that fails with inputs that somebody chose says with which."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from profiler.backends.base import BackendError, Placement
from profiler.measure.visit import Task, visit
from profiler.models.live import lent
from profiler.records.types import Budget, Case, Measurement

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


@pytest.mark.usefixtures("one_thread")
def test_a_model_that_fails_says_where() -> None:
    with pytest.raises(BackendError) as caught:
        visit(
            Task(
                Case(f"{SAMPLES}:unable", "", 1.0, "eager", Placement()), Budget(visit_s=0.01), None, None, fresh=False
            )
        )
    said = r"samples.py:unable does not run with its example \(ValueError: too wide, in samples.py:\d+\): let it"
    assert re.search(said, str(caught.value))


@pytest.mark.parametrize(("kind", "noted"), [("half", "fp16"), ("bfloat16", "bf16"), ("float", "")])
@pytest.mark.usefixtures("one_thread")
def test_a_module_in_half_precision_says_in_which_it_was_computed(kind: str, noted: str) -> None:
    module, example = torch.nn.Linear(4, 2), torch.rand(3, 4)
    with lent(getattr(module, kind)(), getattr(example, kind)()) as name:
        made = visit(Task(Case(name, "", 1.0, "eager", Placement()), Budget(visit_s=0.01), None, None, fresh=False))
    assert isinstance(made, Measurement)
    note = f"the model is in {noted}, and fp32 was asked for: --precision {noted} computes in it"
    assert made.facts.get("precision_note") == (note if noted else None)
