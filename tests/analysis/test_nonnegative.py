from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.analysis.nonnegative import held_out, inside_hull, margin_of, non_negative_fit, precision_weights
from tests.analysis.tables import networks


@settings(max_examples=40)
@given(
    t0=st.floats(0, 20),
    per_acts=st.floats(0.01, 5),
    per_flops=st.floats(0.01, 5),
)
def test_two_terms_are_found_exactly_without_noise(t0: float, per_acts: float, per_flops: float) -> None:
    frame = networks()
    acts, flops = (frame["acts"] / 1e6).to_numpy(), (frame["flops"] / 1e9).to_numpy()
    found = non_negative_fit(np.column_stack([acts, flops]), t0 + per_acts * acts + per_flops * flops)
    assert found == pytest.approx([t0, per_acts, per_flops], rel=1e-6, abs=1e-6)


def test_no_term_is_negative() -> None:
    frame = networks()
    acts, flops = (frame["acts"] / 1e6).to_numpy(), (frame["flops"] / 1e9).to_numpy()
    found = non_negative_fit(np.column_stack([acts, flops]), np.maximum(0.1, 50 - 0.4 * acts))
    assert (found >= 0).all()


def test_weights_follow_the_spread_of_measurements_where_the_model_is_exact() -> None:
    spread = np.array([0.01, 0.01, 0.04])
    weights = precision_weights(spread, np.zeros(3))
    assert weights.mean() == pytest.approx(1)
    assert weights[0] / weights[2] == pytest.approx(16)


def test_a_model_that_lacks_something_weighs_networks_nearly_alike() -> None:
    spread = np.array([0.001, 0.01, 0.02])
    weights = precision_weights(spread, np.array([0.3, -0.3, 0.3]))
    assert weights.max() / weights.min() < 1.01


def test_without_intervals_all_weigh_alike() -> None:
    assert (precision_weights(np.zeros(3), np.zeros(3)) == 1).all()


def test_good_measurements_pull_the_two_term_model() -> None:
    acts, flops = np.array([1.0, 2, 3, 4, 5, 6]), np.array([2.0, 1, 4, 2, 6, 3])
    y = 1 + 2 * acts + flops
    y[2] *= 1.5
    weights = np.array([1, 1, 1e-6, 1, 1, 1])
    assert non_negative_fit(np.column_stack([acts, flops]), y, weights) == pytest.approx([1, 2, 1], rel=1e-3)
    assert non_negative_fit(np.column_stack([acts, flops]), y) != pytest.approx([1, 2, 1], rel=1e-2)


def test_prediction_intervals_hold_new_networks() -> None:
    """Nominally 90%; with 40 networks the rank is ceil(36.9) = 37 of 40, so 90 to 93% are expected."""
    rng = np.random.default_rng(3)
    each, hits, times = np.arange(40), 0, 400
    for _ in range(times):
        acts = np.exp(rng.uniform(1, 4, 41))
        flops = acts * np.exp(rng.normal(-1, 0.5, 41))
        # Every other network is three times as noisy.
        y = (1 + 2 * acts + 5 * flops) * np.exp(np.where(rng.random(41) < 0.5, 0.03, 0.1) * rng.normal(size=41))
        unseen = held_out(np.column_stack([acts, flops])[:40], y[:40], each)
        assert unseen is not None
        t0, a, b = non_negative_fit(np.column_stack([acts, flops])[:40], y[:40])
        error = math.log(y[40] / (t0 + a * acts[40] + b * flops[40]))
        hits += abs(error) <= margin_of(np.log(y[:40] / unseen))
    assert 0.86 <= hits / times <= 0.96  # 90 to 93%, less and more about three standard errors


@pytest.mark.parametrize(("n", "rank"), [(9, 9), (10, 10), (40, 37), (100, 91)])
def test_the_margin_is_a_rank_of_the_errors(n: int, rank: int) -> None:
    errors = np.linspace(0.01, 0.01 * n, n) * np.where(np.arange(n) % 2, 1, -1)
    assert margin_of(errors) == pytest.approx(0.01 * rank)


def test_few_errors_give_a_wider_margin_than_normal_ones_need() -> None:
    assert margin_of(np.array([0.1, -0.1, 0.1, -0.1])) > 0.1 * 1.645


@given(weights=st.lists(st.floats(0.01, 1), min_size=5, max_size=5))
def test_means_of_points_are_inside_their_hull(weights: list[float]) -> None:
    points = np.array([[0.0, 0], [1, 0], [0, 1], [3, 2], [1, 5]])
    assert inside_hull(points, np.average(points, axis=0, weights=weights))


@pytest.mark.parametrize("outside", [[-0.1, 0.0], [2.0, 0.1], [0.0, 5.0]])
def test_points_beyond_the_hull_are_outside(outside: list[float]) -> None:
    points = np.array([[0.0, 0], [1, 0], [0, 1], [3, 2], [1, 5]])
    assert not inside_hull(points, np.array(outside))


def test_a_hull_may_be_a_line() -> None:
    points = np.array([[0.0, 0], [1, 1], [2, 2]])
    assert inside_hull(points, np.array([0.5, 0.5]))
    assert not inside_hull(points, np.array([0.5, 0.6]))
