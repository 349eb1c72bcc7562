"""Inputs from an example, a file or a seed, in the shape and batch that are asked for."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from profiler.backends.inputs import Inputs
from profiler.errors import UserError
from profiler.models import examples
from profiler.models.loaded import Asked
from profiler.models.shapes import parse_shapes


@dataclass(frozen=True)
class Graph:
    nodes: torch.Tensor
    edges: list[torch.Tensor]
    name: str = "g"


class State(NamedTuple):
    hidden: torch.Tensor
    cell: torch.Tensor


def asked(**given: object) -> Asked:
    return Asked("m:f", **given)


def fed(**arrays: object) -> Inputs:
    return Inputs(kwargs={name: np.asarray(array) for name, array in arrays.items()})


def test_an_example_keeps_values_types_and_order() -> None:
    example = (
        (torch.tensor([[7, 0]]), [State(torch.ones(1), torch.zeros(1, dtype=torch.bool)), 2]),
        {"b": 1, "a": None},
    )
    given = examples.of_example(example, ("ids", "state"))
    assert given.arrays["ids"].tolist() == [[7, 0]]
    assert [array.dtype.name for array in given.arrays.values()] == ["int64", "float32", "bool"]
    assert list(given.kwargs) == ["b", "a"]
    assert type(given.args[1][0]) is State
    half = examples.of_example((torch.ones(2).half(), torch.ones(2).bfloat16()), ())
    assert [array.dtype.name for array in half.arrays.values()] == ["float16", "float32"]


def test_tensors_in_a_dataclass_are_inputs_and_its_class_is_kept() -> None:
    example = Graph(torch.ones(2), [torch.zeros(3)])
    given = examples.of_example((example,), ("graph",))
    assert given.signature == "graph.nodes float32 2, graph.edges.0 float32 3, graph.name='g'"
    (made,), _ = given.mapped(lambda name, array: (name, array.shape))
    assert made == Graph(("graph.nodes", (2,)), [("graph.edges.0", (3,))])
    assert example.nodes.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("example", "args", "kwargs"),
    [
        (1, (1,), {}),
        ((1, 2), (1, 2), {}),
        ([1, 2], (1, 2), {}),
        ({"x": 1}, (), {"x": 1}),
        (UserDict(x=1), (), {"x": 1}),  # as what a tokenizer returns
        (((1,), {"x": 2}), (1,), {"x": 2}),
        ((1, {"x": 2}), (1, {"x": 2}), {}),  # the second is a dict that the module takes by position
    ],
)
def test_the_forms_of_an_example(example: object, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    assert examples.arranged(example) == (args, kwargs)


@given(st.sampled_from(["float32", "float16", "int64", "int32", "uint8", "bool", "uint16"]))
def test_what_is_drawn_is_the_same_everywhere_and_within_what_it_says(kind: str) -> None:
    array, said = examples.drawn((50, 40), kind)
    assert (array.dtype.name, array.shape) == (kind, (50, 40))
    assert np.array_equal(array, examples.drawn((50, 40), kind)[0])
    if said:
        low, high = map(int, said.split(".."))
        assert (int(array.min()), int(array.max())) == (low, high)
    else:
        assert abs(float(array.mean())) < 0.1


def test_more_than_this_machine_has_is_refused_before_it_is_made() -> None:
    with pytest.raises(UserError, match="choose a smaller shape or batch"):
        examples.normal((1 << 20, 1 << 20))
    with pytest.raises(UserError, match="choose a smaller shape or batch"):
        examples.batched(fed(x=np.zeros((1, 1 << 20))), asked(batch=1 << 30))


def test_a_shape_repeats_the_values_along_each_axis() -> None:
    given = examples.shaped(fed(ids=[[5, 6, 7]], y=[1]), parse_shapes("ids=2x5"), asked())
    assert given.arrays["ids"].tolist() == [[5, 6, 7, 5, 6]] * 2
    assert given.arrays["y"].tolist() == [1]
    assert examples.shaped(fed(x=np.ones((3, 4))), parse_shapes("x=1x2"), asked()).arrays["x"].shape == (1, 2)


@pytest.mark.parametrize(
    ("shape", "said"),
    [("z=1x3", "has no shape z; expected one of x, size"), ("x=3", "1 dimensions; expected 2, as in x=1x3")],
)
def test_a_shape_of_nothing_is_one_sentence(shape: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        examples.shaped(fed(x=[[1, 2, 3]]), parse_shapes(shape), asked(), ("size",))


def test_the_batch_axis_is_the_first_where_it_is_one() -> None:
    given = examples.batched(fed(ids=[[1, 2]], table=np.arange(6).reshape(2, 3), scale=3.0), asked(batch=4))
    assert given.arrays["ids"].tolist() == [[1, 2]] * 4
    assert given.arrays["table"].shape == (2, 3)  # belongs to all examples
    assert given.arrays["scale"].shape == ()
    nodes = fed(x=np.ones((5, 4)))
    assert examples.batched(nodes, asked(batch=1)) is nodes
    assert examples.batched(nodes, asked(batch=5)) is nodes
    with pytest.raises(UserError, match=r"has no batch axis \(x float64 5x4\), so its batch cannot be 2"):
        examples.batched(nodes, asked(batch=2))


def test_a_file_takes_the_place_of_the_arrays_it_names(tmp_path: Path) -> None:
    file = tmp_path / "v.npz"
    np.savez(file, mask=np.array([[0, 1]]))
    both = fed(ids=[[5, 6]], mask=[[1, 1]])
    given = examples.from_file(both, asked(input_file=str(file)))
    assert {name: array.tolist() for name, array in given.arrays.items()} == {"ids": [[5, 6]], "mask": [[0, 1]]}
    with pytest.raises(UserError, match="mask is int64; expected float32, as the model takes it"):
        examples.from_file(fed(mask=np.ones((1, 2), np.float32)), asked(input_file=str(file)))
    with pytest.raises(UserError, match="has no input mask; expected one of ids"):
        examples.from_file(fed(ids=[[5, 6]]), asked(input_file=str(file)))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x93NUMPY", b"words"])
def test_a_file_that_is_none_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "v.npz"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"expected an \.npz file with one array for each input") as caught:
        examples.read_values(str(file))
    assert "\n" not in str(caught.value)
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(UserError, match=r"a single array; expected an \.npz"):
        examples.read_values(str(tmp_path / "one.npy"))


def test_a_height_is_that_of_one_image_alone() -> None:
    assert examples.image_height([(2, 3, 64, 32)]) == 64
    assert examples.image_height([(1, 16, 64, 64)]) is None
    assert examples.image_height([(1, 3, 64, 64), (1, 3, 64, 64)]) is None
