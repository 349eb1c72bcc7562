"""What the backends on torch share: threads, layout, flags, weights."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

from profiler import backends
from profiler.backends.base import BackendError, Model, Placement
from tests.backends.samples import PLACE, TORCH, answer, difference, fed, images, loaded, model, only

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_layout_and_precision_are_what_was_asked(name, precision):
    placement = Placement(precision=precision, memory_format="channels_last")
    assert backends.get(name).unavailable(placement) is None
    with loaded(name, images(2), placement) as session:
        session.run()
        assert session.facts()["memory_format"] == "channels_last"
        assert session.facts()["dtype"] == {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[precision]
        assert (
            difference(only(session), answer("eager", images(2)))
            < {"fp32": 1e-5, "fp16": 1e-2, "bf16": 1e-1}[precision]
        )


@pytest.mark.parametrize("name", TORCH)
def test_refuses_to_run_with_other_threads_than_asked(name, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    with (
        pytest.raises(BackendError, match="1 threads where 2 were asked"),
        loaded(name, images(), Placement(threads=2)),
    ):
        pass


@pytest.mark.parametrize("name", TORCH)
def test_leaving_frees_the_weights(name):
    with loaded(name, images()) as session:
        weights = weakref.ref(session._call)
        assert weights() is not None
    gc.collect()
    assert weights() is None


@pytest.mark.parametrize("name", TORCH)
def test_torch_cannot_load_an_onnx_file(name):
    brought = Model("key", None, onnx=Path("net.onnx"))
    with (
        pytest.raises(BackendError, match=r"net\.onnx.*use onnxruntime"),
        backends.get(name).load(brought, fed(images()), PLACE),
    ):
        pass


@pytest.mark.parametrize("name", TORCH)
def test_flags_of_torch_hold_inside_and_are_put_back(name):
    def flags():
        return (
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.benchmark,
        )

    before = flags()
    with backends.get(f"{name}:tf32=1,cudnn_benchmark=1").load(model(), fed(images()), PLACE):
        assert flags() == (True, True, True)
    with backends.get(name).load(model(), fed(images()), PLACE) as session:
        assert flags() == (False, False, False)
        assert session.facts()["tf32_convolution"] is False
    assert flags() == before


class Returns(nn.Module):
    """Returns what it was made with, whatever it is given."""

    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result

    def forward(self, x: torch.Tensor) -> object:
        return self.result


@pytest.mark.parametrize(
    ("result", "said"),
    [(None, "returned None, in which"), ({"a": [1, None]}, "returned a dict, in which"), ((), "tuple")],
)
def test_a_model_that_returns_no_tensor_is_named(result, said):
    with backends.get("eager").load(Model(None, lambda: Returns(result)), fed(images()), PLACE) as session:
        session.run()
        with pytest.raises(BackendError, match=said):
            only(session)


def test_torchscript_optimised_for_inference_agrees(tmp_path):
    for _ in range(2):  # built, then from the cache
        with backends.get("torchscript:optimize=1").load(model(tmp_path), fed(images()), PLACE) as session:
            session.run()
            assert difference(only(session), answer("eager", images())) < 1e-5


class Forces(nn.Module):
    """The gradient of an energy, as of a force field."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.energy = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            at = x.clone().requires_grad_()
            return torch.autograd.grad(self.energy(at).sum(), at)[0]


def test_a_forward_that_asks_for_gradients_runs_and_it_is_said():
    x = images(1)[:, 0, 0, :4]
    with backends.get("eager").load(Model(None, Forces), fed(x), PLACE) as session:
        session.run()
        session.run()
        assert "asks for gradients inside its forward" in str(session.facts()["gradient_note"])
        assert difference(only(session), Forces()(torch.tensor(x)).numpy()) < 1e-6
    with loaded("eager", images(1)) as session:
        session.run()
        assert "gradient_note" not in session.facts()


def test_another_error_of_a_forward_is_raised_as_it_is():
    with (
        backends.get("eager").load(Model(None, Forces), fed(images(1)), PLACE) as session,
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
    ):
        session.run()


class SetsThreads(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.set_num_threads(1)
        return x * 2


def test_a_forward_that_sets_other_threads_than_asked_is_refused():
    placement = Placement(threads=2)
    with backends.get("eager").load(Model(None, SetsThreads), fed(images(1)), placement) as session:
        session.run()
        with pytest.raises(BackendError, match="sets 1 threads in its forward and 2 were asked"):
            session.outputs()


def test_a_trace_runs_on_the_threads_that_were_asked():
    placement = Placement(threads=2)
    with backends.get("torchscript").load(Model(None, SetsThreads), fed(images(1)), placement) as session:
        session.run()
        assert len(session.outputs()) == 1
        assert (session.facts()["threads"], torch.get_num_threads()) == (2, 2)


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.weight = nn.Linear(16, 8), nn.Parameter(torch.ones(8, 8, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).double() @ self.weight


def test_a_model_that_needs_floats_of_two_types_is_one_sentence():
    with (
        backends.get("eager").load(Model(None, Mixed), fed(images(1)), PLACE) as session,
        pytest.raises(BackendError, match=r"does not run with all its floats in one type .*: let it convert") as said,
    ):
        session.run()
    assert "\n" not in str(said.value)
