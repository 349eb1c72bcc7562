"""What the backends that run on torch share: placing a module, running it, and saying what really ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from profiler.backends import accelerator, cache, devices, switches
from profiler.backends.base import BackendError, Fact, Model, Placement
from profiler.backends.inputs import Inputs
from profiler.backends.torch_tree import evaluated, mixes_types, tensors, wants_gradients

if TYPE_CHECKING:
    import torch
    from torch import nn

    from profiler.backends.inputs import Array

_GRADIENT_NOTE = (
    "the model asks for gradients inside its forward, which inference mode does not have: it ran under no_grad"
)


@dataclass(frozen=True, slots=True)
class Flags:
    """Global switches of torch, set while a session is open and put back after it.

    Attributes:
        tf32: Let fp32 convolutions and matrix products use TF32. Off: fp32 means fp32, and precision tf32 means
            convolutions, as torch has it by default.
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
        return devices.tf32_overridden() if self.tf32 and placement.device_type == "cuda" else None


class Placed:
    """Inputs as tensors on their device: the arguments of a call."""

    def __init__(self, inputs: Inputs, placement: Placement) -> None:
        import torch

        self.by_name: dict[str, torch.Tensor] = {}
        self.args, self.kwargs = inputs.mapped(partial(self._put, placement))
        self.device = next((x.device for x in self.by_name.values()), torch.device(placement.device))

    def _put(self, placement: Placement, name: str, array: Array) -> torch.Tensor:
        self.by_name[name] = upload(array, placement)
        return self.by_name[name]


class TorchSession:
    """A module with its inputs on its device; ``facts`` come on top of what torch reads back."""

    def __init__(
        self, call: Callable[..., object], placed: Placed, facts: Mapping[str, Fact], *, cold: bool = False
    ) -> None:
        import torch

        self._call = call
        self._cold = cold
        self._args, self._kwargs = placed.args, placed.kwargs
        self._inputs, self._on_host = placed.by_name, dict[str, "torch.Tensor"]()
        self._device = placed.device
        self._output: object = None
        self._mode: Callable[[], AbstractContextManager[object]] = torch.inference_mode
        self._switches = switches.current()
        switches.resume(self._switches)  # tracing the model may have changed them
        self._ran = False
        self._facts = read_back(placed.by_name, placed.device) | {"cold": cold} | dict(facts)

    def run(self) -> None:
        """Submit one forward pass."""
        import torch

        if switches.current() is not self._switches:  # another session that is open too has held its own
            switches.resume(self._switches)
        try:
            with self._mode():
                self._output = self._call(*self._args, **self._kwargs)
        except RuntimeError as error:
            if not self._ran and mixes_types(error):
                said = str(error).partition("\n")[0]
                raise BackendError(
                    f"the model does not run with all its floats in one type ({said}): let it convert what it computes "
                    "to the type of the weights that follow, or give another example"
                ) from error
            if self._ran or self._mode is torch.no_grad or not wants_gradients(error):
                raise
            self._mode = torch.no_grad
            self._facts["gradient_note"] = _GRADIENT_NOTE
            self.run()
        self._ran = True

    def sync(self) -> None:
        """Block until the device has finished."""
        devices.synchronize(self._device)

    def device_ns(self, calls: int) -> tuple[int, ...]:
        """Return the time of ``calls`` forwards on the device by its events, in ns; empty on the CPU."""
        before = accelerator.flusher(self._device).run if self._cold else None
        told = accelerator.device_times(self.run, self._device, calls, before)
        self._facts["device_queued"] = told.queued
        return told.ns

    def upload(self) -> None:
        """Copy the inputs from the host over those on the device."""
        if not self._on_host:
            self._on_host = {name: tensor.to("cpu") for name, tensor in self._inputs.items()}
        for name, tensor in self._inputs.items():
            tensor.copy_(self._on_host[name])

    def download(self) -> None:
        """Copy the tensors of the last run's result to the host."""
        for tensor in tensors(self._output):
            tensor.detach().to("cpu")

    def outputs(self) -> tuple[Array, ...]:
        """Return the tensors of the last run's result on the host, floats as fp32, complex numbers as pairs of them."""
        if not self._ran:
            raise BackendError("there is no output yet: call run() first")
        self._check_threads()
        return tuple(map(_fetched, tensors(self._output)))

    def _check_threads(self) -> None:
        import torch

        found, asked = torch.get_num_threads(), self._facts["threads"]
        if switches.current() is self._switches and found != asked:
            raise BackendError(
                f"the model sets {found} threads in its forward and {asked} were asked: let it leave them as they are, "
                "or ask for as many"
            )

    def inputs(self) -> Mapping[str, Array]:
        """Return the inputs as they are now, on the host, floats as fp32."""
        return {name: _fetched(tensor) for name, tensor in self._inputs.items()}

    def facts(self) -> Mapping[str, Fact]:
        """Return versions, device, threads and flags as read back."""
        return self._facts

    def close(self) -> None:
        """Let go of weights, inputs and output."""
        self._call, self._output, self._ran = _closed, None, False
        self._args, self._kwargs, self._inputs, self._on_host = (), {}, {}, {}
        devices.release(self._device)


def _fetched(tensor: torch.Tensor) -> Array:
    import torch

    plain = tensor.detach().dequantize() if tensor.is_quantized else tensor.detach()
    if plain.is_complex():
        plain = torch.view_as_real(plain.to_dense().resolve_conj())
    kind = torch.float32 if plain.is_floating_point() else plain.dtype
    host: Array = plain.to_dense().to(device="cpu", dtype=kind, copy=True).numpy()
    return host


def _closed() -> None:
    raise BackendError("the session is closed: load the model again")


def unservable(placement: Placement) -> str | None:
    """Return why torch cannot serve ``placement`` here, with the remedy, or None when it can."""
    if find_spec("torch") is None:
        return "torch is not installed: pip install latency-profiler"
    return (
        devices.malformed(placement)
        or devices.unavailable(placement.device)
        or devices.arithmetic_unavailable(placement)
    )


def place(model: Model, placement: Placement, backend: str) -> nn.Module:
    """Build the module of ``model`` and put it where ``placement`` says, in evaluation mode."""
    if model.module is None:
        raise BackendError(f"{backend} cannot load {model.onnx}: it runs torch modules, use onnxruntime for ONNX files")
    module = evaluated(model.module())
    switches.resume(switches.current())  # building it may have changed them
    return cast(module, placement).to(device=placement.device, memory_format=layout(placement))  # type: ignore[call-overload, no-any-return]


def cast(module: nn.Module, placement: Placement) -> nn.Module:
    """Give the floats of ``module`` the precision of ``placement``, where they are.

    Complex numbers stay complex, of fp32: ``Module.to`` would drop their imaginary parts, and no precision below has
    operators for them.
    """
    import torch

    kind = dtype(placement)

    def change(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(torch.complex64 if tensor.is_complex() else kind if tensor.is_floating_point() else None)

    module._apply(change)  # type: ignore[no-untyped-call]  # noqa: SLF001 - what Module.to itself calls
    return module


def form_key(model: Model, inputs: Inputs, placement: Placement, **more: object) -> str | None:
    """Return the name under which what torch makes of ``model`` is kept; None where the model has none.

    Args:
        model: By its content.
        inputs: Their names, types and shapes count.
        placement: All of it counts.
        **more: What else shapes the form: its kind, options, the processor.
    """
    if model.key is None:
        return None
    known: dict[str, object] = {
        "model": model.key,
        "inputs": inputs.signature,
        "placement": asdict(placement),
        "torch": version("torch"),
    }
    return cache.content_name(**known, **more)


def chip(placement: Placement) -> str:
    """Return what code compiled for ``placement`` runs on alone: the processor, and the GPU that it names today."""
    import torch

    if placement.device_type == "cpu":
        return cache.processor()
    device = torch.device(placement.device)
    named = [devices.device_name(device)]
    if placement.device_type == "cuda":
        named += map(str, torch.cuda.get_device_capability(device))
    return "\n".join([cache.processor(), *filter(None, named)])


def upload(array: Array, placement: Placement) -> torch.Tensor:
    """Return ``array`` on the device of ``placement``: floats in its precision, what has four axes in its layout."""
    import torch

    tensor = torch.tensor(array, device=placement.device)
    if tensor.is_floating_point():
        tensor = tensor.to(dtype(placement))
    return tensor.contiguous(memory_format=layout(placement)) if tensor.ndim == 4 else tensor.contiguous()


def dtype(placement: Placement) -> torch.dtype:
    """Return the torch type of ``placement.precision``."""
    import torch

    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(placement.precision, torch.float32)


def layout(placement: Placement) -> torch.memory_format:
    """Return the torch layout of ``placement.memory_format``."""
    import torch

    return torch.channels_last if placement.memory_format == "channels_last" else torch.contiguous_format


def _channels_last(tensor: torch.Tensor) -> bool:
    import torch

    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def settings(placement: Placement, flags: Flags) -> AbstractContextManager[None]:
    """Hold thread count and flags while a session is open, whatever they were; put the old ones back after it.

    Entering raises BackendError where torch runs with another number of threads than asked.
    """
    convolutions = flags.tf32 or placement.precision == "tf32"
    tf32 = {"convolutions_in_tf32": convolutions, "products_in_tf32": flags.tf32}
    return switches.held(placement.threads, **tf32, cudnn_benchmark=flags.cudnn_benchmark)


def read_back(inputs: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, Fact]:
    """Return what torch says about versions, the device, its inputs, threads and flags at this moment."""
    import torch

    given = list(inputs.values())
    floats = [tensor for tensor in given if tensor.is_floating_point()]
    last = any(_channels_last(tensor) for tensor in given)
    kinds = dict.fromkeys(str(tensor.dtype).removeprefix("torch.") for tensor in floats or given)
    return {
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "device": str(device),
        "device_name": devices.device_name(device),
        "simulated": accelerator.simulated(device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
        "threads": torch.get_num_threads(),
        "dtype": " ".join(kinds) or None,
        "memory_format": "channels_last" if last else "contiguous",
        "tf32_convolution": torch.backends.cudnn.allow_tf32,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }
