"""Every form of a name has a source, and one network is the same by whichever it comes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from profiler import backends, models
from profiler.backends.base import Placement
from profiler.backends.torch_trace import deprecation_silenced
from profiler.errors import UserError
from profiler.models import source
from profiler.models.loaded import Asked, Loaded
from profiler.models.naming import Form
from tests.models import samples

pytestmark = pytest.mark.usefixtures("one_thread")

EXAMPLE = torch.linspace(-1, 1, 192).reshape(1, 3, 8, 8)


def net() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(1)
    return samples.trained(samples.classifier()[0]).eval(), EXAMPLE


def scripted(path: Path) -> str:
    with deprecation_silenced():
        torch.jit.save(torch.jit.trace(net()[0], EXAMPLE), str(path))
    return str(path)


def exported(path: Path) -> str:
    torch.export.save(torch.export.export(*(net()[0], (EXAMPLE,))), path)
    return str(path)


def as_onnx(path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's words on its own exporters
        torch.onnx.export(net()[0], (EXAMPLE,), str(path), dynamo=False, input_names=["input"])
    return str(path)


def written(path: Path) -> str:
    path.write_text("from tests.models.test_source import net\n", encoding="utf-8")
    return f"{path}:net"


FORMS: list[tuple[str, Callable[[Path], str], str]] = [
    ("net.py", written, "eager"),
    ("net.pt", scripted, "torchscript"),
    ("net.jit", scripted, "eager"),
    ("net.pt2", exported, "eager"),
    ("net.onnx", as_onnx, "onnxruntime"),
]


def outputs(loaded: Loaded, backend: str) -> tuple[np.ndarray, ...]:
    with backends.get(backend).load(loaded.model, loaded.inputs, Placement()) as session:
        session.run()
        session.sync()
        return session.outputs()


def test_every_form_has_a_source() -> None:
    assert set(source._SOURCES) == set(get_args(Form))


@pytest.mark.parametrize(("file", "make", "backend"), FORMS)
def test_one_network_computes_and_counts_the_same_in_every_form(
    file: str, make: Callable[[Path], str], backend: str, tmp_path: Path
) -> None:
    name = make(tmp_path / file)
    np.savez(tmp_path / "x.npz", input=EXAMPLE.numpy())
    loaded = source.load_model(Asked(name, input_file=str(tmp_path / "x.npz")))
    with torch.no_grad():
        expected = net()[0](EXAMPLE).numpy()
    [found] = outputs(loaded, backend)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    counted, by_hand = loaded.count(), 4 * 27 * 36 + 5 * 4
    assert counted.flops in (by_hand + 4 * 36 + 5, by_hand)  # a graph that was folded may keep no biases
    assert (counted.params, counted.layers, counted.uncounted) == (4 * 27 + 4 + 25, 2, "")
    assert source.load_model(Asked(name, input_file=str(tmp_path / "x.npz"))).content == loaded.content


def test_the_weights_of_a_file_of_torch_are_in_its_content(tmp_path: Path) -> None:
    path, found = tmp_path / "net.pt", []
    with deprecation_silenced():
        module = torch.jit.trace(nn.Linear(2, 2).eval(), torch.ones(1, 2))
        for weight in (1.0, 1.0, 2.0):
            nn.init.constant_(module.weight, weight)
            torch.jit.save(module, str(path))
            found.append(source.load_model(Asked(str(path), shape="input=1x2")).content)
    assert found[0] == found[1] != found[2]


def test_a_file_of_torch_that_names_no_inputs_says_how_to_give_them(tmp_path: Path) -> None:
    path = scripted(tmp_path / "net.pt")
    with pytest.raises(UserError, match="what its inputs input are; give input as --shape input=1x3x224x224"):
        source.load_model(Asked(path))
    with pytest.raises(UserError, match="has no input y; expected one of input"):
        source.load_model(Asked(path, shape="input=1x3x8x8,y=3"))
    loaded = source.load_model(Asked(path, shape="input=1x3x8x8:uint8", batch=2))
    assert loaded.said == "input uint8 2x3x8x8 in 0..255"


def test_a_network_of_the_zoo_is_known_before_it_is_built() -> None:
    loaded = source.load_model(Asked("regnety_200mf", "w", 2.0, batch=2, shape="height=64,width=64"))
    arch = models.resolve("regnety_200mf", "w", 2.0)
    assert loaded.inputs.signature == "input float32 2x3x64x64"
    assert loaded.count().params == models.complexity(arch).params
    assert loaded.content != source.load_model(Asked("regnety_200mf", "w", 2.0)).content


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:resnet18", "needs the package timm, which cannot be imported .*: pip install timm"),
        ("torchvision:resnet18", "needs the package torchvision, .*: pip install torchvision"),
        ("none.pt", "no such file"),
        ("none.pt2", "no such file"),
        ("none.onnx", "no such file"),
        ("nowhere.py:net", "expected package.module:function"),
        ("words.pt", "cannot be read .* a file of weights alone is no model"),
        ("words.pt2", "cannot be read .* a file of weights alone is no model"),
        ("net.tflite", "expected a name that `profiler models` lists"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    for ending in ("pt", "pt2"):
        Path(f"words.{ending}").write_text("words", encoding="utf-8")
    with pytest.raises(UserError, match=said) as caught:
        source.load_model(Asked(name))
    assert "\n" not in str(caught.value)
