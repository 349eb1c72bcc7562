"""Sides as users write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.gate.side import Side, parse_side, sides
from profiler.records.types import Case


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("regnety_400mf", "regnety_400mf @eager"),
        ("regnety_400mf dWr x4 @torchscript", "regnety_400mf dWr x4 @torchscript"),
        ("RegNetY-400MF @eager", "regnety_400mf @eager"),
        ("old.onnx", "old.onnx @onnxruntime"),
        ("X.ONNX", "X.ONNX @onnxruntime"),
        ("a,b.onnx @eager", "a,b.onnx @eager"),
        ("'my old.onnx' @eager", "'my old.onnx' @eager"),
        (r"my\ old.onnx", "'my old.onnx' @onnxruntime"),
        ("git:v1 'my nets/n.py:f'", "git:v1 'my nets/n.py:f' @eager"),
        ("'my @old.onnx'", "'my @old.onnx' @onnxruntime"),
        ("bob's.onnx @eager", """'bob'"'"'s.onnx' @eager"""),
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


def test_a_side_of_a_family_of_the_users_is_scaled_by_a_factor() -> None:
    old, new = sides("vit.py:vit dWr x4", "git:main", Placement(), None, 1)
    assert (old.case.scaling, old.case.factor, new.case.factor) == ("dWr", 4.0, 4.0)
    assert old.label == "vit.py:vit dWr x4 @eager"


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
        ("vit.py:vit w 4GF", "give a factor, as x4: `profiler complexity vit.py:vit --scale w --flops 4GF` finds it"),
        ("vit.py:vit up x4", "is not a scaling rule"),
        ("vit.py:vit w x0", "A scaling factor is above 0"),
        ("my net.onnx", "there is no file 'my net.onnx' here, and elsewhere blanks in a path need quotes"),
        ("git: net.onnx", "names no revision"),
        ("net.tflite", "path/file.py:function"),
        ("git:main", "neither"),
        ("regnety_200mf@torchscript", "a blank stands before a backend, as 'regnety_200mf @torchscript'"),
    ],
)
def test_a_side_that_cannot_be_read_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        sides(text, "git:main", Placement(), None, 1)


def test_both_sides_are_fed_and_a_revision_from_the_file_that_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old, new = sides("git:v1", "net.onnx", Placement(), None, 1)
    old, new = old.fed("ids=1x128", "v.npz"), new.fed("ids=1x128", "v.npz")
    assert (old.case.shape, new.case.shape) == ("ids=1x128", "ids=1x128")
    assert (old.case.input_file, new.case.input_file) == (str(tmp_path / "v.npz"), "v.npz")
    assert new.label == "net.onnx ids=1x128 v.npz @onnxruntime"
    assert (old.written, new.written) == ("git:v1 net.onnx @onnxruntime", "net.onnx @onnxruntime")
    assert new.fed("ids=1x64", "w.npz") == new  # what it has of its own stays


def test_parse_keeps_what_was_written() -> None:
    spec = parse_side("git:v1 regnety_400mf dWr x4 @eager")
    assert (spec.revision, spec.model, spec.scaling, spec.factor, spec.backend) == (
        "v1", "regnety_400mf", "dWr", "x4", "eager",
    )  # fmt: skip
    assert Side(Case("a.onnx", "", 1.0, "onnxruntime", Placement()), "v1").label == "git:v1 a.onnx @onnxruntime"


@pytest.mark.parametrize("name", ["my net.onnx", "my @net.onnx", "x' y.onnx", "my net.py"])
def test_a_path_with_blanks_needs_no_quotes_where_its_file_lies(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    model = name if name.endswith(".onnx") else f"{name}:build"
    for text, revision, backend in (
        (model, None, None),
        (f"{model} @fake:jitter=1", None, "fake:jitter=1"),
        (f" git:v1  {model} @eager", "v1", "eager"),
    ):
        spec = parse_side(text)
        assert (spec.revision, spec.model, spec.scaling, spec.backend) == (revision, model, "", backend)


@given(st.text(st.characters(exclude_categories=["C"]), min_size=1), st.sampled_from([None, "v1"]))
def test_a_label_is_read_back_as_the_side_that_it_names(stem: str, revision: str | None) -> None:
    case = Case(f"{stem}.onnx", "", 1.0, "eager", Placement())
    spec = parse_side(Side(case, revision).label)
    assert (spec.model, spec.backend, spec.revision) == (case.model, "eager", revision)
