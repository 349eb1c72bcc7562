import importlib.util
import platform
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from profiler import backends
from profiler.backends import cache, onnx_graph, onnx_installed, onnxruntime
from profiler.backends.base import BackendError, DeviceTimed, FallbackError, Model, Placement
from profiler.backends.inputs import Inputs
from profiler.backends.onnx_graph import OPSET, export
from profiler.backends.onnx_session import innermost
from tests.backends.samples import fed, only, tiny

PLACE = Placement()
WEIGHTS = np.random.default_rng(0).standard_normal((4, 3, 3, 3), dtype=np.float32)


def network(path, batch="batch", element=TensorProto.FLOAT, inputs=1):
    """A convolution and a global mean: 3 channels in, 4 out; the batch is dynamic when it is a name."""
    names = [f"image{i}" for i in range(inputs)]
    dtype = helper.tensor_dtype_to_np_dtype(element)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", [names[-1], "w"], ["y"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["y"], ["z"]),
            helper.make_node("GlobalAveragePool", ["z"], ["p"]),
            helper.make_node("Flatten", ["p"], ["out"]),
        ],
        "net",
        [helper.make_tensor_value_info(name, element, [batch, 3, 8, 8]) for name in names],
        [helper.make_tensor_value_info("out", element, [batch, 4])],
        [numpy_helper.from_array(WEIGHTS.astype(dtype), "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made)
    onnx.save(made, path)
    return Model(key="net", module=None, onnx=path)


def images(*shape):
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def load(model, example, placement=PLACE, spec="onnxruntime"):
    """A file takes its inputs by name."""
    inputs = fed(example) if model.onnx is None else Inputs(kwargs={"image0": example})
    return backends.get(spec).load(model, inputs, placement)


def expected(example):
    """The network in numpy: pad, convolve, relu, mean."""
    padded = np.pad(example, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.maximum(np.einsum("bchwij,ocij->bohw", windows, WEIGHTS), 0).mean((2, 3))


@pytest.mark.parametrize(("declared", "batch"), [("batch", 1), ("batch", 5), (5, 5)])
def test_a_users_file_runs_as_it_is(declared, batch, tmp_path):
    example = images(batch, 3, 8, 8)
    with load(network(tmp_path / "net.onnx", declared), example) as session:
        session.run()
        np.testing.assert_allclose(only(session), expected(example), rtol=1e-5, atol=1e-6)
        assert session.facts()["opset"] is None


@pytest.mark.parametrize("level", ["all", "extended", "basic", "none"])
def test_every_level_of_optimisation_agrees(level, tmp_path):
    example = images(2, 3, 8, 8)
    with load(network(tmp_path / "net.onnx"), example, spec=f"onnxruntime:graph={level}") as session:
        session.run()
        np.testing.assert_allclose(only(session), expected(example), rtol=1e-5, atol=1e-6)
        assert session.facts()["graph"] == level
        nodes = session.facts()["nodes_CPUExecutionProvider"]
    assert nodes == 4 if level == "none" else nodes > 0


def test_a_users_file_is_cached_optimised_and_never_changed(tmp_path):
    model = network(tmp_path / "net.onnx")
    before = model.onnx.read_bytes()
    cached = Model(model.key, None, model.onnx, tmp_path / "cache")
    for expect in (False, True):
        with load(cached, images(2, 3, 8, 8)) as session:
            assert session.facts()["cached"] is expect
    assert model.onnx.read_bytes() == before


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 3, 9, 9), "1x3x9x9"), ((1, 1, 8, 8), "1x1x8x8"), ((1, 192), "1x192")],
)
def test_a_wrong_shape_is_one_sentence(shape, said, tmp_path):
    with pytest.raises(BackendError) as error, load(network(tmp_path / "net.onnx"), images(*shape)):
        pass
    assert str(error.value) == (
        f"the input 'image0' has shape batchx3x8x8 and {said} was given: choose batch and shape to fit"
    )


@pytest.mark.parametrize(("machine", "has"), [("x86_64", False), ("aarch64", True)])
def test_a_file_in_fp16_runs_and_says_in_what_it_is_computed(machine, has, tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: machine)
    model = network(tmp_path / "net.onnx", element=TensorProto.FLOAT16)
    asked_fp16 = backends.get("onnxruntime").unavailable(Placement(precision="fp16"))
    assert (asked_fp16 is None) == has
    if has:
        with pytest.raises(BackendError, match=r"use precision fp16$"), load(model, images(1, 3, 8, 8)):
            pass
        return
    with load(model, images(1, 3, 8, 8)) as session:
        session.run()
        assert only(session).shape[0] == 1
        assert "computes it in fp32" in session.facts()["kernel_note"]
    assert "use precision fp32" in asked_fp16


def test_an_input_that_was_not_given_is_named(tmp_path):
    with (
        pytest.raises(BackendError, match=r"takes image0, image1, and image1 was not given: .* is image0"),
        load(network(tmp_path / "net.onnx", inputs=2), images(1, 3, 8, 8)),
    ):
        pass


@pytest.mark.parametrize("content", [b"", b"not a graph", None])
def test_a_broken_file_is_one_sentence(content, tmp_path, capfd):
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BackendError) as error, load(Model("key", None, path), images(1, 3, 8, 8)):
        pass
    assert "net.onnx" in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_nodes_that_run_elsewhere_are_a_fallback(tmp_path, monkeypatch):
    """The CPU wheel's Azure provider takes no node: all go silently to the CPU, as with a broken CUDA."""
    monkeypatch.setitem(onnx_installed.PROVIDERS, "cpu", "AzureExecutionProvider")
    with (
        pytest.raises(FallbackError, match=r"do not run on AzureExecutionProvider .* CPUExecutionProvider"),
        load(network(tmp_path / "net.onnx"), images(1, 3, 8, 8)),
    ):
        pass


def test_a_session_for_a_gpu_forbids_the_cpu(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(onnx_installed.PROVIDERS, "cuda", "AzureExecutionProvider")
    monkeypatch.setattr(onnxruntime.OnnxRuntime, "_provider_options", lambda *_: {})
    with (
        pytest.raises(FallbackError, match="fallback to CPU EP has been explicitly disabled"),
        load(network(tmp_path / "net.onnx"), images(1, 3, 8, 8), Placement(device="cuda")),
    ):
        pass
    assert capfd.readouterr() == ("", "")


def test_a_provider_that_is_not_built_in_is_a_fallback(tmp_path, monkeypatch):
    monkeypatch.setitem(onnx_installed.PROVIDERS, "cuda", "NoSuchExecutionProvider")
    with (
        pytest.raises(FallbackError, match="has no NoSuchExecutionProvider"),
        load(network(tmp_path / "net.onnx"), images(1, 3, 8, 8), Placement(device="cuda")),
    ):
        pass


def test_provider_options_for_a_gpu():
    fast = backends.get("onnxruntime:tf32=1,cudnn_benchmark=1")
    placement = Placement(device="cuda:1", memory_format="channels_last")
    assert fast._provider_options(placement) == {
        "device_id": "1",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "use_tf32": "1",
        "prefer_nhwc": "1",
    }
    plain = backends.get("onnxruntime")._provider_options(Placement(device="cuda"))
    assert plain == {
        "device_id": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
        "prefer_nhwc": "0",
    }


def tasks():
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_pool_has_exactly_the_threads_that_were_asked(threads, tmp_path):
    """The caller is one of them, so the process gains one less."""
    model = network(tmp_path / "net.onnx")
    before = tasks()
    with load(model, images(1, 3, 8, 8), Placement(threads=threads)) as session:
        session.run()
        assert tasks() - before == threads - 1
        assert session.facts()["threads"] == threads
    assert tasks() == before


@pytest.mark.parametrize("spin", [False, True])
def test_spinning_is_off_unless_asked(spin, tmp_path):
    spec = f"onnxruntime:spin={int(spin)}"
    with load(network(tmp_path / "net.onnx"), images(1, 3, 8, 8), Placement(threads=2), spec) as session:
        assert session.facts()["spin"] is spin


def test_a_missing_package_has_a_remedy(monkeypatch):
    monkeypatch.setattr(onnx_installed, "find_spec", lambda _: None)
    backend = backends.get("onnxruntime")
    assert backend.unavailable(PLACE) == "onnxruntime is not installed: pip install 'latency-profiler[cpu]'"
    assert backend.unavailable(Placement(device="cuda")).endswith("'latency-profiler[gpu]'")


def test_two_distributions_are_refused(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda _: "1.0")
    assert "both installed" in backends.get("onnxruntime").unavailable(PLACE)


@pytest.mark.parametrize(
    ("placement", "words"),
    [
        (Placement(precision="bf16"), "no bf16 convolution"),
        (Placement(memory_format="channels_last"), "use memory_format contiguous"),
        (Placement(device="mps"), "runs on cpu and cuda"),
    ],
)
def test_what_it_cannot_do_it_says(placement, words):
    assert words in backends.get("onnxruntime").unavailable(placement)


@pytest.mark.parametrize(("machine", "has"), [("x86_64", False), ("aarch64", True)])
def test_fp16_needs_kernels(machine, has, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    reason = backends.get("onnxruntime").unavailable(Placement(precision="fp16"))
    assert (reason is None) is has


def test_an_exported_half_precision_model_is_half_precision_from_end_to_end(tmp_path):
    example = images(1, 3, 16, 16)
    placement = Placement(precision="fp16")
    export(Model("tiny", tiny), fed(example), placement, tmp_path)
    made = onnx.load(tmp_path / "model.onnx")
    assert {value.data_type for value in made.graph.initializer} <= {TensorProto.FLOAT16, TensorProto.INT64}
    assert [(o.domain, o.version) for o in made.opset_import] == [("", OPSET)]
    with load(Model("tiny", tiny), example, placement) as session:
        session.run()
        assert session.facts()["input_type"] == "tensor(float16)"
        assert only(session).dtype == np.float32


def test_an_operator_that_onnx_lacks_is_one_sentence():
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    with pytest.raises(BackendError, match="torch cannot export"), load(Model(None, Odd), images(1, 3, 8, 8)):
        pass


def test_weights_are_beside_the_graph_so_there_is_no_limit_of_2_gb(tmp_path):
    class Wide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 1000)

        def forward(self, x):
            return self.layer(x.mean((2, 3)))

    with load(Model("wide", Wide, cache=tmp_path), images(1, 3, 8, 8)) as session:
        session.run()
    (weights,) = tmp_path.rglob(onnx_graph.WEIGHTS)
    assert weights.stat().st_size >= 4 * 3 * 1000


def test_the_processor_is_named(monkeypatch):
    assert cache.processor()
    monkeypatch.setattr(Path, "read_text", lambda _: (_ for _ in ()).throw(OSError()))
    assert cache.processor()


def test_the_wheel_here_has_the_provider_that_the_fallback_tests_need():
    assert importlib.util.find_spec("onnxruntime")
    import onnxruntime as ort

    assert "AzureExecutionProvider" in ort.get_available_providers()


class Stream:
    """What torch's stream tells of itself; the address 0 is the default one's."""

    def __init__(self, address: int) -> None:
        self.cuda_stream = address


def test_the_session_for_a_gpu_works_in_torchs_stream(tmp_path, monkeypatch):
    """All the way from the context that makes it to the provider's options."""

    class OpenedError(Exception):
        pass

    def opened(_path, _options, provider, provider_options):
        assert provider == "CUDAExecutionProvider"
        assert provider_options["user_compute_stream"] == "4711"
        assert provider_options["do_copy_in_default_stream"] == "1"
        raise OpenedError

    shared = {"cuda:1": Stream(4711)}
    cuda = onnxruntime.onnx_cuda.accelerator
    monkeypatch.setattr(cuda, "own_stream", lambda device: nullcontext(shared[str(device)]))
    monkeypatch.setattr(onnxruntime, "open_session", opened)
    with pytest.raises(OpenedError), load(network(tmp_path / "net.onnx"), images(1, 3, 8, 8), Placement("cuda:1")):
        pass


@pytest.mark.parametrize("stream", [None, Stream(0)])
def test_a_default_stream_is_not_handed_over(stream):
    """The provider takes its address for none given, and would work elsewhere than the events."""
    options = backends.get("onnxruntime")._provider_options(Placement("cuda"), stream)
    assert not {"user_compute_stream", "do_copy_in_default_stream"} & set(options)


class Told:
    """A session that tells more of its provider than it has."""

    def __init__(self, session, options):
        self.session, self.options = session, options

    def __getattr__(self, name):
        return getattr(self.session, name)

    def get_provider_options(self):
        return {"CPUExecutionProvider": self.options}


def test_facts_say_that_a_stream_is_shared_but_not_its_address(tmp_path):
    """The address is another in every process, and facts that differ set visits apart."""
    with load(network(tmp_path / "net.onnx"), images(1, 3, 8, 8)) as session:
        told = Told(session._session, {"has_user_compute_stream": "1", "user_compute_stream": "4711"})
        facts = backends.get("onnxruntime")._facts(told, PLACE)
    assert facts["provider_has_user_compute_stream"] == "1"
    assert "4711" not in facts.values()


def test_the_cpu_has_no_time_by_events(tmp_path):
    with load(network(tmp_path / "net.onnx"), images(1, 3, 8, 8)) as session:
        assert isinstance(session, DeviceTimed)
        assert session.device_ns(3) == ()
        with pytest.raises(BackendError, match="call run"):
            only(session)  # nothing ran


def doubled(path, inputs):
    """``x + x``, where ``x`` is a scalar: an input, or a weight of a file that takes nothing."""
    scalar = helper.make_tensor_value_info("x", TensorProto.FLOAT, [])
    weights = [] if inputs else [numpy_helper.from_array(np.array(1.5, np.float32), "x")]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", [scalar] * inputs, out, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return Model(key="doubled", module=None, onnx=path)


@pytest.mark.parametrize("inputs", [0, 1])
def test_a_scalar_stays_one_and_a_file_may_take_nothing(inputs, tmp_path):
    given = Inputs(kwargs={"x": np.array(1.5, np.float32)} if inputs else {})
    with backends.get("onnxruntime").load(doubled(tmp_path / "d.onnx", inputs), given, PLACE) as session:
        session.run()
        [found] = session.outputs()
        assert (found.shape, found.tolist()) == ((), 3.0)
        assert session.facts()["input_type"] == ("tensor(float)" if inputs else None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "Error in execution: Non-zero status code returned while running If node. Name:'If_0' Status Message: "
            "Non-zero status code returned while running LSTM node. Name:'rnn/LSTM' Status Message: Input X must have "
            "3 dimensions only. Actual:{1,1,1,128,2}",
            "LSTM node rnn/LSTM: Input X must have 3 dimensions only. Actual:{1,1,1,128,2}",
        ),
        (
            "Error in execution: Non-zero status code returned while running Resize node. Name:'Resize.0' Status "
            "Message: /onnxruntime_src/onnxruntime/core/framework/op_kernel.cc:87 virtual OrtValue* "
            "onnxruntime::OpKernelContext::OutputMLValue(int, const onnxruntime::TensorShape&) [ONNXRuntimeError] : 1 "
            ": FAIL : Shape mismatch attempting to re-use buffer. {1,2} != {1,3}.\nmore",
            "Resize node Resize.0: Shape mismatch attempting to re-use buffer. {1,2} != {1,3}",
        ),
        ("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model failed", "Load model failed"),
        ("no words of its own", "no words of its own"),
    ],
)
def test_an_error_is_told_by_the_innermost_node(text: str, said: str) -> None:
    assert innermost(text) == said
