"""What a row says of memory."""

from __future__ import annotations

from typing import Any

import pytest

from profiler.backends.base import Placement
from profiler.records import table
from profiler.records.circumstances import Conditions
from profiler.records.columns import Row
from profiler.records.journal import Journal
from profiler.records.lines import dump, parse_record
from profiler.records.reading import read
from profiler.records.table import headline
from profiler.records.types import Case, Failure, Measurement, Memory, Record, Warmup

MIB = 1 << 20


CASE = Case("resnet50", "", 1.0, "fake:duration_ms=0.1", Placement())


@pytest.mark.parametrize(
    ("sources", "device", "expected"),
    [
        ({"process": 5}, "cpu", "process"),
        ({}, "cpu", None),
        ({"process": 5, "device": 13, "allocated": 7, "reserved": 9, "nvml": 11}, "cuda:0", "device"),
        ({"process": 5, "device": 13, "allocated": 0, "reserved": 0}, "cuda:0", "device"),
        ({"process": 5, "allocated": 7, "reserved": 9, "nvml": 11}, "cuda:0", "allocated"),
        ({"process": 5, "allocated": 0, "reserved": 0, "nvml": 11}, "cuda", "nvml"),
        ({"process": 5, "allocated": 0}, "cuda", None),
    ],
)
def test_the_figure_that_is_read_first_is_of_the_device(sources, device, expected):
    assert headline(sources, device) == expected


TIMED = Measurement(((10_000_000,) * 5,), 1, (), None, Warmup((), steady=True), 0.0, Conditions(), {})


def record(outcome: Any, number: int = 0, case: Case = CASE, **changes: Any) -> Record:
    return Record(case, None, 224, "h", number, "2026-01-01T00:00:00+00:00", 1.0, outcome, **changes)


def row(tmp_path, *records: Record) -> Row:
    with Journal.open(tmp_path / "run", {"cases": [records[0].case]}) as journal:
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
    assert parse_record(dump(original)) == original


def test_old_journals_are_read(tmp_path):
    import json

    line = json.loads(dump(record(TIMED)))
    for name in ("measures", "schema"):
        del line[name]
    for name in ("parts_ns", "device_ns"):
        del line["outcome"][name]
    for name in ("batch_asked", "step"):
        del line["case"][name]
    assert parse_record(json.dumps(line)) == record(TIMED)
