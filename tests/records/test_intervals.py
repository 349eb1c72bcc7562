"""The 99th percentile of single calls: its interval against the exact one, and calls that are slow together."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from profiler.records import intervals
from profiler.records.intervals import calls_to_bound, tail_interval


@settings(max_examples=25, deadline=None)
@given(calls=st.integers(30, 3000), alpha=st.sampled_from([0.0125, 0.025]))
def test_the_bounds_of_independent_calls_are_the_exact_binomial_ones(calls: int, alpha: float) -> None:
    low, high = intervals._tail_shares(calls, alpha)
    # The r-th of n lies above the quantile unless r or more of them lie below it.
    at_least = stats.binom(calls, 0.99).sf(np.arange(calls))
    upper = np.flatnonzero(at_least <= alpha)
    assert (None if high is None else math.ceil(high * calls - 1e-6)) == (upper[0] + 1 if upper.size else None)
    assert math.floor(low * calls + 1e-6) == np.count_nonzero(at_least >= 1 - alpha)


def drawn(draw: np.random.Generator, blocks: int, slow_blocks: float = 1.0, slow: float = 0.02) -> list[list[float]]:
    """Calls of 5 ms; in some blocks some take 10 ms."""
    hit = (draw.random((blocks, 1)) < slow_blocks) & (draw.random((blocks, 20)) < slow)
    found: list[list[float]] = (5.0 * np.exp(0.05 * draw.standard_normal((blocks, 20))) + 5.0 * hit).tolist()
    return found


def test_the_interval_holds_the_percentile_as_often_as_it_says() -> None:
    for seed, how in enumerate([(1.0, 0.02), (0.1, 0.2)]):
        draw = np.random.default_rng(seed)
        truth = float(np.quantile(np.concatenate(drawn(draw, 20_000, *how)), 0.99))
        found = [tail_interval(drawn(draw, 80, *how)) for _ in range(200)]
        # Five standard errors above one in twenty.
        assert sum(not low <= truth <= high for low, high in found) < 10 + 5 * math.sqrt(10)


def test_calls_that_are_slow_together_tell_less() -> None:
    draw = np.random.default_rng(3)
    alone, together = drawn(draw, 400), drawn(draw, 400, 0.05, 0.4)
    threshold = float(np.quantile(np.concatenate(alone), 0.99))
    effective = [intervals._effective_calls(one, threshold, 1, 0.025) for one in (alone, together)]
    assert effective[0] > 2 * effective[1]


def test_too_few_calls_have_no_upper_end_and_say_how_many_would() -> None:
    draw = np.random.default_rng(4)
    few = drawn(draw, 4)
    assert tail_interval(few)[1] == math.inf
    needed = calls_to_bound(few)
    assert 368 <= needed <= 1280
    assert tail_interval(drawn(draw, math.ceil(needed / 20)))[1] < math.inf
    assert tail_interval([[5.0] * 20] * 80) == (5.0, 5.0)
