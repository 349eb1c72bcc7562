"""A model that fails with inputs that somebody chose says with which."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from profiler.backends.base import BackendError, Placement
from profiler.backends.eager import Eager
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


def noted(module: torch.nn.Module, example: torch.Tensor, **asked: str) -> object:
    with lent(module, example) as name:
        case = Case(name, "", 1.0, "eager", Placement(**asked))
        made = visit(Task(case, Budget(visit_s=0.01), None, None, fresh=False))
    assert isinstance(made, Measurement)
    return made.facts.get("brought_note")


@pytest.mark.parametrize(("kind", "precision"), [("half", "fp16"), ("bfloat16", "bf16"), ("float", "")])
@pytest.mark.usefixtures("one_thread")
def test_a_module_in_half_precision_says_in_which_it_was_measured(kind: str, precision: str) -> None:
    note = f"the model is in {precision}, and was measured in fp32; --precision {precision} measures it as it is"
    found = noted(getattr(torch.nn.Linear(4, 2), kind)(), getattr(torch.rand(3, 4), kind)())
    assert found == (note if precision else None)


@pytest.mark.usefixtures("one_thread")
def test_a_precision_that_the_runtime_refuses_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Eager, "unavailable", lambda _, place: "none" if place.precision == "fp16" else None)
    found = noted(torch.nn.Linear(4, 2).half(), torch.rand(3, 4).half())
    assert found == "the model is in fp16, and was measured in fp32"


@pytest.mark.usefixtures("one_thread")
def test_a_module_in_another_layout_says_in_which_it_was_measured() -> None:
    module, example = torch.nn.Conv2d(4, 2, 3).to(memory_format=torch.channels_last), torch.rand(1, 4, 5, 5)
    assert noted(module, example) == (
        "the model is in channels_last, and was measured in contiguous; --memory-format channels_last "
        "measures it as it is"
    )
    assert noted(module, example, memory_format="channels_last") is None
