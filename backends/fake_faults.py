"""What goes wrong when a fake session is told to: from an exception to a process that is killed."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Literal

from profiler.backends.base import FallbackError

if sys.platform != "win32":  # there is none on Windows
    import resource

FLOOD_BYTES = 4 << 20
EXIT_STATUS = 7
_OOM_HEADROOM = 64 << 20

Fault = Literal[
    "none", "unavailable", "raise", "fallback", "segfault", "kill", "exit", "oom", "hang", "flood",
    "parity", "nan",
]  # fmt: skip


def touch(size: int) -> mmap.mmap:
    """Return ``size`` bytes, at least 1, that are resident: one byte of every page is written.

    Mapped, not from the heap, so that dropping the last reference gives every page back at once.
    """
    block = mmap.mmap(-1, max(1, size))
    for start in range(0, size, mmap.PAGESIZE):
        block[start] = 1
    return block


def _raise() -> None:
    raise RuntimeError("fake raises because fault=raise")


def _fallback() -> None:
    raise FallbackError("fake ran elsewhere because fault=fallback: drop the option")


def _segfault() -> None:
    ctypes.string_at(0)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _exit() -> None:
    os._exit(EXIT_STATUS)


def _oom() -> None:
    """Run into a limit on the address space little above what is in use, as a real allocation would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:  # noqa: PTH123
        used = int(file.read().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (used + _OOM_HEADROOM, hard))
    try:
        bytearray(4 * _OOM_HEADROOM)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _hang() -> None:
    while True:
        time.sleep(3600)


def _flood() -> None:
    line = b"fake floods the output because fault=flood\n"
    left = memoryview(line * (FLOOD_BYTES // len(line) + 1))
    while left:
        left = left[os.write(1, left) :]


def _nothing() -> None:
    pass


FAULTS: dict[Fault, Callable[[], None]] = {
    "none": _nothing,
    "unavailable": _nothing,
    "raise": _raise,
    "fallback": _fallback,
    "segfault": _segfault,
    "kill": _kill,
    "exit": _exit,
    "oom": _oom,
    "hang": _hang,
    "flood": _flood,
    "parity": _nothing,
    "nan": _nothing,
}
