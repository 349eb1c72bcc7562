"""Whether two sides compute the same thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from profiler.gate.likeness import (
    Computed,
    Input,
    Kind,
    Unlike,
    allowed_kinds,
    is_refused,
    read_computed,
    unlike,
    values_differ,
    write_outputs,
)

IMAGE: Input = ("input", "float32", (1, 3, 8, 8))
ONES = np.ones((1, 4), np.float32)
CLASSES = np.array([3, 1, 2], np.int64)


def side(*outputs: Any, inputs: tuple[Input, ...] = (IMAGE,), steady: bool = True) -> Computed:
    return Computed(inputs, [(f"out{number}", values) for number, values in enumerate(outputs)], steady)


def changed(values: Any, at: int, to: float) -> Any:
    copy = values.copy()
    copy.flat[at] = to
    return copy


@pytest.mark.parametrize(
    ("old", "new", "kind", "said"),
    [
        (side(ONES), side(ONES), None, ""),
        (side(ONES), side(1.0005 * ONES), None, ""),
        (side(ONES, CLASSES), side(ONES, CLASSES), None, ""),
        (side(), side(), None, ""),
        (side(changed(ONES, 0, np.nan)), side(changed(ONES, 0, np.nan)), None, ""),
        (side(ONES), side(1.01 * ONES), "output", "out0 differs by 0.01 of its largest value (0.001 is allowed"),
        (side(ONES, ONES), side(ONES, -ONES), "output", "out1 differs by 2 of its largest value"),
        (side(ONES), side(changed(ONES, 2, np.nan)), "output", "1 of 4 values of out0 are NaN or infinite on one side"),
        (side(changed(ONES, 2, np.inf)), side(changed(ONES, 2, -np.inf)), "output", "1 of 4 values of out0 are NaN"),
        (side(3e38 * ONES), side(-3e38 * ONES), "output", "out0 differs by"),
        (side(CLASSES), side(changed(CLASSES, 0, 4)), "output", "1 of 3 values of out0 differ"),
        (side(ONES), side(ONES[:, :3]), "output", "out0 is float32 1x4 in the baseline and float32 1x3"),
        (side(ONES), side(ONES > 0), "output", "out0 is float32 1x4 in the baseline and bool 1x4 in the candidate"),
        (side(ONES), side(ONES, ONES), "output", "1 outputs in the baseline, 2 in the candidate"),
        (side(np.nan * ONES), side(np.nan * ONES), "itself", "all outputs of both sides are NaN or infinite"),
        (side(ONES), side(-ONES, steady=False), "itself", "two forwards of the candidate on the same input differ"),
        (side(ONES, steady=False), side(ONES, steady=False), "itself", "of the baseline and of the candidate"),
        (side(ONES, steady=False), side(CLASSES), "output", "out0 is float32 1x4 in the baseline and int64 3"),
        (
            side(ONES),
            side(-ONES, inputs=(("input", "float32", (2, 3, 8, 8)),)),
            "inputs",
            "input is float32 1x3x8x8 in the baseline and float32 2x3x8x8 in the candidate",
        ),
        (side(ONES, inputs=(("input", "int64", ()),)), side(ONES), "inputs", "input is int64 scalar in the baseline"),
        (
            side(ONES, inputs=(("ids", "int64", (1, 8)), ("mask", "bool", (1, 8)))),
            side(ONES, inputs=(("ids", "int64", (1, 8)),)),
            "inputs",
            "ids, mask in the baseline, ids in the candidate",
        ),
    ],
)  # fmt: skip
def test_what_differs_is_named(old: Computed, new: Computed, kind: Kind | None, said: str) -> None:
    found = unlike(old, new, "fp32")
    assert (found.kind if found else None) == kind
    assert said in (found.said if found else "")


def test_lower_precisions_may_differ_more() -> None:
    outputs = [[("out", values)] for values in (ONES, 1.02 * ONES)]
    assert values_differ(*outputs, "fp32")
    assert not values_differ(*outputs, "fp16")
    assert not values_differ(*outputs, "bf16")


NUMBERS = arrays.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_]),
    arrays.array_shapes(min_dims=0, max_dims=3, max_side=4),
)


@given(st.lists(NUMBERS, max_size=3))
def test_a_side_computes_what_it_computes(values: list[Any]) -> None:
    found = unlike(side(*values), side(*values), "fp32")
    assert found is None or found.said.startswith("all outputs of both sides are NaN or infinite")


@given(st.integers(0, 7), st.floats(2e-3, 1e3))
def test_one_value_changed_by_more_than_rounding_is_seen(at: int, by: float) -> None:
    values = np.linspace(-1, 1, 8, dtype=np.float32)
    found = unlike(side(values), side(changed(values, at, values[at] + by)), "fp32")
    assert found is not None
    assert found.kind == "output"


def test_outputs_travel_by_a_file(tmp_path: Path) -> None:
    outputs = [("logits", ONES), ("logits", CLASSES), ("0", np.float32(3.5))]
    file = tmp_path / "outputs.npz"
    names = write_outputs(outputs, file)
    found = read_computed([["input", "float32", [1, 3, 8, 8]]], names, file, steady=True)
    assert found.inputs == (IMAGE,)
    assert unlike(Computed((IMAGE,), outputs, steady=True), found, "fp32") is None


def test_what_is_refused() -> None:
    kinds: list[Kind] = ["inputs", "output", "itself"]
    refused = {
        (output, inputs): [
            kind for kind in kinds if is_refused(Unlike(kind, ""), allowed_kinds(output=output, inputs=inputs))
        ]
        for output in (False, True)
        for inputs in (False, True)
    }
    assert refused == {
        (False, False): ["inputs", "output"],
        (True, False): ["inputs"],
        (False, True): [],
        (True, True): [],
    }
    assert not is_refused(None, ())
