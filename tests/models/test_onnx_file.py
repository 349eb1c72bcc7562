"""ONNX files: what they take, in which types, and the content of all that they are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from profiler.errors import UserError
from profiler.models.loaded import Asked, Loaded
from profiler.models.source import load_model

_WEIGHT = np.arange(8 * 3 * 3 * 3, dtype=np.float32).reshape(8, 3, 3, 3)


def save(
    path: Path,
    *inputs: tuple[str, int, list[int | str | None] | None],
    weight: float = 0.0,
    **external: object,
) -> str:
    """Save a graph that passes its inputs on, with a weight; ``external`` is where that goes."""
    values = [helper.make_tensor_value_info(*one) for one in inputs]
    nodes = [helper.make_node("Identity", [one[0]], [f"{one[0]}_out"]) for one in inputs]
    outputs = [helper.make_tensor_value_info(f"{one[0]}_out", one[1], None) for one in inputs]
    graph = helper.make_graph(nodes, "g", values, outputs, [numpy_helper.from_array(_WEIGHT + np.float32(weight), "W")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, path, **external)
    return str(path)


def load(path: str, **asked: object) -> Loaded:
    return load_model(Asked(path, **asked))


def shapes(loaded: Loaded) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in loaded.inputs.arrays.items()}


def test_inputs_have_the_types_and_shapes_that_the_file_declares(tmp_path: Path) -> None:
    path = save(
        tmp_path / "net.onnx",
        ("images", TensorProto.UINT8, ["N", "height", "width", 3]),
        ("ids", TensorProto.INT32, ["batch_size", 7]),
        ("rate", TensorProto.INT64, []),
        ("flag", TensorProto.BOOL, [1]),
        ("half", TensorProto.FLOAT16, [None, 4]),
    )
    loaded = load(path, batch=2, shape="height=6,width=5")
    assert loaded.said == (
        "images uint8 2x6x5x3 in 0..255, ids int32 2x7 in 0..1, rate int64 scalar in 0..1, flag bool 1 in 0..1, "
        "half float16 2x4"
    )
    assert loaded.resolution is None
    assert load(path, shape="images=1x6x5x3").content == loaded.content


def test_a_file_that_takes_nothing_says_so(tmp_path: Path) -> None:
    nodes, ends = [helper.make_node("Neg", ["W"], ["y"])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", [], ends, [numpy_helper.from_array(_WEIGHT, "W")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "net.onnx")
    assert load(str(tmp_path / "net.onnx")).said == "nothing"


def test_an_image_has_a_resolution_where_channels_come_first(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", ("x", TensorProto.FLOAT, ["batch", 3, "h", "w"]))
    loaded = load(path, shape="h=32,w=48")
    assert (loaded.resolution, shapes(loaded)) == (32, {"x": (1, 3, 32, 48)})


def test_a_rank_that_is_not_declared_is_no_scalar(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", ("x", TensorProto.FLOAT, None), ("rate", TensorProto.INT64, []))
    assert shapes(load(path, shape="x=1x3x4")) == {"x": (1, 3, 4), "rate": ()}
    with pytest.raises(UserError, match="x float of any shape; give them with --shape x=1x3x224x224"):
        load(path)
    with pytest.raises(UserError, match="rate was given as 4, and the file declares scalar"):
        load(path, shape="x=1x3x4,rate=4")


@pytest.mark.parametrize("kind", ["STRING", "BFLOAT16", "COMPLEX64", "FLOAT8E4M3FN", "INT4"])
def test_a_type_that_no_runtime_is_given_is_one_sentence(kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", ("x", TensorProto.DataType.Value(kind), [1, 3]))
    for asked in ({}, {"shape": "x=1x3"}, {"input_file": "values.npz"}):
        with pytest.raises(UserError, match=f"its input 'x' is of type {kind.lower()}, which no runtime can be given"):
            load(path, **asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, r"leaves dimensions open: x float Nx3xhxw; give them with --shape x=1x3x224x224 \(choose"),
        ({"shape": "h=4"}, "leaves dimensions open"),
        ({"shape": "y=4"}, "has no input or dimension y; its inputs are x float Nx3xhxw"),
        ({"shape": "x=1x4x8x8"}, "x was given as 1x4x8x8, and the file declares Nx3xhxw"),
        ({"shape": "x=3x8x8"}, "x was given as 3x8x8"),
        ({"shape": "x=3x3x8x8", "batch": 2}, "was given x=3x3x8x8, so its batch cannot be 2: give 1 as the first size"),
    ],
)
def test_what_does_not_fit_is_one_sentence(asked: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load(save(tmp_path / "net.onnx", ("x", TensorProto.FLOAT, ["N", 3, "h", "w"])), **asked)
    assert "\n" not in str(caught.value)


def test_a_shape_of_one_example_is_multiplied_by_the_batch(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", ("x", TensorProto.FLOAT, ["batch", 3, "h", "w"]))
    assert load(path, shape="x=1x3x8x8", batch=2).said == "x float32 2x3x8x8"
    assert load(path, shape="x=2x3x8x8", batch=2).said == "x float32 2x3x8x8"
    assert load(path, shape="batch=1,h=8,w=8", batch=2).said == "x float32 2x3x8x8"


def test_one_batch_has_one_size(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", ("x", TensorProto.FLOAT, ["N", 4]), ("y", TensorProto.FLOAT, ["N", 4]))
    assert load(path, shape="x=4x4", batch=4).said == "x float32 4x4, y float32 4x4"
    with pytest.raises(UserError, match="was given x=2x4,y=4x4, so its batch cannot be 4: give 1 as the first size"):
        load(path, shape="x=2x4", batch=4)


def test_values_of_a_file_take_the_declared_type_and_one_example_fills_a_batch(tmp_path: Path) -> None:
    path = save(
        tmp_path / "net.onnx", ("ids", TensorProto.INT32, ["N", "length"]), ("rate", TensorProto.INT64, []),
        ("x", TensorProto.FLOAT, [1, 2]),
    )  # fmt: skip
    np.savez(tmp_path / "v.npz", ids=np.array([[5, 6, 7]]), rate=np.array(16000, np.int32))
    one, two = (load(path, input_file=str(tmp_path / "v.npz"), batch=batch) for batch in (1, 2))
    assert one.inputs.arrays["ids"].tolist() == [[5, 6, 7]]
    assert two.inputs.arrays["ids"].tolist() == [[5, 6, 7]] * 2
    assert two.said == "ids int32 2x3, rate int64 scalar, x float32 1x2"
    assert one.content == two.content
    np.savez(tmp_path / "w.npz", ids=np.array([[5, 6, 8]]), rate=np.array(16000, np.int32))
    assert load(path, input_file=str(tmp_path / "w.npz")).content != one.content


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ids": np.ones((1, 3), np.float32)}, "ids is float32; expected uint8, as the model takes it"),
        ({"ids": np.array([[1, 300]])}, "ids holds numbers from 1 to 300, and the file declares uint8"),
        ({"ids": np.array([1, 2])}, "ids was given as 2, and the file declares 1x?"),
        ({"idx": np.array([1, 2])}, "has no input or dimension idx"),
    ],
)
def test_values_that_do_not_fit_are_one_sentence(values: dict[str, np.ndarray], said: str, tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", ("ids", TensorProto.UINT8, [1, None]))
    np.savez(tmp_path / "v.npz", **values)
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        load(path, input_file=str(tmp_path / "v.npz"))


def test_weights_beside_the_file_belong_to_its_content(tmp_path: Path) -> None:
    given = ("x", TensorProto.FLOAT, [1, 2])
    beside = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
    path = save(tmp_path / "net.onnx", given, **beside)
    before, graph = load(path).content, (tmp_path / "net.onnx").read_bytes()
    assert load(path).content == before
    (tmp_path / "net.data").unlink()
    save(tmp_path / "net.onnx", given, weight=1.0, **beside)
    assert (tmp_path / "net.onnx").read_bytes() == graph
    assert load(path).content != before
    (tmp_path / "net.data").unlink()
    with pytest.raises(UserError, match=r"keeps weights in net\.data, which is not beside it"):
        load(path)


def test_an_input_that_decides_a_branch_decides_the_counts(tmp_path: Path) -> None:
    def branch(name: str, node: onnx.NodeProto) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
        return helper.make_graph([node], name, [], [out])

    nodes = [
        helper.make_node("Equal", ["rate", "high"], ["same"]),
        helper.make_node(
            "If", ["same"], ["y"],
            then_branch=branch("a", helper.make_node("Conv", ["x", "W"], ["a_out"])),
            else_branch=branch("b", helper.make_node("Relu", ["x"], ["b_out"])),
        ),
    ]  # fmt: skip
    values = [("x", TensorProto.FLOAT, [1, 3, 5, 5]), ("rate", TensorProto.INT64, [])]
    weights = [numpy_helper.from_array(_WEIGHT, "W"), numpy_helper.from_array(np.array(16000), "high")]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info(*one) for one in values], [out], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "net.onnx")
    found = []
    for rate in (16000, 8000):
        np.savez(tmp_path / "v.npz", rate=np.array(rate))
        found.append(load(str(tmp_path / "net.onnx"), input_file=str(tmp_path / "v.npz")).count())
    assert [(one.flops, one.uncounted) for one in found] == [(8 * 27 * 9, ""), (0, "")]


@pytest.mark.parametrize("content", [b"", b"words", None])
def test_a_file_that_is_none_is_one_sentence(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"no such file|is not a readable ONNX model") as caught:
        load(str(path))
    assert "\n" not in str(caught.value)
