"""Times of the nodes of a model that OpenVINO compiled, from its performance counters."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import isqrt, prod
from typing import Any

from profiler.backends.base import BackendError, LayerTime, LayerTrace
from profiler.backends.openvino_model import text_of

#: Times of the nodes that ran in one forward, in ns by name.
Counters = dict[str, float]
#: What a module is called in the names of nodes that come from a trace.
_MODULE = re.compile(r"__module\.([^/]+)/")
#: Operators that ONNX has under another name: their multiply-adds follow from shapes alone.
_SAME = {"Convolution": "Conv", "Deconvolution": "ConvTranspose"}
_PRODUCTS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
_Shape = tuple[int, ...]


def counters_of(request: Any) -> Counters:
    """Return what a request's counters say of its last forward."""
    told = [one for one in request.get_profiling_info() if str(one.status).endswith("EXECUTED")]
    found: Counters = defaultdict(float)
    for one in told:
        found[str(one.node_name)] += one.real_time.total_seconds() * 1e9
    return found


def traced_nodes(compiled: Any, forwards: Sequence[Counters], *, brought: bool) -> LayerTrace:
    """Return what the counters of some forwards say of the nodes of a compiled model.

    Args:
        compiled: The model.
        forwards: One for each; those for warming up are left out.
        brought: Whether its user knows the names of its nodes; else the modules that they are made of.

    Raises:
        BackendError: There are no counters.
    """
    layers = []
    for op in compiled.get_runtime_model().get_ordered_ops():
        name = op.get_friendly_name()
        ns = tuple(each.get(name, 0.0) for each in forwards)
        if any(name in each for each in forwards):
            layers.append(_layer(op, ns, brought=brought))
    if not layers:
        raise BackendError("openvino tells no times of nodes: install another openvino, or use --backend onnxruntime")
    return LayerTrace(tuple(layers), ())


def _layer(op: Any, ns: tuple[float, ...], *, brought: bool) -> LayerTime:
    info = op.get_rt_info()
    kind, own = text_of(info["layerType"]), op.get_friendly_name()
    made_of = [one for one in text_of(info["originalLayersNames"]).split(",") if one] or [own]
    given = [tuple(op.input(i).get_shape()) for i in range(op.get_input_size())]
    made = [tuple(op.output(i).get_shape()) for i in range(op.get_output_size())]
    ports = [*(op.input(i) for i in range(op.get_input_size())), *(op.output(i) for i in range(op.get_output_size()))]
    weights = [shape for i, shape in enumerate(given) if _is_learned(op, i)]
    return LayerTime(
        name=_node_of(made_of, kind) if brought else _module_of(made_of, kind),
        operator=_operator(kind, made_of),
        ns=ns,
        moved_bytes=sum(prod(port.get_shape()) * port.get_element_type().size for port in ports),
        weights=sum(map(prod, weights)),
        given=_as_onnx(kind, given, made),
        made=tuple(made),
        attributes={"transB": 1} if kind == "FullyConnected" else {},
    )


def _operator(kind: str, made_of: Sequence[str]) -> str:
    """Return ONNX's name where shapes tell the multiply-adds; several with a product among them by that."""
    if kind == "FullyConnected":
        return "Gemm"
    if kind == "Subgraph" and any("MatMul" in one for one in made_of):
        return "Subgraph with MatMul"
    return _SAME.get(kind, kind)


def _is_learned(op: Any, i: int) -> bool:
    """Whether an input is a constant of numbers that are no axes or shapes: those are int32 and int64."""
    constant = text_of(op.input_value(i).get_node().get_rt_info()["layerType"]) == "Const"
    return constant and (op.input(i).get_element_type().is_real() or op.input(i).get_element_type().size == 1)


def _node_of(made_of: Sequence[str], kind: str) -> str:
    """Return the node that a user knows, of several that became one: the product among them, else the first."""
    return next((one for one in made_of if kind in _PRODUCTS and _is_product(one)), made_of[0])


def _is_product(name: str) -> bool:
    return any(word in name.rpartition("/")[2] or word in name for word in ("Conv", "MatMul", "Gemm", "conv", "linear"))


def _module_of(made_of: Sequence[str], kind: str) -> str:
    """Return the path of the module that several nodes come from; empty where they come from none."""
    paths = [(one, match[1].removeprefix("module.")) for one in made_of if (match := _MODULE.search(one))]
    known = next((path for one, path in paths if kind in _PRODUCTS and _is_product(one)), "")
    return known or (paths[0][1] if paths else "")


def _as_onnx(kind: str, given: Iterable[_Shape], made: Sequence[_Shape]) -> tuple[_Shape, ...]:
    """Return the shapes of inputs as ONNX has them: weights of groups in one axis, no factor turned around."""
    shapes = list(given)
    if kind == "Convolution" and len(shapes) > 1 and len(shapes[1]) == len(shapes[0]) + 1:
        groups, out, *rest = shapes[1]
        shapes[1] = (groups * out, *rest)
    if kind == "FullyConnected" and len(shapes) > 1:
        rows = prod(made[0][:-1])
        shapes[0] = (rows, prod(shapes[0]) // max(1, rows))
    if kind == "MatMul" and len(shapes) > 1 and len(made[0]) > 1:
        *batch, rows, columns = made[0]
        inner = isqrt(prod(shapes[0]) * prod(shapes[1]) // max(1, prod(batch) * prod(made[0])))
        shapes[:2] = [(*batch, rows, inner), (*batch, inner, columns)]
    return tuple(shapes)
