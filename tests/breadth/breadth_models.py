"""What runs in torch or ONNX Runtime alone runs here: eager, TorchScript and ONNX Runtime compute the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from profiler import backends
from profiler.backends.base import BackendError, Placement
from profiler.errors import UserError
from profiler.measure import parity
from profiler.models import source
from profiler.models.loaded import Asked, Loaded
from profiler.records.types import Case
from tests.breadth.catalogue import BACKENDS, MORE_MODELS, NO_OPERATORS, ONNX_FILES, TORCH_MODELS, Entry, packaged

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]  # other packages' warnings


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


def fails_alone(loaded: Loaded, backend: str, folder: Path) -> None:
    """Show that torch cannot run, trace or export the bare module either, by whichever way."""
    assert loaded.model.module is not None
    args, kwargs = loaded.inputs.mapped(lambda _, array: torch.tensor(array))
    module = loaded.model.module()
    ways: dict[str, list[Callable[[], object]]] = {
        "eager": [lambda: module(*args, **kwargs)],
        "torchscript": [lambda: torch.jit.trace(module, args)],
        "onnxruntime": [
            lambda newer=newer: torch.onnx.export(module, args, folder / "bare.onnx", kwargs=kwargs, dynamo=newer)
            for newer in (False, True)
        ],
    }
    for way in ways[backend]:
        with torch.no_grad(), pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
            way()


@pytest.mark.parametrize("entry", [*TORCH_MODELS, *MORE_MODELS])
def test_a_torch_model_computes_the_same_everywhere(entry: Entry, tmp_path: Path) -> None:
    loaded = load(entry, tmp_path)
    assert loaded.inputs.arrays
    if NO_OPERATORS in entry.refused.values() and hasattr(torch.ops.torchvision, "nms"):
        pytest.skip("torchvision's operators load beside this torch")
    for backend in BACKENDS:
        if backend in entry.refused:
            with pytest.raises((BackendError, UserError), match=entry.refused[backend]) as said:
                agrees(entry, loaded, backend, tmp_path)
            assert "\n" not in str(said.value)
            fails_alone(loaded, backend, tmp_path)
            continue
        facts = agrees(entry, loaded, backend, tmp_path)
        refused = "by TorchScript refuses the model (" in str(facts.get("export_note"))
        assert facts.get("exporter") in (None, "torch.export" if refused else "TorchScript")


@pytest.mark.parametrize("entry", ONNX_FILES)
def test_an_onnx_file_gives_what_onnxruntime_gives_alone(entry: Entry, tmp_path: Path) -> None:
    loaded = load(entry, tmp_path)
    same_as_alone(entry.model, loaded)
    with pytest.raises(BackendError, match="use onnxruntime for ONNX files"), session(loaded, "eager"):
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
