"""What a test hands to its gate, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from profiler.errors import UserError
from profiler.testing.arguments import GateCall, Live, onnx, torch_model, zoo


def module() -> Live:
    from torch import nn, zeros

    return torch_model(nn.Linear(4, 4), zeros(1, 4))


def test_strings_and_models_complete_each_other() -> None:
    asked = GateCall.read(onnx("a.onnx", threads=2, batch=8), baseline="git:main", max_slowdown="3%")
    assert asked.max_slowdown == 0.03
    assert asked.baseline == asked.candidate.__class__(asked.candidate.case, "main")
    asked = GateCall.read(zoo("regnety_400mf", "dWr", 4), baseline="regnety_200mf @fake")
    assert [side.label for side in asked.sides] == ["regnety_400mf dWr x4 @eager", "regnety_200mf @fake"]
    asked = GateCall.read(onnx("a.onnx"), baseline=onnx("b.onnx"), max_p99="20%", allow_different_output=True)
    assert (asked.max_p99, asked.budget_s, asked.allowed) == (0.2, {}, ("output",))
    asked = GateCall.read(onnx("a.onnx"), max_p99="20ms", max_mean="12ms", allow_different_inputs=True)
    assert (asked.max_p99, asked.budget_s, asked.allowed) == (None, {"mean": 0.012, "p99": 0.02}, ("inputs", "output"))
    live = GateCall.read(module(), baseline="git:v1 @torchscript")
    assert (live.baseline.revision, live.baseline.backend) == ("v1", "torchscript")


def test_the_inputs_of_a_gate_are_those_of_both_sides_that_name_none() -> None:
    asked = GateCall.read(onnx("a.onnx", shape="x = 1x8"), baseline="b.onnx", shape="x=1x4", input_file="v.npz")
    assert [(side.case.shape, side.case.input_file) for side in asked.sides] == [("x=1x8", "v.npz"), ("x=1x4", "v.npz")]
    live = GateCall.read(module(), baseline=module(), shape="input=3x4")
    assert [side.inputs.arrays["input"].shape for side in live.sides] == [(3, 4), (3, 4)]
    assert live.candidate.side.label == "Linear input=3x4 @eager"


@pytest.mark.parametrize(
    ("candidate", "asked", "said"),
    [
        ("git:main", {"baseline": "git:other"}, "takes the model of the other side"),
        (onnx("a.onnx"), {"baseline": onnx("b.onnx", threads=2)}, "different devices, threads or precisions"),
        (onnx("a.onnx"), {"baseline": onnx("b.onnx"), "max_slowdown": None}, "nothing to gate"),
        (onnx("a.onnx"), {"baseline": onnx("b.onnx"), "max_mean": "1ms"}, "either baseline="),
        (onnx("a.onnx"), {"max_p99": "20%"}, "a share needs a baseline"),
        (onnx("a.onnx"), {"max_p99": 0.2}, "expected a duration above 0"),
        (onnx("a.onnx"), {"max_mean": "20"}, "max_mean='20'|'20' is not"),
        (onnx("a.onnx"), {"baseline": onnx("b.onnx"), "max_p99": "20ms"}, "is not a share"),
        (onnx("a.onnx"), {"baseline": onnx("b.onnx"), "max_p99": -1}, "expected a share above 0"),
        (onnx("a.tflite"), {"max_latency": "1ms"}, "unknown model 'a.tflite'"),
        (zoo("regnety_200mf", factor=4), {"max_latency": "1ms"}, "no scaling rule"),
        ("git:v1 regnety_200mf", {"max_latency": "1ms"}, "code as it is"),
        (torch_model(3, 4), {"max_latency": "1ms"}, "expected a torch module"),
        (onnx("a.onnx"), {"max_latency": "1ms", "shape": "x=1x4/1x8"}, "is 2 shapes, and a test has one gate"),
        (onnx("a.onnx"), {"max_latency": "1ms", "shape": "4"}, "is no shape"),
        (module(), {"max_latency": "1ms", "shape": "y=1x4"}, "has no shape y"),
        (module(), {"max_latency": "1ms", "input_file": "v.npz"}, "has the values of its example"),
    ],
)
def test_what_makes_no_gate_is_refused(candidate: Any, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        GateCall.read(candidate, **asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"baseline": "git:v1 regnety_200mf"}, "name both"),
        ({"baseline": "regnety_200mf", "max_memory_growth": 0.1}, "load by name"),
        ({"baseline": 3}, "is no model"),
    ],
)
def test_what_a_live_model_cannot_be_asked_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        GateCall.read(module(), **asked)
