"""Counts of an ONNX graph, from the shapes of what flows through it; nothing runs.

The conventions are those of ``profiler.models.complexity``. Small constants are followed through the graph, so that
shapes computed in it are known and a branch that can never run is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TypeProto, helper
from onnx.inliner import inline_local_functions

from profiler.errors import UserError
from profiler.models.complexity import Complexity
from profiler.models.onnx_params import is_bias, learned_tensors
from profiler.models.onnx_rules import RULES, Call, UnknownShapeError, may_cost
from profiler.models.onnx_scope import Scope
from profiler.models.operators import Operation, total

_Types: TypeAlias = Mapping[str, TypeProto | None]

#: Operators whose output is their first input, seen another way: a bias may come after them.
_VIEWS = frozenset({"Identity", "Cast", "DequantizeLinear", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"})
_PRODUCTS = frozenset({"MatMul", "MatMulInteger", "FusedMatMul", "Einsum"})


def count_onnx(model: ModelProto | Path, shapes: Mapping[str, tuple[int, ...]], *, examples: int = 1) -> Complexity:
    """Count an ONNX graph.

    Args:
        model: The graph, or the file it is in; of external data only what shapes depend on is read.
        shapes: Of the inputs by name; one that is not named has the shape that the graph declares.
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
        walk = _Walk(Scope({each.domain: each.version for each in graph.opset_import}, folder), set(learned))
        walk.through(graph.graph, _typed(graph.graph, shapes))
    except Exception as error:
        said = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(f"the model could not be counted: {type(error).__name__}: {said}") from error
    return total(walk.operations, sum(learned.values()), walk.unknown, examples)


def _typed(graph: GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, TypeProto]:
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    return {name: helper.make_tensor_type_proto(kinds[name], shape) for name, shape in shapes.items() if name in kinds}


@dataclass(slots=True)
class _Walk:
    """What is known while a graph is walked through, in the order of its nodes.

    Attributes:
        scope: The values.
        learned: Names of learned tensors, and of views of them.
        products: Names of outputs of products that have no bias yet.
        operations: What runs.
        unknown: What has no rule, or no shape.
    """

    scope: Scope
    learned: set[str]
    products: set[str] = field(default_factory=set)
    operations: list[Operation] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)

    def through(self, graph: GraphProto, kinds: _Types) -> None:
        """Walk through all nodes; ``kinds`` are types of inputs where more is known than the graph declares."""
        for value in graph.input:
            self.scope.types[value.name] = kinds.get(value.name) or value.type
        for tensor in graph.initializer:  # in old files they stand among the inputs too
            if tensor.name not in kinds:
                self.scope.add(tensor.name, tensor)
        for node in graph.node:
            self._visit(node)

    def _visit(self, node: NodeProto) -> None:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        handle = {"If": self._if, "Loop": self._loop, "Scan": self._scan}.get(node.op_type)
        if node.domain in {"", "ai.onnx"} and handle is not None:
            handle(node, attributes)
        elif any(each.type in {AttributeProto.GRAPH, AttributeProto.GRAPHS} for each in node.attribute):
            self.unknown.add(node.op_type)
        else:
            self.scope.infer(node, attributes)
            self._count(node, attributes)

    # --- costs

    def _call(self, node: NodeProto, attributes: Mapping[str, Any]) -> Call:
        biases = (i for i, name in enumerate(node.input) if name in self.learned and is_bias(name, node))
        given, out = ([self.scope.shape(name) for name in names] for names in (node.input, node.output))
        return Call(given, out, attributes, frozenset(biases))

    def _count(self, node: NodeProto, attributes: Mapping[str, Any]) -> None:
        domain = "" if node.domain == "ai.onnx" else node.domain
        rule = RULES.get((domain, node.op_type))
        if rule is None and may_cost(domain, node.op_type):
            self.unknown.add(f"{domain}::{node.op_type}" if domain else node.op_type)
        elif rule is not None:
            try:
                self.operations += rule(self._call(node, attributes))
            except UnknownShapeError:
                self.unknown.add(f"{node.op_type} of unknown shape")
        self._follow(node)

    def _follow(self, node: NodeProto) -> None:
        """A learned row that is added to a product is its bias; a quantised product is scaled before."""
        first, others = node.input[:1], [name for name in node.input if name not in self.products]
        view, one = node.op_type in _VIEWS, len(node.input) == len(others) + 1 == 2
        if view and first[0] in self.learned:
            self.learned.add(node.output[0])
        scaled = node.op_type == "Mul" and one and self.scope.shape(others[0]) in {(), (1,)}
        if node.op_type in _PRODUCTS or scaled or (view and first[0] in self.products):
            self.products.add(node.output[0])
        if node.op_type == "Add" and one and others[0] in self.learned:
            out, row = self.scope.shape(node.output[0]), self.scope.shape(others[0])
            if out and row == out[-1:]:
                self.operations.append(Operation(prod(out)))

    # --- branches and loops

    def _inner(self) -> _Walk:
        return replace(self, scope=self.scope.inner(), products={*self.products}, operations=[], unknown=set())

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
            self.unknown.add("If")
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
            self.unknown.add(node.op_type)
        self._take(inner, 1 if turns is None else turns)
        for i, (name, kind) in enumerate(zip(node.output, kinds, strict=False)):
            shape = inner.scope.shape(ends[i].name)
            if i < len(carried) and steady and kind is not None:
                self.scope.types[name] = kind
            elif i >= len(carried) and shape is not None and turns is not None and kind is not None:
                self.scope.types[name] = helper.make_tensor_type_proto(kind.tensor_type.elem_type, [turns, *shape])
