"""What one forward takes: names, order and nesting stay as a model has them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profiler.backends.inputs import Inputs, shape_text


class State(NamedTuple):
    hidden: Any
    cell: Any


LEAVES = st.one_of(st.integers(0, 9).map(lambda n: np.full((2,), n)), st.none(), st.integers(), st.text(max_size=3))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(State, inner, inner),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    ),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@given(st.lists(TREES, max_size=3), st.dictionaries(st.sampled_from(["mask", "ids", "y"]), TREES, max_size=3))
def test_whatever_is_nested_comes_back_with_its_arrays_changed(args: list[Any], kwargs: dict[str, Any]) -> None:
    given = Inputs(tuple(args), kwargs)
    seen = list(given.arrays)
    names: list[str] = []
    positional, named = given.mapped(lambda name, array: names.append(name) or array)
    assert same(positional, tuple(args))
    assert same(named, kwargs)
    assert names == list(dict.fromkeys(names)) == seen
    assert not set(seen) & set(given.constants)


def test_arrays_are_called_by_their_way() -> None:
    x, y = np.zeros((1, 3), np.float32), np.ones((2,), np.int64)
    given = Inputs((x, {"left": {"y": y}}), {"state": State(x, None), "times": 3}, names=("images",))
    assert list(given.arrays) == ["images", "input_1.left.y", "state.0"]
    assert given.constants == {"state.1": None, "times": 3}
    assert given.signature == ("images float32 1x3, input_1.left.y int64 2, state.0 float32 1x3, state.1=None, times=3")
    assert list(Inputs((x,)).arrays) == ["input"]
    assert list(Inputs(kwargs={"y": y, "x": x}).arrays) == ["y", "x"]


def test_the_batch_is_the_first_axis_there_is() -> None:
    assert Inputs((np.array(3), np.zeros((5, 2)))).batch == 5
    assert Inputs((np.array(3),)).batch == 1
    assert Inputs().batch == 1


def test_an_object_is_called_alike_in_every_process() -> None:
    assert Inputs((object(),)).signature == "input=<object object>"
    assert (shape_text((1, "N", 3)), shape_text(())) == ("1xNx3", "scalar")
