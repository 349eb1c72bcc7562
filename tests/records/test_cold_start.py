"""What a row says of a start from nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiler.records.types import Warmup
from tests.records.test_memory_rows import TIMED, record, row

MS = 1_000_000


def visit(first_ms: float, *warm_ms: float, **facts):
    warmup = Warmup(tuple(round(ms * MS) for ms in warm_ms), steady=True)
    return replace(TIMED, warmup=warmup, phases_s={"load": 0.5, "first": first_ms / 1e3}, facts=facts)


def test_what_was_spent_on_the_form_that_is_kept_stands_beside_the_load(tmp_path):
    made = row(tmp_path, record(visit(30, 10, cached=True, export_s=2.5, compile_s=60.25, model_bytes=1 << 20)))
    names = ("export_s", "compile_s", "load_s", "first_ms", "model_bytes")
    assert [made[name] for name in names] == [2.5, 60.25, 0.5, 30, 1 << 20]


def made_by(load_s: float, *, cached: bool, export_s: float):
    return replace(visit(30, 10, cached=cached, export_s=export_s), phases_s={"load": load_s, "first": 0.03})


@pytest.mark.parametrize(
    ("visits", "expected"),
    [
        ([made_by(0.5, cached=True, export_s=2)], ("cache", 0.5, 2)),
        ([made_by(2.5, cached=False, export_s=2)], ("model", 2.5, 2)),
        # The first made it, which is no part of what the others tell.
        ([made_by(2.5, cached=False, export_s=2), *[made_by(0.5, cached=True, export_s=2)] * 2], ("cache", 0.5, 2)),
        # The form was lost, and made anew by the last: what is told is of those that found it.
        ([made_by(0.5, cached=True, export_s=2), made_by(9.5, cached=False, export_s=9)], ("cache", 0.5, 2)),
    ],
)
def test_a_load_from_the_cache_is_told_from_one_that_made_the_form(tmp_path, visits, expected):
    made = row(tmp_path, *(record(one, number) for number, one in enumerate(visits)))
    assert (made["load_from"], made["load_s"], made["export_s"]) == expected


def test_what_was_not_told_is_empty_and_not_0(tmp_path):
    made = row(tmp_path, record(TIMED))
    names = ("export_s", "compile_s", "model_bytes", "steady_after", "load_from", "load_s", "first_ms")
    assert [made[name] for name in names] == [None] * len(names)


def compared_first(made):
    """A visit as it was once made: two forwards were compared with eager's between the first and the warm-up."""
    return replace(made, phases_s={**made.phases_s, "parity": 0.1, "warmup": 0.2})


@pytest.mark.parametrize(
    ("visits", "expected"),
    [
        ([visit(10.4, 20, 20)], 1),  # the first forward is within 5% of 10 ms
        ([visit(10.6, 10.5, 10)], 2),
        ([visit(90, 30, 20, 10.6, 10.4)], 5),
        ([visit(90, 30, 20)], None),
        ([visit(90, 10), visit(90, 30, 10), visit(90, 30, 30, 30, 10)], 3),
        ([visit(90, 10), visit(90, 30)], 2),
        ([compared_first(visit(10.6, 10.5, 10))], 4),
    ],
)
def test_steady_is_the_first_forward_near_the_median(tmp_path, visits, expected):
    assert row(tmp_path, *(record(one, number) for number, one in enumerate(visits)))["steady_after"] == expected
