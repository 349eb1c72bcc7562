from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.analysis.accuracy import Accuracies, with_accuracy
from profiler.analysis.frontier import Front, best_under, cheapest_from, fronts
from tests import DATA

#: By hand, from the table's times and the published errors: each is more accurate than all that are as fast.
BY_HAND = [
    "RegNetX-200MF",
    "RegNetY-200MF",
    "RegNetX-400MF",
    "RegNetX-600MF",
    "RegNetY-600MF",
    "RegNetY-800MF",
    "RegNetX-1.6GF",
    "RegNetY-1.6GF",
    "RegNetX-3.2GF",
    "RegNetY-4.0GF",
    "RegNetY-6.4GF",
    "RegNetY-8.0GF",
    "RegNetY-12GF",
    "RegNetY-16GF",
    "RegNetY-32GF",
]

Row = tuple[str, float | None, float | None, float]


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows of network, latency, top-1 and relative half width of the interval."""
    made = pd.DataFrame([row[:3] for row in rows], columns=["model", "latency_ms", "top1"]).astype(
        {"top1": float, "latency_ms": float}
    )
    widths = np.array([row[3] for row in rows])
    made["latency_ci_low_ms"], made["latency_ci_high_ms"] = (
        made["latency_ms"] * (1 - widths),
        made["latency_ms"] * (1 + widths),
    )
    made["recipe"], made["visits"] = "mine", 5
    return made


def front_of(rows: Sequence[Row]) -> Front:
    [front] = fronts(with_accuracy(table(rows)), "latency_ms")
    return front


def test_the_front_of_published_times_is_that_by_hand() -> None:
    told = with_accuracy(pd.read_csv(DATA / "pycls_v100.csv"))
    [front] = fronts(told, "infer_ms")
    assert told.recipe == "pycls"
    assert len(front.points) == 36
    assert [point.network for point in front.members] == BY_HAND
    assert {point.probability for point in front.points} == {None}
    best = best_under(front, 50)
    assert best
    assert (best.point.network, best.probability) == ("RegNetY-1.6GF", None)
    assert best.faster
    assert best.faster.network == "RegNetX-1.6GF"
    assert best.loss == pytest.approx(23.038 - 22.066)
    cheapest = cheapest_from(front, 80)
    assert cheapest
    assert cheapest.point.network == "RegNetY-12GF"


ROWS = st.lists(
    st.tuples(
        st.sampled_from([f"n{k}" for k in range(12)]),
        st.sampled_from([1.0, 2.0, 2.5, 4.0, 7.0]),
        st.sampled_from([60.0, 70.0, 70.5, 80.0]),
        st.sampled_from([0.02, 0.1]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda row: row[0],
)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_a_front_has_no_dominated_point_and_knows_no_order(rows: list[Row], random: object) -> None:
    front = front_of(rows)
    for point in front.points:
        worse = [
            other
            for other in front.points
            if other.cost <= point.cost
            and other.top1 >= point.top1
            and (other.cost, other.top1) != (point.cost, point.top1)
        ]
        assert point.member == (not worse)
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert front_of(shuffled) == front


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_duplicates_change_nothing(rows: list[Row]) -> None:
    assert front_of([*rows, *rows]) == front_of(rows)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([f"n{k}" for k in range(12)]),
            st.sampled_from([None, 1.0, 2.0]),
            st.sampled_from([None, 60.0, 70.0]),
            st.just(0.02),
        ),
        min_size=1,
        unique_by=lambda row: row[0],
    )
)
def test_nothing_is_lost(rows: list[Row]) -> None:
    if not any(top1 for _, _, top1, _ in rows):
        return
    front = front_of(rows)
    known = {name for name, cost, top1, _ in rows if cost or top1}
    placed = [*(point.network for point in front.points), *front.costless, *front.without]
    assert sorted(placed) == sorted(known)
    assert set(front.costless) == {name for name, cost, top1, _ in rows if top1 and not cost}
    assert set(front.without) == {name for name, cost, top1, _ in rows if cost and not top1}


def test_intervals_that_overlap_leave_membership_open() -> None:
    # a is on the front where it is faster than b, which is the case in half of the draws.
    front = front_of([("a", 10.0, 70.0, 0.05), ("b", 10.01, 71.0, 0.05), ("c", 20.0, 80.0, 0.01)])
    a, b, c = front.points
    assert a.doubtful
    assert a.probability == pytest.approx(0.5, abs=0.05)
    assert (b.probability, c.probability) == (1.0, 1.0)
    assert not b.doubtful


def test_probabilities_are_those_of_the_normal_law() -> None:
    frame = table([("a", 10.0, 70.0, 0.0), ("b", 10.2, 71.0, 0.0)])
    frame["latency_ci_low_ms"] = frame["latency_ms"] / math.exp(0.0196)
    frame["latency_ci_high_ms"] = frame["latency_ms"] * math.exp(0.0196)
    [front] = fronts(with_accuracy(frame.drop(columns="visits")), "latency_ms")
    # log(10.2 / 10) over sqrt(2) standard deviations of 0.01
    expected = 0.5 * (1 + math.erf(math.log(1.02) / (0.01 * math.sqrt(2)) / math.sqrt(2)))
    assert front.points[0].probability == pytest.approx(expected, abs=0.02)


def test_few_visits_make_it_less_sure() -> None:
    rows: list[Row] = [("a", 10.0, 70.0, 0.05), ("b", 10.4, 71.0, 0.05)]
    many = front_of(rows).points[0].probability
    few = fronts(with_accuracy(table(rows).assign(visits=2)), "latency_ms")[0].points[0].probability
    assert many
    assert few
    assert few > many > 0.6  # with one degree of freedom half of all draws are nearer than the interval's end by far


def test_how_sure_the_best_is() -> None:
    front = front_of([("fast", 5.0, 70.0, 0.02), ("good", 9.9, 75.0, 0.05), ("slow", 30.0, 80.0, 0.02)])
    choice = best_under(front, 10)
    assert choice
    assert choice.point.network == "good"
    assert choice.meets
    assert 0.5 < choice.meets < 0.9
    assert choice.probability == choice.meets
    assert choice.ratio
    assert choice.ratio.value == pytest.approx(5 / 9.9)
    assert choice.ratio.interval
    assert choice.ratio.interval[0] < 5 / 9.9 < choice.ratio.interval[1]
    assert best_under(front, 4) is None
    assert cheapest_from(front, 81) is None
    last = best_under(front, 6)
    assert last
    assert last.faster is None


def test_predicted_accuracies_are_drawn_too() -> None:
    frame = table([("a", 10.0, 70.0, 0.001), ("b", 20.0, 70.5, 0.001)])
    made = with_accuracy(frame).frame.assign(top1_low=[70.0, 69.0], top1_high=[70.0, 72.0])
    b = fronts(Accuracies(made, "mine", ""), "latency_ms")[0].points[1]
    assert b.probability
    assert 0.6 < b.probability < 0.8


def test_failed_rows_are_listed_with_their_reason() -> None:
    frame = table([("a", 10.0, 70.0, 0.01), ("b", None, 71.0, 0.01)]).assign(
        status=["ok", "oom"], reason=["", "needs 12 GB"]
    )
    [front] = fronts(with_accuracy(frame), "latency_ms")
    assert front.costless == {"b": (71.0, "needs 12 GB")}


def test_groups_have_fronts_of_their_own() -> None:
    frame = pd.concat([table([("a", 10.0, 70.0, 0.01)]).assign(backend=name) for name in ("x", "y")])
    assert [front.label for front in fronts(with_accuracy(frame), "latency_ms")] == ["x", "y"]
