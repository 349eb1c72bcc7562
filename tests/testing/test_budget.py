"""When a model is over its budget, and what is said where its calls differ."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean, median

import numpy as np
import pytest

from profiler.gate.verdict import Verdict
from profiler.records.circumstances import Conditions
from profiler.records.types import Budget, Failure, Measurement, Warmup
from profiler.testing.arguments import Limited
from profiler.testing.budget import _budgeted, _visits
from tests.gate.runs import measured as referenced


def measured(ms: float, stalls: float = 0.0, seed: int = 0, blocks: int = 1, calls: int = 5) -> Measurement:
    """A visit in which a share of the calls takes 40 ms longer."""
    late = np.random.default_rng(seed).random((blocks, calls)) < stalls
    samples = tuple(tuple(round((ms + 40 * one) * 1e6) for one in block) for block in late)
    return Measurement(samples, 1, (), None, Warmup((1, 1, 1), steady=True), None, Conditions(), {})


def stalling(share: float, blocks: int = 20) -> list[Measurement]:
    return [measured(17 + seed / 100, share, seed, blocks, 10) for seed in range(5)]


def judged(limits_ms: dict[Limited, float], *sets: list[Measurement]) -> Verdict:
    return _budgeted(sets, {of: ms * 1e6 for of, ms in limits_ms.items()}, "")


@pytest.mark.parametrize(
    ("sets", "status"),
    [
        ([[1.0, 1.1, 0.9]], "pass"),
        ([[2.0, 2.1, 1.9], [2.0, 2.1, 1.9]], "over budget"),
        ([[2.0, 2.1, 1.9], [1.0, 1.1, 0.9]], "inconclusive"),
        ([[1.0, 2.0, 1.5]], "inconclusive"),
    ],
)
def test_a_budget_is_exceeded_only_twice(sets: list[list[float]], status: str) -> None:
    outcome = judged({"median": 1.5}, *([measured(ms) for ms in one] for one in sets))
    assert outcome.status == status
    assert outcome.facts["processes"] == sum(map(len, sets))


def test_a_median_within_the_limit_is_no_pass_where_the_mean_is_beyond_it() -> None:
    found = judged({"median": 20}, stalling(0.4))
    assert found.status == "inconclusive"
    assert "17.0 ms [" in found.reason
    assert found.reason.endswith("limit them with max_p99= or max_mean=")
    assert "; mean 32.0 ms; but the mean is more than allowed" in found.reason
    # What the table shows is what was said.
    assert fmean(found.samples_ns) / 1e6 == pytest.approx(32.0, abs=0.05)
    assert found.facts["mean_s"] == pytest.approx(fmean(found.samples_ns) / 1e9)
    # A limit on both, or one that the mean keeps, says what counts.
    assert judged({"median": 20, "mean": 40}, stalling(0.4)).status == "pass"
    within = judged({"median": 50}, stalling(0.4))
    assert (within.status, within.reason.endswith("of 50.0 ms allowed; mean 32.0 ms")) == ("pass", True)


@pytest.mark.parametrize(
    ("limits", "status", "said"),
    [
        ({"mean": 30}, "over budget", "mean 32."),
        ({"mean": 36}, "pass", "mean 32."),
        ({"p99": 50}, "over budget", "99th percentile 57"),
        ({"p99": 60}, "pass", "99th percentile 57"),
        ({"median": 20, "p99": 50}, "over budget", "of 20.0 ms allowed; 99th percentile 57"),
        ({"median": 20, "p99": 60}, "pass", "of 60.0 ms allowed; mean 32."),
        ({"median": 20, "mean": 30}, "over budget", "of 20.0 ms allowed; mean 32."),
        ({"p99": 60, "mean": 30}, "over budget", "; median 17.0 ms"),
    ],
)
def test_what_is_limited_decides(limits: dict[Limited, float], status: str, said: str) -> None:
    found = judged(limits, stalling(0.4), stalling(0.4))
    assert found.status == status, found.reason
    assert said in found.reason


def test_rare_stalls_are_beyond_a_limit_of_the_tail_alone() -> None:
    rare = stalling(0.03, blocks=40)
    assert judged({"median": 20}, rare).status == "pass"
    assert judged({"p99": 25}, rare, rare).status == "over budget"


def test_too_few_calls_for_the_tail_say_how_many_are_needed() -> None:
    found = judged({"p99": 20}, stalling(0.0, blocks=4))
    assert found.status == "inconclusive"
    assert "99th percentile 17.0 ms [17.0 ms, ?]" in found.reason
    assert "200 calls that count are too few: about 400 are needed" in found.reason


def test_a_table_that_shows_another_median_is_told() -> None:
    # One process of five goes wild and takes most of the calls.
    wild = [*(measured(10 + n / 100) for n in range(4)), measured(15, blocks=10, calls=10)]
    found = judged({"median": 20}, wild)
    assert median(found.samples_ns) == 15e6
    assert "median of all calls 15.0 ms" in found.reason


def recorded(ms: float, seconds: float, calls: int) -> tuple[list[int], list[Measurement] | Failure]:
    """Return how many calls each visit was asked for, and what they brought: two at first, then as many as asked."""
    asked: list[int] = []

    def visitor(budget: Budget) -> Measurement:
        asked.append(budget.min_samples)
        return measured(ms, calls=max(2, budget.min_samples) if asked[1:] else 2)

    made: Callable[[Budget], Measurement | Failure] = visitor
    return asked, _visits(made, seconds, calls)


def test_visits_are_as_long_as_the_tail_needs_and_time_allows() -> None:
    least = Budget().min_samples
    asked, visits = recorded(10, 300.0, 0)
    assert asked == [least] * 5
    asked, visits = recorded(10, 300.0, 1000)
    assert not isinstance(visits, Failure)
    assert 1000 <= sum(len(block) for one in visits for block in one.samples_ns) < 1100
    # 30 seconds for five visits of 100 ms a call.
    asked, _ = recorded(100, 30.0, 1000)
    assert max(asked) == 60


def test_a_table_that_disagrees_is_told_however_wide_the_interval() -> None:
    # One process is the fastest and makes most of the calls; the others make the headline.
    few = [measured(ms, calls=2) for ms in (4.0, 20.0, 6.0, 15.0)]
    found = judged({"median": 5000}, [*few, measured(3.57, blocks=10, calls=10)])
    assert found.status == "pass"
    low, high = found.facts["interval_s"]  # type: ignore[misc]  # a pair
    assert low < median(found.samples_ns) / 1e9 == 3.57e-3 < found.facts["latency_s"] < high  # type: ignore[operator]
    assert "median of all calls 3.57 ms" in found.reason


def test_an_interval_that_is_not_known_says_why() -> None:
    found = judged({"median": 5}, [referenced(3.66), *(referenced(3.66, slower=3.0) for _ in range(4))])
    assert found.status == "inconclusive"
    assert "3.66 ms with no interval: one process alone was undisturbed" in found.reason
    assert found.facts["interval_s"] == [None, None]
