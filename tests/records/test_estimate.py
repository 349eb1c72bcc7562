from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from profiler.backends.base import Placement
from profiler.records.disturbance import ENOUGH, LATEST, Levels, level_of, quiet_blocks, quiet_level, recalibrated
from profiler.records.estimate import case_estimate, disturbed, nearness, normalised_blocks, visit_estimate
from profiler.records.intervals import (
    clipped,
    effective_number,
    effective_samples,
    percentiles,
    sequential_interval,
    supports,
    trimmed_interval,
    weighted_interval,
)
from profiler.records.types import Conditions, Measurement, Warmup


def visit(
    samples, reference=(), *, nominal=None, calls=1, conditions=None, steady=True, phases=None, core_wait=()
) -> Measurement:
    return Measurement(
        samples_ns=tuple(map(tuple, samples)),
        calls_per_sample=calls,
        reference_ns=tuple(map(tuple, reference)),
        nominal_ns=nominal,
        warmup=Warmup((), steady),
        parity=None,
        conditions=conditions or Conditions(),
        facts={},
        phases_s=phases or {},
        core_wait_ns=tuple(core_wait),
    )


def normalised_samples(v: Measurement) -> list[float]:
    return [sample for block in normalised_blocks(v) for sample in block]


# --- one visit


def test_a_sample_is_divided_by_the_reference_blocks_around_it():
    v = visit([(100, 110), (300,)], reference=[(10, 90, 11), (12,), (28, 28)], nominal=10.0)
    # Medians of the reference: 11, 12, 28; means of neighbours: 11.5 and 20.
    assert normalised_samples(v) == pytest.approx([100 / 11.5 * 10, 110 / 11.5 * 10, 300 / 20 * 10])
    assert visit_estimate(v).normalised_ns == pytest.approx(105 / 11.5 * 10)
    assert visit_estimate(v).raw_ns == 110


def test_without_a_reference_or_its_nominal_time_nothing_is_divided():
    for v in (visit([(4, 8, 6)], calls=2), visit([(4, 8, 6)], reference=[(1,), (1,)], calls=2)):
        assert normalised_samples(v) == [2.0, 4.0, 3.0]
        assert visit_estimate(v).normalised_ns == visit_estimate(v).raw_ns == 3.0


blocks = st.lists(st.lists(st.integers(10**3, 10**9), min_size=1, max_size=5), min_size=1, max_size=5)


@given(blocks, st.data(), st.integers(11, 14))
def test_a_slow_down_of_the_whole_machine_cancels(samples, data, slower):
    count = len(samples) + 1
    reference = data.draw(
        st.lists(st.lists(st.integers(10**3, 10**9), min_size=1, max_size=4), min_size=count, max_size=count)
    )
    nominal = 10 * quiet_level([visit(samples, reference, nominal=1.0)])
    quiet, busy = (
        visit([[k * s for s in b] for b in samples], [[k * r for r in b] for b in reference], nominal=nominal)
        for k in (10, slower)
    )
    assert normalised_samples(busy) == pytest.approx(normalised_samples(quiet))
    a, b = case_estimate([quiet] * 3), case_estimate([busy] * 3)
    assert b.level == pytest.approx(slower / 10)
    assert b.quiet_visits == a.quiet_visits
    if a.quiet_visits:
        assert b.latency_ns == pytest.approx(a.latency_ns)
        assert b.disturbance == pytest.approx(slower / 10 * a.disturbance)
    assert b.raw_ns == pytest.approx(slower / 10 * a.raw_ns)


def test_a_drift_within_the_visit_cancels():
    slow = [1.0, 1.5, 2.0, 2.5]
    between = [(a + b) / 2 for a, b in pairwise(slow)]
    v = visit([[round(1e6 * f)] for f in between], [[round(1e5 * f)] for f in slow], nominal=1e5)
    assert normalised_samples(v) == pytest.approx([1e6] * 3)


def test_malformed_visits_are_refused():
    with pytest.raises(ValueError, match="2 blocks of samples need 3 of the reference, not 2"):
        normalised_samples(visit([(1,), (2,)], reference=[(1,), (1,)], nominal=1.0))
    with pytest.raises(ValueError, match="at least one sample"):
        visit_estimate(visit([()]))
    with pytest.raises(ValueError, match="at least one visit"):
        case_estimate([])


# --- over visits


def test_one_visit_has_no_interval():
    e = case_estimate([visit([(10,)])])
    assert e.latency_ns == pytest.approx(10)
    assert (e.ci_low_ns, e.ci_high_ns, e.relative_half_width) == (None, None, None)


def test_few_visits_give_students_interval():
    logs = [0.0, 0.1, 0.05]
    centre, half = trimmed_interval(logs)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(logs), scale=stats.sem(logs))
    assert (centre - half, centre + half) == pytest.approx((low, high))


@pytest.mark.parametrize("visits", [3, 4, 5])
def test_a_visit_that_goes_wild_does_not_carry_off_a_mean_of_few(visits):
    usual = [0.01 * i for i in range(visits - 1)]
    wild = [*usual, math.log(5)]
    assert trimmed_interval(wild)[0] < max(usual) + math.log(1.3) / visits
    assert trimmed_interval(wild)[1] == pytest.approx(stats.t.ppf(0.975, visits - 1) * stats.sem(wild))
    weights = [1.0, 0.4, 0.7, 0.2, 0.9][:visits]
    assert weighted_interval(wild, weights)[0] < max(usual) + math.log(1.3) * weights[-1] / sum(weights)


@given(st.lists(st.tuples(st.floats(-0.13, 0.13), st.floats(0.01, 1)), min_size=1, max_size=9))
def test_what_differs_as_usual_is_not_clipped(visits):
    values, weights = map(list, zip(*visits, strict=True))
    assert clipped(values, weights) == pytest.approx(values)
    assert clipped([5 - v for v in values], weights) == pytest.approx([5 - v for v in values])


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=9))
def test_values_are_clipped_around_their_median(values):
    kept = clipped(values, [1.0] * len(values))
    assert kept == pytest.approx(np.clip(values, np.median(values) - math.log(1.3), np.median(values) + math.log(1.3)))


def test_many_visits_give_the_trimmed_interval():
    values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 90.0]
    centre, half = trimmed_interval(values)
    assert centre == pytest.approx(stats.trim_mean(values, 0.1)) == 4.5
    spread = np.std([1, 1, 2, 3, 4, 5, 6, 7, 8, 8], ddof=1)
    assert half == pytest.approx(stats.t.ppf(0.975, 7) * spread / (0.8 * math.sqrt(10)))


@given(st.lists(st.integers(1, 10**12), min_size=2, max_size=12))
def test_the_interval_contains_the_estimate(times):
    e = case_estimate([visit([(t,)]) for t in times])
    assert e.ci_low_ns <= e.latency_ns <= e.ci_high_ns
    assert e.ci_high_ns == pytest.approx(e.latency_ns * (1 + e.relative_half_width))
    assert min(times) <= e.latency_ns * (1 + 1e-9)
    assert e.latency_ns <= max(times) * (1 + 1e-9)


@pytest.mark.parametrize("visits", [3, 5, 7, 10, 20])
def test_the_interval_covers_the_truth_in_95_of_100_cases(visits):
    rng = np.random.default_rng(visits)
    logs = rng.normal(0.0, 0.03, size=(3000, visits))
    covered = [abs(centre) <= half for centre, half in map(trimmed_interval, logs.tolist())]
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize("wild", [0.0, 0.07])
@pytest.mark.parametrize("spread", [0.003, 0.01, 0.02])
def test_ending_on_a_narrow_interval_does_not_cost_its_coverage(spread, wild):
    rng = np.random.default_rng(round(spread * 1e4))

    def covered() -> bool:
        logs = rng.normal(0.0, spread, 12)
        logs = np.where(rng.random(12) < wild, logs + np.abs(rng.normal(0.0, 6 * spread, 12)), logs).tolist()
        for visits in range(5, 13):
            centre, half = sequential_interval(logs[:visits], pilot=5)
            if half <= 0.01 or visits == 12:
                return abs(centre) <= half
        raise AssertionError

    assert 0.93 <= np.mean([covered() for _ in range(1500)]) <= 0.98


def test_students_interval_would_lose_it():
    """The rule above is there for a reason: the same rounds with the plain interval cover less than 93%."""
    rng = np.random.default_rng(1)

    def covered() -> bool:
        logs = rng.normal(0.0, 0.01, 12).tolist()
        for visits in range(3, 13):
            centre, half = trimmed_interval(logs[:visits])
            if half <= 0.01 or visits == 12:
                return abs(centre) <= half
        raise AssertionError

    assert np.mean([covered() for _ in range(1500)]) < 0.93


# --- competitors for a core


def test_blocks_beside_a_disturbed_reference_are_left_out_and_counted():
    # The second reference block is hogged, and both blocks beside it suffer more than it does.
    v = visit(
        [(10, 10), (30, 30), (40, 40), (10, 10), (10, 10)],
        [(100,), (100,), (150,), (100,), (100,), (100,)],
        nominal=100.0,
    )
    assert quiet_blocks(v, quiet_level([v])) == [True, False, False, True, True]
    e = case_estimate([v, v])
    assert e.latency_ns == pytest.approx(10)
    assert (e.samples, e.marked_samples) == (20, 8)


def test_a_visit_without_a_quiet_block_has_no_say_where_others_have():
    quiet = visit([(10,)] * 4, [(100,)] * 5, nominal=100.0)
    hogged = visit([(90,)] * 4, [(200,)] * 5, nominal=100.0)
    e = case_estimate([quiet, hogged, quiet])
    assert e.latency_ns == pytest.approx(10)
    assert (e.visits, e.quiet_visits, e.marked_samples) == (3, 2, 4)


def test_a_single_undisturbed_visit_is_believed_but_gives_no_interval():
    quiet = visit([(10,)] * 4, [(100,)] * 5, nominal=100.0)
    hogged = visit([(90,)] * 4, [(200,)] * 5, nominal=100.0)
    e = case_estimate([hogged, quiet, hogged])
    assert e.latency_ns == pytest.approx(10)
    assert e.ci_low_ns is None
    assert e.relative_half_width is None
    assert e.quiet_visits == 1


@pytest.mark.parametrize("slower", [0.95, 1.4])
def test_an_evenly_slow_machine_is_not_taken_for_a_disturbed_one(slower):
    slow = visit([(100 * slower,)] * 4, [(100 * slower,)] * 5, nominal=100.0)
    e = case_estimate([slow, slow])
    assert e.latency_ns == pytest.approx(100)
    assert (e.quiet_visits, e.marked_samples) == (2, 0)


def test_a_calibration_far_too_slow_still_lets_the_ratio_stand():
    """The level tells quiet blocks, whatever the calibration met; the plain median would follow the disturbance."""
    quick, disturbed = (visit([(50 * s,)] * 4, [(50 * s,)] * 5, nominal=100.0) for s in (1.0, 1.3))
    e = case_estimate([quick, disturbed, quick, quick])
    assert e.latency_ns == pytest.approx(100)
    assert (e.quiet_visits, e.level) == (3, pytest.approx(0.5))


def beside(slowness: float, ns: float) -> Measurement:
    return visit([(ns,)] * 2, [(100 * slowness,)] * 3, nominal=100.0)


def test_where_few_visits_were_quiet_others_count_by_how_near_they_come():
    quiet, near, far = beside(1.0, 30), beside(1.2, 40), beside(1.4, 63)
    alone = case_estimate([quiet] * 3 + [near, far], level=1.0)
    assert (alone.latency_ns, alone.quiet_visits) == (pytest.approx(30), 3)
    fewer = case_estimate([quiet] * 2 + [near, far], level=1.0)
    assert fewer.quiet_visits == 2
    assert 30 < fewer.latency_ns < math.exp((2 * math.log(30) + math.log(40 / 1.2) + math.log(63 / 1.4)) / 4)


def test_a_visit_tells_by_its_least_disturbed_block():
    mixed = visit([(36,), (70,)], [(120,), (120,), (145,)], nominal=100.0)
    found = visit_estimate(mixed, level=1.0)
    assert (found.normalised_ns, found.quiet_samples) == (pytest.approx(30), 0)
    assert found.slowness == pytest.approx(1.2)


@given(st.lists(st.floats(0.9, 1.5), min_size=1, max_size=12))
def test_weights_fall_with_slowness_and_leave_three_visits_in_effect(slowness):
    weights = nearness(slowness)
    assert effective_number(weights) >= min(3, len(slowness)) - 1e-9
    assert all(weight == 1 for weight, slow in zip(weights, slowness, strict=True) if slow <= 1.1)
    ordered = [weight for _, weight in sorted(zip(slowness, weights, strict=True))]
    assert all(a >= b for a, b in pairwise(ordered))


def test_equal_weights_give_students_interval():
    values = [1.0, 1.1, 0.95, 1.02]
    assert weighted_interval(values, [2.0] * 4) == pytest.approx(trimmed_interval(values))
    assert weighted_interval(values, [1.0, 0.0, 0.0, 0.0]) == (1.0, None)


def test_the_weighted_interval_covers_the_truth_in_95_of_100_cases():
    """Visits that were more disturbed spread more; weights by slowness alone do not know how much."""
    draw = np.random.default_rng(4)
    slowness = [1.0, 1.05, 1.15, 1.2, 1.3, 1.45]
    weights = nearness(slowness)
    spread = 0.02 * np.array(slowness) ** 2
    inside = 0
    for values in draw.normal(0, spread, (2000, 6)).tolist():
        centre, half = weighted_interval(values, weights)
        inside += half is not None and abs(centre) <= half
    assert 0.93 <= inside / 2000 <= 0.98


def test_a_case_that_met_only_a_slow_machine_is_known_by_what_others_met():
    place, slow = Placement(), visit([(140,)] * 2, [(130,)] * 3, nominal=100.0)
    levels = Levels()
    levels.add(place, slow)
    assert levels.of(place, [slow]) is None  # too few blocks to say what the machine can do
    assert case_estimate([slow, slow]).quiet_visits == 2
    for _ in range(ENOUGH):
        levels.add(place, visit([(7,)], [(100,)] * 2, nominal=100.0))
    e = case_estimate([slow, slow], level=levels.of(place, [slow, slow]))
    assert (e.quiet_visits, e.level) == (0, 1.0)
    assert e.latency_ns == pytest.approx(140 / 1.3)


def test_a_nominal_time_that_the_run_found_too_long_is_replaced():
    place, seen = Placement(), visit([(7,)] * 15, [(10,)] * 16, nominal=200.0)  # calibrated beside a competitor
    levels = Levels()
    levels.add(place, seen)
    assert levels.of(place, [seen, seen]) is None  # a few blocks do not tell
    levels.add(place, seen)
    visits, level = recalibrated([seen, seen], levels.of(place, [seen, seen]))
    e = case_estimate(visits, level=level)
    assert (e.latency_ns, e.disturbance, e.level) == pytest.approx((7.0, 1.0, 1.0))
    assert recalibrated([seen], 1.1) == ([seen], 1.1)
    assert recalibrated([seen], None) == ([seen], None)


def test_levels_of_other_threads_and_other_calibrations_are_others():
    levels = Levels()
    for _ in range(ENOUGH):
        levels.add(Placement(threads=1), visit([(7,)], [(100,)] * 2, nominal=100.0))
        levels.add(Placement(threads=2), visit([(7,)], [(120,)] * 2, nominal=100.0))
        levels.add(Placement(threads=1), visit([(7,)], [(100,)] * 2, nominal=50.0))
    assert [levels.overall(Placement(threads=n), 100.0) for n in (1, 2, 3)] == [1.0, 1.2, None]
    assert levels.overall(Placement(threads=1), 50.0) == 2.0
    mixed = [visit([(7,)], [(100,)] * 2, nominal=nominal) for nominal in (50.0, 100.0)]
    assert levels.of(Placement(threads=1), mixed) is None


def test_the_latest_level_follows_a_machine_that_has_become_slower():
    levels = Levels()
    for slow in (100, 140):
        for _ in range(LATEST):
            levels.add(Placement(), visit([(7,)], [(slow,)] * 2, nominal=100.0))
    assert (levels.latest(Placement(), 100.0), levels.overall(Placement(), 100.0)) == (1.4, 1.0)
    assert levels.latest(Placement(), 1.0) == 1.0


def test_half_of_a_run_beside_a_neighbour_does_not_move_the_level():
    slowness = sorted([1.0, 1.01, 0.99, 1.02] * 10 + [1.5, 1.45, 1.3, 1.2] * 10)
    assert level_of(slowness) == pytest.approx(1.005)


@pytest.mark.parametrize("slower", [1.9, 20])
def test_beside_a_reference_far_from_its_nominal_time_the_raw_median_stands(slower):
    """With every core taken all along, the reference says nothing of the model: 6 ms have read as 0.3."""
    taken = visit([(120,)] * 4, [(100 * slower,)] * 5, nominal=100.0)
    e = case_estimate([taken, taken])
    assert e.latency_ns == pytest.approx(120)
    assert e.level == pytest.approx(slower)
    assert (e.quiet_visits, e.marked_samples) == (0, 8)


@pytest.mark.parametrize(("disturbed", "slower"), [(160, 1.3), (300, 1.8), (3000, 1.8)])
def test_without_an_undisturbed_block_the_ratio_to_what_there_was_stands(disturbed, slower):
    """Up to 1.8 times the level: beside a competitor the reference can suffer far more than the model."""
    restless = visit([(30,), (30,)], [(100,), (disturbed,), (100,)], nominal=100.0)
    e = case_estimate([restless, restless])
    assert (e.latency_ns, e.quiet_visits) == (pytest.approx(30 / slower), 0)


def test_a_block_that_had_its_cores_is_not_divided_by_a_reference_that_had_none():
    v = visit([(28,), (40,)], [(11,), (80,), (80,)], nominal=10.0, core_wait=(0, 20))
    e = visit_estimate(v, level=1.1)
    assert (e.normalised_ns, e.quiet_samples) == (pytest.approx(28 / 1.1), 0)


def test_a_machine_that_is_slower_without_a_competitor_is_divided_out_where_nothing_was_undisturbed():
    """As when the host moves two cores apart, so that what one has written is farther from the other."""
    v = visit([(30,), (36,)], [(12,), (12,), (13,)], nominal=10.0, core_wait=(0, 20))
    e = visit_estimate(v, level=1.0)
    assert (e.normalised_ns, e.quiet_samples) == (pytest.approx(30 / 1.2), 0)


def test_a_block_that_had_no_core_is_left_out_though_the_reference_saw_nothing():
    """A competitor that comes and goes within one long forward: 36 ms have read as 553, beside a quiet reference."""
    v = visit([(36, 36), (550,), (36, 36)], [(4,)] * 4, nominal=4.0, core_wait=(1, 300, 2))
    assert quiet_blocks(v, 1.0) == [True, False, True]
    e = case_estimate([v, v])
    assert e.latency_ns == pytest.approx(36)
    assert (e.quiet_visits, e.marked_samples) == (2, 2)


def test_cores_count_without_a_reference_too():
    v = visit([(36, 36), (550,), (36, 36)], core_wait=(1, 300, 2))
    assert quiet_blocks(v, 1.0) == [True, False, True]


def test_a_slow_sample_is_never_a_reason_to_leave_it_out():
    v = visit([(10, 10, 500)] * 3, [(100,)] * 4, nominal=100.0)
    assert case_estimate([v]).marked_samples == 0


def test_one_wild_visit_in_ten_moves_nothing():
    rng = np.random.default_rng(1)
    times = [[round(1e7 * math.exp(x))] for x in rng.normal(0, 0.01, 10)]
    calm = case_estimate([visit([t]) for t in times])
    wild = case_estimate([visit([t]) for t in [*times[:-1], [2 * 10**7]]])
    assert wild.latency_ns == pytest.approx(calm.latency_ns, rel=0.01)
    assert wild.relative_half_width < 2 * calm.relative_half_width
    plain = math.exp(np.mean(np.log([*times[:-1], [2 * 10**7]])))
    assert abs(plain / calm.latency_ns - 1) > 0.05


def test_counts():
    noisy = Conditions(throttled_s=0.5)
    e = case_estimate([visit([(10, 12), (11,)]), visit([(10, 10)], conditions=noisy, steady=False)])
    assert (e.visits, e.samples, e.steady_visits, e.marked_samples) == (2, 5, 1, 0)


# --- tails


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_effective_samples_of_an_autoregressive_series(rho):
    rng = np.random.default_rng(7)
    n, series = 4000, []
    for _ in range(20):
        noise = rng.normal(size=n)
        x = np.empty(n)
        x[0] = noise[0] / math.sqrt(1 - rho**2)
        for i in range(1, n):
            x[i] = rho * x[i - 1] + noise[i]
        series.append(effective_samples((100 + x).tolist()))
    # Theory of AR(1): n (1 - rho) / (1 + rho).
    assert median(series) == pytest.approx(n * (1 - rho) / (1 + rho), rel=0.1)


@given(st.lists(st.floats(1.0, 1e9), min_size=1, max_size=50))
def test_effective_samples_are_between_one_and_all(values):
    assert 1 <= effective_samples(values) <= len(values)


def test_a_constant_series_has_no_correlation():
    assert effective_samples([0.1 + 0.2] * 100) == 100


@pytest.mark.parametrize(("q", "least"), [(0.10, 29), (0.90, 29), (0.99, 299)])
def test_the_fewest_samples_that_support_a_percentile(q, least):
    assert supports(least, q)
    assert not supports(least - 1, q)
    # The extremes of so many uniform samples bracket the quantile 95 times in 100.
    uniform = np.random.default_rng(0).random((4000, least))
    bracketed = (uniform.min(axis=1) < q) & (q < uniform.max(axis=1))
    assert np.mean(bracketed) == pytest.approx(0.95, abs=0.012)


def test_percentiles_without_support_are_empty():
    samples = [float(i) for i in range(101)]
    assert percentiles(samples, 28) == (None, None, None)
    assert percentiles(samples, 100) == (10.0, 90.0, None)
    assert percentiles(samples, 300) == (10.0, 90.0, 99.0)


def test_means_of_several_forwards_tell_no_tail():
    rng = np.random.default_rng(3)
    samples = [rng.integers(900, 1100, 1000).tolist()]
    single = case_estimate([visit(samples)])
    assert single.p10_ns < single.latency_ns < single.p90_ns < single.p99_ns
    several = case_estimate([visit(samples, calls=4)])
    assert (several.p10_ns, several.p90_ns, several.p99_ns) == (None, None, None)


def test_correlated_samples_support_fewer_tails():
    walk = 10**6 + np.cumsum(np.random.default_rng(5).normal(0, 10, 400)).astype(int)
    e = case_estimate([visit([walk.tolist()])])
    assert e.samples == 400
    assert e.effective_samples < 29
    assert e.p90_ns is None


# --- conditions


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        (Conditions(), None),
        (Conditions(0, 0.0, 0.0, 0.0, 2000.0, 0.0), None),
        (Conditions(involuntary_switches=40, steal_s=0.02, stall_s=0.2, load=0.5), None),
        (Conditions(involuntary_switches=41), "41 involuntary switches"),
        (Conditions(steal_s=0.03, stall_s=0.21), "0.03 s stolen, stalled for 0.21 s"),
        (Conditions(throttled_s=0.001, load=1.25), "throttled for 0.001 s, 1.2 cores busy with other work"),
    ],
)
def test_what_counts_as_disturbed_in_two_seconds(conditions, said):
    assert disturbed(visit([(10**9,)], conditions=conditions, phases={"timed": 2.0})) == said
    without_phases = replace(
        visit([(10**9,), (5 * 10**8,)], reference=[(10**8,), (10**8,), (3 * 10**8,)]), conditions=conditions
    )
    assert disturbed(without_phases) == said
