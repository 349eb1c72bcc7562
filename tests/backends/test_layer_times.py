"""Layers that OpenVINO's counters and torch's profiler tell: what their names and shapes become, without either."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from profiler.backends.base import BackendError, LayerTime
from profiler.backends.inductor_layers import BETWEEN, Product, Products, kernels_of
from profiler.backends.openvino_layers import traced_nodes
from profiler.models.layer_counts import node_name, node_operations


class Op:
    """A node of a runtime model, as OpenVINO gives it."""

    def __init__(self, name: str, kind: str, made_of: str, given: list[Any], out: tuple[int, ...]) -> None:
        self._name, self._given, self._out = name, given, out
        self._info = {"layerType": kind, "originalLayersNames": made_of}

    def get_friendly_name(self) -> str:
        return self._name

    def get_rt_info(self) -> dict[str, str]:
        return self._info

    def get_input_size(self) -> int:
        return len(self._given)

    def get_output_size(self) -> int:
        return 1

    def input(self, i: int) -> Any:
        return port(self._given[i]._out)

    def output(self, _: int) -> Any:
        return port(self._out)

    def input_value(self, i: int) -> Any:
        return SimpleNamespace(get_node=lambda: self._given[i])


def port(shape: tuple[int, ...]) -> Any:
    kind = SimpleNamespace(size=4, is_real=lambda: True)
    return SimpleNamespace(get_shape=lambda: shape, get_element_type=lambda: kind)


def const(*shape: int) -> Op:
    return Op("w", "Const", "", [], shape)


def only(op: Op, *, brought: bool = False) -> LayerTime:
    compiled = SimpleNamespace(get_runtime_model=lambda: SimpleNamespace(get_ordered_ops=lambda: [*op._given, op]))
    [layer] = traced_nodes(compiled, [{op.get_friendly_name(): 5.0}, {}], brought=brought).layers
    return layer


def given(*shape: int) -> Op:
    return Op("x", "Input", "", [], shape)


X = given(1, 8, 4, 4)
DEPTHWISE = [X, const(8, 1, 1, 3, 3)]
ROWS, COLUMNS = given(2, 3, 8), given(2, 5, 8)
MADE_OF = "__module.module.body.0.act/aten::relu/Relu,__module.module.body.0.conv/aten::_convolution/Convolution"


@pytest.mark.parametrize(
    ("op", "name", "operator", "flops", "weights"),
    [
        (Op("c", "Convolution", MADE_OF, [X, const(16, 8, 3, 3)], (1, 16, 2, 2)), "body.0.conv", "Conv", 4608, 1152),
        (Op("c", "Convolution", MADE_OF, DEPTHWISE, (1, 8, 2, 2)), "body.0.conv", "Conv depthwise", 288, 72),
        (Op("f", "FullyConnected", "__module.fc/x/MatMul", [ROWS, const(5, 8)], (2, 3, 5)), "fc", "Gemm", 240, 40),
        (Op("m", "MatMul", "__module.att/x/MatMul", [ROWS, COLUMNS], (2, 3, 5)), "att", "MatMul", 240, 0),
        (Op("s", "Subgraph", "__module.a/aten::add/Add", [X], (1, 8, 4, 4)), "a", "Subgraph", 0, 0),
        (Op("s", "Subgraph", "__module.a/MatMul,b", [X], (1, 8, 4, 4)), "a", "Subgraph with MatMul", None, 0),
    ],
)  # fmt: skip
def test_nodes_of_openvino_have_modules_and_are_counted(
    op: Op, name: str, operator: str, flops: int | None, weights: int
) -> None:
    layer = only(op)
    assert (layer.name, node_name(layer), layer.weights, layer.ns) == (name, operator, weights, (5.0, 0.0))
    told = node_operations(layer)
    assert (None if told is None else sum(one.flops for one in told)) == flops


def test_a_node_of_a_file_keeps_the_name_that_its_user_knows() -> None:
    op = Op("c", "Convolution", "/a/Relu,/a/Conv", [X, const(16, 8, 3, 3)], (1, 16, 2, 2))
    assert only(op, brought=True).name == "/a/Conv"


def test_no_counters_are_said() -> None:
    compiled = SimpleNamespace(get_runtime_model=lambda: SimpleNamespace(get_ordered_ops=lambda: [X]))
    with pytest.raises(BackendError, match="tells no times of nodes"):
        traced_nodes(compiled, [{}], brought=False)


def event(name: str, total: float, *children: Any, shapes: Any = ()) -> Any:
    own = total - sum(child.cpu_time_total for child in children)
    return SimpleNamespace(
        name=name, cpu_time_total=total, self_cpu_time_total=own, cpu_children=list(children), input_shapes=shapes,
        time_range=SimpleNamespace(start=0.0, elapsed_us=lambda: total),
    )  # fmt: skip


def test_kernels_of_torch_compile_add_up_to_the_forward() -> None:
    product = event("aten::addmm", 5.0, event("aten::copy_", 1.0), shapes=[[4], [2, 3], [3, 4], []])
    kernel = event("graph_0_cpp_fused_add_relu_0", 2.0)
    conv = event("mkldnn::_convolution_pointwise", 3.0, shapes=[[1, 3, 8, 8], [4, 3, 3, 3]])
    inside = event("## Call CompiledFxGraph abc ##", 12.0, kernel, product, conv)
    told = kernels_of(
        [event("latency-profiler forward", 14.0, event("Torch-Compiled Region: 0/0", 13.0, inside))] * 2, Products()
    )
    found = {one.operator: one for one in told.layers}
    assert found[BETWEEN].ns == (4e3, 4e3)
    assert found["fused add_relu"].ns == (2e3, 2e3)
    assert found["MatMul"].ns == (5e3, 5e3)
    assert found["mkldnn::_convolution_pointwise"].ns == (3e3, 3e3)
    assert told.forward_ns == (14e3, 14e3)
    assert sum(one.ns[0] for one in told.layers) == 14e3
    assert found["fused add_relu"].name == "kernel 0"
    [counted] = node_operations(found["MatMul"]) or []
    assert counted.flops == 2 * 3 * 4
    assert node_operations(found["mkldnn::_convolution_pointwise"]) is None
    with pytest.raises(BackendError, match="tells no kernels"):
        kernels_of([event("latency-profiler forward", 14.0)], Products())


def test_products_of_torch_compile_have_modules_and_kernels_their_blocks() -> None:
    """Calls of one shape come in the order of eager; what eager does not run keeps its number."""
    conv = [event("aten::convolution", 3.0, shapes=[[1, 3, 8, 8], [4, 3, 3, 3]]) for _ in range(3)]
    norm = event("cpp_fused__native_batch_norm_legit_no_training_relu_1", 2.0)
    product = event("aten::addmm", 5.0, shapes=[[4], [6, 3], [3, 4]])
    first = event("graph_0_cpp_fused_convolution_0", 1.0)
    products = Products()
    for name in ("stem.0", "body.0.conv"):
        products.note((1, 3, 8, 8), (4, 3, 3, 3), Product(name, (1, 4, 6, 6), 100, 108))
    products.note((2, 3, 3), (4, 3), Product("head", (2, 3, 4), 50, 16))
    calls = [first, conv[0], norm, conv[1], conv[2], product]
    for i, one in enumerate(calls):
        one.time_range.start = float(i)
    told = kernels_of([event("latency-profiler forward", 20.0, *calls)], products)
    assert [(one.name, node_name(one), one.moved_bytes) for one in told.layers] == [
        ("", BETWEEN, None),
        ("kernel 0", "fused convolution", None),
        ("stem.0", "Conv", 100),
        ("stem.kernel 1", "fused batch_norm_relu", None),
        ("body.0.conv", "Conv", 100),
        ("call 3", "convolution", None),
        ("head", "MatMul", 50),
    ]
    counted = [sum(each.flops for each in node_operations(told.layers[i]) or []) for i in (2, 6)]
    assert counted == [4 * 6 * 6 * 27, 6 * 3 * 4]
