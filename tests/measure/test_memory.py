"""Peaks of memory: truth on known bytes, the phases and the sources."""

from __future__ import annotations

import ctypes
import gc
import mmap
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from profiler import backends
from profiler.backends.base import Model, Placement
from profiler.backends.inputs import Inputs
from profiler.backends.onnx_session import most_in_use
from profiler.machine import allocator, nvml
from profiler.measure import memory
from profiler.measure.visit import Task, visit
from profiler.records.types import Budget, Case, Memory
from profiler.run.child import Limits
from profiler.run.processes import LocalExecutor

MIB = 1 << 20
CASE = Case("resnet50", "", 1.0, "fake:duration_ms=0.1", Placement())


class Session:
    """Does ``work`` in each run."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.run = work

    def sync(self) -> None:
        pass

    def facts(self) -> dict[str, Any]:
        return {"cached": True}


@contextmanager
def loading(at_load: Callable[[], object], at_run: Callable[[], object]) -> Iterator[Session]:
    kept = at_load()
    yield Session(at_run)
    del kept


def nothing() -> None:
    pass


def spike(size: int) -> None:
    """Touch ``size`` bytes and give them back, all within the time of one memset."""
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    view = ctypes.c_char.from_buffer(block)
    ctypes.memset(ctypes.addressof(view), 1, size)
    del view
    block.close()


def touched(size: int) -> mmap.mmap:
    """Return ``size`` bytes that are in memory, mapped anew: malloc may hand out what a test before has freed."""
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(0, size, mmap.PAGESIZE):
        block[page] = 1
    return block


def in_child(function: Callable[..., Any], *arguments: object) -> Any:
    """Return ``function(*arguments)`` from a process forked from this one."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def answer() -> None:
        # A collection in the child would write to, and so copy, every page it shares with the parent.
        gc.freeze()
        # As a visit that watches memory does; tests before this one may have made their process keep what it frees.
        allocator.return_freed()
        # What they have freed would else be given back while a phase is watched, and hide as much in it.
        ctypes.CDLL(None).malloc_trim(0)
        theirs.send(function(*arguments))

    child = context.Process(target=answer)
    child.start()
    try:
        assert ours.poll(30)
        return ours.recv()
    finally:
        child.join()


def peaks(at_load: Callable[[], object], at_run: Callable[[], object]) -> tuple[int, int]:
    found = memory.watch_peaks(loading(at_load, at_run), memory.gauges("cpu"))
    return found.load_bytes["process"], found.run_bytes["process"]


def test_a_spike_of_a_millisecond_is_seen_and_the_memory_of_the_parent_is_not():
    held = bytearray(b"x") * (200 * MIB)
    load, run = in_child(peaks, nothing, lambda: spike(8 * MIB))
    assert len(held) == 200 * MIB
    assert load <= MIB
    assert abs(run - 8 * MIB) <= MIB


def test_what_is_loaded_stays_and_what_a_phase_frees_counts_in_that_phase_alone():
    load, run = in_child(peaks, lambda: touched(32 * MIB), lambda: spike(8 * MIB))
    assert abs(load - 32 * MIB) <= MIB
    assert abs(run - 40 * MIB) <= MIB
    load, run = in_child(peaks, lambda: spike(32 * MIB), nothing)
    assert abs(load - 32 * MIB) <= MIB
    assert run <= MIB


def loads_while_a_library_leaves(path: Path, size: int) -> int:
    """Load ``size`` bytes while the kernel takes back as much of a library."""
    path.write_bytes(bytes(size))
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as pages:
        assert sum(pages[:: mmap.PAGESIZE]) == 0  # they are in memory now

        def load() -> mmap.mmap:
            pages.madvise(mmap.MADV_DONTNEED)
            return touched(size)

        return peaks(load, nothing)[0]


def test_loading_cannot_hide_in_what_the_kernel_takes_back_of_a_library(tmp_path: Path) -> None:
    assert abs(in_child(loads_while_a_library_leaves, tmp_path / "lib.so", 32 * MIB) - 32 * MIB) <= MIB


def loads_after_freeing(size: int) -> int:
    """Load ``size`` bytes in small pieces where as many have just been freed."""
    freed = [bytes(1000) for _ in range(size // 1000)]
    del freed
    return peaks(lambda: [bytes(1000) for _ in range(size // 1000)], nothing)[0]


def test_loading_cannot_hide_in_memory_that_was_freed_before():
    assert in_child(loads_after_freeing, 32 * MIB) >= 0.95 * 32 * MIB


@pytest.mark.parametrize("at", ["load", "run"])
def test_a_visit_measures_the_bytes_that_the_fake_touches(at):
    case = replace(CASE, backend=f"fake:duration_ms=0.1,bytes={16 * MIB},at={at}")
    # Spawned: a fork does not take over which pages of libraries are mapped and counts those that it touches first.
    # That was 0.7 MiB most times, and probably the 2.4 MiB seen twice in a whole run of the suite and not again.
    found = LocalExecutor("spawn").call(visit, Task(case, Budget(), None, None, "memory"), 60.0, Limits())
    assert isinstance(found, Memory), found
    load, run = found.load_bytes["process"], found.run_bytes["process"]
    assert abs(run - 16 * MIB) <= MIB
    assert abs(load - (16 * MIB if at == "load" else 0)) <= MIB
    assert found.arena_bytes is None


def test_pages_of_libraries_are_told_from_those_of_data():
    text = """7f00-7f10 r-xp 00000000 08:01 42   /usr/lib/libtorch.so.2
Size:   100 kB
Rss:     64 kB
Pss:     32 kB
7f10-7f20 r--p 00000000 08:01 43   /data/my.model/weights.bin
Rss:    512 kB
7f20-7f30 rw-p 00000000 00:00 0
Rss:    256 kB
7f30-7f40 r-xp 00000000 08:01 44   /usr/lib/python/_speed.cpython-311-x86_64-linux-gnu.so
Rss:     16 kB
7f40-7f50 rw-p 00000000 00:00 0   [heap]
Rss:    128 kB
"""
    assert memory._parse_smaps(text.splitlines(keepends=True)) == (64 + 16) * 1024
    assert MIB < memory._of_libraries() < memory._resident()


def test_the_level_of_a_process_and_its_status_file():
    text = "Name:\tpython\nVmHWM:\t  123456 kB\nVmRSS:\t    1000 kB\n"
    assert memory._parse_status(text, "VmHWM") == 123456 * 1024
    assert memory._parse_status(text, "VmRSS") == 1024000
    with pytest.raises(StopIteration):
        memory._parse_status(text, "VmSwap")


def test_a_system_that_cannot_tell_says_so(monkeypatch, tmp_path):
    assert memory.peaks_unavailable() is None
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "clear_refs")
    assert str(tmp_path) in memory.peaks_unavailable()
    failed = visit(Task(CASE, Budget(), None, None, "memory"))
    assert (failed.status, failed.reason) == ("unsupported", memory.peaks_unavailable())


def test_a_source_that_does_not_tell_is_missing_and_never_zero():
    silent = memory.Gauge("nvml", nothing, lambda: None)
    found = memory.watch_peaks(loading(nothing, nothing), [silent])
    assert (found.load_bytes, found.run_bytes, found.facts) == ({}, {}, {"cached": True})


@pytest.mark.parametrize(("source", "peak"), [("allocated", 7), ("reserved", 11)])
def test_an_allocators_peak_counts_from_its_level(source, peak, monkeypatch):
    counted, resets = [(5, 9)], []
    monkeypatch.setattr(memory.accelerator, "peaks", lambda _: counted[-1])
    monkeypatch.setattr(memory.accelerator, "reset_peaks", resets.append)
    gauge = memory._of_allocator("a device", source)
    assert gauge.peak() == 0
    counted.append((12, 20))
    assert (gauge.source, gauge.peak()) == (source, peak)
    gauge.reset()
    assert resets == ["a device"] * 2


def test_a_driver_that_is_not_there_tells_nothing(monkeypatch):
    def fails(*_: object) -> None:
        raise nvml.NvmlError("no driver")

    monkeypatch.setattr(nvml.pynvml, "nvmlInit", nothing)
    monkeypatch.setattr(nvml.pynvml, "nvmlShutdown", nothing)
    monkeypatch.setattr(nvml, "identify", fails)
    assert memory._of_driver("GPU-1").peak() is None


@pytest.mark.parametrize(
    ("listed", "told"), [("4242:9000,self:2000,4243:3000", "2000"), ("4242:9000", "None"), (None, "None")]
)
def test_the_drivers_figure_is_of_this_process_on_this_gpu(listed, told, scripted):
    """Not of whoever stands first or holds most, and not of another GPU; a process of its own asks NVIDIA's binding."""
    scripted(processes__0="self:1", processes=None, **({} if listed is None else {"processes__1": listed}))
    code = "from profiler.measure import memory; print(memory._of_driver('GPU-bbbb').peak())"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == told


def test_the_arena_is_the_largest_peak_of_a_profile():
    events = [{"cat": "Session"}, {"args": {"mem_in_use_peak": "7"}}, {"args": {"mem_in_use_peak": 12}}, {"args": {}}]
    assert most_in_use(events) == 12
    assert most_in_use(events[:1]) is None


def test_the_arena_grows_with_the_batch():
    runtime, place = backends.get("onnxruntime"), Placement()
    model = Model(None, lambda: nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3)))
    one, four = (runtime.arena_peak(model, Inputs((np.ones((n, 3, 64, 64), np.float32),)), place) for n in (1, 4))
    hidden = 16 * 62 * 62 * 4
    assert one >= hidden
    assert four - one >= 3 * hidden


def test_peaks_are_of_this_process():
    assert memory._resident() >= 10 * MIB
    assert memory.gauges("cpu")[0].source == "process"
    assert os.access("/proc/self/clear_refs", os.W_OK)
