"""The knee of a curve, limits that are kept or not known to be, and a search for the most streams."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.analysis.load import MOST_STREAMS, Limit, limit_of, load_curves, most_kept, next_streams
from profiler.errors import UserError
from tests.report.loads import LIMIT, opened, point, under


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p99=50ms", Limit("p99", 50)),
        ("50ms", Limit("p99", 50)),
        (" p90 = 1.5s ", Limit("p90", 1500)),
        ("P50=200us", Limit("p50", 0.2)),
    ],
)
def test_a_limit_is_read(text, expected):
    assert limit_of(text) == expected


@pytest.mark.parametrize("text", ["", "p99", "p99=", "p95=50ms", "50", "p99=0ms", "p99=-1ms", "=50ms", "p99=soon"])
def test_what_is_no_limit_is_one_sentence(text):
    with pytest.raises(UserError, match="expected p50, p90, p99 and a duration, as p99=50ms"):
        limit_of(text)


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(30, 49, True), (30, 51, None), (51, 60, False), (30, None, None), (51, None, False)]
)
def test_a_limit_is_held_by_the_whole_interval(low, high, expected):
    assert LIMIT.held(replace(point(), p99_low_ms=low, p99_high_ms=high)) is expected


def test_the_knee_is_the_fewest_streams_near_the_most_calls():
    [curve] = load_curves([under(4, 102.0), under(1, 60.0), under(2, 95.0), opened(20.0)])
    assert curve.name == "onnxruntime"
    assert [record.load.streams for record, _ in curve.closed] == [1, 2, 4]
    assert [record.load.rate for record, _ in curve.opened] == [20.0]
    assert curve.knee[0].load.streams == 2
    assert load_curves([under(1, 60.0)])[0].knee is None


def test_what_differs_makes_another_curve_and_names_it():
    told = [under(1, 10.0), under(1, 9.0, gap_s=0.01), under(2, 9.0), under(1, 8.0, backend="eager")]
    assert [curve.name for curve in load_curves(told)] == [
        "onnxruntime · back to back",
        "onnxruntime · 10.0 ms apart",
        "eager · back to back",
    ]


@pytest.mark.parametrize(("limit", "expected"), [(5, None), (15, 1), (25, 2), (35, 2), (1e3, 2)])
def test_how_many_streams_keep_a_limit(limit, expected):
    told = [under(1, 1.0, p99=10), under(2, 1.0, p99=20), under(4, 1.0, p99=30, known=False)]
    kept = most_kept(told, Limit("p99", limit))
    assert (kept and kept[0].load.streams) == expected


@given(st.integers(0, MOST_STREAMS + 5))
def test_the_search_ends_with_the_most_that_keep_it(most):
    tried = {}
    while (streams := next_streams(tried)) is not None:
        assert streams not in tried
        tried[streams] = streams <= most
    assert max((n for n, held in tried.items() if held), default=0) == min(most, MOST_STREAMS)
    assert len(tried) <= 11
