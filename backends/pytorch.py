"""What the backends that run on torch share: placing a module, running it, and saying what really ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from profiler.backends import accelerator, devices, switches
from profiler.backends.base import BackendError, Fact, Model, Placement

if TYPE_CHECKING:
    import torch
    from torch import nn

    from profiler.backends.base import Array


@dataclass(frozen=True, slots=True)
class Flags:
    """Global switches of torch, set while a session is open and put back after it.

    Attributes:
        tf32: Let fp32 convolutions and matrix products use TF32. Off: fp32 means fp32.
        cudnn_benchmark: Let cuDNN try its algorithms on the first run instead of choosing by heuristic.
        cold: Flush the device's L2 cache before each forward that the device itself times: ``device_ns`` is then
            that of a network whose weights are not in the cache. The host's latency is the same as without.
    """

    tf32: bool = False
    cudnn_benchmark: bool = False
    cold: bool = False

    def refusal(self, placement: Placement) -> str | None:
        """Return which flag has no meaning on the device of ``placement``, or None."""
        if self.cold and placement.device_type == "cpu":
            return "cold=1 needs a device with events and the CPU has none: leave the option out"
        return None


class TorchSession:
    """A module with its input on its device; ``facts`` come on top of what torch reads back."""

    def __init__(
        self,
        call: Callable[[torch.Tensor], object],
        x: torch.Tensor,
        facts: Mapping[str, Fact],
        *,
        cold: bool = False,
    ) -> None:
        self._call = call
        self._cold = cold
        self._input: torch.Tensor | None = x
        self._device = x.device
        self._output: object = None
        self._switches = switches.current()
        self._facts = read_back(x) | {"cold": cold} | dict(facts)

    def run(self) -> None:
        """Submit one forward pass."""
        import torch

        if self._input is None:
            raise BackendError("the session is closed: load the model again")
        if switches.current() is not self._switches:  # another session that is open too has held its own
            switches.resume(self._switches)
        with torch.inference_mode():
            self._output = self._call(self._input)

    def sync(self) -> None:
        """Block until the device has finished."""
        devices.synchronize(self._device)

    def device_ns(self, calls: int) -> tuple[int, ...]:
        """Return the time of ``calls`` forwards on the device by its events, in ns; empty on the CPU."""
        before = accelerator.flusher(self._device) if self._cold else None
        return accelerator.device_ns(self.run, self._device, calls, before)

    def output(self) -> Array:
        """Return the output of the last run as fp32 on the host, shape (batch, classes)."""
        import torch

        if self._output is None:
            raise BackendError("there is no output yet: call run() first")
        if not isinstance(self._output, torch.Tensor):
            name = type(self._output).__name__
            raise BackendError(f"the model returned a {name}: wrap it so that it returns one tensor")
        return self._output.to(device="cpu", dtype=torch.float32, copy=True).numpy()

    def facts(self) -> Mapping[str, Fact]:
        """Return versions, device, threads and flags as read back."""
        return self._facts

    def close(self) -> None:
        """Let go of weights, input and output."""
        self._call, self._input, self._output = _closed, None, None
        devices.release(self._device)


def _closed(_: torch.Tensor) -> None:
    raise BackendError("the session is closed: load the model again")


def unservable(placement: Placement) -> str | None:
    """Return why torch cannot serve ``placement`` here, with the remedy, or None when it can."""
    if find_spec("torch") is None:
        return "torch is not installed: pip install latency-profiler"
    reason = devices.malformed(placement) or devices.unavailable(placement.device)
    if reason is None and placement.precision == "bf16":
        reason = devices.bfloat16_unavailable(placement.device)
    return reason


def place(model: Model, placement: Placement, backend: str) -> nn.Module:
    """Build the module of ``model`` and put it where ``placement`` says, in evaluation mode."""
    if model.module is None:
        raise BackendError(f"{backend} cannot load {model.onnx}: it runs torch modules, use onnxruntime for ONNX files")
    module = model.module().eval()
    switches.resume(switches.current())  # building it may have changed them
    return module.to(device=placement.device, dtype=dtype(placement), memory_format=layout(placement))  # type: ignore[call-overload, no-any-return]


def upload(example: Array, placement: Placement) -> torch.Tensor:
    """Return ``example`` as a tensor with the device, type and layout of ``placement``."""
    import torch

    x = torch.tensor(example, dtype=dtype(placement), device=placement.device)
    return x.contiguous(memory_format=layout(placement))


def dtype(placement: Placement) -> torch.dtype:
    """Return the torch type of ``placement.precision``."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[placement.precision]


def layout(placement: Placement) -> torch.memory_format:
    """Return the torch layout of ``placement.memory_format``."""
    import torch

    return torch.channels_last if placement.memory_format == "channels_last" else torch.contiguous_format


def settings(placement: Placement, flags: Flags) -> AbstractContextManager[None]:
    """Hold thread count and flags while a session is open, whatever they were; put the old ones back after it.

    Entering raises BackendError where torch runs with another number of threads than asked.
    """
    return switches.held(placement.threads, tf32=flags.tf32, cudnn_benchmark=flags.cudnn_benchmark)


def read_back(x: torch.Tensor) -> dict[str, Fact]:
    """Return what torch says about versions, the device of ``x``, threads and flags at this moment."""
    import torch

    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "device": str(x.device),
        "device_name": devices.device_name(x.device),
        "simulated": accelerator.simulated(x.device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
        "threads": torch.get_num_threads(),
        "dtype": str(x.dtype).removeprefix("torch."),
        "memory_format": "channels_last" if last else "contiguous",
        "tf32_convolution": torch.backends.cudnn.allow_tf32,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }
