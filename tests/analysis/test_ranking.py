"""Which network is fastest, from tables with known answers."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.analysis.ranking import ranked
from profiler.errors import UserError


def table(*rows: tuple[str, float, float, float, float]) -> pd.DataFrame:
    """Rows of model, flops, latency and the ends of its interval."""
    columns = ["model", "flops", "latency_ms", "latency_ci_low_ms", "latency_ci_high_ms"]
    frame = pd.DataFrame(list(rows), columns=columns)
    return frame.assign(backend="eager", batch=1, mode="infer", status="ok")


NETWORKS = table(
    ("c", 4e9, 30.0, 29.0, 31.0), ("a", 4.2e9, 10.0, 9.8, 10.2), ("b", 3.9e9, 10.1, 9.0, 11.3), ("d", 8e9, 12.0, 11, 13)
)


def names(found: dict[str, list]) -> list[str]:  # type: ignore[type-arg]
    ((_, places),) = found.items()
    return [place.network for place in places]


def test_the_fastest_comes_first_and_who_may_be_as_fast_is_told() -> None:
    (places,) = ranked(NETWORKS).values()
    assert [place.network for place in places] == ["a", "b", "d", "c"]
    assert [place.surely for place in places[1:]] == [False, True, True]
    assert places[-1].behind.value == pytest.approx(3.0)


def test_one_size_is_within_a_tenth_of_it() -> None:
    assert names(ranked(NETWORKS, flops=4e9)) == ["a", "b", "c"]


def test_within_a_budget_the_largest_comes_first_and_the_whole_interval_counts() -> None:
    assert names(ranked(NETWORKS, budget_ms=13.0)) == ["d", "a", "b"]
    assert names(ranked(NETWORKS, budget_ms=12.5)) == ["a", "b"]


def test_settings_are_ranked_apart_and_backends_together() -> None:
    two = pd.concat([NETWORKS, NETWORKS.assign(backend="onnxruntime", latency_ms=1.0), NETWORKS.assign(batch=8)])
    found = ranked(two)
    assert list(found) == ["batch 1 · infer", "batch 8 · infer"]
    assert len(found["batch 1 · infer"]) == 8
    assert names(ranked(two[two["batch"] == 1], backends=["onnxruntime"])) == ["c", "a", "b", "d"]


def test_a_table_with_holes_or_without_intervals_is_ranked() -> None:
    holes = NETWORKS.astype({"latency_ci_low_ms": object}).assign(latency_ci_low_ms=[None, 9.8, 9.0, 11.0])
    assert names(ranked(holes)) == names(ranked(NETWORKS[["model", "flops", "latency_ms"]])) == ["a", "b", "d", "c"]


def test_what_failed_is_not_ranked_and_nothing_left_is_said() -> None:
    failed = NETWORKS.assign(status=["oom", "ok", "ok", "ok"])
    assert "c" not in names(ranked(failed))
    with pytest.raises(UserError, match=r"none of 4 measured .* of 1GF, .* sizes are 3\.9GF, 4GF, 4\.2GF, 8GF"):
        ranked(NETWORKS, flops=1e9)
    with pytest.raises(UserError, match=r"within 1\.00 ms with its whole interval: the fastest takes 10\.0 ms"):
        ranked(NETWORKS, budget_ms=1.0)
    with pytest.raises(UserError, match="no row of backend 'tvm': the table has eager"):
        ranked(NETWORKS, backends=["eager", "tvm"])
    with pytest.raises(UserError, match="no row of backend 'eager': the table has no column backend"):
        ranked(NETWORKS.drop(columns="backend"), backends=["eager"])


def test_only_a_latency_above_0_is_ranked_and_text_is_refused() -> None:
    holes = NETWORKS.assign(latency_ms=[None, 10.0, 0.0, 12.0])
    assert names(ranked(holes)) == ["a", "d"]
    with pytest.raises(UserError, match="none of the 4 rows of the table has a latency above 0"):
        ranked(NETWORKS.assign(latency_ms=0.0))
    with pytest.raises(UserError, match=r"none of the 0 rows"):
        ranked(NETWORKS.iloc[:0])
    with pytest.raises(UserError, match=r"'fast' in row 2 \(a\): expected a number"):
        ranked(NETWORKS.assign(latency_ms=["1", "fast", "2", "3"]))


def test_an_interval_that_does_not_hold_its_latency_is_none() -> None:
    for ends in ({"latency_ci_low_ms": 0.0}, {"latency_ci_low_ms": 12.0, "latency_ci_high_ms": 9.0}):
        (places,) = ranked(NETWORKS.assign(**ends)).values()
        assert [place.latency.interval for place in places if place.network == "a"] == [None]


def test_within_a_budget_networks_of_no_known_size_come_last() -> None:
    assert names(ranked(NETWORKS.assign(flops=[4e9, None, 3.9e9, 8e9]), budget_ms=50.0)) == ["d", "c", "b", "a"]


@given(st.permutations(range(4)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    assert names(ranked(NETWORKS.iloc[order])) == ["a", "b", "d", "c"]
