"""What an accelerator tells of itself: time by its own events, peaks of its memory, identity.

Built on ``torch.accelerator``, ``torch.Event`` and the device's own torch module, so that CUDA, ROCm, XPU and MPS share
one path. Only CUDA is meant to be relied on: the others are untested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from profiler.backends import devices

if TYPE_CHECKING:
    import torch


#: More than the L2 cache of devices that do not tell theirs.
_L2_BYTES = 64 << 20


def device_ns(
    submit: Callable[[], object],
    device: torch.device,
    calls: int,
    before: Callable[[], object] | None = None,
    stream: torch.Stream | None = None,
) -> tuple[int, ...]:
    """Return the time of each of ``calls`` calls of ``submit`` on the device, in nanoseconds.

    Events are read after everything has finished. Empty on the CPU and on devices whose events keep no time.

    Args:
        submit: Submits what is timed.
        device: Where.
        calls: How often.
        before: Submits ahead of each call what is not timed.
        stream: Where ``submit`` puts its work; None is torch's current stream.
    """
    import torch

    if device.type == "cpu":
        return ()
    try:
        pairs = [(_event(device), _event(device)) for _ in range(calls)]
        used = stream or torch.accelerator.current_stream(device)
        for start, end in pairs:
            if before is not None:
                before()
            start.record(used)
            submit()
            end.record(used)
        devices.synchronize(device)
        return tuple(round(start.elapsed_time(end) * 1e6) for start, end in pairs)
    except NotImplementedError:
        return ()


def flusher(device: torch.device) -> Callable[[], object]:
    """Return what overwrites twice the size of the device's L2 cache."""
    import torch

    told = getattr(torch.get_device_module(device), "get_device_properties", lambda _: None)(device)
    size = int(getattr(told, "L2_cache_size", 0)) or _L2_BYTES
    return torch.empty(2 * size, dtype=torch.uint8, device=device).zero_


@contextmanager
def own_stream(device: torch.device) -> Iterator[torch.Stream | None]:
    """Let torch use a stream of its own on ``device`` for the duration of the context; None where nothing has streams.

    It is there to be shared with another runtime. torch's default stream cannot be: its address is 0, which others
    take for none given, and then use one of theirs.
    """
    import torch

    if device.type == "cpu" or not torch.accelerator.is_available():
        yield None
        return
    before = torch.accelerator.current_stream(device)
    made = getattr(torch.get_device_module(device), "Stream", torch.Stream)(device)
    torch.accelerator.set_stream(made)
    try:
        yield made
    finally:
        torch.accelerator.set_stream(before)


def _event(device: torch.device) -> torch.Event:
    """Return an event of ``device`` that keeps time."""
    import torch

    return torch.Event(device, enable_timing=True)


def reset_peaks(device: torch.device) -> None:
    """Let the peaks of the allocator start again from what is allocated now; nothing on the CPU."""
    memory = _memory(device)
    if memory is not None:
        memory.reset_peak_memory_stats(device)


def peaks(device: torch.device) -> tuple[int, int] | None:
    """Return the most bytes (allocated, reserved) since ``reset_peaks``; None where no allocator counts.

    Only for a device that has passed ``profiler.backends.devices.unavailable``: an unusable CUDA answers 0.
    """
    memory = _memory(device)
    if memory is None:
        return None
    return int(memory.max_memory_allocated(device)), int(memory.max_memory_reserved(device))


def _memory(device: torch.device) -> Any | None:
    """The module that counts: the device's own, else ``torch.accelerator`` of newer versions of torch."""
    import torch

    if device.type == "cpu":
        return None
    modules = (torch.get_device_module(device), torch.accelerator)
    return next((module for module in modules if hasattr(module, "max_memory_allocated")), None)


def uuid(device: str) -> str | None:
    """Return the UUID by which the NVIDIA driver knows ``device``; None for anything else than an NVIDIA GPU."""
    if device.partition(":")[0] != "cuda":
        return None
    import torch

    if torch.version.hip or not torch.cuda.is_available():
        return None
    found = getattr(torch.cuda.get_device_properties(torch.device(device)), "uuid", None)
    return None if found is None else str(found)


def simulated(device: torch.device) -> bool:
    """Whether the device's own torch module says that it only simulates one."""
    import torch

    return device.type != "cpu" and bool(getattr(torch.get_device_module(device), "simulated", False))


def captured(call: Callable[[], torch.Tensor], device: torch.device) -> tuple[Callable[[], None], torch.Tensor]:
    """Capture ``call`` as a CUDA graph; return what replays it, and the tensor that each replay fills.

    Three calls on a side stream come first: libraries allocate their workspaces in them, which a capture forbids
    (PyTorch notes, "CUDA semantics", whole-network capture).
    """
    import torch

    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.graph(graph):  # it captures on the current device
        output = call()
    return graph.replay, output
