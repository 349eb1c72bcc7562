"""A model that fails with inputs that somebody chose says with which."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from profiler import backends
from profiler.backends.base import BackendError, Placement
from profiler.measure import visit as visiting
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


def noted(module: torch.nn.Module, example: torch.Tensor, mode: str = "infer", **asked: str) -> object:
    with lent(module, example) as name:
        case = Case(name, "", 1.0, "eager", Placement(**asked), mode=mode)
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
def test_a_module_in_another_layout_says_in_which_it_was_measured() -> None:
    module, example = torch.nn.Conv2d(4, 2, 3).to(memory_format=torch.channels_last), torch.rand(1, 4, 5, 5)
    assert noted(module, example) == (
        "the model is in channels_last, and was measured in contiguous; --memory-format channels_last "
        "measures it as it is"
    )
    assert noted(module, example, memory_format="channels_last") is None


@pytest.mark.usefixtures("one_thread")
def test_no_way_is_named_that_the_backend_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(_: object, placement: Placement) -> str | None:
        return "no fp16 here" if placement.precision == "fp16" else None

    monkeypatch.setattr(type(backends.get("eager")), "unavailable", unavailable)
    assert noted(torch.nn.Linear(4, 2).half(), torch.rand(3, 4)) == "the model is in fp16, and was measured in fp32"


@pytest.mark.usefixtures("one_thread")
def test_a_step_of_training_says_it_too() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 10)).bfloat16()
    found = noted(module, torch.rand(2, 3, 8, 8), mode="train")
    assert found == "the model is in bf16, and was measured in fp32; --precision bf16 measures it as it is"


@pytest.mark.parametrize("folder", ["torch", "profiler_nets"])
def test_a_line_is_its_users_whatever_their_folder_is_called(folder: str) -> None:
    place = Path(visiting.__file__).parents[2] if folder == "profiler_nets" else Path("/home/me")
    code, found = compile("def fail():\n    raise ValueError", str(place / folder / "net.py"), "exec"), {}
    exec(code, found)
    case = Case("net.py:net", "", 1.0, "eager", Placement())
    with pytest.raises(BackendError, match=r"\(ValueError: , in net.py:2\)"), visiting.fed_as_asked(case):
        found["fail"]()
