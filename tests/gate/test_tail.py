"""The tail of two sides: what is found, what raises no alarm, and what too few calls cannot tell."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.gate import tail
from profiler.gate.decision import Rule
from profiler.gate.tail import TAIL_LOOKS, calls_needed, decide_tail, percentile_ns, tail_change

RULE = Rule(0.2, looks=TAIL_LOOKS, of="p99")
Calls = list[list[float]]


def calls(draw: np.random.Generator, blocks: int = 320, per: int = 20, stalls: float = 0.0) -> Calls:
    """Calls of 5 ms, each of which may stall for 50 ms."""
    times = 5e6 * np.exp(0.02 * draw.standard_normal((blocks, per)))
    found: Calls = (times + 50e6 * (draw.random((blocks, per)) < stalls)).tolist()
    return found


def bursts(draw: np.random.Generator, blocks: int = 320, per: int = 20) -> Calls:
    """Calls of which all of a block are slow, one block in fifty, as beside a process that comes and goes."""
    slow = (draw.random((blocks, 1)) < 0.02) * 5e6
    found: Calls = (5e6 * np.exp(0.05 * draw.standard_normal((blocks, per))) + slow).tolist()
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-4, 4), max_size=10), st.integers(1, 2))
def test_the_test_is_the_share_of_all_signs_that_sum_as_high(surpluses: list[int], times: int) -> None:
    repeated = [size for size in surpluses if size] * times
    if len(repeated) > 12:
        return
    sums = [
        sum(map(math.prod, zip(signs, repeated, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(repeated))
    ]
    expected = sum(one >= sum(repeated) for one in sums) / len(sums)
    assert tail._probability(np.array(surpluses, dtype=np.int64), times) == pytest.approx(expected)


def test_many_surpluses_are_as_likely_as_few() -> None:
    sizes = np.array([3, -3, 1, -1, 1] * 40, dtype=np.int64)
    exact = tail._probability(sizes, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "_MANY", 10)
        assert tail._probability(sizes, 1) == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.3])
def test_stalls_that_the_median_hides_are_found(share: float) -> None:
    draw = np.random.default_rng(0)
    steady, stalling = calls(draw), calls(draw, stalls=share)
    assert decide_tail(steady, stalling, RULE)[0] == "regression"
    # Not where the baseline has them, alone or too.
    assert decide_tail(stalling, steady, RULE)[0] == "pass"
    assert decide_tail(stalling, calls(draw, stalls=share), RULE)[0] != "regression"


def test_the_interval_holds_the_growth() -> None:
    draw = np.random.default_rng(4)
    old, new = calls(draw), [[1.3 * ns for ns in block] for block in calls(draw)]
    estimate, (low, high) = tail_change(old, new)
    assert low < estimate < high
    assert 0.25 < low < 0.3 < high < 0.35
    assert percentile_ns(new) / percentile_ns(old) == pytest.approx(1 + estimate)


@pytest.mark.parametrize("drawn", [calls, bursts])
def test_identical_code_raises_no_alarm_also_where_calls_are_slow_together(
    drawn: Callable[[np.random.Generator], Calls],
) -> None:
    draw = np.random.default_rng(2)
    answers = Counter(decide_tail(drawn(draw), drawn(draw), RULE)[0] for _ in range(25))
    assert answers["regression"] == 0
    assert answers["pass"] > 5


def test_an_interval_misses_no_growth_more_often_than_it_says() -> None:
    draw = np.random.default_rng(3)
    found = [tail_change(bursts(draw, 80), bursts(draw, 80))[1] for _ in range(100)]
    # Five standard errors above one in twenty.
    assert sum(not low <= 0 <= high for low, high in found) < 5 + 5 * math.sqrt(5)


def test_too_few_calls_tell_nothing_and_say_how_many_would() -> None:
    draw = np.random.default_rng(1)
    old, new = calls(draw, 20), calls(draw, 20, stalls=0.05)
    assert decide_tail(old, new, RULE) == (None, 20)
    assert tail_change(old[:10], new[:10])[1] == (-1.0, math.inf)
    needed = calls_needed(old, new, RULE)
    assert needed is not None
    assert 400 < needed <= 3200
    blocks = next(look for look in TAIL_LOOKS if 20 * look >= needed)
    assert decide_tail(calls(draw, blocks), calls(draw, blocks, stalls=0.05), RULE)[0] == "regression"


def test_equal_times_pass_as_soon_as_there_are_enough() -> None:
    same = [[5e6] * 20] * 320
    assert decide_tail(same, same, RULE)[0] == "pass"
    assert tail_change(same, same) == (0.0, pytest.approx((0.0, 0.0), abs=1e-6))
