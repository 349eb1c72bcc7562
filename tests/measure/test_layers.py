"""Layers as they are traced: by torch's operators, by ONNX Runtime's profile, and by the fake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

from profiler.backends.base import BackendError, Placement
from profiler.backends.onnx_layers import module_path, product_names, traced_layers
from profiler.measure.layers import Layer, Traced, TraceTask, middle, trace
from profiler.models.counting import count
from profiler.models.live import lent
from profiler.records.types import Case
from tests.models.samples import LstmHead

PARTS = ("small", "body.heavy", "head")


class Net(nn.Module):
    """A light convolution, one that costs 64 times as much, and a view, a pool and a product.

    Sixteen channels: ONNX Runtime fills up fewer where vectors are long, and counts what it computes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.small = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.body = nn.ModuleDict({"heavy": nn.Conv2d(16, 64, 3, padding=1)})
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body["heavy"](self.small(x)).relu()
        return self.head(x.mean((2, 3)).flatten(1))


def traces(model: nn.Module, x: Tensor, *backends: str, calls: int = 5) -> list[Traced]:
    with lent(model, x) as name:
        return [trace(TraceTask(Case(name, "", 1.0, backend, Placement()), calls, None)) for backend in backends]


def of(one: Traced, name: str) -> list[Layer]:
    return [layer for layer in one.layers if layer.name == name]


@pytest.fixture(scope="module")
def both() -> list[Traced]:
    return traces(Net().eval(), torch.rand(1, 16, 48, 48), "eager", "onnxruntime")


def test_each_layer_has_the_module_its_counts_and_what_it_moves(both: list[Traced]) -> None:
    exact = count(Net(), (torch.rand(1, 16, 48, 48),))
    for one, operators in zip(both, [("conv2d", "linear"), ("Conv", "Gemm")], strict=True):
        [small], [heavy], [head] = ([each for each in of(one, part) if each.params] for part in PARTS)
        assert small.operator == f"{operators[0]} depthwise"
        assert (heavy.operator, head.operator) == operators
        assert heavy.flops == 48 * 48 * 64 * (16 * 9 + 1)
        assert heavy.params == 64 * 16 * 9 + 64
        assert heavy.moved_bytes == 4 * (48 * 48 * (16 + 64) + heavy.params)
        assert sum(layer.flops or 0 for layer in one.layers) == exact.flops
        assert sum(layer.params or 0 for layer in one.layers) == exact.params
        assert sum(layer.acts or 0 for layer in one.layers) == exact.acts


def test_a_convolution_that_costs_more_is_found_to_take_longer(both: list[Traced]) -> None:
    """It has 64 times the multiply-adds: even on a busy machine it stands out within one run."""
    for one in both:
        [small], [heavy] = of(one, "small"), of(one, "body.heavy")
        assert heavy.ns > 1.5 * small.ns
        assert sum(layer.ns for layer in one.layers) < 1.5 * one.forward_ns


def test_a_recurrent_layer_is_one_layer() -> None:
    [one] = traces(LstmHead().eval(), torch.rand(1, 50, 40), "eager", calls=1)
    [_, lstm] = of(one, "rnn")  # after its first state
    assert lstm.operator == "lstm"
    assert lstm.params == sum(each.numel() for each in LstmHead().rnn.parameters())
    assert lstm.flops == count(LstmHead(), (torch.rand(1, 50, 40),)).flops - 64 * 10 - 10


def test_shared_weights_and_turns_are_one_layer() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x))

    [one] = traces(Twice().eval(), torch.rand(1, 4), "eager", calls=1)
    [layer] = one.layers
    assert (layer.name, layer.flops, layer.params) == ("layer", 2 * 20, 20)


def test_what_gives_back_its_input_moves_nothing() -> None:
    [one] = traces(nn.Sequential(nn.Dropout(), nn.ReLU(inplace=True), nn.Flatten()).eval(), torch.rand(2, 4), "eager")
    moved = {layer.operator: layer.moved_bytes for layer in one.layers}
    assert moved == {"dropout": 0, "relu_": 2 * 2 * 4 * 4, "flatten": 0}


def test_a_fault_within_a_module_leaves_no_watch_behind() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken within")

    with pytest.raises(Exception, match="broken within"):
        traces(Broken().eval(), torch.rand(1, 4), "eager")
    assert not nn.modules.module._global_forward_pre_hooks
    assert not nn.modules.module._global_forward_hooks


def test_who_tells_no_layers_says_so() -> None:
    with pytest.raises(BackendError, match="torchscript does not tell the times of its layers"):
        traces(nn.Linear(2, 2).eval(), torch.rand(1, 2), "torchscript")
    with pytest.raises(BackendError, match="layers=0"):
        traces(nn.Linear(2, 2).eval(), torch.rand(1, 2), "fake:layers=0")


def test_the_fake_tells_its_script() -> None:
    [one] = traces(nn.Linear(2, 2).eval(), torch.rand(1, 2), "fake:duration_ms=6,layers=3,traced=2")
    assert [layer.ns for layer in one.layers] == pytest.approx([2e6, 4e6, 6e6])
    assert one.forward_ns == pytest.approx(12e6)


def test_one_slow_turn_does_not_move_the_middle() -> None:
    assert middle([1.0, 2.0, 3.0, 1000.0]) == 2.5
    assert middle([7.0]) == 7.0


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/a/a.0/conv/Conv", "a.0.conv"),
        ("/module/blocks.1/mlp/fc1/MatMul/MatMulAddFusion", "blocks.1.mlp.fc1"),
        ("/module/stem/stem.2/Mul/QuickGeluFusion/", "stem.2"),
        ("/head/head.0/head.0.0/Conv_output_0_nchwc", "head.0.0"),
        ("/Gather", ""),
        ("mine", "mine"),
    ],
)
def test_names_that_torch_and_onnxruntime_make_become_paths_of_modules(name: str, path: str) -> None:
    assert module_path(name) == path


def event(name: str, start: int, took: int, operator: str = "", **args: Any) -> dict[str, Any]:
    kind = "Session" if name == "model_run" else "Node"
    told = {"op_name": operator, "node_index": "0", **args}
    return {
        "cat": kind,
        "name": name if kind == "Session" else f"{name}_kernel_time",
        "ts": start,
        "dur": took,
        "args": told,
    }


def test_what_runs_within_a_loop_is_not_counted_twice(tmp_path: Path) -> None:
    body = helper.make_graph([helper.make_node("Neg", ["a"], ["b"], name="inner")], "body", [], [])
    nodes = [helper.make_node("Loop", [], ["y"], name="outer", body=body), helper.make_node("Abs", ["y"], ["z"])]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [])), tmp_path / "loop.onnx")
    events = [
        event("model_run", 0, 100),
        event("outer", 10, 60, "Loop"),
        event("inner", 20, 10, "Neg"),
        event("inner", 40, 20, "Neg"),
        event("Abs_1", 80, 5, "Abs"),
        event("model_run", 200, 50),
        event("outer", 210, 20, "Loop"),
        event("inner", 212, 10, "Neg"),
    ]
    told = traced_layers(events, tmp_path / "loop.onnx", 2, brought=True)
    assert {one.name: one.ns for one in told.layers} == {
        "inner": (30e3, 10e3), "outer": (30e3, 10e3), "z": (5e3, 0.0)
    }  # fmt: skip
    assert told.forward_ns == (100e3, 50e3)
    assert traced_layers(events, tmp_path / "loop.onnx", 1, brought=True).forward_ns == (50e3,)


def test_a_product_keeps_its_name_when_its_activation_is_fused_with_it(tmp_path: Path) -> None:
    """As onnxruntime writes it: the node is called after what the activation made, and its weights after nothing."""
    weight = helper.make_tensor("a.conv.weight", onnx.TensorProto.FLOAT, [1, 1, 1, 1], [1.0])
    whole = [
        helper.make_node("Conv", ["x", "a.conv.weight"], ["/a/conv/Conv_output_0"], name="/a/conv/Conv"),
        helper.make_node("Relu", ["/a/conv/Conv_output_0"], ["/a/act/Relu_output_0"], name="/a/act/Relu"),
    ]
    graph = helper.make_graph(whole, "g", [], [], [weight])
    fused = [
        helper.make_node("Conv", ["x", "reorder"], ["token"], name="/a/act/Relu_output_0_nchwc"),
        helper.make_node("MaxPool", ["token"], ["y"], name="/a/pool/MaxPool_output_0_nchwc"),
    ]
    onnx.save(helper.make_model(helper.make_graph(fused, "g", [], [])), tmp_path / "fused.onnx")
    ran = [event("model_run", 0, 9), event(fused[0].name, 1, 2, "Conv"), event(fused[1].name, 4, 2, "MaxPool")]
    for brought, names in ((True, ["/a/conv/Conv", "/a/pool/MaxPool"]), (False, ["a.conv", "a.pool"])):
        products = product_names(graph, brought=brought)
        told = traced_layers(ran, tmp_path / "fused.onnx", 1, brought=brought, products=products)
        assert [one.name for one in told.layers] == names


def test_a_profile_without_nodes_is_said(tmp_path: Path) -> None:
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [])), tmp_path / "none.onnx")
    with pytest.raises(BackendError, match="tells no nodes"):
        traced_layers([event("model_run", 0, 1)], tmp_path / "none.onnx", 1, brought=True)


class Wide(nn.Module):
    """Two convolutions with the same shapes, of which one is dilated, and a table of which little is read."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv2d(4, 4, 3, padding=1)
        self.far = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.table = nn.Embedding(1000, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.far(self.near(x)) + self.table((x[:, :1, :1, 0] > 2).long()).sum()


def test_a_dilation_is_part_of_the_shapes_and_a_table_is_not_read_whole() -> None:
    for one in traces(Wide().eval(), torch.rand(1, 4, 12, 12), "eager", "onnxruntime"):
        [near], [far] = ([each for each in of(one, name) if each.flops] for name in ("near", "far"))
        assert far.shapes == f"{near.shapes} dilation 2x2"
        [table] = [each for each in of(one, "table") if each.operator in ("embedding", "Gather")]
        assert table.params == 12_000
        assert table.moved_bytes == 8 + 2 * 4 * 12
