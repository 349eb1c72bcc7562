"""Counts of ONNX graphs: by hand, as of the module that was exported, and for what no rule knows."""

from __future__ import annotations

import warnings
from dataclasses import astuple
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from profiler.errors import UserError
from profiler.models import build, complexity, count, get, scale
from profiler.models.onnx_counting import count_onnx
from profiler.models.onnx_rules import may_cost
from tests.models.samples import ENCODER_ATTENTION, ENCODER_LINEAR, Encoder, Functional, LstmHead, Written, trained

pytestmark = pytest.mark.usefixtures("one_thread")

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
RUNTIME = "com.microsoft"
node = helper.make_node


def tensor(name, value):
    """An initialiser: of random floats of a shape, or an array as it is."""
    if isinstance(value, tuple):
        value = np.random.default_rng(0).standard_normal(value).astype(np.float32)
    return numpy_helper.from_array(np.asarray(value), name)


def value(name, kind=FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def graph(nodes, inputs, inits=None, outputs=("y",), name="g"):
    values, ends = [value(name, FLOAT, shape) for name, shape in inputs.items()], [value(name) for name in outputs]
    return helper.make_graph(nodes, name, values, ends, [tensor(*item) for item in (inits or {}).items()])


def model(nodes, inputs, inits=None, **changes):
    opsets = [helper.make_opsetid("", changes.pop("opset", 20)), helper.make_opsetid(RUNTIME, 1)]
    return helper.make_model(graph(nodes, inputs, inits), opset_imports=opsets, **changes)


def costs(made, **shapes):
    """flops, acts and params; nothing is left uncounted."""
    found = count_onnx(made, shapes)
    assert not found.uncounted
    return found.flops, found.acts, found.params


# --- by hand

BY_HAND = {
    "conv": (node("Conv", ["x", "w", "b"], ["y"]), {"x": (1, 4, 8)}, {"w": (6, 4, 3), "b": (6,)}, 6 * 6 * 13, 36),
    "grouped": (node("Conv", ["x", "w"], ["y"], group=2), {"x": (2, 4, 8)}, {"w": (6, 2, 3)}, 2 * 36 * 6, 72),
    "transposed": (node("ConvTranspose", ["x", "w"], ["y"]), {"x": (1, 6, 4)}, {"w": (6, 5, 2)}, 4 * 6 * 10, 25),
    "gemm": (node("Gemm", ["x", "w", "b"], ["y"], transA=1), {"x": (4, 3)}, {"w": (4, 5), "b": (5,)}, 3 * 5 * 5, 15),
    "no bias": (node("Gemm", ["x", "w", "b"], ["y"], beta=0.0), {"x": (3, 4)}, {"w": (4, 5), "b": (5,)}, 3 * 5 * 4, 15),
    "matmul": (node("MatMul", ["x", "w"], ["y"]), {"x": (2, 1, 3, 4), "w": (7, 4, 5)}, {}, 14 * 15 * 4, 14 * 15),
    "einsum": (
        node("Einsum", ["x", "w"], ["y"], equation="bij,jk->bik"), {"x": (2, 3, 4)}, {"w": (4, 5)}, 2 * 3 * 5 * 4, 30
    ),
    "lstm": (
        node("LSTM", ["x", "w", "r"], ["y"], hidden_size=6, direction="bidirectional"),
        {"x": (5, 2, 3)}, {"w": (2, 24, 3), "r": (2, 24, 6)}, 5 * 2 * 2 * 24 * 9, 5 * 2 * 2 * 6,
    ),
    "gru": (
        node("GRU", ["x", "w", "r"], ["y"], hidden_size=6),
        {"x": (5, 2, 3)}, {"w": (1, 18, 3), "r": (1, 18, 6)}, 10 * 18 * 9, 60,
    ),
    "rnn": (
        node("RNN", ["x", "w", "r"], ["y"], hidden_size=6),
        {"x": (5, 2, 3)}, {"w": (1, 6, 3), "r": (1, 6, 6)}, 10 * 6 * 9, 60,
    ),
    "attention": (
        node("Attention", ["x", "k", "v"], ["y"]),
        {"x": (2, 6, 5, 8), "k": (2, 3, 7, 8), "v": (2, 3, 7, 4)}, {}, 2 * 6 * 35 * 12, 2 * 6 * (35 + 20),
    ),
    "attention side by side": (
        node("Attention", ["x", "k", "k", "", "p", "p"], ["y", "", "q"], q_num_heads=4, kv_num_heads=2),
        {"x": (2, 5, 32), "k": (2, 7, 16), "p": (2, 2, 3, 8)}, {}, 2 * 4 * 50 * 16, 2 * 4 * (50 + 40),
    ),
    "deform": (
        node("DeformConv", ["x", "w", "o", "b"], ["y"]),
        {"x": (1, 4, 8, 8), "o": (1, 18, 6, 6)}, {"w": (6, 4, 3, 3), "b": (6,)}, 6 * 36 * 37, 216,
    ),
    "fused conv": (
        node("FusedConv", ["x", "w", "b"], ["y"], domain=RUNTIME, activation="Relu"),
        {"x": (1, 4, 8, 8)}, {"w": (6, 4, 3, 3), "b": (6,)}, 6 * 36 * 37, 216,
    ),
    "fused matmul": (
        node("FusedMatMul", ["x", "w"], ["y"], domain=RUNTIME, transA=1, transBatchB=1),
        {"x": (7, 4, 3), "w": (4, 7, 5)}, {}, 7 * 15 * 4, 7 * 15,
    ),
    "fused gemm": (
        node("FusedGemm", ["x", "w", "b"], ["y"], domain=RUNTIME), {"x": (3, 4)}, {"w": (4, 5), "b": (5,)}, 75, 15
    ),
    "runtime attention": (
        node("Attention", ["x", "w", "b"], ["y"], domain=RUNTIME, num_heads=2),
        {"x": (1, 5, 8)}, {"w": (8, 24), "b": (24,)}, 5 * 24 * 9 + 2 * 2 * 25 * 4, 5 * 24 + 2 * 25 + 40,
    ),
    "several heads": (
        node("MultiHeadAttention", ["x", "k", "k", "b"], ["y"], domain=RUNTIME, num_heads=2),
        {"x": (1, 5, 8), "k": (1, 7, 8)}, {"b": (24,)}, 8 * 19 + 2 * 2 * 35 * 4, 2 * 35 + 40,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BY_HAND)
def test_an_operator_counts_what_it_multiplies(what):
    made, inputs, inits, flops, acts = BY_HAND[what]
    learned = sum(int(np.prod(shape)) for shape in inits.values())
    assert costs(model([made], inputs, inits, opset=23)) == (flops, acts, learned)


def whole(shape, kind):
    return np.arange(np.prod(shape), dtype=kind).reshape(shape)


SCALES = {"s": np.array(0.1, np.float32), "z": np.array(0, np.uint8)}
QUANTISED = {
    "conv": (
        [
            node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            node("QLinearConv", ["q", "s", "z", "w", "s", "z", "s", "z", "b"], ["y"]),
        ],
        {"w": whole((6, 4, 3), np.uint8), "b": whole(6, np.int32)}, 6 * 6 * 13, 36,
    ),
    "integer conv": (
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "t", "u"]),
            node("ConvInteger", ["q", "w"], ["p"]),
            node("Cast", ["p"], ["f"], to=FLOAT),
            node("Mul", ["f", "t"], ["m"]),
            node("Add", ["m", "b"], ["y"]),
        ],
        {"w": whole((6, 4, 3), np.uint8), "b": (1, 6, 1)}, 6 * 6 * 13, 36,
    ),
    "pairs": (
        [
            node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("DequantizeLinear", ["w", "s", "z"], ["v"]),
            node("DequantizeLinear", ["b", "s"], ["c"]),
            node("Conv", ["d", "v", "c"], ["y"]),
        ],
        {"w": whole((6, 4, 3), np.uint8), "b": whole(6, np.int32)}, 6 * 6 * 13, 36,
    ),
    "integer matmul": (
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "t", "u"]),
            node("MatMulInteger", ["q", "w"], ["p"]),
            node("Cast", ["p"], ["f"], to=FLOAT),
            node("Mul", ["f", "t"], ["m"]),
            node("Add", ["b", "m"], ["y"]),
        ],
        {"w": whole((8, 5), np.uint8), "b": (5,)}, 4 * 5 * 9, 20,
    ),
    "runtime matmul": (
        [node("DynamicQuantizeMatMul", ["x", "w", "s", "", "b"], ["y"], domain=RUNTIME)],
        {"w": whole((8, 5), np.uint8), "b": (5,)}, 4 * 5 * 9, 20,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", QUANTISED)
def test_a_quantised_operator_counts_as_the_float_one(what):
    nodes, inits, flops, acts = QUANTISED[what]
    learned = sum(int(np.prod(one)) if isinstance(one, tuple) else one.size for one in inits.values())
    assert costs(model(nodes, {"x": (1, 4, 8)}, inits | SCALES)) == (flops, acts, learned)


def test_a_row_that_an_exporter_computed_is_learned_and_a_table_is_not():
    """Of a layer's scale it makes ``onnx::Mul_7``; of positions and masks too, and those are wider."""
    nodes = [node("Mul", ["x", "onnx::Mul_7"], ["p"]), node("Add", ["p", "onnx::Add_8"], ["y"])]
    assert costs(model(nodes, {"x": (2, 3, 4)}, {"onnx::Mul_7": (4,), "onnx::Add_8": (3, 4)})) == (0, 0, 4)


def test_a_learned_row_after_a_product_is_its_bias_and_nothing_else_is():
    product, inits = node("MatMul", ["x", "w"], ["p"]), {"w": (4, 4), "b": (4,), "c": (2, 3, 4)}
    found = {}
    for name, nodes in {
        "bias": [node("Add", ["b", "p"], ["y"])],
        "seen another way": [node("Unsqueeze", ["p", "a"], ["q"]), node("Add", ["q", "b"], ["y"])],
        "position": [node("Add", ["p", "c"], ["y"])],
        "later": [node("Relu", ["p"], ["q"]), node("Add", ["q", "b"], ["y"])],
        "computed of it": [node("Relu", ["b"], ["q"]), node("Add", ["p", "q"], ["y"])],
        "given": [node("Add", ["p", "x"], ["y"])],
    }.items():
        made = model([product, *nodes], {"x": (2, 3, 4)}, inits | {"a": np.array([0])})
        found[name] = costs(made)[0] - 2 * 3 * 4 * 4
    assert found == {"bias": 24, "seen another way": 24, "position": 0, "later": 0, "computed of it": 24, "given": 0}


# --- shapes


@pytest.mark.parametrize(
    "after",
    [
        node("BiasGelu", ["p", "b"], ["y"], domain=RUNTIME),
        node("FastGelu", ["p", "b"], ["y"], domain=RUNTIME),
        node("SkipLayerNormalization", ["skip", "p", "gamma", "", "b"], ["y"], domain=RUNTIME),
        node("SkipSimplifiedLayerNormalization", ["p", "skip", "gamma", "b"], ["y"], domain=RUNTIME),
    ],
)
def test_a_bias_that_the_runtime_fuses_into_what_follows_counts(after):
    inits = {"w": (8, 5), "b": (5,)} | ({"gamma": (5,)} if "gamma" in after.input else {})
    made = model([node("MatMul", ["x", "w"], ["p"]), after], {"x": (3, 8), "skip": (3, 5)}, inits)
    assert costs(made)[:2] == (3 * 5 * 9, 15)


def test_shapes_that_the_graph_computes_are_known():
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axis"], ["n1"]),
        node("Div", ["n1", "two"], ["half"]),
        node("Concat", ["half", "rest"], ["wanted"], axis=0),
        node("Reshape", ["x", "wanted"], ["r"]),
        node("MatMul", ["r", "w"], ["y"]),
    ]
    inits = {"zero": np.array(0), "axis": np.array([0]), "two": np.array([2]), "rest": np.array([-1, 8]), "w": (8, 3)}
    assert costs(model(nodes, {"x": ("n", 4)}, inits), x=(8, 4)) == (4 * 3 * 8, 4 * 3, 24)


def test_inputs_have_the_shape_that_is_given_and_open_ones_are_said():
    made = model([node("MatMul", ["x", "w"], ["y"])], {"x": ("n", 4)}, {"w": (4, 5)})
    assert costs(made, x=(6, 4)) == (120, 30, 20)
    assert count_onnx(made, {"x": (6, 4)}, examples=3).flops == 40
    found = count_onnx(made, {})
    assert found.uncounted == "no rule counts MatMul of unknown shape: flops and acts are at least what is given"
    assert (found.flops, found.params) == (0, 20)
    assert costs(model([node("MatMul", ["x", "w"], ["y"])], {"x": (-1, 4)}, {"w": (4, 5)}), x=(1, 4))[0] == 20


def test_declared_shapes_of_outputs_are_not_believed():
    made = model([node("Conv", ["x", "w"], ["p"]), node("Conv", ["p", "w"], ["y"])], {"x": (1, 4, 8)}, {"w": (4, 4, 3)})
    made.graph.output[0].CopyFrom(value("y", FLOAT, (7,)))
    made.graph.value_info.append(value("p", FLOAT, (1, 4)))
    assert costs(made) == (4 * 6 * 12 + 4 * 4 * 12, 24 + 16, 48)


def test_an_old_file_lists_its_weights_among_the_inputs():
    made = model([node("MatMul", ["x", "w"], ["y"])], {"x": (3, 4), "w": (4, 5)}, {"w": (4, 5)}, ir_version=3, opset=7)
    assert costs(made) == (60, 15, 20)


def test_nodes_may_stand_in_any_order():
    nodes = [node("MatMul", ["p", "w"], ["y"]), node("Transpose", ["x"], ["p"])]
    assert costs(model(nodes, {"x": (4, 3)}, {"w": (4, 5)})) == (60, 15, 20)


def test_functions_of_the_file_are_looked_into():
    double = helper.make_function(
        "own", "Twice", ["a", "b"], ["c"], [node("MatMul", ["a", "b"], ["t"]), node("MatMul", ["t", "b"], ["c"])],
        [helper.make_opsetid("", 20)],
    )  # fmt: skip
    made = model([node("Twice", ["x", "w"], ["y"], domain="own")], {"x": (3, 4)}, {"w": (4, 4)}, functions=[double])
    made.opset_import.append(helper.make_opsetid("own", 1))
    assert costs(made) == (2 * 48, 2 * 12, 16)


def test_external_data_is_read_only_where_shapes_depend_on_it(tmp_path):
    nodes = [node("Reshape", ["x", "wanted"], ["r"]), node("MatMul", ["r", "w"], ["y"])]
    made = model(nodes, {"x": (6, 4)}, {"wanted": np.array([3, 8]), "w": (8, 5)})
    path = tmp_path / "net.onnx"
    for name in ("w", "wanted"):
        one = next(each for each in made.graph.initializer if each.name == name)
        onnx.external_data_helper.set_external_data(one, f"{name}.bin")
    onnx.save_model(made, path)
    assert {file.name for file in tmp_path.iterdir()} == {"net.onnx", "w.bin", "wanted.bin"}
    (tmp_path / "w.bin").unlink()
    assert costs(path) == (3 * 5 * 8, 15, 40)


def test_a_damaged_file_is_one_sentence(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(UserError, match=r"^could not be counted: DecodeError: "):
        count_onnx(path, {})


# --- branches and loops


def branch(width, name):
    return graph([node("MatMul", ["x", f"w{width}"], [name])], {}, outputs=(name,), name=name)


def chosen(condition, *widths):
    then, otherwise = (branch(width, f"o{i}") for i, width in enumerate(widths))
    nodes = [node("If", [condition], ["y"], then_branch=then, else_branch=otherwise)]
    inits = {"yes": np.bool_(1), "w5": (4, 5), "w6": (4, 6)}
    made = model(nodes, {"x": (3, 4), "asked": ()}, inits)
    made.graph.input[1].type.tensor_type.elem_type = BOOL
    return made


def test_a_branch_that_can_never_run_does_not_count():
    assert costs(chosen("yes", 5, 6)) == (60, 15, 44)
    assert costs(chosen("yes", 6, 5)) == (72, 18, 44)


def test_branches_of_the_same_cost_count_as_one_and_unlike_ones_are_said():
    assert costs(chosen("asked", 5, 5)) == (60, 15, 20)
    found = count_onnx(chosen("asked", 5, 6), {})
    assert found.uncounted.startswith("no rule counts unlike branches of If: ")


def loop(turns, *, go_on=True, growing=False):
    body = helper.make_graph(
        [
            node("Identity", ["on"] if go_on else ["no"], ["still"]),
            node("MatMul", ["state", "w"], ["m"]),
            node("Concat", ["m", "m"], ["next"], axis=0) if growing else node("Relu", ["m"], ["next"]),
            node("MatMul", ["next", "w"], ["scanned"]),
        ],
        "body",
        [value("i", INT64, ()), value("on", BOOL, ()), value("state")],
        [value("still", BOOL, ()), value("next"), value("scanned")],
    )
    nodes = [node("Loop", [turns, "", "x"], ["last", "all"], body=body), node("MatMul", ["all", "w"], ["y"])]
    inits = {"seven": np.array(7), "no": np.bool_(0), "w": (4, 4)}
    made = model(nodes, {"x": (3, 4), "n": ()}, inits)
    made.graph.input[1].type.tensor_type.elem_type = INT64
    return made


def test_a_loop_of_known_turns_counts_each():
    assert costs(loop("seven")) == (7 * 2 * 48 + 7 * 48, 7 * 2 * 12 + 7 * 12, 16)


@pytest.mark.parametrize("made", [loop("n"), loop("seven", go_on=False), loop("seven", growing=True), loop("")])
def test_a_loop_of_unknown_turns_is_said(made):
    assert "turns of Loop" in count_onnx(made, {}).uncounted


def test_a_scan_counts_every_slice():
    body = helper.make_graph(
        [node("MatMul", ["s", "w"], ["m"]), node("Add", ["m", "row"], ["next"]), node("MatMul", ["row", "w"], ["out"])],
        "body",
        [value("s"), value("row")],
        [value("next"), value("out")],
    )
    nodes = [
        node("Scan", ["h", "x"], ["last", "all"], body=body, num_scan_inputs=1, scan_input_axes=[1]),
        node("MatMul", ["all", "w"], ["y"]),
    ]
    made = model(nodes, {"h": (3, 4), "x": (3, 6, 4)}, {"w": (4, 4)})
    assert costs(made) == (6 * 2 * 48 + 6 * 48, 6 * 2 * 12 + 6 * 12, 16)


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (node("Foo", ["x"], ["y"], domain="somebody"), "somebody::Foo"),
        (node("DFT", ["x"], ["y"]), "DFT"),
        (node("Frobnicate", ["x"], ["y"]), "Frobnicate"),
        (node("GroupQueryAttention", ["x"], ["y"], domain=RUNTIME), "com.microsoft::GroupQueryAttention"),
        (node("LinearClassifier", ["x"], ["y"], domain="ai.onnx.ml"), "ai.onnx.ml::LinearClassifier"),
    ],
)
def test_an_operator_without_a_rule_is_named(made, name):
    found = count_onnx(model([made], {"x": (3, 4, 1)}), {})
    assert found.uncounted == f"no rule counts {name}: flops and acts are at least what is given"


@pytest.mark.parametrize(
    "made",
    [
        node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2]),
        node("Resize", ["x", "", "s"], ["y"]),
        node("FastGelu", ["x"], ["y"], domain=RUNTIME),
        node("TreeEnsembleClassifier", ["x"], ["y"], domain="ai.onnx.ml"),
    ],
)
def test_what_only_moves_or_scales_costs_nothing(made):
    assert costs(model([made], {"x": (1, 2, 4, 4)}, {"s": np.ones(4, np.float32)})) == (0, 0, 0)


def test_a_name_that_begins_as_a_convolution_is_none():
    assert not may_cost("", "Convert")
    assert may_cost("", "ConvInteger")


# --- learned numbers


def test_a_table_in_int8_is_learned_and_an_index_is_not():
    nodes = [
        node("Gather", ["table", "x"], ["rows"]),
        node("DequantizeLinear", ["rows", "s", "z"], ["floats"]),
        node("Gather", ["sizes", "x"], ["y"]),
    ]
    inits = {"table": whole((10, 8), np.uint8), "sizes": whole((10, 8), np.int64), **SCALES}
    made = model(nodes, {"x": (3,)}, inits)
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    assert costs(made) == (0, 0, 80)


def test_weights_of_four_bits_count_as_they_are_unpacked():
    packed = node("MatMulNBits", ["x", "w", "s", "", "", "b"], ["y"], domain=RUNTIME, K=64, N=5, bits=4, block_size=32)
    inits = {"w": whole((5, 2, 16), np.uint8), "s": (5, 2), "b": (5,)}
    after = node("Conv", ["y", "v"], ["out"])
    assert costs(model([packed, after], {"x": (1, 3, 64)}, inits | {"v": (2, 3, 1)})) == (
        3 * 5 * 65 + 2 * 5 * 3, 15 + 10, 64 * 5 + 5 + 6,
    )  # fmt: skip


ML = "ai.onnx.ml"
TREES = {"nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [0.5, 0.0, 0.0], "target_weights": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (node("LinearRegressor", ["x"], ["y"], domain=ML, coefficients=[1.0] * 8, intercepts=[1.0] * 2), (30, 6, 10)),
        (node("Scaler", ["x"], ["y"], domain=ML, offset=[1.0] * 4, scale=[1.0] * 4), (0, 0, 8)),
        (node("TreeEnsembleRegressor", ["x"], ["y"], domain=ML, **TREES), (0, 0, 3)),
        (node("Normalizer", ["x"], ["y"], domain=ML, norm="L2"), (0, 0, 0)),
    ],
)
def test_what_was_learned_may_stand_in_attributes(made, expected):
    made = model([made], {"x": (3, 4)})
    made.opset_import.append(helper.make_opsetid(ML, 3))
    assert costs(made) == expected


def test_only_what_was_learned_is_a_parameter():
    nodes = [
        node("Constant", [], ["written"], value=tensor("c", np.full((3, 1, 1), 0.5, np.float32))),
        node("Constant", [], ["weight"], value=tensor("c", (4, 3, 1, 1))),
        node("Mul", ["x", "written"], ["m"]),
        node("Conv", ["m", "weight"], ["p"]),
        node("BatchNormalization", ["p", "gamma", "beta", "mean", "var"], ["n"]),
        node("Identity", ["gamma"], ["again"]),
        node("BatchNormalization", ["n", "again", "beta", "mean", "var"], ["o"]),
        node("Resize", ["o", "", "scales"], ["r"]),
        node("Add", ["r", "epsilon"], ["y"]),
    ]
    learned = dict.fromkeys(("gamma", "beta", "mean", "var"), (4,))
    others = {"scales": np.ones(4, np.float32), "epsilon": np.array(0.1, np.float32), "unused": (9,)}
    assert costs(model(nodes, {"x": (1, 3, 2, 2)}, learned | others)) == (4 * 4 * 3, 16, 12 + 4 + 4 + 4)


@pytest.mark.parametrize("name", ["resnet50"])
def test_a_published_file_counts_as_the_zoo(name):
    """The package onnx ships it: IR 3, without weights, each of them made from one number and its shape."""
    found, expected = count_onnx(LIGHT / f"light_{name}.onnx", {}), complexity(get(name))
    pool = 64 * 56 * 56
    assert astuple(found) == (expected.flops, expected.params, expected.acts - pool, expected.layers, 0, "")


# --- exports


def exported(module, x, path, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about its own exporters
        torch.onnx.export(module.eval(), (x,), str(path), **({"dynamo": False, "opset_version": 20} | how))
    return path


UNFOLDED = {"training": torch.onnx.TrainingMode.PRESERVE}


@pytest.mark.parametrize("name", ["resnet50", "regnety_200mf", "regnetx_200mf"])
def test_an_exported_network_counts_as_its_module(name, tmp_path):
    module, x = trained(build(scale(get(name), "dw", 1e-3))), torch.zeros(1, 3, 32, 32)
    expected = count(module, (x,))
    unfolded = count_onnx(exported(module, x, tmp_path / "unfolded.onnx", **UNFOLDED), {})
    folded = count_onnx(exported(module, x, tmp_path / "folded.onnx"), {})
    assert astuple(unfolded) == astuple(expected)
    assert (folded.flops, folded.acts, folded.layers) == (expected.flops, expected.acts, expected.layers)


def test_networks_of_equal_biases_count_all_of_them(tmp_path):
    """As built, every bias of a batch norm is 0, and torch stores one."""
    module, x = build(scale(get("regnety_200mf"), "dw", 1e-3)), torch.zeros(1, 3, 32, 32)
    found = count_onnx(exported(module, x, tmp_path / "net.onnx", **UNFOLDED), {})
    assert astuple(found) == astuple(count(module, (x,)))


SAMPLES = {
    "encoder": (Encoder, torch.zeros(1, 64, 256)),
    "lstm": (LstmHead, torch.zeros(1, 50, 40)),
    "functional": (Functional, torch.zeros(1, 3, 32, 32)),
    "written": (Written, torch.zeros(2, 5, 16)),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_an_exported_model_counts_as_its_module(name, tmp_path):
    module, x = trained(SAMPLES[name][0]()), SAMPLES[name][1]
    assert astuple(count_onnx(exported(module, x, tmp_path / "net.onnx"), {})) == astuple(count(module, (x,)))


def test_an_exported_encoder_counts_as_by_hand(tmp_path):
    found = count_onnx(exported(Encoder(), torch.zeros(1, 64, 256), tmp_path / "net.onnx"), {})
    assert (found.flops, found.acts) == tuple(map(sum, zip(ENCODER_LINEAR, ENCODER_ATTENTION, strict=True)))


@pytest.mark.parametrize(("weight", "bias"), [("onnx::Conv_12", "onnx::Conv_13"), ("conv.weight", "conv.weight_bias")])
def test_a_bias_that_an_exporter_made_of_a_norm_does_not_count(weight, bias):
    """Each of torch's exporters names it in its own way; one of the model's own is called after the module."""
    found = []
    for name in (bias, "conv.bias"):
        made = model([node("Conv", ["x", weight, name], ["y"])], {"x": (1, 4, 8)}, {weight: (6, 4, 3), name: (6,)})
        found.append(costs(made))
    assert found == [(6 * 6 * 12, 36, 78), (6 * 6 * 13, 36, 78)]


def test_a_bias_made_of_a_norm_that_is_stored_as_another_does_not_count():
    """As built both are zeros, and torch stores one."""
    nodes = [
        node("Identity", ["conv.bias"], ["onnx::Conv_13"]),
        node("Conv", ["x", "onnx::Conv_12", "onnx::Conv_13"], ["p"]),
        node("Conv", ["p", "conv.weight", "conv.bias"], ["y"]),
    ]
    inits = {"onnx::Conv_12": (6, 4, 1), "conv.weight": (6, 6, 1), "conv.bias": np.zeros(6, np.float32)}
    assert costs(model(nodes, {"x": (1, 4, 8)}, inits)) == (8 * 6 * (4 + 7), 96, 24 + 6 + 36 + 6)


def test_a_table_that_is_stored_transposed_for_the_last_layer_is_one():
    table = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    nodes = [node("Cast", ["x"], ["i"], to=INT64), node("Gather", ["table", "i"], ["e"])]
    for last, params in ((table.T.copy(), 36), (table.T + 1, 72)):
        made = model([*nodes, node("MatMul", ["e", "last"], ["y"])], {"x": (2, 8)}, {"table": table, "last": last})
        assert costs(made) == (16 * 9 * 4, 16 * 9, params)


def test_what_the_runtime_fuses_counts_the_same(tmp_path):
    import onnxruntime

    module, x = trained(Encoder()), torch.zeros(1, 64, 256)
    path = exported(module, x, tmp_path / "net.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    fused = tmp_path / "fused.onnx"
    assert any(each.domain == RUNTIME for each in onnx.load(fused).graph.node)
    assert astuple(count_onnx(fused, {})) == astuple(count(module, (x,)))


@given(
    st.sampled_from(["conv", "transposed", "linear"]), st.lists(st.integers(1, 5), min_size=4, max_size=4),
    st.booleans(), st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=25)
def test_an_exported_layer_of_any_shape_counts_as_its_module(kind, sizes, biased, rank):
    import io

    a, b, c, d = sizes
    if kind in {"conv", "transposed"}:
        name = f"Conv{'Transpose' if kind == 'transposed' else ''}{rank}d"
        module = getattr(nn, name)(a * c, b * c, min(d, 3), groups=c, bias=biased)
        x = torch.zeros(2, a * c, *[4] * rank)
    else:
        module, x = nn.Linear(a, b, biased), torch.zeros(*[c, d][: rank - 1], 3, a)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(trained(module).eval(), (x,), file, dynamo=False, opset_version=20)
    found = count_onnx(onnx.load_from_string(file.getvalue()), {})
    assert astuple(found) == astuple(count(module, (x,)))
