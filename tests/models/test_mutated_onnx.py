"""ONNX files that are broken in some byte: described, or refused in one sentence."""

from __future__ import annotations

import random
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array

from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.measure.describe import DescribeTask, Description, describe
from profiler.records.types import Case


def model() -> bytes:
    import numpy as np

    draw = np.random.default_rng(0)
    weights = [
        from_array(draw.standard_normal((4, 3, 3, 3), dtype=np.float32), "w"),
        from_array(draw.standard_normal((4, 5), dtype=np.float32), "v"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMean", ["c"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["m", "v"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Return ``data`` with bytes changed, cut out, repeated, or its end cut off."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(found))
        what = draw.randrange(4)
        if what == 0:
            found[at] = draw.randrange(256)
        elif what == 1:
            del found[at : at + draw.randint(1, 40)]
        elif what == 2:
            found[at:at] = found[at : at + draw.randint(1, 40)]
        else:
            del found[max(1, at) :]
    return bytes(found)


def described(path: Path) -> Description | str:
    try:
        return describe(DescribeTask(Case(str(path), "", 1.0, "onnxruntime", Placement()), (1, 2)))
    except UserError as error:
        return str(error)


def test_the_file_as_it_is_is_described(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model())
    found = described(path)
    assert isinstance(found, Description)
    assert found.inputs == {1: "x float32 1x3x8x8", 2: "x float32 2x3x8x8"}
    assert onnx.load(path)


@pytest.mark.parametrize("seed", range(4))
def test_a_broken_file_is_described_or_refused_in_one_sentence(tmp_path: Path, seed: int) -> None:
    draw, data = random.Random(seed), model()
    for _ in range(25):
        path = tmp_path / "m.onnx"
        path.write_bytes(mutated(data, draw))
        found = described(path)
        if isinstance(found, str):
            assert str(path) in found
            assert "\n" not in found
            assert len(found) < 1000
