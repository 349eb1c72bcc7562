"""What the CPU answers where an accelerator would; the accelerator's own answers are in test_simulator and test_gpu."""

import gc
import weakref
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from profiler.backends import accelerator
from profiler.backends.base import DeviceTimed, Model, Placement
from profiler.backends.eager import Eager
from tests.backends.samples import fed

CPU = torch.device("cpu")


def test_the_cpu_has_no_time_of_its_own():
    submitted = []
    assert accelerator.device_times(lambda: submitted.append(1), CPU, 3) == accelerator.DeviceTimes()
    assert submitted == []


def test_nobody_counts_the_memory_of_the_cpu():
    accelerator.reset_peaks(CPU)
    assert accelerator.peaks(CPU) is None


@pytest.mark.parametrize("device", ["cpu", "xpu", "cuda:0"])
def test_only_a_working_nvidia_gpu_has_a_uuid(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert accelerator.uuid(device) is None


def test_the_uuid_is_that_of_the_device_that_torch_numbers(monkeypatch):
    """Not NVML's index: CUDA_VISIBLE_DEVICES may have renumbered."""
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    properties = {0: "aaaa", 1: "bbbb"}
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: type("P", (), {"uuid": properties[device.index]})
    )
    assert accelerator.uuid("cuda:1") == "bbbb"


def test_the_cpu_is_not_simulated():
    assert accelerator.simulated(CPU) is False


def test_a_torch_session_offers_device_time():
    model = Model(key=None, module=torch.nn.Flatten)
    with Eager().load(model, fed(np.zeros((1, 3, 2, 2), np.float32)), Placement()) as session:
        assert isinstance(session, DeviceTimed)
        assert session.device_ns(3) == ()


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_without_an_accelerator_there_is_no_stream_to_share(device, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with accelerator.own_stream(torch.device(device)) as stream:
        assert stream is None


class Streams:
    """CUDA's streams as far as a capture uses them: torch's own one for captures is on the device of the first."""

    def __init__(self, monkeypatch):
        self.own, self.captured_on = None, []
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: SimpleNamespace(device=device, wait_stream=id))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(device=device, wait_stream=id))
        monkeypatch.setattr(torch.cuda, "stream", nullcontext)
        monkeypatch.setattr(torch.cuda, "device", self.enter)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=None))
        monkeypatch.setattr(torch.cuda, "graph", self.graph)

    def enter(self, device):
        self.current = device
        return nullcontext()

    def graph(self, _graph, stream=None):
        self.own = self.own or self.current
        self.captured_on.append(self.own if stream is None else stream.device)
        return nullcontext()


def test_each_device_captures_in_a_stream_of_its_own(monkeypatch):
    streams = Streams(monkeypatch)
    for device in ("cuda:0", "cuda:1"):
        accelerator.captured(lambda: torch.zeros(1), torch.device(device))
    assert streams.captured_on == [torch.device("cuda:0"), torch.device("cuda:1")]


def test_a_captured_graph_keeps_the_weights_it_reads(monkeypatch):
    """It holds addresses alone: on a real GPU it read memory that had been given away with its module."""
    monkeypatch.setattr(accelerator, "captured", lambda call, _device: (lambda: None, call()))
    built = []

    def module():
        made = torch.nn.Flatten()
        built.append(weakref.ref(made))
        return made

    example = np.zeros((1, 3, 2, 2), np.float32)
    with Eager(cuda_graph=True).load(Model(key=None, module=module), fed(example), Placement()) as session:
        gc.collect()
        assert built[0]() is not None
        session.run()
    gc.collect()
    assert built[0]() is None
