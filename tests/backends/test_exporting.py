"""How torch modules become TorchScript and ONNX: what is traced, what is not, and who exports."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.exc import Unsupported

from profiler import backends
from profiler.backends import torch_trace
from profiler.backends.base import BackendError, Model, Placement
from profiler.backends.inputs import Inputs
from profiler.backends.torch_trace import first_line

pytestmark = pytest.mark.usefixtures("one_thread")


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        while bool(x.abs().sum() > 8.0):
            x = x / 2
        out = self.a(x) if bool(x.sum() > 0) else self.b(x)
        return {"out": out}


class Untraceable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing():
            raise RuntimeError("not while tracing\nand a second line")
        return x * 2


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * 2


def outputs(backend: str, module: nn.Module, *arrays: np.ndarray):
    """Run ``module`` once; return its outputs and what the backend says of it."""
    model = Model(None, lambda: module)
    with backends.get(backend).load(model, Inputs(arrays), Placement()) as session:
        session.run()
        session.sync()
        return session.outputs(), dict(session.facts())


def scripted(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        return torch.jit.script(module.eval())


@pytest.mark.parametrize("backend", ["torchscript", "onnxruntime"])
def test_a_scripted_module_keeps_its_turns(backend: str) -> None:
    module = scripted(Branch())
    for x in (np.ones((1, 4), np.float32), -np.ones((1, 4), np.float32), np.full((1, 4), 9, np.float32)):
        (found,), facts = outputs(backend, module, x)
        (expected,), _ = outputs("eager", module, x)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert facts.get("trace_note") is None
    if backend == "torchscript":
        assert (facts["traced"], facts["frozen"]) == (False, True)


def test_a_scripted_module_runs_with_what_freezing_would_lose() -> None:
    (found,), facts = outputs("torchscript", scripted(Counter()), np.ones(3, np.float32))
    assert found.tolist() == [2, 2, 2]
    assert facts["traced"] is False


def test_what_cannot_be_traced_is_one_sentence() -> None:
    with pytest.raises(BackendError, match=re.escape("cannot trace the model (not while tracing): use eager")):
        outputs("torchscript", Untraceable().eval(), np.ones(3, np.float32))


def test_a_tensor_in_torchs_words_is_left_out() -> None:
    quoted = "output 1 ( Columns 1 to 2 1.1\n 0.2\n[ CPUFloatType{1,4} ]) of traced region did not depend.\nmore"
    assert first_line(RuntimeError(quoted)) == "output 1 of traced region did not depend"
    assert first_line(RuntimeError()) == "RuntimeError"


@pytest.mark.parametrize("backend", ["torchscript", "onnxruntime"])
def test_what_only_the_compiler_of_its_own_follows_is_one_sentence(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise Unsupported("Unsupported method call\n  Explanation: many lines", gb_type="", skip_frame=False)

    monkeypatch.setattr(torch_trace, "_values_read", unsupported)
    with pytest.raises(BackendError, match=r"compiles a part of itself, .* \(Unsupported method call\): use eager"):
        outputs(backend, nn.ReLU().eval(), np.ones(3, np.float32))


def test_what_the_older_exporter_refuses_the_newer_one_exports_and_it_is_said() -> None:
    pytest.importorskip("onnxscript", reason="torch's newer exporter needs it")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 16), nn.RMSNorm(16)).eval()
    x = np.random.default_rng(0).standard_normal((2, 8), dtype=np.float32)
    (found,), facts = outputs("onnxruntime", module, x)
    (expected,), _ = outputs("eager", module, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert facts["exporter"] == "torch.export"
    assert "by TorchScript refuses the model (" in str(facts["export_note"])
    assert "rms_norm" in str(facts["export_note"])


def test_what_no_exporter_takes_is_one_sentence_with_both_reasons() -> None:
    class Singular(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svdvals(x)

    with pytest.raises(BackendError) as said:
        outputs("onnxruntime", Singular().eval(), np.ones((3, 3), np.float32))
    assert re.fullmatch(
        r"torch cannot export .*\(by TorchScript: .*svd.*; by torch.export: .+\): (pip install onnxscript, or )?use .*",
        str(said.value),
    )


def test_the_usual_exporter_is_named_too() -> None:
    _, facts = outputs("onnxruntime", nn.Linear(3, 3).eval(), np.ones((1, 3), np.float32))
    assert (facts["exporter"], facts.get("export_note")) == ("TorchScript", None)


@pytest.mark.parametrize("backend", ["eager", "torchscript"])
def test_complex_outputs_are_pairs_of_floats(backend: str) -> None:
    class Spectrum(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.fft(x)

    x = np.arange(4, dtype=np.float32)
    (found,), _ = outputs(backend, Spectrum().eval(), x)
    expected = np.fft.fft(x)
    np.testing.assert_allclose(found, np.stack([expected.real, expected.imag], -1), atol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize("backend", ["eager", "torchscript"])
def test_complex_weights_keep_both_parts(backend: str) -> None:
    class Turn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1j, 2 - 1j], dtype=torch.complex128))
            self.linear = nn.Linear(2, 2, dtype=torch.float64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x) * self.weight

    module, x = Turn().eval(), np.array([[1.0, -3.0]], np.float32)
    expected = module(torch.tensor(x).double()).detach()
    (found,), facts = outputs(backend, module, x)
    np.testing.assert_allclose(found, torch.view_as_real(expected), rtol=1e-5)
    assert facts["dtype"] == "float32"


class Small(nn.Module):
    """A convolution that freezing folds, and a part that may keep state."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.part = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), part
        self.norm.running_mean.uniform_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(self.norm(self.conv(x)))


class Summing(nn.Module):
    """Keeps the sum of all forwards in a buffer, as a cache of keys does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total += 1
        return x + self.total


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is traced, by its type, one after the other."""
    names: list[str] = []
    trace = torch_trace.traced

    def heard(module: nn.Module, given: tuple[torch.Tensor, ...]) -> nn.Module:
        names.append(type(module).__name__)
        return trace(module, given)

    monkeypatch.setattr(torch_trace, "traced", heard)
    return names


def test_a_trace_of_constants_is_the_module_frozen_and_leaves_it_as_it_was(tried: list[str], tmp_path: Path) -> None:
    module, given = Small(nn.ReLU()).eval(), torch.ones(1, 3, 8, 8)
    with torch.no_grad(), torch_trace.deprecation_silenced():
        torch_trace.save_frozen(module, (given,), tmp_path / "net.pt")
        made = torch.jit.load(str(tmp_path / "net.pt"))
        torch.jit.save(torch.jit.freeze(torch.jit.trace(module, given, check_trace=False)), str(tmp_path / "usual.pt"))
        usual = torch.jit.load(str(tmp_path / "usual.pt"))
        torch.testing.assert_close(made(given), module(given))
    assert tried == ["Bare"]
    kinds = [[node.kind() for node in one.graph.nodes()] for one in (made, usual)]
    assert kinds[0] == kinds[1]
    assert "aten::batch_norm" not in kinds[0]
    assert all(one.requires_grad for one in module.parameters())


def test_what_keeps_state_is_traced_with_it(tried: list[str], tmp_path: Path) -> None:
    module, given = Small(Summing()).eval(), torch.ones(1, 3, 8, 8)
    with torch.no_grad(), torch_trace.deprecation_silenced():
        torch_trace.save_frozen(module, (given,), tmp_path / "net.pt")
        made = torch.jit.load(str(tmp_path / "net.pt"))
        first, second = made(given).clone(), made(given)
    torch.testing.assert_close(second, first + 1)
    assert tried == ["Bare", "Small"]


def test_exporting_imports_no_compiler() -> None:
    """torch's takes two seconds to import, in each of the processes that export."""
    code = """
import sys, torch
from torch import nn
from profiler import backends
from profiler.backends import torch_trace
from profiler.backends.base import Model, Placement
from profiler.backends.inputs import Inputs
import numpy as np
for name in ("torchscript", "onnxruntime"):
    given = Inputs((np.ones((1, 3, 8, 8), np.float32),))
    with backends.get(name).load(Model(None, lambda: nn.Conv2d(3, 8, 3)), given, Placement()) as session:
        session.run()
print("torch._dynamo.symbolic_convert" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


@dataclass(slots=True)
class Slotted:
    y: torch.Tensor


class Beside(nn.Module):
    """Returns a sum, and beside it what ``told`` makes of a product."""

    def __init__(self, told: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.linear, self.told = nn.Linear(4, 4), told

    def forward(self, x: torch.Tensor) -> dict[str, object]:
        return {"sum": x + 1, "rows": len(x), "told": self.told(self.linear(x))}


TOLD = {
    "array": (lambda y: y.numpy(), "returned an ndarray, and a trace leaves out"),
    "list": (
        lambda y: y.argmax(-1).tolist(),
        r"returns numbers that it reads out of tensors \(test_exporting.py:\d+\)",
    ),
    "number": (lambda y: y.sum().item(), r"returns numbers that it reads out of tensors \(test_exporting.py:\d+\)"),
}


@pytest.mark.parametrize("backend", ["torchscript", "onnxruntime"])
@pytest.mark.parametrize("told", TOLD)
def test_work_that_a_trace_would_leave_out_is_refused(told: str, backend: str) -> None:
    make, said = TOLD[told]
    module, x = Beside(make).eval(), np.ones((2, 4), np.float32)
    with pytest.raises(BackendError, match=f"{said}.*: let it return tensors, or use eager"):
        outputs(backend, module, x)
    found, _ = outputs("eager", module, x)
    assert [array.shape for array in found] == [(2, 4)]


@pytest.mark.parametrize("backend", ["eager", "torchscript", "onnxruntime"])
def test_tensors_in_objects_of_any_class_are_outputs(backend: str) -> None:
    module, x = Beside(Slotted).eval(), np.ones((2, 4), np.float32)
    found, _ = outputs(backend, module, x)
    expected = module.linear(torch.tensor(x)).detach().numpy()
    assert len(found) == 2
    np.testing.assert_allclose(found[1], expected, rtol=1e-5)


@pytest.mark.parametrize("backend", ["eager", "torchscript", "onnxruntime"])
def test_a_result_that_is_computed_later_is_refused(backend: str) -> None:
    module = Beside(lambda y: (one for one in y)).eval()
    with pytest.raises(BackendError, match="returned a generator, which computes only when it is read: let it return"):
        outputs(backend, module, np.ones((2, 4), np.float32))
