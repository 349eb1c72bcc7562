"""What runs in torch or ONNX Runtime alone runs here: eager, TorchScript and ONNX Runtime compute the same."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from profiler import backends
from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.measure import parity
from profiler.models import source
from profiler.models.loaded import Asked, Loaded
from profiler.records.types import Case
from tests.breadth.catalogue import MORE_MODELS, ONNX_FILES, TORCH_MODELS, Entry, packaged

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]  # other packages' warnings

BACKENDS = ("eager", "torchscript", "onnxruntime")


def load(entry: Entry, cache: Path, **asked: str) -> Loaded:
    return source.load_model(Asked(entry.model, shape=entry.shape, cache=cache, **asked))


@contextmanager
def session(loaded: Loaded, backend: str):
    with backends.get(backend).load(loaded.model, loaded.inputs, Placement()) as opened:
        yield opened


def agrees(entry: Entry, loaded: Loaded, backend: str, cache: Path) -> dict[str, object]:
    """Compare a backend with eager, as a visit does; return what it says of itself."""
    with session(loaded, backend) as opened:
        case = Case(entry.model, "", 1.0, backend, Placement())
        checked = parity.check(backends.get(backend), loaded, case, opened, cache)
        assert checked.failure is None, f"{backend}: {checked.failure}"
        assert checked.parity is not None
        assert checked.parity < 1e-4
        return dict(opened.facts())


def cannot_run_alone(loaded: Loaded) -> bool:
    """Whether the bare module fails in torch too, and for the same reason: the operator does not exist."""
    import torch

    args, kwargs = loaded.inputs.mapped(lambda _, array: torch.tensor(array))
    assert loaded.model.module is not None
    with torch.no_grad(), pytest.raises((RuntimeError, UserError, NotImplementedError)):
        loaded.model.module()(*args, **kwargs)
    return not hasattr(torch.ops.torchvision, "nms")


@pytest.mark.parametrize("entry", [*TORCH_MODELS, *MORE_MODELS])
def test_a_torch_model_computes_the_same_everywhere(entry: Entry, tmp_path: Path) -> None:
    loaded = load(entry, tmp_path)
    assert loaded.inputs.arrays
    if entry.refused and cannot_run_alone(loaded):
        for backend in BACKENDS:
            with pytest.raises(UserError, match=entry.refused) as said, session(loaded, backend) as opened:
                opened.run()
            assert "\n" not in str(said.value)
        return
    for backend in BACKENDS:
        facts = agrees(entry, loaded, backend, tmp_path)
    assert facts["exporter"] == "TorchScript" or "by TorchScript refuses" in str(facts["export_note"])


@pytest.mark.parametrize("entry", ONNX_FILES)
def test_an_onnx_file_gives_what_onnxruntime_gives_alone(entry: Entry, tmp_path: Path) -> None:
    loaded = load(entry, tmp_path)
    same_as_alone(entry.model, loaded)
    with pytest.raises(backends.base.BackendError, match="use onnxruntime for ONNX files"), session(loaded, "eager"):
        pass


def same_as_alone(path: str, loaded: Loaded) -> None:
    import onnxruntime as ort

    with session(loaded, "onnxruntime") as opened:
        opened.run()
        found = opened.outputs()
    alone = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, dict(loaded.inputs.arrays))
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_an_integer_scalar_comes_from_a_file_and_decides_a_branch(tmp_path: Path) -> None:
    values = tmp_path / "rate.npz"
    np.savez(values, sr=np.array(16000))
    path = packaged("silero_vad", "data/silero_vad.onnx")
    loaded = load(Entry(path, "input=1x576,state=2x1x128"), tmp_path, input_file=str(values))
    assert loaded.inputs.arrays["sr"] == 16000
    same_as_alone(path, loaded)
