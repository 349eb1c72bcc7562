"""What ONNX Runtime does for a CUDA device, on a CPU: graphs that hold addresses, channels last, precision."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from profiler import backends
from profiler.backends import devices, onnx_cuda, onnx_graph, onnx_installed, onnx_layout, onnx_session
from profiler.backends.base import BackendError, FallbackError, Model, Placement
from profiler.backends.inputs import Inputs
from profiler.backends.onnx_session import OrtSession
from tests import ROOT
from tests.backends.samples import PLACE, answer, difference, fed, images, model, only

pytestmark = pytest.mark.usefixtures("one_thread")
ORT = pytest.importorskip("onnxruntime")

LAST = Placement(memory_format="channels_last")


class Graphs:
    """A session that captures and replays as the CUDA provider does: a graph goes on writing where outputs once were.

    By ``gpu_graph_id``: -1 captures nothing, and what is not set is 0.
    """

    def __init__(self, session):
        self.session, self.places, self.ids = session, {}, []

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run_with_iobinding(self, binding, options):
        try:
            number = options.get_run_config_entry("gpu_graph_id")
        except Exception:  # noqa: BLE001 - onnxruntime's own kinds share no base
            number = "0"
        self.ids.append(number)
        self.session.run_with_iobinding(binding, options)
        here = [(value.data_ptr(), value.numpy().copy()) for value in binding.get_outputs()]
        there = self.places.setdefault(number, [place for place, _ in here]) if number != "-1" else None
        if there is None or there == [place for place, _ in here]:
            return
        for place, made in here:  # it was written elsewhere: here is what was here before
            ctypes.memset(place, 0, made.nbytes)


def opened(session, **how):
    return OrtSession(session, fed(images(2)), PLACE, {}, **how)


@pytest.fixture
def real():
    with backends.get("onnxruntime").load(model(), fed(images(2)), PLACE) as session:
        yield session._session


def test_a_graph_is_captured_once_where_inputs_and_outputs_stay(real):
    runs = Graphs(real)
    session = opened(runs, graph=True)
    session.capture()
    for _ in range(3):
        session.run()
    assert runs.ids == ["-1", "1", "1", "1", "1"]
    assert difference(only(session), answer("eager", images(2))) < 1e-5


def test_new_inputs_reach_a_captured_graph(real):
    """They are copied over those that it reads."""
    session = opened(Graphs(real), graph=True)
    session.capture()
    session._on_host = {name: np.ascontiguousarray(images(2, seed=5)) for name in session._on_host}
    session.upload()
    session.run()
    assert difference(only(session), answer("eager", images(2, seed=5))) < 1e-5


def test_a_session_without_a_graph_says_nothing_of_one(real):
    runs = Graphs(real)
    session = opened(runs)
    session.capture()
    assert len(runs.ids) == 1


def test_a_forward_that_cannot_be_captured_is_one_sentence(real):
    class Fails(Graphs):
        def run_with_iobinding(self, binding, options):
            super().run_with_iobinding(binding, options)
            if self.ids[-1] == "1":
                raise RuntimeError("CUDA error 900: operation not permitted when stream is capturing\nat cuda_call.cc")

    with pytest.raises(BackendError, match=r"cannot capture .* \(CUDA error 900.*capturing\): leave cuda_graph out"):
        opened(Fails(real), graph=True).capture()


def test_outputs_that_are_no_tensors_are_refused_for_a_graph(real, monkeypatch):
    class Sequences(Graphs):
        def io_binding(self):
            made = self.session.io_binding()
            monkeypatch.setattr(made, "get_outputs", lambda: [SimpleNamespace(is_tensor=lambda: False)])
            return made

        def run_with_iobinding(self, binding, options):
            pass

    with pytest.raises(BackendError, match=r"its outputs are not all tensors.*: leave cuda_graph out"):
        opened(Sequences(real), graph=True)


@pytest.mark.parametrize(
    "said",
    [
        "This session cannot use the graph capture feature as requested by the user as all compute graph nodes have "
        "not been partitioned to the CUDAExecutionProvider",
        "This session cannot use the CUDA Graph feature as requested by the user as the model has control flow nodes",
    ],
)
def test_nodes_that_a_graph_cannot_hold_are_refused_with_the_remedy(said):
    with (
        pytest.raises(BackendError, match=r"cannot load net\.onnx as a CUDA graph .*: leave cuda_graph out"),
        onnx_session.one_sentence("onnxruntime cannot load net.onnx"),
    ):
        raise RuntimeError(said)


def test_a_graph_is_not_asked_of_another_provider():
    said = onnx_cuda.without_meaning(Placement("cuda"), "tensorrt", cuda_graph=True, cold=False)
    assert said == "cuda_graph=1 is an option of the CUDA provider and not of provider=tensorrt: leave one of them out"


def test_the_provider_is_told_of_the_graph_and_a_profile_is_taken_without(monkeypatch):
    backend = backends.get("onnxruntime:cuda_graph=1,cold=1")
    assert backend._provider_options(Placement("cuda"))["enable_cuda_graph"] == "1"
    told = []

    def opening(_path, _options, _provider, options):
        told.append(options)
        raise RuntimeError("seen")

    monkeypatch.setattr("profiler.backends.onnxruntime.open_session", opening)
    prepared = SimpleNamespace(path=None, level="all")
    with pytest.raises(BackendError, match="seen"):
        backend._profile(prepared, fed(images()), Placement("cuda"), 1)
    assert "enable_cuda_graph" not in told[0]


def test_a_tensorrt_session_works_in_torchs_stream_too():
    stream = SimpleNamespace(cuda_stream=4711)
    told = backends.get("onnxruntime:provider=tensorrt")._provider_options(Placement("cuda:1", "tf32"), stream)
    assert told == {"user_compute_stream": "4711", "device_id": "1"}


def with_library(folder, provider, library, monkeypatch):
    """Give onnxruntime a library of ``provider`` that needs ``library``, and return that."""
    capi = folder / "capi"
    capi.mkdir()
    gone, provider = capi / library, capi / f"libonnxruntime_providers_{provider}.so"
    build = ["gcc", "-shared", "-fPIC", "-x", "c", "/dev/null", "-x", "none"]
    try:
        subprocess.run([*build, f"-Wl,-soname,{gone.name}", "-o", gone], check=True, capture_output=True)
        subprocess.run(
            [*build, "-Wl,--no-as-needed,-rpath,$ORIGIN", gone, "-o", provider], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a library cannot be made here: {error}")
    monkeypatch.setattr(ORT, "__file__", str(folder / "__init__.py"))
    return gone


def test_tensorrt_that_is_listed_but_not_installed_is_refused(tmp_path, monkeypatch):
    """onnxruntime-gpu lists it always."""
    with_library(tmp_path, "tensorrt", "libnvinfer.so.10", monkeypatch).unlink()
    monkeypatch.setattr(ORT, "get_available_providers", lambda: ["TensorrtExecutionProvider"])
    said = backends.get("onnxruntime:provider=tensorrt").unavailable(Placement("cuda", "tf32"))
    assert said.startswith("TensorrtExecutionProvider cannot be loaded (libnvinfer.so.10: cannot open")
    assert "pip install onnxruntime-gpu and TensorRT" in said


LOST = """
import sys
import onnxruntime
from profiler.backends.onnx_session import library_lost
onnxruntime.__file__ = sys.argv[1]
print(library_lost("TensorrtExecutionProvider"))
"""


def test_libraries_that_torch_brings_along_are_not_missing(tmp_path):
    """As CUDA's are where no other place has them."""
    (tmp_path / "capi").mkdir()
    brought = Path(torch.__file__).parent / "lib" / "libc10.so"
    made = ["-o", tmp_path / "capi" / "libonnxruntime_providers_tensorrt.so"]
    build = ["gcc", "-shared", "-fPIC", "-x", "c", "/dev/null", "-x", "none", "-Wl,--no-as-needed"]
    try:
        subprocess.run([*build, brought, *made], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a library cannot be made here: {error}")
    run = [sys.executable, "-c", LOST, str(tmp_path / "__init__.py")]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"


def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch):
    """onnxruntime logs it, and has no node on the device: the remedy is no other device, but the library."""
    gone = with_library(tmp_path, "cuda", "libcudnn.so.9", monkeypatch)
    said = "This session contains graph nodes that are assigned to the default CPU EP, but fallback to CPU EP has been "

    def falls_back(*_, **__):
        raise RuntimeError(f"{said}explicitly disabled by the user.")

    monkeypatch.setattr(ORT, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(ORT, "InferenceSession", falls_back)

    def opening():
        with onnx_session.one_sentence("onnxruntime cannot load net.onnx"):
            onnx_session.open_session(tmp_path / "net.onnx", None, "CUDAExecutionProvider", {})

    gone.rename(tmp_path / gone.name)
    with pytest.raises(FallbackError, match=r"CUDAExecutionProvider cannot be loaded \(libcudnn\.so\.9: cannot open"):
        opening()
    (tmp_path / gone.name).rename(gone)
    with pytest.raises(FallbackError, match="on the device alone"):
        opening()


# --- precision


def test_tf32_is_a_word_for_onnxruntime_too():
    told = backends.get("onnxruntime")._provider_options(Placement("cuda", "tf32"))
    assert told["use_tf32"] == "1"
    facts = onnx_cuda.device_facts(Placement("cuda", "tf32"), tf32=True, cuda_graph=False, cold=False)
    assert (facts["tf32_convolution"], facts["tf32_matmul"]) == (True, True)
    value = SimpleNamespace(name="x", type="tensor(float)", shape=[1, 3])
    onnx_session._check(value, np.ones((1, 3), np.float32), Placement("cuda", "tf32"))


def test_tensorrt_computes_fp32_in_tf32_and_is_served_under_that_name(monkeypatch):
    """Its builder takes TF32 unless it is told not to, and no option of the provider tells it."""
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["TensorrtExecutionProvider"])
    said = backends.get("onnxruntime:provider=tensorrt").unavailable(Placement("cuda", "fp32"))
    assert "provider=tensorrt is served in tf32 alone and not in fp32: use precision tf32" in said


def test_a_provider_that_no_flag_can_bring_is_said_before_the_flags_that_it_wants():
    for place in (Placement("cpu"), Placement("cuda"), Placement("cuda", "tf32")):
        assert "has no TensorrtExecutionProvider" in backends.get("onnxruntime:provider=tensorrt").unavailable(place)


@pytest.mark.parametrize("spec", ["eager", "torchscript", "onnxruntime"])
def test_tf32_is_refused_on_a_cpu_with_one_sentence(spec):
    said = backends.get(spec).unavailable(Placement("cpu", "tf32"))
    assert said == "tf32 is arithmetic of NVIDIA's GPUs and the device is 'cpu': use precision fp32"


def test_tf32_needs_an_ampere_and_no_rocm(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert "7.5 and tf32 needs 8.0" in devices.arithmetic_unavailable(Placement("cuda", "tf32"))
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert "use precision fp32" in devices.arithmetic_unavailable(Placement("cuda", "tf32"))
    assert devices.arithmetic_unavailable(Placement("cuda", "bf16")) is None


# --- channels last


def transposes(path):
    return [node for node in onnx.load(path).graph.node if node.op_type == "Transpose"]


def test_a_network_takes_and_gives_channels_last_and_computes_the_same(tmp_path):
    """The whole way of a session, on a CPU, which does transpose."""
    example = images(2)
    with backends.get("onnxruntime").load(model(tmp_path), fed(example), LAST) as session:
        assert [value.shape for value in session._session.get_inputs()] == [[2, 16, 16, 3]]
        session.run()
        assert difference(only(session), answer("eager", example)) < 1e-5
    with backends.get("onnxruntime").load(model(tmp_path), fed(example), LAST) as session:
        assert session.facts()["cached"] is True


class Ends(torch.nn.Module):
    """Two images in, an image and a number for each out."""

    def forward(self, x, y):
        made = torch.nn.functional.avg_pool2d(x + y, 2)
        return made, made.mean((1, 2, 3))


def test_every_image_at_an_end_has_its_channels_last(tmp_path):
    given = Inputs((images(2), images(2, seed=1)), names=("x", "y"))
    with backends.get("onnxruntime").load(Model(None, Ends), given, LAST) as session:
        shapes = [value.shape for value in (*session._session.get_inputs(), *session._session.get_outputs())]
        session.run()
        found = session.outputs()
    assert shapes[:3] == [[2, 16, 16, 3], [2, 16, 16, 3], [2, 8, 8, 3]]
    with backends.get("eager").load(Model(None, Ends), given, PLACE) as session:
        session.run()
        expected = session.outputs()
    assert [one.shape for one in found] == [(2, 3, 8, 8), (2,)]
    assert all(np.abs(one - other).max() < 1e-6 for one, other in zip(found, expected, strict=True))


def brought(path, *, listed=False):
    """A file with a convolution as a provider that prefers NHWC rewrites it: a product of the last axis."""
    to_last, to_first = [0, 2, 3, 1], [0, 3, 1, 2]
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=to_last),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Transpose", ["b"], ["y"], perm=to_first),
    ]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 4], np.arange(12.0))
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 5, 6]) for n, c in (("x", 3), ("y", 4)))
    taken = [x, helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 4])] if listed else [x]
    graph = helper.make_graph(nodes, "brought", taken, [y], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8), path)
    return path


def optimised(path, folder):
    options = ORT.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimised.onnx"), 4
    ORT.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return folder / "optimised.onnx"


@pytest.mark.parametrize("listed", [False, True])
def test_what_a_providers_layout_transposes_at_the_ends_is_dropped(listed, tmp_path):
    source = brought(tmp_path / "brought.onnx", listed=listed)
    assert len(transposes(optimised(source, tmp_path))) == 2
    onnx_layout.with_channels_last(source, tmp_path)
    assert transposes(optimised(tmp_path / onnx_graph.GRAPH, tmp_path)) == []


def test_a_file_that_was_brought_runs_in_channels_last_too(tmp_path):
    source, x = brought(tmp_path / "brought.onnx"), np.random.default_rng(0).random((1, 3, 5, 6), np.float32)
    found = []
    for place in (PLACE, LAST):
        with backends.get("onnxruntime").load(
            Model("b", None, source, tmp_path), Inputs((x,), names=("x",)), place
        ) as one:
            one.run()
            found.append(only(one))
    assert found[0].shape == (1, 4, 5, 6)
    assert np.abs(found[0] - found[1]).max() < 1e-5


def test_on_a_gpu_the_layout_is_the_graphs_and_the_providers(tmp_path, monkeypatch):
    """From the placement to what is opened."""

    class OpenedError(Exception):
        pass

    def opening(path, _options, _provider, told):
        taken = [size.dim_value for size in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]
        assert (taken, told["prefer_nhwc"]) == ([1, 16, 16, 3], "1")
        raise OpenedError

    monkeypatch.setattr("profiler.backends.onnxruntime.open_session", opening)
    monkeypatch.setattr(onnx_cuda.accelerator, "own_stream", lambda _: nullcontext(None))
    place = Placement("cuda", memory_format="channels_last")
    with pytest.raises(OpenedError), backends.get("onnxruntime").load(model(), fed(images()), place):
        pass
    assert onnx_installed.PROVIDERS["cuda"] == "CUDAExecutionProvider"
