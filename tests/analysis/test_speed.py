"""Which of a few rows is fastest, and how surely."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from profiler.analysis.quantity import Quantity
from profiler.analysis.speed import fastest, ratio_interval, speed_up
from profiler.records.columns import Row

times = st.floats(0.01, 1e4)


def row(backend: str, ms: float | None, half: float | None = 0.05) -> Row:
    ends = (None, None) if ms is None or half is None else (ms * (1 - half), ms * (1 + half))
    return {"backend": backend, "latency_ms": ms, "latency_ci_low_ms": ends[0], "latency_ci_high_ms": ends[1]}


def test_the_fastest_is_sure_where_its_lead_is_wider_than_the_intervals() -> None:
    found = fastest([row("eager", 20.0), row("onnxruntime", 10.0), row("torchscript", 15.0)])
    assert found is not None
    assert (found.row["backend"], found.second["backend"] if found.second else None) == ("onnxruntime", "torchscript")
    assert found.sure
    assert found.lead is not None
    assert found.lead.value == 1.5


def test_a_lead_within_the_intervals_is_not_sure() -> None:
    found = fastest([row("eager", 10.0, 0.2), row("onnxruntime", 9.5, 0.2)])
    assert found is not None
    assert not found.sure


def test_one_visit_is_never_sure() -> None:
    found = fastest([row("eager", 20.0, None), row("onnxruntime", 1.0)])
    assert found is not None
    assert not found.sure


def test_what_failed_is_never_fastest() -> None:
    assert fastest([row("eager", None)]) is None
    found = fastest([row("eager", None), row("onnxruntime", 3.0)])
    assert found is not None
    assert found.second is None
    assert speed_up(row("onnxruntime", 3.0), row("eager", None)) is None


@given(times, times, st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_the_interval_of_a_ratio_holds_it_and_turns_over_with_it(a: float, b: float, p: float, q: float) -> None:
    top, bottom = Quantity(a, (a * (1 - p), a * (1 + p))), Quantity(b, (b * (1 - q), b * (1 + q)))
    found, other = ratio_interval(top, bottom), ratio_interval(bottom, top)
    assert found is not None
    assert other is not None
    assert found[0] <= a / b <= found[1]
    assert abs(found[0] * other[1] - 1) < 1e-9
