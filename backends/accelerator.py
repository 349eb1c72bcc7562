"""What an accelerator tells of itself: time by its own events, peaks of its memory, identity.

Built on ``torch.accelerator``, ``torch.Event`` and the device's own torch module, so that CUDA, ROCm, XPU and MPS share
one path. Only CUDA is meant to be relied on: the others are untested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from profiler.backends import devices

if TYPE_CHECKING:
    import torch


#: More than the L2 cache of devices that do not tell theirs.
_L2_BYTES = 64 << 20
#: Clock cycles that a device sleeps ahead of a call that it times, about half a millisecond, and the most: a forward
#: that is not queued after a tenth of a second waits for the device itself.
_HELD_CYCLES, _MOST_HELD_CYCLES = 1_000_000, 200_000_000


@dataclass(frozen=True, slots=True)
class DeviceTimes:
    """Times of single calls on a device.

    Attributes:
        ns: By its events, in nanoseconds; empty on the CPU and on devices whose events keep no time.
        queued: Whether the device still had other work when the last kernel of each call was submitted, so that no time
            is spent waiting for the host; None where nothing can hold the device up.
    """

    ns: tuple[int, ...] = ()
    queued: bool | None = None


def device_times(
    submit: Callable[[], object],
    device: torch.device,
    calls: int,
    before: Callable[[], object] | None = None,
    stream: torch.Stream | None = None,
) -> DeviceTimes:
    """Time each of ``calls`` calls of ``submit`` on the device.

    Args:
        submit: Submits what is timed.
        device: Where.
        calls: How often.
        before: Submits ahead of each call what is not timed, in the same stream.
        stream: Where ``submit`` puts its work; None is torch's current stream.
    """
    return device_parts((submit,), device, calls, before, stream)[0]


def device_parts(
    parts: Sequence[Callable[[], object]],
    device: torch.device,
    calls: int,
    before: Callable[[], object] | None = None,
    stream: torch.Stream | None = None,
) -> tuple[DeviceTimes, ...]:
    """Time the parts of each of ``calls`` calls on the device, which follow each other and between which nobody waits.

    Args:
        parts: Each submits its part.
        device: Where.
        calls: How often all of them are submitted.
        before: As in ``device_times``.
        stream: As in ``device_times``.
    """

    def submit(mark: Callable[[], None]) -> None:
        for part in parts:
            part()
            mark()

    times, queued = marked_times(submit, device, calls, before, stream)
    if not times:
        return (DeviceTimes(),) * len(parts)
    return tuple(DeviceTimes(tuple(part), queued) for part in zip(*times, strict=True))


def marked_times(
    submit: Callable[[Callable[[], None]], object],
    device: torch.device,
    calls: int,
    before: Callable[[], object] | None = None,
    stream: torch.Stream | None = None,
) -> tuple[list[tuple[int, ...]], bool | None]:
    """Time parts of a call on the device: from its beginning to the first mark, and from each mark to the next, in ns.

    Where the device can sleep it does ahead of each call, long enough for the whole call to be queued behind it: else
    the device would wait for the host between two small kernels, and its events would tell the host's pace. Whether it
    was long enough the first event says, which must not have happened yet when the last mark is made. An event
    between two parts ends the one and begins the other, so that the parts add up to the call.

    Calls that were not queued are made anew behind a longer sleep, until the longest is reached: ``submit`` may be
    called more often than ``calls``, and its last calls are those that count.

    Args:
        submit: Submits the parts, calls what it is given after each, and may wait for the device at the end.
        device: Where.
        calls: How often.
        before: As in ``device_times``.
        stream: As in ``device_times``.

    Returns:
        For each call its parts, and ``DeviceTimes.queued``; no calls on the CPU and on devices whose events keep no
        time.
    """
    import torch

    if device.type == "cpu":
        return [], None
    used = stream or torch.accelerator.current_stream(device)
    sleep, held, queued = sleeper(device, used), _HELD_CYCLES, True
    made: list[list[torch.Event]] = []
    try:
        while len(made) < calls:
            if before is not None:
                with _in_stream(used):
                    before()
            marks = _Marks(device, used)
            marks.begin(None if sleep is None else partial(sleep, held))
            submit(marks.add)
            if sleep is not None and marks.begun and held < _MOST_HELD_CYCLES:
                held, made = held * 4, []
                continue
            queued = queued and not marks.begun
            made.append(marks.events)
        devices.synchronize(device)
        times = [tuple(round(a.elapsed_time(b) * 1e6) for a, b in pairwise(events)) for events in made]
    except NotImplementedError:
        return [], None
    return times, None if sleep is None else queued


class _Marks:
    """Events in a stream, and whether the first had happened when the last was recorded."""

    def __init__(self, device: torch.device, stream: torch.Stream) -> None:
        self._device, self._stream = device, stream
        self.events: list[torch.Event] = []
        self.begun = False

    def begin(self, hold: Callable[[], object] | None) -> None:
        """Hold the device up where that can be done, and record the first."""
        if hold is not None:
            hold()
        self.add()

    def add(self) -> None:
        """Record one more."""
        self.events.append(_event(self._device))
        self.events[-1].record(self._stream)
        self.begun = bool(self.events[0].query())


def sleeper(device: torch.device, stream: torch.Stream | None = None) -> Callable[[int], None] | None:
    """Return what submits a kernel that only lets so many clock cycles of a multiprocessor pass; None without one.

    Args:
        device: Where.
        stream: Where the kernel goes; None is torch's current stream at the call.
    """
    import torch

    spin = None if device.type == "cpu" else getattr(torch.get_device_module(device), "_sleep", None)
    if spin is None:
        return None

    def sleep(cycles: int) -> None:
        with _in_stream(stream or torch.accelerator.current_stream(device)):
            spin(cycles)

    return sleep


@contextmanager
def _in_stream(stream: torch.Stream) -> Iterator[None]:
    """Make ``stream`` and its device the current ones for the duration of the context."""
    import torch

    index = torch.accelerator.current_device_index()
    before = torch.accelerator.current_stream(stream.device)
    torch.accelerator.set_stream(stream)
    try:
        yield
    finally:
        torch.accelerator.set_stream(before)
        torch.accelerator.set_device_index(index)


@dataclass(frozen=True, slots=True)
class Flusher:
    """A buffer that no cache of a device holds.

    Attributes:
        run: Submits what overwrites it.
        size: Its bytes: twice the device's L2 cache.
    """

    run: Callable[[], object]
    size: int


def flusher(device: torch.device) -> Flusher:
    """Return what overwrites twice the size of the device's L2 cache. RuntimeError where there is no room for it."""
    import torch

    told = getattr(torch.get_device_module(device), "get_device_properties", lambda _: None)(device)
    size = 2 * (int(getattr(told, "L2_cache_size", 0)) or _L2_BYTES)
    return Flusher(torch.empty(size, dtype=torch.uint8, device=device).zero_, size)


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


def used_bytes(device: torch.device) -> int | None:
    """Return how much of a device's memory is in use by anyone, in bytes; None where it does not tell.

    It holds what every allocator took, the pools of CUDA graphs, kernels and workspaces of libraries.
    """
    import torch

    ask = None if device.type == "cpu" else getattr(torch.get_device_module(device), "mem_get_info", None)
    if ask is None:
        return None
    free, total = ask(device)
    return int(total - free)


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
    (PyTorch notes, "CUDA semantics", whole-network capture). The capture is in a stream of its own, so that what
    libraries take in it belongs to the graph; torch's own one is on the device of the process's first capture, and
    would capture nothing of another device.
    """
    import torch

    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream(device).wait_stream(side)
    graph, own = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.device(device), torch.cuda.graph(graph, stream=own):
        output = call()
    return graph.replay, output
