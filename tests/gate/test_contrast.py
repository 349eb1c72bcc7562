"""What the visits of two runs show of a case."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from profiler.gate.contrast import Visits, contrast
from profiler.gate.decision import ALPHA, Rule
from profiler.gate.stored import answer
from profiler.records.estimate import case_estimate
from profiler.records.intervals import interquartile_mean, interval
from tests.gate.runs import BUDGET, LIMIT, STEADY, scaled, visits


@pytest.mark.parametrize("count", [4, 5, 8, 11])
def test_the_level_of_a_case_is_its_headline(count: int) -> None:
    draw = random.Random(count)
    found = visits([10 * draw.lognormvariate(0, 0.02) for _ in range(count)])
    estimate = case_estimate(found.measured)
    centre, error, freedom = found.level
    assert centre == pytest.approx(math.log(estimate.latency_ns))
    assert error >= stats.sem(found.logs) * (1 - 1e-9)
    assert freedom == min(count, 5) - 1


def test_a_wild_visit_has_no_weight_among_enough() -> None:
    calm = visits([*STEADY, 10.01, 9.99])
    wild = visits([*STEADY, 10.01, 14.0])
    assert wild.level[0] == pytest.approx(calm.level[0], abs=0.002)


def test_visits_that_agree_by_luck_later_keep_the_error_of_the_pilot() -> None:
    found = visits([9.0, 10.0, 11.0, *[10.0] * 9], pilot=3)
    logs = found.logs
    _, error, freedom = found.level
    assert error >= stats.tstd(logs[:3]) / math.sqrt(12)
    assert freedom == 2


def test_the_contrast_is_welchs_around_the_means_of_the_middle_halves() -> None:
    then, now = visits([10.0, 10.3, 9.9, 10.1]), visits([10.8, 10.6, 11.4, 10.7, 10.9])
    found = contrast(then, now)
    expected = stats.ttest_ind(now.logs, then.logs, equal_var=False).confidence_interval(0.95)
    centre = interquartile_mean(now.logs) - interquartile_mean(then.logs)
    reach = (expected.high - expected.low) / 2
    assert found.bounds(0.025) == pytest.approx((centre - reach, centre + reach))
    assert found.change[0] == pytest.approx(math.expm1(centre))


@pytest.mark.parametrize(
    ("factor", "expected"), [(1.0, "pass"), (0.8, "pass"), (1.02, "pass"), (1.035, "inconclusive"), (1.2, "regression")]
)
def test_the_answer_follows_the_size_of_the_change(factor: float, expected: str) -> None:
    noise = scaled(factor, [10.0, 10.1, 9.9, 10.06, 9.94])
    assert answer(visits(STEADY), visits(noise), Rule(LIMIT)) == expected


def test_what_slows_model_and_reference_alike_is_divided_out() -> None:
    now = visits(STEADY, slower=1.09)
    assert now.measured[0].samples_ns[0][0] == pytest.approx(1.09 * 10e6)
    assert answer(visits(STEADY), now, Rule(LIMIT)) == "pass"
    bare = visits(scaled(1.09), nominal=None)
    assert answer(visits(STEADY, nominal=None), bare, Rule(LIMIT)) == "regression"


@pytest.mark.parametrize("slower", [1.15, 0.85])
def test_a_regression_does_not_count_on_a_machine_that_is_not_as_it_was(slower: float) -> None:
    then, now = visits(STEADY), visits(scaled(1.2), slower=slower)
    assert answer(then, now, Rule(LIMIT)) == "inconclusive"


def test_a_reference_calibrated_anew_is_doubted() -> None:
    then, now = visits(STEADY), visits(scaled(1.07 / 1.04), nominal=1.04e6)
    found = contrast(then, now)
    assert found.centre == pytest.approx(math.log(1.07))
    assert found.doubt == pytest.approx(math.log(1.04))
    assert answer(then, visits(scaled(1.07)), Rule(LIMIT)) == "regression"
    assert answer(then, now, Rule(LIMIT)) == "inconclusive"


def drawn(draw: random.Random, centre: float, noise: float) -> Visits:
    """Visits until their interval is narrow, as a run makes them."""
    times = [centre * draw.lognormvariate(0, noise) for _ in range(BUDGET.rounds)]
    for count in range(BUDGET.min_rounds, BUDGET.rounds):
        _, half = interval([math.log(t) for t in times[:count]], BUDGET.min_rounds)
        if half is not None and math.expm1(half) <= 0.02:
            return visits(times[:count])
    return visits(times)


@pytest.mark.parametrize(("slowdown", "wrong"), [(LIMIT / 2, "regression"), (LIMIT, "pass")])
def test_wrong_answers_are_as_rare_as_promised(slowdown: float, wrong: str) -> None:
    """At either limit a wrong answer has its largest probability, 0.25%."""
    draw = random.Random(1)
    answers = [answer(drawn(draw, 10.0, 0.02), drawn(draw, 10 * (1 + slowdown), 0.02), Rule(LIMIT)) for _ in range(800)]
    assert answers.count(wrong) <= stats.binom.isf(0.001, len(answers), ALPHA)


def test_a_large_change_is_found_in_ordinary_noise() -> None:
    draw = random.Random(2)
    answers = [answer(drawn(draw, 10.0, 0.01), drawn(draw, 11.5, 0.01), Rule(LIMIT)) for _ in range(60)]
    assert answers.count("regression") >= 55
