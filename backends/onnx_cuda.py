"""What ONNX Runtime is told of a CUDA device: its stream, arithmetic and layout, and whether a graph is replayed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from profiler.backends import accelerator, devices
from profiler.backends.base import Fact, Placement

if TYPE_CHECKING:
    import torch

#: The option that has a forward captured and replayed.
GRAPH = "enable_cuda_graph"


def without_meaning(
    placement: Placement, provider: str, *, cuda_graph: bool, cold: bool, tf32: bool = False
) -> str | None:
    """Return which option has no meaning on the device of ``placement`` or with ``provider``, or None."""
    if cuda_graph and placement.device_type != "cuda":
        return f"cuda_graph=1 needs a CUDA device and the device is {placement.device!r}: leave the option out"
    if cuda_graph and provider != "default":
        return f"cuda_graph=1 is an option of the CUDA provider and not of provider={provider}: leave one of them out"
    if cold and placement.device_type == "cpu":
        return "cold=1 needs a device with events and the CPU has none: leave the option out"
    return devices.tf32_overridden() if tf32 and placement.device_type == "cuda" else None


def cuda_options(placement: Placement, *, tf32: bool, cudnn_benchmark: bool, cuda_graph: bool) -> dict[str, str]:
    """Return the options of the CUDA provider by its own names."""
    graph = {GRAPH: "1"} if cuda_graph else {}
    return graph | {
        "device_id": str(placement.device_index),
        "cudnn_conv_algo_search": "EXHAUSTIVE" if cudnn_benchmark else "HEURISTIC",
        "use_tf32": str(int(tf32)),
        "prefer_nhwc": str(int(placement.memory_format == "channels_last")),
    }


def stream_options(stream: torch.Stream | None) -> dict[str, str]:
    """Return what lets a provider work and copy in ``stream``; nothing for the default stream, whose address is 0."""
    address = getattr(stream, "cuda_stream", 0)
    return {"user_compute_stream": str(address)} if address else {}


def shared_stream(placement: Placement) -> AbstractContextManager[torch.Stream | None]:
    """Make torch and a session use one stream, so that torch's events time the forward; none on the CPU."""
    if placement.device_type == "cpu":
        return nullcontext()
    import torch

    return accelerator.own_stream(torch.device(placement.device_type, placement.device_index))


def device_facts(placement: Placement, *, tf32: bool, cuda_graph: bool, cold: bool) -> dict[str, Fact]:
    """Return what a row of a device says by the names of torch's facts; nothing on the CPU.

    One switch lets convolutions and matrix products use TF32.
    """
    if placement.device_type == "cpu":
        return {}
    in_tf32: dict[str, Fact] = {"tf32_convolution": tf32, "tf32_matmul": tf32}
    return in_tf32 | {"memory_format": placement.memory_format, "cuda_graph": cuda_graph, "cold": cold}
