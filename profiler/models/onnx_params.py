"""Which tensors of an ONNX file hold learned numbers, as far as their use and their names tell."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, external_data_helper, numpy_helper

_Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
_Uses: TypeAlias = "Mapping[str, set[tuple[str, int]]]"

_BYTES = frozenset({TensorProto.INT8, TensorProto.UINT8})
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
#: Inputs that are no learned numbers, by operator and position: running statistics, first states, sizes, limits.
_UNLEARNED = frozenset(
    {("BatchNormalization", 3), ("BatchNormalization", 4), ("Resize", 1), ("Resize", 2), ("Upsample", 1)}
    | {("Clip", 1), ("Clip", 2), ("Pad", 2), ("LSTM", 5), ("LSTM", 6), ("GRU", 5), ("RNN", 5), ("OneHot", 2)}
    | {("QuantizeLinear", 1), ("DequantizeLinear", 1), ("Dropout", 1), ("Identity", 0)}
)
#: Inputs that are learned numbers as integers.
_QUANTISED = frozenset(
    {("DequantizeLinear", 0), ("QLinearConv", 3), ("QLinearConv", 8), ("QLinearMatMul", 0), ("QLinearMatMul", 3)}
    | {("ConvInteger", 1), ("MatMulInteger", 0), ("MatMulInteger", 1), ("QGemm", 3), ("QGemm", 6)}
    | {
        ("MatMulIntegerToFloat", 1),
        ("DynamicQuantizeMatMul", 1),
        ("DynamicQuantizeLSTM", 1),
        ("DynamicQuantizeLSTM", 2),
    }
)
#: Attributes of ai.onnx.ml's operators that hold learned numbers.
_LEARNED_INSIDE = frozenset(
    {"coefficients", "intercepts", "support_vectors", "rho", "prob_a", "prob_b", "offset", "scale"}
    | {f"{kind}_weights{suffix}" for kind in ("target", "class") for suffix in ("", "_as_tensor")}
)
#: Operators whose float inputs are scales, and the exceptions.
_SCALED = re.compile("QLinear|QGemm|MatMulIntegerToFloat|DynamicQuantize|MatMulNBits")
_BIASES = frozenset(
    {("MatMulIntegerToFloat", 6), ("DynamicQuantizeMatMul", 4), ("DynamicQuantizeLSTM", 3), ("MatMulNBits", 5)}
)
#: Operators that take weights: what an exporter named by itself is learned where it is one of theirs.
_WEIGHTED = re.compile("Conv|Gemm|MatMul|Einsum|LSTM|GRU|RNN|Gather$|PRelu|Normalization|Attention")
_MADE = re.compile(r"(val|onnx::\w+)_\d+(_\w+)?|_?lifted_tensor\w*|_tensor_constant\d+")
#: A bias that torch's exporter, or ONNX Runtime, makes of a batch norm.
_FOLDED = re.compile(r"onnx::Conv\w*_\d+|.*\.weight_bias|ConvBnFusion_BN_B_.*")


def learned_tensors(graph: GraphProto, folder: Path | None) -> dict[str, int]:
    """Return the sizes of all learned tensors by name, those inside branches and loops too.

    A table of an embedding that is stored once more, transposed for the last layer, is one tensor.
    """
    graphs = [graph, *(inner for node in graph.node for inner in graphs_in(node))]
    nodes = [node for each in graphs for node in each.node]
    tensors = {tensor.name: tensor for each in graphs for tensor in each.initializer}
    written = {name: made for node in nodes for name, made in _written(node, tensors, folder)}
    uses = _uses(nodes)
    found = {
        name: prod(tensor.dims)
        for name, tensor in (tensors | written).items()
        if tensor.dims and _learned(tensor, uses[name], made=name in written or bool(_MADE.fullmatch(name)))
    }
    for node in nodes:  # torch stores tensors of equal content once, and gives them their names
        if node.op_type == "Identity" and node.input[0] in tensors:
            tensor = tensors[node.input[0]]
            if tensor.dims and _learned(tensor, uses[node.output[0]], made=False):
                found[node.output[0]] = prod(tensor.dims)
    found |= {f"{number} {node.op_type}": size for number, node in enumerate(nodes) if (size := _inside(node))}
    for name in _transposed({name: tensors[name] for name in found if name in tensors}, uses, folder):
        del found[name]
    return found


def _written(
    node: NodeProto, tensors: Mapping[str, TensorProto], folder: Path | None
) -> Iterator[tuple[str, TensorProto]]:
    """Constants that stand in the graph: as numbers, or as one number for a whole shape, as in files for tests."""
    value = next((each.t for each in node.attribute if each.name == "value"), None)
    if node.op_type == "Constant" and value is not None and not _uniform(value):
        yield node.output[0], value
    if node.op_type == "ConstantOfShape" and node.input[0] in tensors:
        kind = value.data_type if value is not None else TensorProto.FLOAT
        if (shape := numbers(tensors[node.input[0]], folder)) is not None:
            yield node.output[0], TensorProto(data_type=kind, dims=shape.tolist())


def _inside(node: NodeProto) -> int:
    """How many learned numbers stand in the attributes of a node, or packed in what it takes.

    Of a tree these are the thresholds and what the leaves say.
    """
    attributes = {each.name: each for each in node.attribute}
    if (node.domain, node.op_type) == ("com.microsoft", "MatMulNBits"):
        return int(attributes["K"].i * attributes["N"].i)
    if node.domain != "ai.onnx.ml":
        return 0
    modes = attributes["nodes_modes"].strings if "nodes_modes" in attributes else ()
    held = [each for name, each in attributes.items() if name in _LEARNED_INSIDE]
    branches = [mode for mode in modes if mode != b"LEAF"]
    return len(branches) + sum(len(each.floats) + (prod(each.t.dims) if each.t.dims else 0) for each in held)


def is_bias(name: str, node: NodeProto) -> bool:
    """Whether a learned tensor is a bias that the model has by itself; none where ``name`` is empty.

    A bias that was made of the batch norm after a convolution is not.
    """
    made = _FOLDED.fullmatch(name) or name in {f"{weight}_bias" for weight in node.input[1:2]}
    return bool(name) and not made


def numbers(tensor: TensorProto, folder: Path | None) -> _Array | None:
    """The numbers of a tensor; None where they cannot be had."""
    try:
        if external_data_helper.uses_external_data(tensor):
            if folder is None:
                return None
            loaded = TensorProto()
            loaded.CopyFrom(tensor)
            external_data_helper.load_external_data_for_tensor(loaded, str(folder))
            tensor = loaded
        return numpy_helper.to_array(tensor)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, whoever runs the model will say
        return None


def graphs_in(node: NodeProto) -> Iterator[GraphProto]:
    """The branches and bodies of a node, and those inside them."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            if graph.node or graph.output:
                yield graph
                yield from (inner for each in graph.node for inner in graphs_in(each))


def _uses(nodes: list[NodeProto]) -> _Uses:
    found = defaultdict[str, set[tuple[str, int]]](set)
    for node in nodes:
        for position, name in enumerate(node.input):
            found[name].add((node.op_type, position))
    return found


def _learned(tensor: TensorProto, uses: set[tuple[str, int]], *, made: bool) -> bool:
    """What an exporter or a writer made is learned where an operator takes it for a weight, or as one row."""
    if tensor.data_type not in _FLOATS:
        table = tensor.data_type in _BYTES and len(tensor.dims) == 2 and ("Gather", 0) in uses
        return table or bool(uses & _QUANTISED)
    uses = {use for use in uses - _UNLEARNED if use in _BIASES or not _SCALED.match(use[0])}
    row = max(tensor.dims, default=0) == prod(tensor.dims) > 1
    return any(not made or _WEIGHTED.search(operator) or (row and operator in {"Mul", "Add"}) for operator, _ in uses)


def _uniform(tensor: TensorProto) -> bool:
    """Whether all numbers are the same: a constant that someone wrote, and nothing that was learned."""
    value = numbers(tensor, None)
    return value is None or not value.size or bool((value == value.flat[0]).all())


def _transposed(tensors: Mapping[str, TensorProto], uses: _Uses, folder: Path | None) -> Iterator[str]:
    tables = [one for name, one in tensors.items() if len(one.dims) == 2 and ("Gather", 0) in uses[name]]
    for table in tables:
        for name, other in tensors.items():
            if list(other.dims) == table.dims[::-1] and ("MatMul", 1) in uses[name] and other is not table:
                one, two = numbers(table, folder), numbers(other, folder)
                if one is not None and two is not None and np.array_equal(one.T, two):
                    yield name
