"""Peaks of memory: truth on known bytes, the phases, the sources, and what a row says."""

from __future__ import annotations

import ctypes
import gc
import mmap
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler import backends
from profiler.backends.base import Placement
from profiler.backends.onnx_graph import most_in_use
from profiler.errors import UserError
from profiler.measure import memory
from profiler.measure.visit import Reply, Task, visit
from profiler.plan.cases import expand
from profiler.plan.read import from_flags, loads, to_toml
from profiler.records import journal as store
from profiler.records import table
from profiler.records.columns import Row
from profiler.records.reading import dump, parse, read
from profiler.records.table import headline
from profiler.records.types import Budget, Case, Conditions, Failure, Measurement, Memory, Record, Warmup
from profiler.run import batch
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


def in_child(function: Callable[..., Any], *arguments: object) -> Any:
    """Return ``function(*arguments)`` from a process forked from this one."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def answer() -> None:
        # A collection in the child would write to, and so copy, every page it shares with the parent.
        gc.freeze()
        theirs.send(function(*arguments))

    child = context.Process(target=answer)
    child.start()
    try:
        assert ours.poll(30)
        return ours.recv()
    finally:
        child.join()


def peaks(at_load: Callable[[], object], at_run: Callable[[], object]) -> tuple[int, int]:
    found = memory.measure(loading(at_load, at_run), memory.gauges("cpu"))
    return found.load_bytes["process"], found.run_bytes["process"]


def test_a_spike_of_a_millisecond_is_seen_and_the_memory_of_the_parent_is_not():
    held = bytearray(b"x") * (200 * MIB)
    load, run = in_child(peaks, nothing, lambda: spike(8 * MIB))
    assert len(held) == 200 * MIB
    assert load <= MIB
    assert abs(run - 8 * MIB) <= MIB


def test_what_is_loaded_stays_and_what_a_phase_frees_counts_in_that_phase_alone():
    load, run = in_child(peaks, lambda: bytearray(b"x") * (32 * MIB), lambda: spike(8 * MIB))
    assert abs(load - 32 * MIB) <= MIB
    assert abs(run - 40 * MIB) <= MIB
    load, run = in_child(peaks, lambda: spike(32 * MIB), nothing)
    assert abs(load - 32 * MIB) <= MIB
    assert run <= MIB


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
    reply = LocalExecutor("spawn").call(visit, Task(case, Budget(), None, None, "memory"), 60.0, Limits())
    assert isinstance(reply, Reply)
    assert isinstance(reply.outcome, Memory), reply.outcome
    load, run = reply.outcome.load_bytes["process"], reply.outcome.run_bytes["process"]
    assert abs(run - 16 * MIB) <= MIB
    assert abs(load - (16 * MIB if at == "load" else 0)) <= MIB
    assert (reply.outcome.arena_bytes, reply.resolution) == (None, 224)


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
    assert memory.parse_smaps(text.splitlines(keepends=True)) == (64 + 16) * 1024
    assert MIB < memory.of_libraries() < memory.resident()


def test_the_level_of_a_process_and_its_status_file():
    text = "Name:\tpython\nVmHWM:\t  123456 kB\nVmRSS:\t    1000 kB\n"
    assert memory.parse_status(text, "VmHWM") == 123456 * 1024
    assert memory.parse_status(text, "VmRSS") == 1024000
    with pytest.raises(StopIteration):
        memory.parse_status(text, "VmSwap")


def test_a_system_that_cannot_tell_says_so(monkeypatch, tmp_path):
    assert memory.unavailable() is None
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "clear_refs")
    assert str(tmp_path) in memory.unavailable()
    reply = visit(Task(CASE, Budget(), None, None, "memory"))
    assert (reply.outcome.status, reply.outcome.reason) == ("unsupported", memory.unavailable())


class Silent:
    source = "nvml"

    def reset(self) -> None:
        pass

    def peak(self) -> int | None:
        return None


def test_a_source_that_does_not_tell_is_missing_and_never_zero():
    found = memory.measure(loading(nothing, nothing), [Silent()])
    assert (found.load_bytes, found.run_bytes, found.facts) == ({}, {}, {"cached": True})


def test_a_driver_that_is_not_there_tells_nothing(monkeypatch):
    from profiler.machine import nvml

    def fails(*_: object) -> None:
        raise nvml.NvmlError("no driver")

    monkeypatch.setattr(nvml.pynvml, "nvmlInit", nothing)
    monkeypatch.setattr(nvml.pynvml, "nvmlShutdown", nothing)
    monkeypatch.setattr(nvml, "handle", fails)
    assert memory.DriverUse("GPU-1").peak() is None


@pytest.mark.parametrize(
    ("sources", "device", "expected"),
    [
        ({"process": 5}, "cpu", "process"),
        ({}, "cpu", None),
        ({"process": 5, "allocated": 7, "reserved": 9, "nvml": 11}, "cuda:0", "allocated"),
        ({"process": 5, "allocated": 0, "reserved": 0, "nvml": 11}, "cuda", "nvml"),
        ({"process": 5, "allocated": 0}, "cuda", None),
    ],
)
def test_the_figure_that_is_read_first_is_of_the_device(sources, device, expected):
    assert headline(sources, device) == expected


# --- rows ------------------------------------------------------------

TIMED = Measurement(((10_000_000,) * 5,), 1, (), None, Warmup((), steady=True), 0.0, Conditions(), {})


def record(outcome: Any, number: int = 0, case: Case = CASE, **changes: Any) -> Record:
    return Record(case, None, 224, "h", number, "2026-01-01T00:00:00+00:00", 1.0, outcome, **changes)


def row(tmp_path, *records: Record) -> Row:
    with store.Journal.open(tmp_path / "run", {"cases": [records[0].case]}) as journal:
        for one in records:
            journal.append(one)
    (made,) = table.rows(read(tmp_path / "run"))
    return made


def test_memory_stands_in_the_row_of_its_case_and_is_no_round(tmp_path):
    found = Memory({"process": 3 * MIB}, {"process": 5 * MIB}, arena_bytes=2 * MIB)
    made = row(tmp_path, record(TIMED), record(TIMED, 1), record(found, measures="memory"))
    assert made["visits"] == 2
    names = ("peak_memory_bytes", "load_memory_bytes", "run_memory_bytes", "arena_peak_bytes", "process_peak_bytes")
    assert [made[name] for name in names] == [5 * MIB, 3 * MIB, 5 * MIB, 2 * MIB, 5 * MIB]
    assert made["memory_source"] == "process"
    assert made["allocated_peak_bytes"] is made["driver_memory_bytes"] is None


def test_without_a_memory_visit_every_memory_column_is_empty(tmp_path):
    made = row(tmp_path, record(TIMED))
    assert {value for name, value in made.items() if "memory_" in name and name != "memory_format"} == {None}


def test_a_memory_visit_that_fails_leaves_the_latency_and_gives_its_reason(tmp_path):
    made = row(tmp_path, record(TIMED), record(TIMED, 1), record(Failure("oom", "no room"), measures="memory"))
    assert made["latency_ms"] == pytest.approx(10)
    assert made["status"] in ("ok", "unstable")
    assert "memory oom: no room" in made["reason"]
    assert made["peak_memory_bytes"] is None


def test_a_memory_record_survives_the_journal():
    original = record(Memory({"process": 1}, {"process": 2, "nvml": 3}, 4, {"cached": True}), measures="memory")
    assert parse(dump(original)) == original


# --- the arena of ONNX Runtime ------------------------------------------------------------


def test_the_arena_is_the_largest_peak_of_a_profile():
    events = [{"cat": "Session"}, {"args": {"mem_in_use_peak": "7"}}, {"args": {"mem_in_use_peak": 12}}, {"args": {}}]
    assert most_in_use(events) == 12
    assert most_in_use(events[:1]) is None


def test_the_arena_grows_with_the_batch():
    import numpy as np
    from torch import nn

    from profiler.backends.base import Model

    runtime, place = backends.get("onnxruntime"), Placement()
    model = Model(None, lambda: nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3)))
    one, four = (runtime.arena_peak(model, np.ones((n, 3, 64, 64), np.float32), place) for n in (1, 4))
    hidden = 16 * 62 * 62 * 4
    assert one >= hidden
    assert four - one >= 3 * hidden


# --- the largest batch ------------------------------------------------------------


@given(st.integers(0, 3000), st.integers(1, 2000))
def test_bisection_finds_the_largest_that_fits_with_few_tries(truth, most):
    tries: list[int] = []

    def fits(size: int) -> bool:
        tries.append(size)
        return size <= truth

    assert batch.largest(fits, most) == min(truth, most)
    assert len(tries) == len(set(tries)) <= 2 * most.bit_length() + 1
    assert all(1 <= size <= most for size in tries)


ASKED = replace(CASE, batch_asked="max")


def resolved(
    probe: batch.Probe, *, earlier: tuple[Case, ...] = (), limit: int | None = 1 << 30
) -> tuple[Case, list[str]]:
    said: list[str] = []
    (case,) = batch.resolve([ASKED], probe, earlier, said.append, limit)
    return case, said


def test_max_is_replaced_by_what_fits_and_the_case_says_both():
    case, said = resolved(lambda case: Failure("oom", "") if case.batch > 37 else None)
    assert (case.batch, case.batch_asked) == (37, "max")
    assert "37" in said[0]
    assert case.label.endswith("b37 (max)")


def test_running_out_of_time_is_said():
    case, said = resolved(lambda case: Failure("timeout", "") if case.batch > 5 else None)
    assert case.batch == 5
    assert "6 ran out of time" in said[0]


@pytest.mark.parametrize("status", ["unsupported", "error", "oom"])
def test_a_case_of_which_nothing_fits_keeps_one_image_so_that_its_visit_says_why(status):
    tries: list[int] = []

    def probe(case: Case) -> Failure:
        tries.append(case.batch)
        return Failure(status, "")

    assert resolved(probe) == (ASKED, [])
    assert tries == [1]


def test_a_resumed_run_keeps_the_batch_that_it_found():
    def never(_: Case) -> Failure:
        raise AssertionError

    earlier = (replace(CASE, batch=8), replace(ASKED, batch=23))
    assert resolved(never, earlier=earlier)[0].batch == 23


def test_on_the_cpu_only_a_limit_makes_a_batch_too_large():
    with pytest.raises(UserError, match="--memory-limit 4GiB"):
        resolved(lambda _: None, limit=None)
    assert batch.resolve([CASE], lambda _: None, (), print, None) == (CASE,)


def test_max_goes_through_a_plan_and_leaves_the_keys_of_other_cases_alone():
    made = from_flags(models="resnet50", batches="max,4", backends="fake")
    assert [(c.batch, c.batch_asked) for c in expand(made, 1)] == [(1, "max"), (4, None)]
    assert loads(to_toml(made)) == made
    assert Case("resnet50", "", 1.0, "eager", Placement()).key == "05435cada46b"
    assert ASKED.key != CASE.key


def test_old_journals_are_read(tmp_path):
    import json

    line = json.loads(dump(record(TIMED)))
    for name in ("measures", "schema"):
        del line[name]
    for name in ("parts_ns", "device_ns"):
        del line["outcome"][name]
    del line["case"]["batch_asked"]
    assert parse(json.dumps(line)) == record(TIMED)


def test_peaks_are_of_this_process():
    assert memory.resident() >= 10 * MIB
    assert memory.gauges("cpu")[0].source == "process"
    assert os.access("/proc/self/clear_refs", os.W_OK)
