import ctypes
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from profiler import backends
from profiler.backends import devices, onnx_cuda
from profiler.backends.base import Placement

ONES = torch.ones


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """Everything that the checks ask answers as one healthy GPU would; a test then breaks one answer."""
    node = tmp_path / "nvidiactl"
    node.touch()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.version, "hip", None)
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "NVIDIA_TF32_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: name)
    monkeypatch.setattr(devices, "_DRIVER_NODES", (str(node),))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    monkeypatch.setattr(torch, "ones", lambda n, device: ONES(n))
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda _: None)
    return monkeypatch


def raiser(error):
    def call(*_, **__):
        raise error

    return call


BREAKS = {
    "wheel": ((torch.version, "cuda", None), "build for the CPU only"),
    "hidden": (None, "CUDA_VISIBLE_DEVICES is '-1'"),
    "library": ((ctypes, "CDLL", raiser(OSError("no such file"))), r"libcuda\.so\.1 cannot be loaded"),
    "node": ((devices, "_DRIVER_NODES", ("/dev/absent",)), "/dev/absent does not exist.*--gpus all"),
    "index": ((torch.cuda, "device_count", lambda: 0), "no cuda:0, the devices are none"),
    "start": (
        (torch.cuda, "get_device_capability", raiser(RuntimeError("driver too old\nmore"))),
        r"does not start \(driver too old\)",
    ),
    "architecture": ((torch.cuda, "get_arch_list", lambda: ["sm_70"]), r"capability 9\.0.*sm_70"),
    "probe": ((torch, "ones", raiser(RuntimeError("out of memory"))), r"failed \(out of memory\)"),
}


def break_one(gpu, name):
    """Break what check ``name`` asks and return the words that must then be said."""
    answer, words = BREAKS[name]
    if answer is None:
        gpu.setenv("CUDA_VISIBLE_DEVICES", "-1")
    else:
        gpu.setattr(*answer)
    return words


def test_a_healthy_gpu_passes(gpu):
    assert devices.unavailable("cuda") is None
    assert devices.unavailable("cuda:0") is None


@pytest.mark.parametrize("name", BREAKS)
def test_names_what_is_broken(name, gpu):
    words = break_one(gpu, name)
    reason = devices.unavailable("cuda")
    assert re.search(words, reason)
    assert reason.endswith("or use --device cpu")
    assert "\n" not in reason


def test_names_the_first_of_all_that_is_broken(gpu):
    """Breaks from the last check to the first: each new one must come before those already broken."""
    order = [name for name in reversed(BREAKS) if name != "start"]  # a device that does not start has no architecture
    for name in order:
        assert re.search(break_one(gpu, name), devices.unavailable("cuda"))


@pytest.mark.parametrize("visible", ["", "-1", " "])
def test_hidden_gpus(visible, gpu):
    gpu.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert "unset it" in devices.unavailable("cuda")


@pytest.mark.parametrize(("blocking", "refused"), [("1", True), ("0", False), ("", False)])
def test_launches_that_block_are_refused(blocking, refused, gpu):
    """Each would wait for its kernel, and what is timed is another program."""
    gpu.setenv("CUDA_LAUNCH_BLOCKING", blocking)
    said = devices.unavailable("cuda")
    assert (said is not None and "CUDA_LAUNCH_BLOCKING is '1'" in said) is refused


def test_a_driver_that_is_too_old_is_said_though_torch_counts_no_device(gpu):
    """Without NVML torch only warns, and answers 0."""
    gpu.setattr(torch.cuda, "device_count", lambda: 0)
    gpu.setattr(torch.cuda, "init", raiser(RuntimeError("The NVIDIA driver on your system is too old (found 11040).")))
    said = devices.unavailable("cuda")
    assert said.startswith("CUDA does not start (The NVIDIA driver on your system is too old (found 11040))")


def test_a_driver_lies_elsewhere_on_windows(gpu):
    gpu.setattr("sys.platform", "win32")
    gpu.setattr(ctypes, "CDLL", raiser(OSError("no libcuda.so.1")))
    assert devices.unavailable("cuda") is None


def test_an_override_of_tf32_is_not_called_tf32(gpu):
    gpu.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert "NVIDIA_TF32_OVERRIDE=0" in devices.arithmetic_unavailable(Placement("cuda", "tf32"))
    assert devices.arithmetic_unavailable(Placement("cuda", "fp32")) is None
    for spec in ("eager:tf32=1", "torchscript:tf32=1"):
        assert "NVIDIA_TF32_OVERRIDE=0" in backends.get(spec).unavailable(Placement("cuda"))
    assert "NVIDIA_TF32_OVERRIDE=0" in onnx_cuda.without_meaning(
        Placement("cuda"), "default", cuda_graph=False, cold=False, tf32=True
    )


@pytest.mark.parametrize("visible", ["0", "0,1", "GPU-8f2e"])
def test_visible_gpus(visible, gpu):
    gpu.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.unavailable("cuda") is None


def test_an_index_out_of_range_lists_the_devices(gpu):
    assert "no cuda:2, the devices are cuda:0" in devices.unavailable("cuda:2")


def test_a_gpu_that_cannot_add_is_found(gpu):
    gpu.setattr(torch, "ones", lambda n, device: torch.zeros(n))
    assert "added ones to 8.0 instead of 16" in devices.unavailable("cuda")


def test_rocm_skips_what_only_nvidia_has(gpu):
    gpu.setattr(torch.version, "cuda", None)
    gpu.setattr(torch.version, "hip", "6.4")
    gpu.setattr(ctypes, "CDLL", raiser(OSError("no libcuda")))
    gpu.setattr(torch.cuda, "get_arch_list", lambda: ["gfx942"])
    assert devices.unavailable("cuda") is None


def test_bf16_needs_an_ampere(gpu):
    assert devices.arithmetic_unavailable(Placement("cuda", "bf16")) is None
    assert devices.arithmetic_unavailable(Placement("cpu", "bf16")) is None
    gpu.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert "7.5 and bf16 needs 8.0" in devices.arithmetic_unavailable(Placement("cuda", "bf16"))


def test_other_accelerators_must_be_the_one_torch_has(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("xpu"))
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 1)
    assert "has xpu here" in devices.unavailable("mps")
    assert "no xpu:1, the devices are xpu:0" in devices.unavailable("xpu:1")
    assert "a first operation on xpu:0 failed" in devices.unavailable("xpu")


def test_no_accelerator(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert "has no accelerator that works" in devices.unavailable("xpu")


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_the_cpu_is_there(device):
    assert devices.unavailable(device) is None


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((8, 6), ["sm_80"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80", "sm_86"], False),
        ((9, 0), ["sm_80", "compute_80"], True),
        ((7, 5), ["compute_80"], False),
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_90a"], False),
        ((10, 3), ["sm_100f"], True),
        ((12, 0), ["sm_100f"], False),
        ((12, 0), ["sm_120"], True),
        ((9, 0), ["gfx942"], False),
        ((9, 0), [], False),
    ],
)
def test_runs_on(capability, built, runs):
    assert devices._runs_on(capability, built) is runs


@given(st.tuples(st.integers(5, 12), st.integers(0, 9)))
def test_code_for_a_capability_runs_there(capability):
    major, minor = capability
    for kind in ("sm", "compute"):
        assert devices._runs_on(capability, [f"{kind}_{major}{minor}"])
    assert not devices._runs_on(capability, [f"sm_{major + 1}{minor}", f"compute_{major + 1}{minor}"])
