"""Counts of an ONNX graph, from the shapes of what flows through it; nothing runs.

The conventions are those of ``profiler.models.complexity``. Small constants are followed through the graph, so that
shapes computed in it are known and a branch that can never run is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TypeProto, defs, helper
from onnx.inliner import inline_local_functions

from profiler.errors import UserError
from profiler.models.complexity import Complexity
from profiler.models.onnx_params import graphs_in, is_bias, learned_tensors
from profiler.models.onnx_rules import RULES, Call, UnknownShapeError, may_cost
from profiler.models.onnx_scope import Scope
from profiler.models.operators import Operation, total

_Types: TypeAlias = Mapping[str, TypeProto | None]

#: Operators whose output is their first input, seen another way: a bias may come after them.
_VIEWS = frozenset({"Identity", "Cast", "DequantizeLinear", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"})
#: Operators that add a row to their input, and ONNX Runtime's that do so before a norm, with the position of the row.
_ADDING = frozenset({"Add", "BiasAdd", "BiasGelu", "FastGelu"})
_SKIPPING = {"SkipLayerNormalization": 4, "SkipSimplifiedLayerNormalization": 3}
#: Operators that have no bias of their own, with the axis along which one that is added after them lies.
_PRODUCTS = {"MatMul": -1, "MatMulInteger": -1, "FusedMatMul": -1, "Einsum": -1, "ConvInteger": 1}


def count_onnx(
    model: ModelProto | Path,
    shapes: Mapping[str, tuple[int, ...]],
    values: Mapping[str, np.ndarray[Any, np.dtype[Any]]] | None = None,
    *,
    examples: int = 1,
) -> Complexity:
    """Count an ONNX graph.

    Args:
        model: The graph, or the file it is in; of external data only what shapes depend on is read.
        shapes: Of the inputs by name; one that is not named has the shape that the graph declares.
        values: Of inputs that are followed as constants are.
        examples: How many examples inputs of these shapes hold.

    Returns:
        Counts for one example. A bias that torch's exporters make of a batch norm is not counted.

    Raises:
        UserError: The graph is damaged.
    """
    try:
        graph = onnx.load(model, load_external_data=False) if isinstance(model, Path) else model
        if graph.functions:
            graph = inline_local_functions(graph)
        folder = model.parent if isinstance(model, Path) else None
        learned = learned_tensors(graph.graph, folder)
        walk = _Walk(
            Scope({each.domain: each.version for each in graph.opset_import}, folder), {name: name for name in learned}
        )
        walk.scope.values.update(values or {})
        walk.through(graph.graph, _typed(graph.graph, shapes))
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"could not be counted: {type(error).__name__}: {said}") from error
    return total(walk.operations, sum(learned.values()), walk.unknown, examples)


def _typed(graph: GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, TypeProto]:
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    return {name: helper.make_tensor_type_proto(kinds[name], shape) for name, shape in shapes.items() if name in kinds}


def _ordered(graph: GraphProto) -> Iterator[NodeProto]:
    """The nodes, each after those that it needs, also inside its branches: ONNX Runtime writes them in any order."""
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = {
        i: [*node.input, *(name for inner in graphs_in(node) for each in inner.node for name in each.input)]
        for i, node in enumerate(graph.node)
    }
    order = TopologicalSorter({i: {makers[name] for name in names if name in makers} for i, names in needs.items()})
    return (graph.node[i] for i in order.static_order())


@dataclass(slots=True)
class _Walk:
    """What is known while a graph is walked through, in the order of its nodes.

    Attributes:
        scope: The values.
        learned: Learned tensors and what is computed of them alone, with the name of the tensor.
        products: Outputs of products that have no bias yet, with the axis of one.
        operations: What runs.
        unknown: What has no rule, or no shape.
    """

    scope: Scope
    learned: dict[str, str]
    products: dict[str, int] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)

    def through(self, graph: GraphProto, kinds: _Types) -> None:
        """Walk through all nodes; ``kinds`` are types of inputs where more is known than the graph declares."""
        for value in graph.input:
            self.scope.types[value.name] = kinds.get(value.name) or value.type
        for tensor in graph.initializer:  # in old files they stand among the inputs too
            if tensor.name not in kinds:
                self.scope.add(tensor.name, tensor)
        for node in _ordered(graph):
            self._visit(node)

    def _visit(self, node: NodeProto) -> None:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        handle = {"If": self._if, "Loop": self._loop, "Scan": self._scan}.get(node.op_type)
        if node.domain in {"", "ai.onnx"} and handle is not None:
            handle(node, attributes)
        elif any(graphs_in(node)):
            self.unknown.add(node.op_type)
        else:
            self.scope.infer(node, attributes)
            self._count(node, attributes)

    # --- costs

    def _call(self, node: NodeProto, attributes: Mapping[str, Any]) -> Call:
        biases = (i for i, name in enumerate(node.input) if is_bias(self.learned.get(name, ""), node))
        given, out = ([self.scope.shape(name) for name in names] for names in (node.input, node.output))
        return Call(given, out, attributes, frozenset(biases))

    def _count(self, node: NodeProto, attributes: Mapping[str, Any]) -> None:
        domain = "" if node.domain == "ai.onnx" else node.domain
        rule = RULES.get((domain, node.op_type))
        if rule is None and (may_cost(domain, node.op_type) or not (domain or defs.has(node.op_type))):
            self.unknown.add(f"{domain}::{node.op_type}" if domain else node.op_type)
        elif rule is not None:
            try:
                self.operations += rule(self._call(node, attributes))
            except (UnknownShapeError, ValueError, IndexError):  # or a rank that no rule knows
                self.unknown.add(f"{node.op_type} of unknown shape")
        self._follow(node)

    def _follow(self, node: NodeProto) -> None:
        """A learned row that is added to a product is its bias; a quantised product is scaled before."""
        products = [name for name in node.input if name in self.products]
        others = [name for name in node.input if name and name not in self.products]
        sources = [self.learned[name] for name in others if name in self.learned]
        if sources and not products and all(name in self.learned or name in self.scope.values for name in others):
            self.learned.setdefault(node.output[0], sources[0])  # one that torch has stored once has its own name
        view, one = node.op_type in _VIEWS, len(products) == len(others) == 1
        if node.op_type in _PRODUCTS:
            self.products[node.output[0]] = _PRODUCTS[node.op_type]
        elif (view and products) or (node.op_type == "Mul" and one and self.scope.shape(others[0]) in {(), (1,)}):
            self.products[node.output[0]] = self.products[products[0]]
        elif node.op_type in _ADDING and one:
            self._add_bias(node, products[0], others[0])
        elif node.op_type in _SKIPPING and len(products) == 1 and len(node.input) > _SKIPPING[node.op_type]:
            self._add_bias(node, products[0], node.input[_SKIPPING[node.op_type]])

    def _add_bias(self, node: NodeProto, product: str, added: str) -> None:
        out, row = self.scope.shape(node.output[0]), self.scope.shape(added)
        width = out[self.products[product]] if out else 0
        alike = out and row in {(width,), (1, width, *[1] * (len(out) - 2))}
        if out and alike and is_bias(self.learned.get(added, ""), node):
            self.operations.append(Operation(prod(out)))

    # --- branches and loops

    def _inner(self) -> _Walk:
        return replace(self, scope=self.scope.inner(), products={**self.products}, operations=[], unknown=set())

    def _take(self, inner: _Walk, times: int = 1) -> None:
        self.operations += inner.operations * times
        self.unknown |= inner.unknown

    def _if(self, node: NodeProto, attributes: Mapping[str, Any]) -> None:
        """The branch that holds; where that is not known, either of two that cost the same."""
        holds = self.scope.values.get(node.input[0])
        names = ["then_branch", "else_branch"] if holds is None else ["then_branch" if holds.all() else "else_branch"]
        inner = {name: self._inner() for name in names}
        for name, walk in inner.items():
            walk.through(attributes[name], {})
        if len({total(walk.operations, 0, walk.unknown, 1) for walk in inner.values()}) > 1:
            self.unknown.add("unlike branches of If")
        self._take(inner[names[0]])
        for i, output in enumerate(node.output):
            ends = [(attributes[name].output[i].name, walk) for name, walk in inner.items()]
            kinds = [walk.scope.types.get(end) for end, walk in ends]
            if kinds[0] is not None and kinds[0] == kinds[-1]:
                self.scope.types[output] = kinds[0]
            values = [walk.scope.values.get(end) for end, walk in ends]
            if len(values) == 1 and values[0] is not None:
                self.scope.values[output] = values[0]

    def _loop(self, node: NodeProto, attributes: Mapping[str, Any]) -> None:
        body, inner = attributes["body"], self._inner()
        names = [value.name for value in body.input]
        inner.scope.values[names[1]] = np.array(True)  # noqa: FBT003 - or the turn would not begin
        carried = {name: self.scope.types.get(given) for name, given in zip(names[2:], node.input[2:], strict=True)}
        inner.through(body, carried)
        begins = self.scope.values.get(node.input[1], np.array(not node.input[1]))
        turns, goes_on = self.scope.values.get(node.input[0]), inner.scope.values.get(body.output[0].name)
        known = turns is not None and goes_on is not None and bool(goes_on.all() and begins.all())
        self._repeat(node, inner, int(turns) if turns is not None and known else None, carried, body.output[1:])

    def _scan(self, node: NodeProto, attributes: Mapping[str, Any]) -> None:
        body, inner, states = attributes["body"], self._inner(), len(node.input) - attributes["num_scan_inputs"]
        names = [value.name for value in body.input]
        carried = {name: self.scope.types.get(given) for name, given in zip(names[:states], node.input, strict=False)}
        axes = attributes.get("scan_input_axes", [0] * len(names[states:]))
        turns, scanned = None, {}
        for name, given, axis in zip(names[states:], node.input[states:], axes, strict=True):
            if (shape := self.scope.shape(given)) is not None:
                turns, kind = shape[axis], self.scope.types[given].tensor_type.elem_type
                rest = [size for i, size in enumerate(shape) if i != axis % len(shape)]
                scanned[name] = helper.make_tensor_type_proto(kind, rest)
        inner.through(body, carried | scanned)
        self._repeat(node, inner, turns, carried, body.output)

    def _repeat(self, node: NodeProto, inner: _Walk, turns: int | None, carried: _Types, ends: Sequence[Any]) -> None:
        """Take a body as often as it runs, where that is known and every turn is like the first."""
        kinds = [inner.scope.types.get(end.name) for end in ends]
        steady = list(carried.values()) == kinds[: len(carried)]
        if (inner.operations or inner.unknown) and (turns is None or not steady):
            self.unknown.add(f"turns of {node.op_type}")
        self._take(inner, 1 if turns is None else turns)
        for i, (name, kind) in enumerate(zip(node.output, kinds, strict=False)):
            shape = inner.scope.shape(ends[i].name)
            if i < len(carried) and steady and kind is not None:
                self.scope.types[name] = kind
            elif i >= len(carried) and shape is not None and turns is not None and kind is not None:
                self.scope.types[name] = helper.make_tensor_type_proto(kind.tensor_type.elem_type, [turns, *shape])
