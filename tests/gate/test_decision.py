"""The decision rule, on synthetic blocks: against scipy's exact test, its level and its power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from profiler.gate import decision
from profiler.gate.decision import ALPHA, LOOKS, Rule

LIMIT = Rule(0.05)
TAU = math.log1p(LIMIT.tolerated)
DELTA = math.log1p(LIMIT.max_slowdown)

blocks = st.lists(st.floats(-0.2, 0.2, allow_subnormal=False), min_size=1, max_size=60, unique=True)


@settings(max_examples=200, deadline=None)
@given(ratios=blocks, alpha=st.sampled_from([0.0025, 0.01, 0.05, 0.2]), centre=st.floats(-0.1, 0.1))
def test_bounds_reject_what_scipys_exact_test_rejects(ratios: list[float], alpha: float, centre: float) -> None:
    shifted = np.array(ratios) - centre
    magnitudes = np.abs(shifted)
    if len(set(magnitudes)) < len(ratios) or not magnitudes.all():
        return  # scipy's exact distribution knows neither ties nor zeros
    lower, upper = decision._bounds(ratios, alpha)
    for side, rejected, margin in (
        ("greater", lower > centre, abs(lower - centre)),
        ("less", upper < centre, abs(upper - centre)),
    ):
        p = stats.wilcoxon(shifted, alternative=side, method="exact").pvalue
        if margin > 1e-12 and abs(p - alpha) > 1e-12:
            assert rejected == (p <= alpha), side


@pytest.mark.parametrize("n", [10, 20, 40, 80])
def test_the_null_distribution_is_that_of_scipy(n: int) -> None:
    critical = decision._critical(n, ALPHA)
    assert critical is not None
    total = n * (n + 1) // 2
    # Blocks 1..n in size with the signs that make the statistic exactly ``w``.
    for w, rejected in ((critical, True), (critical + 1, False)):
        values, left = [], w
        for rank in range(n, 0, -1):
            positive = rank <= left
            left -= rank if positive else 0
            values.append(rank if positive else -rank)
        assert left == 0
        assert total >= w
        p = stats.wilcoxon(values, alternative="less", method="exact").pvalue
        assert bool(p <= ALPHA) is rejected


def test_eight_blocks_can_show_nothing_and_nine_can() -> None:
    assert decision._bounds([0.5] * 8, ALPHA) == (-math.inf, math.inf)
    assert decision._bounds([0.5] * 9, ALPHA) == (0.5, 0.5)


def _answers(centre: float, noise: float, seed: int, runs: int) -> list[decision.Answer | None]:
    draw = np.random.default_rng(seed)
    return [decision.decide(list(centre + noise * draw.standard_normal(LOOKS[-1])), LIMIT) for _ in range(runs)]


@pytest.mark.parametrize("noise", [0.002, 0.02, 0.05])
def test_level_a_slow_down_of_half_the_limit_seldom_alarms(noise: float) -> None:
    alarms = _answers(TAU, noise, 1, 2000).count("regression")
    # Four looks at 0.0025 each: at most 1%, and 2000 draws of 1% exceed 33 once in 1000.
    assert alarms <= 33


@pytest.mark.parametrize("noise", [0.002, 0.02, 0.05])
def test_level_a_slow_down_of_the_whole_limit_seldom_passes(noise: float) -> None:
    assert _answers(DELTA, noise, 2, 2000).count("pass") <= 33


def test_level_holds_for_heavy_tails() -> None:
    draw = np.random.default_rng(3)
    answers = [decision.decide(list(TAU + 0.01 * draw.standard_t(1.5, LOOKS[-1])), LIMIT) for _ in range(2000)]
    assert answers.count("regression") <= 33


def test_power_identical_code_passes_and_a_slow_down_is_found() -> None:
    assert _answers(0.0, 0.02, 4, 500).count("pass") == 500
    assert _answers(math.log(1.10), 0.02, 5, 500).count("regression") == 500
    assert _answers(DELTA, 0.02, 6, 500).count("regression") >= 490
    # Processes differ: the slow-down of one trial may be a little less than the limit that it stands for.
    assert _answers(0.95 * DELTA, 0.005, 6, 500).count("regression") == 500


def test_a_machine_that_is_too_noisy_gives_no_answer() -> None:
    answers = _answers(0.0, 0.5, 7, 200)
    assert answers.count("inconclusive") >= 180
    assert answers.count("regression") <= 5  # four looks at 0.0025 of 200


def test_what_is_surely_between_half_of_the_limit_and_the_limit_is_divided_half_way() -> None:
    assert decision.look([math.log(1.03)] * 10, LIMIT) == "pass"
    assert decision.look([math.log(1.04)] * 10, LIMIT) == "regression"
    assert decision.look([math.log(1.06)] * 10, LIMIT) == "regression"


def test_few_blocks_need_more() -> None:
    assert decision.decide([0.1] * 9, LIMIT) is None
    assert decision.decide([0.1] * 10, LIMIT) == "regression"


def test_many_pairs_share_one_level() -> None:
    shared = LIMIT.shared(3)
    assert shared.alpha == pytest.approx(ALPHA / 3)
    # Ten blocks cannot reach a third of the level any more; they may still pass.
    assert decision.decide([0.1] * 10, shared) is None
    assert decision.decide([0.0] * 10, shared) == "pass"
    assert decision.decide([0.1] * 20, shared) == "regression"


def test_the_estimate_and_its_interval() -> None:
    estimate, (low, _) = decision.change([math.log(1.1)] * 9 + [math.log(3.0)])
    assert estimate == pytest.approx(0.1)
    assert low == pytest.approx(0.1)
    draw = np.random.default_rng(8)
    held = 0
    for _ in range(1000):
        _, (low, high) = decision.change(list(0.05 + 0.02 * draw.standard_normal(20)))
        held += low <= math.expm1(0.05) <= high
    assert 940 <= held <= 970


def test_the_passing_limit_is_the_smallest_that_passes() -> None:
    ratios = list(0.01 + 0.03 * np.random.default_rng(9).standard_normal(80))
    limit = decision.passing_limit(ratios)
    assert limit is not None
    assert decision.look(ratios, Rule(limit * 1.001)) == "pass"
    assert decision.look(ratios, Rule(limit * 0.999)) != "pass"
    assert decision.passing_limit([0.0] * 8) is None
    with pytest.raises(ValueError, match="no blocks"):
        decision.change([])
