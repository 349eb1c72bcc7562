"""Digests: equal where nothing differs, another one for another byte of anything."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from profiler.backends.inputs import Inputs
from profiler.models.content import of_files, of_inputs, of_module, of_parts

pytestmark = pytest.mark.usefixtures("one_thread")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.register_buffer("table", torch.ones(2), persistent=False)
        self.settings = {"eps": 1e-5, "sizes": (1, 2), "act": nn.functional.relu}
        self.config = SimpleNamespace(heads=2)
        self.plan = [np.arange(3), {3, 1}, Path("a")]
        self.call = partial(nn.functional.softmax, dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layer(x))


def weight(net: Net) -> None:
    with torch.no_grad():
        net.layer.weight[0, 0] += 1e-6


def statistics(net: Net) -> None:
    net.norm.running_var[1] = 2.0


def table(net: Net) -> None:
    net.table[0] = 0.0


CHANGES: list[Callable[[Net], object]] = [
    weight,
    statistics,
    table,
    lambda net: net.double(),
    lambda net: setattr(net.norm, "eps", 2e-5),
    lambda net: net.settings.update(eps=2e-5),
    lambda net: net.settings.update(act=nn.functional.gelu),
    lambda net: setattr(net.config, "heads", 4),
    lambda net: net.plan[0].__setitem__(2, 9),
    lambda net: net.plan[1].add(2),
    lambda net: setattr(net, "call", partial(nn.functional.softmax, dim=0)),
    lambda net: setattr(net, "more", nn.ReLU()),
    lambda net: setattr(net.layer, "bias", None),
    lambda net: setattr(net, "plan", net.plan[::-1]),
]


def test_the_same_made_twice_is_the_same() -> None:
    assert of_module(Net()) == of_module(Net())


@pytest.mark.parametrize("change", CHANGES)
def test_another_number_setting_or_part_is_another_content(change: Callable[[Net], object]) -> None:
    net = Net()
    before = of_module(net)
    change(net)
    assert of_module(net) != before


def test_weights_that_are_shared_are_not_weights_that_are_equal() -> None:
    shared, equal = (nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]) for _ in range(2))
    shared[1] = shared[0]
    equal[1].load_state_dict(equal[0].state_dict())
    assert of_module(shared) != of_module(equal)
    first, last = (nn.ModuleList([*equal, equal[one]]) for one in (0, 1))
    assert of_module(first) != of_module(last)


def test_a_scripted_module_is_what_it_would_be_saved_as() -> None:
    with pytest.warns(DeprecationWarning, match=r"torch\.jit\.script"):
        one, other = torch.jit.script(nn.Linear(2, 2)), torch.jit.script(nn.Linear(2, 2))
    assert of_module(one) != of_module(other)
    other.load_state_dict(one.state_dict())
    assert of_module(one) == of_module(other)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_compiled_module_is_what_it_was_compiled_from() -> None:
    one, other = Net(), Net()
    other.load_state_dict(one.state_dict())
    assert of_module(torch.compile(one)) == of_module(torch.compile(other))
    with torch.no_grad():
        next(other.parameters()).add_(1)
    assert of_module(torch.compile(one)) != of_module(torch.compile(other))


INPUTS = Inputs((np.arange(4, dtype=np.int32),), {"scale": 2}, ("x",))


@pytest.mark.parametrize(
    "other",
    [
        Inputs((np.arange(4, dtype=np.uint32),), {"scale": 2}, ("x",)),
        Inputs((np.arange(4, dtype=np.int32).reshape(2, 2),), {"scale": 2}, ("x",)),
        Inputs((np.array([0, 1, 2, 4], np.int32),), {"scale": 2}, ("x",)),
        Inputs((np.arange(4, dtype=np.int32),), {"scale": 3}, ("x",)),
        Inputs((np.arange(4, dtype=np.int32),), {"scale": 2}, ("y",)),
    ],
)
def test_inputs_differ_by_name_type_shape_value_and_constant(other: Inputs) -> None:
    assert of_inputs(other) != of_inputs(INPUTS)
    assert of_inputs(INPUTS) == of_inputs(Inputs((np.arange(4, dtype=np.int32),), {"scale": 2}, ("x",)))


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_parts_do_not_run_into_each_other(one: list[str], other: list[str]) -> None:
    assert (of_parts(*one) == of_parts(*other)) == (one == other)


def test_files_are_told_apart_by_bytes_alone(tmp_path: Path) -> None:
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(text)
    a, b, c = (tmp_path / name for name in "abc")
    assert of_files([a, c]) == of_files([b, c])
    assert of_files([a]) != of_files([c])
    assert of_files([a, c]) != of_files([c, a])
