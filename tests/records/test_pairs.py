"""Speed-ups of visits in pairs: what slows both visits of a round is no part of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiler.analysis.speed import speed_up
from profiler.records import table
from profiler.records.journal import Journal
from profiler.records.pairs import bases
from profiler.records.reading import read
from profiler.records.types import Failure
from tests.records.test_memory_rows import CASE, TIMED, record

EAGER, FAST = replace(CASE, backend="eager"), replace(CASE, backend="onnxruntime")
MS = 1_000_000


def visits(case, *times_ms):
    for number, ms in enumerate(times_ms):
        outcome = Failure("error", "x") if ms is None else replace(TIMED, samples_ns=((round(ms * MS),) * 5,))
        yield record(outcome, number, case)


def rows(tmp_path, *records):
    cases = list(dict.fromkeys(one.case for one in records))
    with Journal.open(tmp_path / "run", {"cases": cases}) as journal:
        for one in records:
            journal.append(one)
    return {row["backend"]: row for row in table.rows(read(tmp_path / "run"))}


def test_what_slows_both_visits_of_a_round_cancels(tmp_path):
    slow = (1.0, 1.3, 1.1, 1.5, 1.0)
    eager = visits(EAGER, *(20 * by for by in slow))
    found = rows(tmp_path, *visits(FAST, *(10 * by for by in slow)), *eager)
    row = found["onnxruntime"]
    assert row["speed_up_over"] == "eager"
    assert [row[f"speed_up{end}"] for end in ("", "_ci_low", "_ci_high")] == pytest.approx([2, 2, 2])
    assert found["eager"]["speed_up"] is None
    assert speed_up(row, found["eager"]).interval == pytest.approx((2, 2))
    apart = speed_up(row | {"speed_up_over": None}, found["eager"]).interval
    assert apart[0] < 1.7
    assert apart[1] > 2.3


def test_rounds_in_which_one_failed_are_no_pairs(tmp_path):
    found = rows(tmp_path, *visits(EAGER, None, 20, 20, 20, 80), *visits(FAST, 2, 10, 10, 10, None))
    assert found["onnxruntime"]["speed_up"] == pytest.approx(2)


def test_two_pairs_are_none(tmp_path):
    assert rows(tmp_path, *visits(EAGER, 20, 20, None), *visits(FAST, 10, 10, 10))["onnxruntime"]["speed_up"] is None


def test_only_what_differs_in_its_backend_alone_is_compared():
    first = replace(EAGER, backend="torchscript")
    other = replace(FAST, batch=8)
    assert bases([first, FAST, other]) == {FAST.key: first}
    assert bases([FAST, EAGER]) == {FAST.key: EAGER}


@pytest.mark.parametrize("differs", [{"batch": 8}, {"threads": 2}, {"model": "other"}, {"backend": "torchscript"}])
def test_a_pair_with_another_base_is_not_this_one(tmp_path, differs):
    found = rows(tmp_path, *visits(EAGER, 20, 20, 20), *visits(FAST, 10, 10, 10))
    base = found["eager"] | {"latency_ms": 40.0} | differs
    assert speed_up(found["onnxruntime"], base).value == pytest.approx(4)
