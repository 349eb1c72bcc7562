"""What calls under load say, and how sure; a folder of loads, damaged or not."""

from __future__ import annotations

import csv
import random
import statistics
from dataclasses import replace

import pytest

from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.records.load import LOAD_COLUMNS, Load, LoadRecord, load_point, load_row
from profiler.records.load_file import (
    NAME,
    LoadRun,
    append_load,
    holds_loads,
    read_loads,
    start_loads,
    write_load_table,
)
from profiler.records.types import Case, Failure

MS = 1_000_000
CASE = Case("resnet50", "", 1.0, "onnxruntime", Placement(), batch=8)


def stream(*times_ms: float, gap_ms: float = 0.0):
    """Calls one after another."""
    found, at = [], 0
    for ms in times_ms:
        found.append((at, at, at + round(ms * MS)))
        at += round((ms + gap_ms) * MS)
    return tuple(found)


def lognormal(draw: random.Random, number: int):
    return stream(*(draw.lognormvariate(2.3, 0.2) for _ in range(number)))


def test_calls_outside_of_the_time_when_all_are_at_work_do_not_count():
    alone, late = [(0, 0, 10), (10, 10, 20), (50, 50, 90), (90, 90, 130)], [(45, 45, 95), (95, 95, 120)]
    assert load_point([alone, late]).calls == 3  # one of the first, which began within, and both of the second
    assert load_point([[(0, 0, 10)], [(20, 20, 30)]]) is None
    assert load_point([]) is load_point([[]]) is None


def test_a_call_that_is_cut_counts_by_its_share():
    point = load_point([stream(*[10.0] * 7), stream(*[30.0] * 3)])
    assert point.calls_per_s == pytest.approx(1e3 / 10 + 1e3 / 30)


def test_percentiles_need_calls_and_so_do_intervals():
    few = load_point([stream(*[10.0] * 5)])
    assert (few.p50_ms, few.p90_ms, few.p99_ms, few.calls_low_per_s, few.p99_high_ms) == (10, None, None, None, None)
    many = load_point([lognormal(random.Random(1), 2000)])
    assert many.p50_low_ms < many.p50_ms < many.p50_high_ms < many.p90_low_ms
    assert many.p99_low_ms < many.p99_ms < many.p99_high_ms
    assert many.calls_low_per_s < many.calls_per_s < many.calls_high_per_s


def test_intervals_hold_what_they_are_about():
    """About 95 in 100, of the median, the tail and the rate."""
    draw = random.Random(7)
    true_mean = 1e3 / statistics.fmean(draw.lognormvariate(2.3, 0.2) for _ in range(100_000))
    held = {"p50": 0, "p99": 0, "calls": 0}
    for _ in range(40):
        point = load_point([lognormal(draw, 1000)])
        held["p50"] += point.p50_low_ms <= 9.974 <= point.p50_high_ms
        held["p99"] += point.p99_low_ms <= 15.883 <= (point.p99_high_ms or 1e9)
        held["calls"] += point.calls_low_per_s <= true_mean <= point.calls_high_per_s
    assert all(count >= 35 for count in held.values()), held


def test_a_row_has_every_column_and_examples_per_second():
    record = LoadRecord(CASE, Load(streams=2, gap_s=0.01), (stream(*[10.0] * 7), stream(*[10.0] * 7)))
    row = load_row(record, load_point(record.streams))
    assert tuple(row) == LOAD_COLUMNS
    assert row["throughput_per_s"] == pytest.approx(8 * row["calls_per_s"]) == pytest.approx(1600)
    assert (row["streams"], row["gap_ms"], row["ways"], row["load"]) == (2, 10, "processes", "2 streams")
    failed = load_row(replace(record, streams=(), failure=Failure("oom", "no room")), None)
    assert (failed["status"], failed["reason"], failed["calls"], failed["p50_ms"]) == ("oom", "no room", None, None)


def kept(folder, *records):
    start_loads(folder, {"keep": "p99=50ms"})
    for record in records:
        append_load(folder, record)
    return read_loads(folder)


RECORDS = (
    LoadRecord(CASE, Load(2), (stream(10, 11, 9), stream(10, 10, 10)), facts={"provider": "CPU", "threads": 1}),
    LoadRecord(CASE, Load(rate=20.0, seed=3), failure=Failure("error", "it broke", "Traceback")),
)


def test_what_is_kept_is_read_back(tmp_path):
    folder = tmp_path / "new" / "loads"
    assert kept(folder, *RECORDS) == LoadRun({"keep": "p99=50ms"}, RECORDS)
    assert holds_loads(folder)
    assert holds_loads(folder / NAME)
    assert not holds_loads(tmp_path)
    write_load_table(folder, [load_row(one, load_point(one.streams)) for one in RECORDS])
    rows = list(csv.DictReader((folder / "load.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == ["ok", "error"]
    assert [row["p50_ms"] for row in rows] == ["10", ""]


@pytest.mark.parametrize("damage", [b'{"load": {"case"', b"\xff\xfe", b"[1]", b'{"load": {"case": 7}}', b"9" * 5000])
def test_a_damaged_line_costs_that_line(tmp_path, damage):
    kept(tmp_path, *RECORDS)
    whole = (tmp_path / NAME).read_bytes().splitlines()
    (tmp_path / NAME).write_bytes(b"\n".join([whole[0], whole[1], damage, whole[2]]))
    found = read_loads(tmp_path)
    assert found.records == RECORDS
    [notice] = found.notices
    assert "line 3 is left out" in notice


@pytest.mark.parametrize("name", [NAME, "journal.jsonl"])
def test_what_is_there_is_not_mixed_with_anything(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="already holds"):
        start_loads(tmp_path, {})
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        start_loads(tmp_path / "file" / "loads", {})
    with pytest.raises(UserError, match="cannot be read"):
        read_loads(tmp_path / "nowhere")
