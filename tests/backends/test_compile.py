"""torch.compile: made once, read back by content, its breaks counted and named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from profiler import backends
from profiler.backends import inductor
from profiler.backends.base import BackendError, Model, Placement
from profiler.records.types import Case
from profiler.run.preparing import ahead_s
from tests.backends.samples import PLACE, fed

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(inductor.compiler_missing(PLACE) is not None, reason=str(inductor.compiler_missing(PLACE))),
]
EXAMPLE = fed(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4))


class Broken(nn.Module):
    """Two graphs, since what is between them cannot be traced."""

    def forward(self, x):
        y = torch.sigmoid(x) + 1
        torch._dynamo.graph_break()
        return y * y


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What two sessions say and compute, one after the other, and how many graphs were compiled in each."""
    cache, found = tmp_path_factory.mktemp("cache"), []
    for _ in range(2):
        with backends.get("compile").load(Model("broken", Broken, cache=cache), EXAMPLE, PLACE) as session:
            session.run()
            found.append((dict(session.facts()), session.outputs()[0]))
    return found


def test_computes_what_eager_does(seen):
    expected = Broken()(torch.from_numpy(EXAMPLE.args[0])).numpy()
    for _, output in seen:
        np.testing.assert_allclose(output, expected, rtol=1e-6)


def test_the_second_session_compiles_nothing(seen):
    (first, _), (second, _) = seen
    assert (first["cached"], second["cached"]) == (False, True)
    # What runs is always read from what was kept, in the session that made it too.
    assert [(one["graphs_compiled"], one["graphs_read"]) for one in (first, second)] == [(0, 2), (0, 2)]


def test_breaks_are_counted_and_named(seen):
    facts = seen[1][0]
    assert (facts["graphs"], facts["graph_breaks"]) == (2, 1)
    assert "broke the model into 2 graphs" in facts["compile_note"]
    assert "graph_break" in facts["compile_note"]
    assert "\n" not in facts["compile_note"]


def test_nothing_of_it_stays_behind(seen):
    import os

    assert not os.environ.get("TORCHINDUCTOR_CACHE_DIR", "").startswith("/tmp/latency-profiler-")
    assert torch._inductor.config.compile_threads != 1 or os.cpu_count() == 1


def test_no_compiler_is_one_sentence_with_a_remedy(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    reason = backends.get("compile").unavailable(PLACE)
    assert reason == (
        "torch.compile needs a C++ compiler and there is no 'no-such-compiler': install one, or use torchscript"
    )


def test_cuda_graphs_are_refused_on_the_cpu():
    assert "mode=default" in backends.get("compile:mode=reduce-overhead").unavailable(PLACE)


def test_graphs_that_torch_quietly_launches_are_no_cuda_graphs():
    """Here because the device is the CPU; on a GPU because of an operator on the host, or an input that is changed."""
    with (
        pytest.raises(BackendError, match=r"replays 1 of the model's 1 graphs as no CUDA graph .*: use mode=default"),
        backends.get("compile:mode=reduce-overhead").load(Model(None, nn.ReLU), EXAMPLE, PLACE),
    ):
        pass


def test_triton_needs_a_c_compiler(monkeypatch):
    monkeypatch.setattr(inductor, "find_spec", lambda _: object())
    monkeypatch.delenv("CC", raising=False)
    assert inductor.compiler_missing(Placement("cuda")) is None
    monkeypatch.setattr(inductor.shutil, "which", lambda _: None)
    assert "there is neither gcc nor clang" in inductor.compiler_missing(Placement("cuda"))
    monkeypatch.setenv("CC", "mine")
    assert "there is no 'mine'" in inductor.compiler_missing(Placement("cuda"))


def test_a_package_for_a_gpu_needs_the_cuda_toolkit(monkeypatch, tmp_path):
    """Only to be made; torch would say that CUDA_HOME is not set, after it has exported the model."""
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert f"needs cuda.h and {tmp_path} has none" in inductor.toolkit_missing(Placement("cuda"))
    assert inductor.toolkit_missing(PLACE) is None
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "cuda.h").touch()
    assert inductor.toolkit_missing(Placement("cuda")) is None
    monkeypatch.setenv("CXX", "mine")
    assert "AOTInductor needs a C++ compiler and there is no 'mine'" in inductor.toolkit_missing(Placement("cuda"))


@pytest.mark.parametrize("name", ["compile", "aoti"])
def test_what_one_gpu_runs_is_not_kept_for_another(name, monkeypatch):
    """cuda:0 is the other card once CUDA_VISIBLE_DEVICES has turned them round."""
    keys = []
    for card, capability in (("H200", (9, 0)), ("RTX 3090 Ti", (8, 6)), ("H200", (9, 0))):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, card=card: card)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        kinds = {"kernels": False} if name == "compile" else {}
        keys.append(backends.get(name)._key(Model("net", nn.ReLU), EXAMPLE, Placement("cuda:0"), **kinds))
    assert keys[0] == keys[2] != keys[1]


def test_what_cannot_be_compiled_is_one_sentence():
    def refuses(*_):
        raise RuntimeError("backend='inductor' raised:\nNo: it does not")

    placed = type("Placed", (), {"args": (), "kwargs": {}})()
    with pytest.raises(BackendError, match=r"cannot compile the model \(backend='inductor' raised:\): use eager"):
        inductor.first_call(refuses, placed)


def test_a_first_compilation_has_a_limit_of_its_own():
    def case(backend):
        return Case("resnet50", "", 1.0, backend, Placement())

    assert ahead_s(case("compile:mode=max-autotune")) > 600
    assert ahead_s(case("eager")) == 0
