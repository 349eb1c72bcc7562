from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from profiler.analysis import regression


def design(n: int = 25, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = np.exp(rng.uniform(0, 3, n))
    y = 2 + 3 * x + x * rng.normal(size=n)
    return np.column_stack([np.ones(n), rng.normal(size=n), x]), y, np.exp(rng.normal(size=n))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_coefficient_is_that_of_statsmodels_with_hc3(weighted: bool) -> None:
    terms, y, weights = design()
    theirs = sm.WLS(y, terms, weights=weights if weighted else 1.0).fit(cov_type="HC3")
    ours = regression.coefficient(terms, y, weights if weighted else None)
    assert ours.value == pytest.approx(theirs.params[-1], rel=1e-10)
    assert ours.error == pytest.approx(theirs.bse[-1], rel=1e-9)


def test_a_row_with_an_intercept_of_its_own_changes_nothing() -> None:
    terms, y, _ = design()
    lone = np.vstack([np.column_stack([terms, np.zeros(len(y))]), [0, 0, 9, 1]])[:, [0, 1, 3, 2]]
    alone, beside = regression.coefficient(terms, y), regression.coefficient(lone, np.append(y, 1e3))
    assert beside.value == pytest.approx(alone.value)
    assert beside.error == pytest.approx(alone.error)
    assert beside.interval == pytest.approx(alone.interval)


def test_a_coefficient_that_one_row_sets_has_no_interval() -> None:
    terms = np.column_stack([np.ones(4), [1.0, 1.0, 1.0, 9.0]])
    found = regression.coefficient(terms, np.array([1.0, 2.0, 3.0, 7.0]))
    assert found.value == pytest.approx(5 / 8)
    assert (found.error, found.interval) == (None, None)


def test_weights_follow_the_spread_of_measurements_where_the_model_is_exact() -> None:
    spread = np.array([0.01, 0.01, 0.04])
    weights = regression.precision_weights(spread, np.zeros(3))
    assert weights.mean() == pytest.approx(1)
    assert weights[0] / weights[2] == pytest.approx(16)


def test_a_model_that_lacks_something_weighs_networks_nearly_alike() -> None:
    spread = np.array([0.001, 0.01, 0.02])
    weights = regression.precision_weights(spread, np.array([0.3, -0.3, 0.3]))
    assert weights.max() / weights.min() < 1.01


def test_without_intervals_all_weigh_alike() -> None:
    assert (regression.precision_weights(np.zeros(3), np.zeros(3)) == 1).all()


def test_good_measurements_pull_the_two_term_model() -> None:
    acts, flops = np.array([1.0, 2, 3, 4, 5, 6]), np.array([2.0, 1, 4, 2, 6, 3])
    y = 1 + 2 * acts + flops
    y[2] *= 1.5
    weights = np.array([1, 1, 1e-6, 1, 1, 1])
    assert regression.non_negative_fit(np.column_stack([acts, flops]), y, weights) == pytest.approx([1, 2, 1], rel=1e-3)
    assert regression.non_negative_fit(np.column_stack([acts, flops]), y) != pytest.approx([1, 2, 1], rel=1e-2)


def test_weighted_slope_intervals_hold_the_slope() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(1000):
        x = np.exp(rng.uniform(0, np.log(50), 40))
        y = 3 + 2 * x + rng.normal(size=40) * 0.2 * x
        found = regression.slope_interval(x, y, 1 / x**2)
        assert found is not None
        hits += found[1][0] <= 2 <= found[1][1]
    assert 930 <= hits <= 970
