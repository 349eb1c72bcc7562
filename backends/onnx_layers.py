"""Times of the nodes of an ONNX graph, from the profile that ONNX Runtime writes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper

from profiler.backends.base import BackendError, LayerTime, LayerTrace

_END = "_kernel_time"
#: Names of operators and of fusions, which no module is called by.
_OPERATOR = re.compile(r"[A-Z][A-Za-z0-9]*(_\d+)?")

#: What the runtime appends to the name of what a node makes, where it calls the node so and changes its layout.
_LAID_OUT = re.compile(r"(_output_\d+)?_nchwc$")
#: Operators that have weights, and what a runtime makes a part of them.
_PRODUCTS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedGemm", "FusedMatMul"))
_ABSORBED = frozenset(
    ("Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "BatchNormalization", "Gelu", "Elu")
)
#: Types of learned numbers; wider integers are shapes and axes.
_LEARNED = frozenset((TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)) | frozenset(
    (TensorProto.INT8, TensorProto.UINT8)
)

_Event = Mapping[str, Any]


def product_names(graph: GraphProto, *, brought: bool) -> dict[str, str]:
    """Return the names of a graph's products by what they make, also after an activation that a runtime fuses with one.

    Once it has, the node is called after the activation alone, and its weights after nothing. In a graph that no user
    brought they are called after the module that has the weights, where these tell.
    """
    weights = {one.name for one in graph.initializer}
    names: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in _PRODUCTS:
            learned = next((one for one in node.input if one in weights and one.endswith(".weight")), "")
            scope = f"/{learned.replace('.', '/').removesuffix('weight')}{node.op_type}" if learned else ""
            own = node.name or node.output[0]
            names[node.output[0]] = own if brought else scope or own
        elif node.op_type in _ABSORBED and node.input[0] in names:
            names[node.output[0]] = names[node.input[0]]
    return names


def traced_layers(
    events: Sequence[_Event], path: Path, calls: int, *, brought: bool, products: Mapping[str, str] | None = None
) -> LayerTrace:
    """Return what the last ``calls`` forwards of a profile say of the nodes of the graph in ``path``.

    Args:
        events: Of the profile.
        path: The graph that ran, its weights beside it or not.
        calls: How many forwards count; those before are for warming up.
        brought: Whether its user knows the names of its nodes; else the modules that they are made of.
        products: Of the graph before the runtime changed it, see ``product_names``.

    Raises:
        BackendError: The profile does not tell the nodes.
    """
    nodes = _Nodes(onnx.load(path, load_external_data=False).graph, products or {})
    forwards = [*_forwards(events)][-calls:]
    found: dict[tuple[str, str], _Seen] = {}
    for i, (_, ran) in enumerate(forwards):
        for event, own_us in _own_times(ran):
            name = event["name"].removesuffix(_END)
            key = name, str(event["args"].get("node_index", ""))
            seen = found.setdefault(key, _Seen(event, [0.0] * len(forwards)))
            seen.ns[i] += own_us * 1e3
    if not found:
        raise BackendError("the profile of onnxruntime tells no nodes: install another onnxruntime")
    layers = (_layer(seen, nodes.find(name), name, nodes, brought=brought) for (name, _), seen in found.items())
    return LayerTrace(tuple(layers), tuple(us * 1e3 for us, _ in forwards))


@dataclass(slots=True)
class _Seen:
    event: _Event
    ns: list[float]


def _forwards(events: Sequence[_Event]) -> Iterator[tuple[float, list[_Event]]]:
    """Yield the time of each forward, in us, and what ran in it."""
    runs = [(one["ts"], one["ts"] + one["dur"]) for one in events if one.get("name") == "model_run"]
    ran = [one for one in events if one.get("cat") == "Node" and one["name"].endswith(_END)]
    by_run: dict[int, list[_Event]] = defaultdict(list)
    starts = sorted(runs)
    i = 0
    for event in sorted(ran, key=lambda one: one["ts"]):
        while i < len(starts) and event["ts"] > starts[i][1]:
            i += 1
        if i < len(starts) and event["ts"] >= starts[i][0]:
            by_run[i].append(event)
    yield from ((end - begin, by_run[i]) for i, (begin, end) in enumerate(starts))


def _own_times(events: Sequence[_Event]) -> Iterator[tuple[_Event, float]]:
    """Yield events in their order with their time in us, without that of those within: nodes of a loop or a branch."""
    waiting: list[tuple[_Event, float]] = []
    for event in sorted(events, key=lambda one: (one["ts"], -one["dur"])):
        while waiting and event["ts"] >= waiting[-1][0]["ts"] + waiting[-1][0]["dur"]:
            yield waiting.pop()
        if waiting:
            outer, own = waiting[-1]
            waiting[-1] = outer, max(0.0, own - event["dur"])
        waiting.append((event, float(event["dur"])))
    yield from reversed(waiting)


class _Nodes:
    """The nodes of a graph and of those within, by name, and its weights."""

    def __init__(self, graph: GraphProto, products: Mapping[str, str]) -> None:
        self.products = products
        self.weights = {one.name: one for each in _graphs(graph) for one in each.initializer}
        self._named = {node.name: node for each in _graphs(graph) for node in each.node if node.name}
        self._placed = [*graph.node]

    def find(self, name: str) -> NodeProto | None:
        """Return a node; one without a name is called by its operator and its place."""
        operator, _, place = name.rpartition("_")
        node = self._named.get(name)
        if node is None and place.isdecimal() and int(place) < len(self._placed):
            at = self._placed[int(place)]
            node = at if at.op_type == operator else None
        return node


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _layer(seen: _Seen, node: NodeProto | None, name: str, nodes: _Nodes, *, brought: bool) -> LayerTime:
    told = seen.event["args"]
    operator = str(told.get("op_name", ""))
    given, made = (_shapes(told.get(f"{side}_type_shape", ())) for side in ("input", "output"))
    if node is None:
        return LayerTime(name, operator, tuple(seen.ns), given=given, made=made)
    known = _known_name(node, name, nodes.products, brought=brought)
    weights = [nodes.weights[one] for one in node.input if one in nodes.weights]
    moved = int(told.get("activation_size", 0)) + int(told.get("output_size", 0))
    read = weights
    if operator == "Gather" and node.input[0] in nodes.weights:  # reads as much of it as it makes
        moved, read = moved + int(told.get("output_size", 0)), weights[1:]
    learned = [one for one in weights if one.data_type in _LEARNED]
    return LayerTime(
        name=known if brought else module_path(known),
        operator=f"{node.domain}::{operator}" if node.domain not in ("", "ai.onnx") else operator,
        ns=tuple(seen.ns),
        moved_bytes=moved + sum(_elements(one.dims) * _width(one.data_type) for one in read),
        weights=sum(_elements(one.dims) for one in learned),
        given=_with_weights(node, given, nodes),
        made=made,
        attributes={one.name: helper.get_attribute_value(one) for one in node.attribute if one.type != one.GRAPH},
    )


def _with_weights(node: NodeProto, told: Sequence[tuple[int, ...]], nodes: _Nodes) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a node's inputs: weights that the runtime keeps packed are missing in its profile."""
    rest = iter(told)
    if len(told) == sum(map(bool, node.input)):
        return tuple(next(rest) if one else () for one in node.input)
    weights = nodes.weights
    return tuple(tuple(weights[one].dims) if one in weights else next(rest, ()) if one else () for one in node.input)


def _shapes(told: Iterable[Mapping[str, Sequence[int]]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(shape) for one in told for shape in one.values())


def _known_name(node: NodeProto, name: str, products: Mapping[str, str], *, brought: bool) -> str:
    """Return the name of a node; of what it makes or takes where the runtime put the node in itself."""
    if node.op_type in _PRODUCTS:
        for made in (name.removesuffix("_nchwc"), *node.output):
            if made in products:
                return products[made]
    own = _LAID_OUT.sub("", name)
    scoped = (one for one in (own, *node.output, *node.input) if one.startswith("/"))
    return next(scoped, (_LAID_OUT.sub("", node.name) or next(filter(None, node.output), name)) if brought else "")


def module_path(name: str) -> str:
    """Return the path of the module in a name that torch's exporter gives: ``a.0.conv`` of ``/a/a.0/conv/Conv``."""
    if not name.startswith("/"):
        return name
    *within, _ = name.split("/")[1:]
    while within and _OPERATOR.fullmatch(within[-1]):  # a fusion's name follows that of the node that it began with
        within.pop()
    path: list[str] = []
    for part in within[1:] if within[:1] == ["module"] else within:
        if path and part.startswith(f"{path[-1]}."):
            path.pop()
        path.append(part)
    return ".".join(path)


def _elements(dims: Iterable[int]) -> int:
    count = 1
    for size in dims:
        count *= size
    return count


def _width(kind: int) -> int:
    return int(helper.tensor_dtype_to_np_dtype(kind).itemsize)
