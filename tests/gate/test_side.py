"""Sides as users write them."""

from __future__ import annotations

import pytest

from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.gate.side import Side, parse_side, sides
from profiler.records.types import Case


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("regnety_400mf", "regnety_400mf @eager"),
        ("regnety_400mf dWr x4 @torchscript", "regnety_400mf dWr x4 @torchscript"),
        ("old.onnx", "old.onnx @onnxruntime"),
        ("package.module:factory @eager", "package.module:factory @eager"),
        ("git:v1.2 package.module:factory", "git:v1.2 package.module:factory @eager"),
        ("git:main", "git:main package.net:new @eager"),
        ("git:main @torchscript", "git:main package.net:new @torchscript"),
    ],
)
def test_a_side_as_it_is_written(text: str, label: str) -> None:
    assert sides(text, "package.net:new @eager", Placement(), None, 1)[0].label == label


def test_a_side_scaled_to_flops() -> None:
    old, _ = sides("regnety_400mf w 800MF", "regnety_400mf", Placement(), "eager", 2)
    assert old.case.target_flops == 800_000_000
    assert old.case.factor > 1
    assert (old.case.batch, old.case.backend) == (2, "eager")


def test_a_side_that_needs_a_step_beside_the_rule_is_named_with_it() -> None:
    old, _ = sides("efficientnet_b0 dwr 16GF", "regnety_400mf", Placement(), "eager", 1)
    assert old.label == "efficientnet_b0 dwr x42.2 d7+1 @eager"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "names no model"),
        ("git:", "names no revision"),
        ("regnety_400mf dWr", "is not a model"),
        ("regnety_400mf dWr 4", "is not a model"),
        ("regnety_400mf dWr xfour", "is no scaling factor"),
        ("regnety_40mf", "regnety_40mf"),
        ("regnety_400mf d 1MF", "cannot have 1.00MF"),
        ("net.onnx w x2", "cannot be scaled"),
        ("git:main", "neither"),
    ],
)
def test_a_side_that_cannot_be_read_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        sides(text, "git:main", Placement(), None, 1)


def test_parse_keeps_what_was_written() -> None:
    spec = parse_side("git:v1 regnety_400mf dWr x4 @eager")
    assert (spec.revision, spec.model, spec.scaling, spec.factor, spec.backend) == (
        "v1", "regnety_400mf", "dWr", "x4", "eager",
    )  # fmt: skip
    assert Side(Case("a.onnx", "", 1.0, "onnxruntime", Placement()), "v1").label == "git:v1 a.onnx @onnxruntime"
