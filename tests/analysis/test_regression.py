from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from profiler.analysis.regression import (
    bca_interval,
    coefficient,
    fisher_interval,
    resample_weights,
    weighted_correlations,
)
from tests.analysis.tables import networks


def design(n: int = 25, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = np.exp(rng.uniform(0, 3, n))
    y = 2 + 3 * x + x * rng.normal(size=n)
    return np.column_stack([np.ones(n), rng.normal(size=n), x]), y, np.exp(rng.normal(size=n))


def hc3(terms: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """All coefficients of (weighted) least squares and their HC3 errors, as MacKinnon and White write them."""
    root = np.ones(len(y)) if weights is None else np.sqrt(weights)
    x, target = terms * root[:, None], y * root
    bread = np.linalg.inv(x.T @ x)
    values = bread @ x.T @ target
    residuals = (target - x @ values) / (1 - np.diag(x @ bread @ x.T))
    return values, np.sqrt(np.diag(bread @ x.T @ np.diag(residuals**2) @ x @ bread))


@pytest.mark.parametrize(
    ("weights", "value", "error"),
    [
        (None, 2.98926179317959, 0.31086726295339656),
        ([1.0, 2, 1, 3, 1, 0.5, 0.25, 0.1], 3.041452123076153, 0.26122961694035035),
    ],
)
def test_a_coefficient_is_that_of_statsmodels_with_hc3(weights: list[float] | None, value: float, error: float) -> None:
    """What statsmodels 0.15 says: ``WLS(y, terms, weights=weights).fit(cov_type="HC3")``."""
    x, other = [1.0, 1.5, 2.5, 4.0, 7.0, 11.0, 19.0, 30.0], [3.0, 1, 4, 1, 5, 9, 2, 6]
    y, terms = np.array([5.2, 6.1, 9.9, 13.0, 25.0, 33.0, 64.0, 88.0]), np.column_stack([np.ones(8), other, x])
    weighed = None if weights is None else np.array(weights)
    ours = coefficient(terms, y, weighed)
    assert ours.value == pytest.approx(value, rel=1e-10)
    assert ours.error == pytest.approx(error, rel=1e-9)
    assert [each[-1] for each in hc3(terms, y, weighed)] == pytest.approx([value, error], rel=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_coefficient_is_that_of_the_sandwich(weighted: bool) -> None:
    terms, y, weights = design()
    values, errors = hc3(terms, y, weights if weighted else None)
    ours = coefficient(terms, y, weights if weighted else None)
    assert ours.value == pytest.approx(values[-1], rel=1e-10)
    assert ours.error == pytest.approx(errors[-1], rel=1e-9)


def test_a_row_with_an_intercept_of_its_own_changes_nothing() -> None:
    terms, y, _ = design()
    lone = np.vstack([np.column_stack([terms, np.zeros(len(y))]), [0, 0, 9, 1]])[:, [0, 1, 3, 2]]
    alone, beside = coefficient(terms, y), coefficient(lone, np.append(y, 1e3))
    assert beside.value == pytest.approx(alone.value)
    assert beside.error == pytest.approx(alone.error)
    assert beside.interval == pytest.approx(alone.interval)


def test_a_coefficient_that_one_row_sets_has_no_interval() -> None:
    terms = np.column_stack([np.ones(4), [1.0, 1.0, 1.0, 9.0]])
    found = coefficient(terms, np.array([1.0, 2.0, 3.0, 7.0]))
    assert found.value == pytest.approx(5 / 8)
    assert (found.error, found.interval) == (None, None)


def test_weighted_slope_intervals_hold_the_slope() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(1000):
        x = np.exp(rng.uniform(0, np.log(50), 40))
        y = 3 + 2 * x + rng.normal(size=40) * 0.2 * x
        found = coefficient(np.column_stack([np.ones(40), x]), y, 1 / x**2).interval
        assert found is not None
        hits += found[0] <= 2 <= found[1]
    assert 930 <= hits <= 970


@given(
    r=st.floats(-0.999, 0.999),
    n=st.integers(4, 500),
)
def test_fishers_interval_is_scipys(r: float, n: int) -> None:
    x = np.linspace(-1, 1, n)
    flat = x - x.mean()
    bent = flat**2 - (flat**2).mean()
    y = r * flat / np.linalg.norm(flat) + np.sqrt(1 - r * r) * bent / np.linalg.norm(bent)
    theirs = stats.pearsonr(flat, y).confidence_interval(0.95)
    assert fisher_interval(r, n) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_three_networks_say_nothing_about_r() -> None:
    assert fisher_interval(0.9, 3) == (-1.0, 1.0)


@given(weights=st.lists(st.integers(0, 4), min_size=12, max_size=12).filter(lambda w: np.count_nonzero(w) > 2))
def test_a_weighting_is_the_correlation_of_repeated_rows(weights: list[int]) -> None:
    frame = networks(n=12)
    x, y = frame["acts"].to_numpy(), frame["latency_ms"].to_numpy()
    found = weighted_correlations(x, y, np.array([weights], dtype=float))[0]
    repeated = np.corrcoef(np.repeat(x, weights), np.repeat(y, weights))[0, 1]
    assert found == pytest.approx(repeated, abs=1e-6)


def test_a_resample_of_one_network_has_no_correlation() -> None:
    x = np.array([1.0, 2.0, 3.0])
    assert np.isnan(weighted_correlations(x, x, np.array([[0.0, 3.0, 0.0]]))[0])


def test_rows_of_one_network_are_drawn_together() -> None:
    weights = resample_weights(np.array([0, 0, 1, 2, 2]), 50, seed=1)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


@pytest.mark.parametrize("spread", ["even", "decades"])
@pytest.mark.parametrize("noise", ["constant", "proportional"])
def test_the_slope_interval_holds_the_slope(spread: str, noise: str) -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(1000):
        x = rng.uniform(1, 50, 40) if spread == "even" else np.exp(rng.uniform(0, np.log(50), 40))
        y = 3 + 2 * x + rng.normal(size=40) * (2 if noise == "constant" else 0.2 * x)
        found = coefficient(np.column_stack([np.ones(40), x]), y).interval
        assert found is not None
        hits += found[0] <= 2 <= found[1]
    assert 930 <= hits <= 970


@pytest.mark.parametrize("kind", ["fisher", "bootstrap"])
def test_the_interval_of_r_holds_r(kind: str) -> None:
    rng = np.random.default_rng(11)
    true, n, times = 0.9, 40, 500
    each = np.arange(n)
    hits = 0
    for seed in range(times):
        x, e = rng.normal(size=(2, n))
        y = true * x + np.sqrt(1 - true**2) * e
        r = float(np.corrcoef(x, y)[0, 1])
        low, high = fisher_interval(r, n)
        if kind == "bootstrap":
            draws = weighted_correlations(x, y, resample_weights(each, 500, seed))
            low, high = bca_interval(r, draws, weighted_correlations(x, y, 1 - np.eye(n)))
        hits += low <= true <= high
    # 95% less what the bootstrap is known to lose at this size, and three standard errors of 500 trials.
    assert (0.92 if kind == "fisher" else 0.90) <= hits / times <= 0.98
