"""Layers that OpenVINO's counters and torch's profiler tell: what their names and shapes become, without either."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from profiler.backends.base import BackendError, LayerTime
from profiler.backends.inductor_layers import BETWEEN, kernels_of
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


def event(name: str, total: float, *children: Any, shapes: Any = (), told: Any = ()) -> Any:
    own = total - sum(child.cpu_time_total for child in children)
    return SimpleNamespace(
        name=name, cpu_time_total=total, self_cpu_time_total=own, cpu_children=list(children), input_shapes=shapes,
        concrete_inputs=told,
        time_range=SimpleNamespace(start=0.0, elapsed_us=lambda: total),
    )  # fmt: skip


def test_kernels_of_torch_compile_add_up_to_the_forward() -> None:
    product = event("aten::addmm", 5.0, event("aten::copy_", 1.0), shapes=[[4], [2, 3], [3, 4], []])
    kernel = event("graph_0_cpp_fused_add_relu_0", 2.0)
    conv = event("mkldnn::_convolution_pointwise", 3.0, shapes=[[1, 3, 8, 8], [4, 3, 3, 3]])
    inside = event("## Call CompiledFxGraph abc ##", 12.0, kernel, product, conv)
    told = kernels_of(
        [event("latency-profiler forward", 14.0, event("Torch-Compiled Region: 0/0", 13.0, inside))] * 2, 4
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
        kernels_of([event("latency-profiler forward", 14.0)], 4)


CONVOLUTIONS = [
    ((8, 16, 3), {"stride": 2, "padding": 1, "groups": 2}, False),
    ((8, 8, (3, 5)), {"stride": (1, 2), "padding": (2, 0), "dilation": 2, "groups": 8, "bias": False}, False),
    ((8, 16, 4), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 4}, True),
]


@pytest.mark.parametrize(("sizes", "how", "transposed"), CONVOLUTIONS)
def test_a_convolution_that_torch_calls_is_counted_as_its_shapes_say(sizes: Any, how: Any, transposed: bool) -> None:
    import torch
    from torch.profiler import ProfilerActivity, profile

    layer = (torch.nn.ConvTranspose2d if transposed else torch.nn.Conv2d)(*sizes, **how)
    x = torch.zeros(2, 8, 17, 19)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        made = layer(x)
    seen = next(one for one in profiled.events() if one.name == "aten::convolution")
    called = event("aten::convolution", 3.0, shapes=seen.input_shapes, told=seen.concrete_inputs)
    [found] = kernels_of([event("latency-profiler forward", 3.0, called)], 2).layers[1:]
    assert found.made == (tuple(made.shape),)
    weights = sum(one.numel() for one in layer.parameters())
    assert found.weights == weights
    assert found.moved_bytes == 2 * (x.numel() + weights + made.numel())
    [counted] = node_operations(found) or []
    products = (x if transposed else made).numel() * layer.weight[0].numel()
    assert counted.flops == products + (0 if layer.bias is None else made.numel())
