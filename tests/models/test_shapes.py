"""Shapes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import UserError
from profiler.models.shapes import Sizes, canonical, each, parse_shapes

NAMES = st.sampled_from(["images", "ids", "x.0", "input_ids", "height"])
SIZES = st.lists(st.integers(1, 4096), min_size=1, max_size=5)
KINDS = st.sampled_from(["", "int64", "uint8", "bool", "float16"])
SHAPES = st.dictionaries(NAMES, st.builds(lambda sizes, kind: Sizes(tuple(sizes), kind), SIZES, KINDS), min_size=1)


def written(shapes: dict[str, Sizes], blank: str = "") -> str:
    parts = [
        f"{n}{blank}={blank}{'x'.join(map(str, s.sizes))}{f':{s.kind}' if s.kind else ''}" for n, s in shapes.items()
    ]
    return f",{blank}".join(parts)


@given(SHAPES, st.sampled_from(["", " "]))
def test_what_is_written_is_read_back(shapes: dict[str, Sizes], blank: str) -> None:
    assert parse_shapes(written(shapes, blank)) == shapes


@given(SHAPES)
def test_one_shape_has_one_text_whatever_the_order(shapes: dict[str, Sizes]) -> None:
    turned = written(dict(reversed(shapes.items())), " ")
    assert canonical(turned) == canonical(written(shapes)) == canonical(canonical(turned))
    assert parse_shapes(canonical(turned)) == shapes


def test_several_values_are_several_shapes_in_step() -> None:
    assert each(["width=320/640,height=240/480,batch=2"]) == [
        "batch=2,height=240,width=320", "batch=2,height=480,width=640",
    ]  # fmt: skip
    assert each(["ids=1x32/1x64:int64", "ids=1x64:int64"]) == ["ids=1x32", "ids=1x64:int64"]
    assert each([]) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names nothing"),
        ("640", "'640' is no shape"),
        ("=640", "'=640' is no shape"),
        ("x=", "'' is no shape"),
        ("x=1x", "'1x' is no shape"),
        ("x=1x-3", "'1x-3' is no shape"),
        ("x=1.5", "'1.5' is no shape"),
        ("x=0x3", "a dimension of 0"),
        ("x=1x99999999999", "above 2147483648"),
        ("x=1,x=2", "its name is given twice"),
        ("x=1x3:text", "there is no type 'text'; expected one of float32"),
        ("h=1/2,w=1/2/3", "gives 2 and 3 values"),
    ],
)
def test_what_is_no_shape_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        each([text])
    assert "\n" not in str(caught.value)
