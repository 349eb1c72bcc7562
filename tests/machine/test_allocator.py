"""What becomes of freed memory, seen by page faults and by the resident set, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from profiler.machine import allocator

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")

#: Two blocks by turns, the upper one smaller: glibc's own policy hands the top of the heap back each time.
_PROGRAM = """
import ctypes, resource, sys
from profiler.machine import allocator
policy = getattr(allocator, sys.argv[1])() if sys.argv[1] != "system" else "system"
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def touch(size):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

touch(48 << 20)
before, level = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, resident()
for _ in range(10):
    touch(48 << 20)
print(policy, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, level)
"""


def _run(policy: str) -> tuple[str, int, int]:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, policy], capture_output=True, text=True, check=True)
    name, faults, resident = done.stdout.split()
    return name, int(faults), int(resident)


def test_kept_memory_is_not_faulted_in_again() -> None:
    system, (policy, faults, _) = _run("system"), _run("keep_freed")
    assert policy == "kept"
    assert faults < 100
    # Blocks beyond 32 MiB are mapped anew each time by glibc's own policy: without ours the test would show it.
    assert system[1] > 10 * 1000


def test_returned_memory_leaves_the_resident_set() -> None:
    kept, returned = _run("keep_freed"), _run("return_freed")
    assert returned[0] == "returned"
    assert kept[2] - returned[2] > 40 << 20
    assert returned[1] > 10 * 1000


def test_without_glibc_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_freed() == allocator.return_freed() == "system"
