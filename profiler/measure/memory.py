"""Peak memory of one case, in a pass of its own: nothing is timed here, and nothing that is timed does this.

Every *gauge* is one source. It knows a level, taken before the model is loaded, and the peak above it since it was
last reset, so that each phase of a visit (load, run) has its own peak. A peak is kept by the kernel or the allocator,
never sampled: it holds spikes of any length.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from profiler.backends import accelerator, devices
from profiler.backends.base import Session, TrainingSession
from profiler.machine import nvml
from profiler.records.types import Memory

if TYPE_CHECKING:
    import torch


#: Forwards (or training steps) of the run phase. Runtimes that specialise do so in their first two, and an optimizer
#: has its state from the second step on.
_RUNS = 3

_STATUS = Path("/proc/self/status")
_SMAPS = Path("/proc/self/smaps")
_CLEAR_REFS = Path("/proc/self/clear_refs")
#: Resets the high-water mark of the resident set (Linux Documentation/filesystems/proc.rst, ``clear_refs``).
_RESET_PEAK = "5"


@dataclass(frozen=True, slots=True)
class Gauge:
    """One source of a peak.

    Attributes:
        source: Name of the source, as it stands in a table.
        reset: Forgets the peak so far.
        peak: Returns the bytes above the level at the peak since the last reset; None where the source does not tell.
    """

    source: str
    reset: Callable[[], object]
    peak: Callable[[], int | None]


def _of_process() -> Gauge:
    """The resident set of this process, as the kernel counts it.

    A forked process starts with the pages of its parent in its resident set, and a page that it then writes replaces
    one that it shared. So the parent's memory is part of the level and cancels. Pages of libraries that are touched for
    the first time, or again after the kernel had taken them back, are no memory of the model's: they do not count. Nor
    does what the kernel takes back of them hide memory that is there at the end.
    """

    def reset() -> None:
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")

    def peak() -> int:
        mark, grown = _status("VmHWM"), _of_libraries() - libraries
        return max(0, mark - level - max(0, grown), _resident() - level - grown)

    # What looking costs, in pages of code and buffers, belongs to the level.
    reset()
    _status("VmHWM")
    libraries = _of_libraries()
    level = _resident()
    return Gauge("process", reset, peak)


def _of_allocator(device: torch.device, source: Literal["allocated", "reserved"]) -> Gauge:
    """Torch's allocator on an accelerator: ``allocated`` to tensors and workspaces, or ``reserved`` from the device."""

    def counted() -> int | None:
        peaks = accelerator.peaks(device)
        return None if peaks is None else peaks[("allocated", "reserved").index(source)]

    def reset() -> None:
        accelerator.reset_peaks(device)

    def peak() -> int | None:
        now = counted()
        return None if now is None else max(0, now - level)

    reset()
    level = counted() or 0
    return Gauge(source, reset, peak)


def _of_device(device: torch.device) -> Gauge:
    """The device itself: by how much less of it is free than before the model was loaded, whoever allocates.

    A value of now, not a peak, and good as one, because runtimes keep what they once took. It needs no process ids, so
    that it tells in containers too; another program on the device would count, of which the row says how many.
    """
    level = accelerator.used_bytes(device)

    def now() -> int | None:
        used = accelerator.used_bytes(device)
        return None if used is None or level is None else max(0, used - level)

    return Gauge("device", lambda: None, now)


def _of_driver(uuid: str) -> Gauge:
    """What NVML counts for this process: contexts, kernels and every allocator; a value of now, not a peak.

    Runtimes keep what they once took from the device, so it is as good as one. None where the driver does not list this
    process, as in some containers.
    """

    def now() -> int | None:
        try:
            with nvml.library():
                listed = nvml.identify(uuid).read().processes or ()
        except nvml.NvmlError:
            return None
        return next((used for pid, used in listed if pid == os.getpid()), None)

    return Gauge("nvml", lambda: None, now)


def peaks_unavailable() -> str | None:
    """Return why this system cannot tell the peak of a process, or None when it can."""
    if os.access(_CLEAR_REFS, os.W_OK):
        return None
    return f"peak memory needs Linux and a writable {_CLEAR_REFS}: measure memory on another machine"


def gauges(device: str) -> list[Gauge]:
    """Return the sources there are for ``device``, with their levels of now."""
    _settle()
    return [_of_process(), *_on_device(device)]


def _on_device(device: str) -> Iterator[Gauge]:
    if device.partition(":")[0] == "cpu":
        return
    import torch

    place, uuid = torch.device(device), accelerator.uuid(device)
    devices.release(place)
    yield _of_allocator(place, "allocated")
    yield _of_allocator(place, "reserved")
    yield _of_device(place)
    if uuid is not None:
        yield _of_driver(uuid)


def watch_peaks(load: AbstractContextManager[Session | TrainingSession], watched: Sequence[Gauge]) -> Memory:
    """Load a model and run it a few times; return the peaks of the two phases.

    Args:
        load: Entering it loads the model.
        watched: The sources, from ``gauges``.
    """
    with ExitStack() as stack:
        with _phase(watched) as loading:
            session = stack.enter_context(load)
        with _phase(watched) as running:
            for _ in range(_RUNS):
                session.run()
                session.sync()
        return Memory(load_bytes=loading, run_bytes=running, facts=dict(session.facts()))


@contextmanager
def _phase(watched: Sequence[Gauge]) -> Iterator[dict[str, int]]:
    """Give a dictionary that holds the peak of each source once the context is left."""
    for gauge in watched:
        gauge.reset()
    peaks: dict[str, int] = {}
    yield peaks
    peaks |= {gauge.source: peak for gauge in watched if (peak := gauge.peak()) is not None}


def _settle() -> None:
    """Give back what the process holds without using it, so that loading cannot hide in memory freed earlier."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than GNU's
        ctypes.CDLL(None).malloc_trim(0)


def _resident() -> int:
    """Return the bytes of this process that are in memory now."""
    return _status("VmRSS")


def _of_libraries() -> int:
    """Return the bytes of shared libraries that are in this process's memory now."""
    with _SMAPS.open(encoding="utf-8", errors="replace") as lines:
        return _parse_smaps(lines)


def _parse_smaps(lines: Iterable[str]) -> int:
    """Return the resident bytes of mappings of shared libraries in /proc/self/smaps (man 5 proc_pid_smaps)."""
    total, library = 0, False
    for line in lines:
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            library = ".so" in rest.rpartition("/")[2]
        elif library and name == "Rss:":
            total += int(rest.split()[0]) * 1024
    return total


def _status(field: str) -> int:
    return _parse_status(_STATUS.read_text(encoding="utf-8", errors="replace"), field)


def _parse_status(text: str, field: str) -> int:
    """Return a size of /proc/self/status in bytes; the file says kB and means 1024 bytes (man 5 proc)."""
    line = next(line for line in text.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024
