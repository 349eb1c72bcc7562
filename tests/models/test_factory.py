"""Models that a function makes: their inputs as given, their content, and what is no model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from profiler.errors import UserError
from profiler.models.loaded import Asked, Loaded
from profiler.models.source import load_model

SAMPLES = Path(__file__).with_name("samples.py")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    load_model(Asked(f"{SAMPLES}:graph"))  # what lay in the folder gives way


def load(name: str, **asked: object) -> Loaded:
    return load_model(Asked(f"{SAMPLES}:{name}", **asked))


def written(folder: Path, text: str, name: str = "net.py") -> str:
    (folder / name).write_text(f"import torch\nfrom torch import nn\n{text}", encoding="utf-8")
    return f"{name}:make"


def test_the_values_of_an_example_are_used_as_they_are() -> None:
    assert load("tokens").inputs.arrays["input"].tolist() == [[6, 0, 3]]
    assert load("tokens").inputs.arrays["input"].dtype == np.int64
    assert load("logarithm").inputs.arrays["x"].tolist() == [[0.5, 1.0, 4.0]]
    assert load("graph").inputs.arrays["input"].shape == (5, 4)


def test_arguments_by_keyword_keep_their_names_and_nested_ones_their_place() -> None:
    pair, nested = load("pair"), load("nested")
    assert {name: array.flat[0] for name, array in pair.inputs.arrays.items()} == {"y": 2.0, "x": 1.0}
    assert pair.inputs.args == ()
    assert list(nested.inputs.arrays) == ["batch.left.x", "batch.right.x", "more.0"]
    assert nested.said == "batch.left.x float32 1x4, batch.right.x float32 1x4, more.0 float32 1x4, times=3"
    assert nested.model.module is not None
    args, kwargs = nested.inputs.mapped(lambda _, array: torch.tensor(array))
    with torch.no_grad():
        module = nested.model.module()
        expected = module.linear(torch.ones(1, 4)) * 3 + 10
        assert torch.equal(module(*args, **kwargs), expected)


def test_a_shape_is_an_argument_of_the_function_and_batch_repeats_the_example() -> None:
    loaded = load("classifier", shape="size=12", batch=3)
    assert loaded.inputs.arrays["input"].shape == (3, 3, 12, 12)
    assert loaded.resolution == 12
    assert load("classifier", shape="input=1x3x6x6").resolution == 6
    with pytest.raises(UserError, match="has no batch axis"):
        load("graph", batch=2)


def test_equal_calls_have_equal_weights_and_content_whatever_was_drawn_before() -> None:
    first = load("classifier")
    torch.rand(3)
    again = load("classifier")
    assert first.content == again.content
    assert load("classifier", batch=2).content == first.content
    assert load("classifier", shape="size=12").content != first.content
    assert first.model.module is not None
    one, other = first.model.module(), first.model.module()
    assert one is not other
    assert torch.equal(one[0].weight, other[0].weight)


def test_the_content_follows_every_file_of_the_users_that_was_imported(folder: Path) -> None:
    name = written(folder, "from parts import wide\ndef make():\n    return nn.Linear(4, 4), torch.ones(1, wide)\n")
    (folder / "parts.py").write_text("wide = 4\nkept = 1\n", encoding="utf-8")
    first = load_model(Asked(name)).content
    assert load_model(Asked(name)).content == first
    (folder / "parts.py").write_text("wide = 4\nkept = 2\n", encoding="utf-8")
    os.utime(folder / "parts.py", (1, 1))
    beside = load_model(Asked(name)).content
    written(folder, "from parts import wide\ndef make():\n    return nn.Linear(4, 4), torch.zeros(1, wide)\n")
    assert len({first, beside, load_model(Asked(name)).content}) == 3


def test_what_a_model_sets_for_itself_is_put_back(folder: Path) -> None:
    name = written(
        folder,
        "def make():\n    torch.set_default_dtype(torch.float64)\n    return nn.Linear(2, 2), torch.ones(2)\n",
    )
    assert load_model(Asked(name)).inputs.arrays["input"].dtype == np.float64
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "returned None; expected a function that returns a torch module"),
        ("greedy", r"needs the argument name; .* give it a default, or a size as --shape name=64"),
        ("broken", r"could not be built: RuntimeError: .*samples\.py|could not be built: .*expected a function"),
        ("numbers", "its example 3 holds no tensor"),
        ("ENCODER_LINEAR", r"is \(100958208, 294912\); expected a function"),
        ("clasifier", r"samples\.py has no function 'clasifier'; it has classifier, \w+, \w+, \w+, \w+ and \d+ more$"),
    ],
)
def test_what_is_no_model_is_one_sentence(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_that_name\n", r"imports 'nothing_of_that_name', which .*: install .* -m pip install"),
        ("import os.nothing\n", r"imports 'os\.nothing', which"),
        ("def make():\n    import nothing_of_that_name\n", r"imports 'nothing_of_that_name', which"),
        ("raise SystemExit(3)\n", "importing it fails with SystemExit: 3"),
        ("torch.no_such_name\n", "importing it fails with AttributeError: module 'torch' has no"),
        ("def mak():\n    pass\n", r"net\.py has no function 'make'; it has mak$"),
        ("one = 1\n", r"net\.py has no function 'make'; expected a function that returns a torch module"),
        ("def make(:\n", "importing it fails with SyntaxError"),
        ("def make():\n    raise SystemExit('usage')\n", "could not be built: SystemExit: usage"),
        ("def make():\n    return nn.Linear(2, 2), torch.ones(1, 2).to_sparse()\n", "expected dense tensors"),
        (
            "def make():\n    return nn.LSTM(2, 2), nn.utils.rnn.pack_sequence([torch.ones(3, 2)])\n",
            "its example cannot be read .a PackedSequence; let the model take what is padded",
        ),
        ("def make():\n    with torch.device('meta'):\n        return nn.Linear(2, 2), 1\n", "on the meta device"),
        ("def make():\n    return nn.Linear(2, 2), {[1]: 2}\n", "unhashable type: 'list'"),
        (
            "class Net(nn.Module):\n    __hash__ = None\ndef make():\n    return Net()\n",
            "torch cannot walk through .TypeError: unhashable",
        ),
    ],
)
def test_code_that_breaks_is_one_sentence(folder: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load_model(Asked(written(folder, text)))
    assert "\n" not in str(caught.value)
