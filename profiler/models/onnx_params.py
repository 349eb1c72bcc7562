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
    | {("MatMulIntegerToFloat", 1), ("DynamicQuantizeMatMul", 1)}
)
#: Operators whose float inputs are scales, and the exceptions.
_SCALED = re.compile("QLinear|QGemm|MatMulIntegerToFloat|DynamicQuantizeMatMul")
_BIASES = frozenset({("MatMulIntegerToFloat", 6), ("DynamicQuantizeMatMul", 4)})
#: Operators that take weights: what an exporter named by itself is learned where it is one of theirs.
_WEIGHTED = re.compile("Conv|Gemm|MatMul|Einsum|LSTM|GRU|RNN|Gather$|PRelu|Normalization|Attention")
_MADE = re.compile(r"(val|onnx::\w+)_\d+(_\w+)?|_?lifted_tensor\w*|_tensor_constant\d+")
#: A bias that torch's exporter, or ONNX Runtime, makes of a batch norm.
_FOLDED = re.compile(r"onnx::Conv\w*_\d+|ConvBnFusion_BN_B_.*")


def learned_tensors(graph: GraphProto, folder: Path | None) -> dict[str, int]:
    """Return the sizes of all learned tensors by name, those inside branches and loops too.

    A table of an embedding that is stored once more, transposed for the last layer, is one tensor.
    """
    graphs = list(_graphs(graph))
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
        if (shape := read(tensors[node.input[0]], folder)) is not None:
            yield node.output[0], TensorProto(data_type=kind, dims=shape.tolist())


def is_bias(name: str, node: NodeProto) -> bool:
    """Whether a learned tensor is a bias of the model, and none that was made of a batch norm after ``node``."""
    return not _FOLDED.fullmatch(name) and name not in {f"{weight}_bias" for weight in node.input[1:2]}


def read(tensor: TensorProto, folder: Path | None) -> _Array | None:
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
    except (OSError, ValueError, TypeError, RuntimeError):
        return None


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)


def _uses(nodes: list[NodeProto]) -> _Uses:
    found = defaultdict[str, set[tuple[str, int]]](set)
    for node in nodes:
        for position, name in enumerate(node.input):
            found[name].add((node.op_type, position))
    return found


def _learned(tensor: TensorProto, uses: set[tuple[str, int]], *, made: bool) -> bool:
    """What an exporter or a writer made is learned where an operator takes it for a weight."""
    if tensor.data_type not in _FLOATS:
        return bool(uses & _QUANTISED)
    uses = {use for use in uses - _UNLEARNED if use in _BIASES or not _SCALED.match(use[0])}
    return any(_WEIGHTED.search(operator) or not made for operator, _ in uses)


def _uniform(tensor: TensorProto) -> bool:
    """Whether all numbers are the same: a constant that someone wrote, and nothing that was learned."""
    value = read(tensor, None)
    return value is None or not value.size or bool((value == value.flat[0]).all())


def _transposed(tensors: Mapping[str, TensorProto], uses: _Uses, folder: Path | None) -> Iterator[str]:
    tables = [one for name, one in tensors.items() if len(one.dims) == 2 and ("Gather", 0) in uses[name]]
    for table in tables:
        for name, other in tensors.items():
            if list(other.dims) == table.dims[::-1] and ("MatMul", 1) in uses[name] and other is not table:
                one, two = read(table, folder), read(other, folder)
                if one is not None and two is not None and np.array_equal(one.T, two):
                    yield name
