"""One grammar for the names of models."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler import models
from profiler.errors import UserError
from profiler.models.naming import file_of, form, is_brought, split_names


@pytest.mark.parametrize(
    ("name", "expected", "file"),
    [
        ("resnet50", "zoo", None),
        ("RegNetY-4GF", "zoo", None),
        ("package.module:factory", "factory", None),
        ("module:f", "factory", None),
        ("timm.models:resnet18", "factory", None),
        ("file.py:f", "file factory", "file.py"),
        ("my nets/a, b/file.py:f", "file factory", "my nets/a, b/file.py"),
        ("/abs/a:b/Net.PY:_f2", "file factory", "/abs/a:b/Net.PY"),
        ("a b/c.onnx", "onnx", "a b/c.onnx"),
        ("X.ONNX", "onnx", "X.ONNX"),
        ("c:/x.Onnx", "onnx", "c:/x.Onnx"),
        ("./timm:x.onnx", "onnx", "./timm:x.onnx"),
        ("m.pt", "torchscript", "m.pt"),
        ("m.JIT", "torchscript", "m.JIT"),
        ("m.ts", "torchscript", "m.ts"),
        ("m.Pt2", "exported", "m.Pt2"),
        ("timm:vit_tiny_patch16_224.augreg_in21k", "timm", None),
        ("torchvision:resnet18", "torchvision", None),
    ],
)
def test_every_form_is_told_by_the_text_alone(name: str, expected: str, file: str | None) -> None:
    assert form(name) == expected
    assert file_of(name) == file
    assert is_brought(name) == (expected != "zoo")


@pytest.mark.parametrize(
    "name",
    ["", " ", "resnet5", "a b:c", "module:", ":f", "module:f()", "a..b:f", "timm:", "timm: x", "a.tflite", "a.py"],
)
def test_what_has_no_form_is_told_all_of_them(name: str) -> None:
    with pytest.raises(UserError) as caught:
        form(name)
    said = str(caught.value)
    assert said.startswith(f"unknown model {name!r}")
    examples = ("regnety_400mf", "module:function", "file.py:function", ".onnx", ".pt,", ".jit", ".ts", ".pt2", "timm:")
    assert all(example in said for example in (*examples, "torchvision:"))
    assert "\n" not in said


def test_every_network_of_the_zoo_is_one() -> None:
    assert {form(name) for name in models.names()} == {"zoo"}


@pytest.mark.parametrize(
    ("text", "files", "expected"),
    [
        ("resnet50, regnety_400mf", (), ["resnet50", "regnety_400mf"]),
        ("a,b.onnx", (), ["a", "b.onnx"]),
        ("a,b.onnx", ("a,b.onnx",), ["a,b.onnx"]),
        ("a, b.onnx", ("a, b.onnx",), ["a, b.onnx"]),
        ("resnet50,a,b.onnx,c.onnx", ("a,b.onnx",), ["resnet50", "a,b.onnx", "c.onnx"]),
        ("x,d,e/n.py:f,m:g", ("d,e/n.py",), ["x", "d,e/n.py:f", "m:g"]),
        ('"a,b.onnx",resnet50', (), ["a,b.onnx", "resnet50"]),
        ('odd "name".onnx', ('odd "name".onnx',), ['odd "name".onnx']),
        ("bob's.onnx,resnet50", (), ["bob's.onnx", "resnet50"]),
        ("", (), [""]),
    ],
)
def test_a_comma_in_a_path_belongs_to_it(text: str, files: tuple[str, ...], expected: list[str]) -> None:
    assert split_names(text, files.__contains__) == expected


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=1))
def test_a_quoted_list_comes_back(names: list[str]) -> None:
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="").writerow(names)
    assert split_names(written.getvalue(), lambda _: False) == names
