"""Spreads that cases share: the law that they follow, what a table and a run make of them."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean, median, variance

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.records import table
from profiler.records.intervals import interval
from profiler.records.journal import Journal
from profiler.records.reading import read
from profiler.records.sharing import sharing
from profiler.records.spread import LOOKED_AT, Spread, looked_at, moderated, pool_of, shared
from profiler.records.types import Budget
from profiler.run.schedule import Progress
from tests.records.test_memory_rows import CASE, TIMED, record
from tests.studies import recorded, study_shared

POSITIVE = st.floats(1e-6, 1.0)


@pytest.mark.parametrize("freedom", [3.0, 8.0])
def test_what_is_common_is_found(freedom):
    draw = np.random.default_rng(1)
    variances = 0.03**2 * freedom / draw.chisquare(freedom, 4000) * draw.chisquare(2, 4000) / 2
    found = shared(Spread(one, 2) for one in variances)
    assert found.freedom == pytest.approx(freedom, rel=0.15)
    assert math.sqrt(found.variance) == pytest.approx(0.03, rel=0.05)


def test_equal_spreads_have_the_freedom_of_all_and_no_more():
    draw = np.random.default_rng(2)
    found = shared(Spread(one, 1) for one in 0.02**2 * draw.chisquare(1, 20) / 1)
    assert found.freedom <= 20
    alike = shared([Spread(0.0004, 4)] * 15)
    assert alike == (pytest.approx(0.0004, rel=0.3), 60)


def test_of_few_cases_or_of_visits_that_agree_to_the_last_digit_nothing_is_said():
    assert shared([Spread(0.01, 2)] * 11) is None
    assert shared([Spread(0.0, 2)] * 50) is None
    assert shared([Spread(0.0, 2)] * 50 + [Spread(0.01, 2)] * 12) == shared([Spread(0.01, 2)] * 12)


@given(own=st.tuples(POSITIVE, st.integers(1, 20)), common=st.tuples(POSITIVE, st.floats(0.1, 100)))
def test_a_spread_moves_towards_what_is_common_and_not_beyond(own, common):
    found = moderated(Spread(*own), Spread(*common))
    assert min(own[0], common[0]) * 0.999 <= found.variance <= max(own[0], common[0]) * 1.001
    assert found.freedom == own[1] + common[1]
    assert moderated(Spread(*own), None) == own


def test_recorded_visits_hold_the_third_as_often_from_a_fifth_of_the_width():
    found = {row["way"]: row for row in study_shared.of_recorded("quick", 66)}
    assert found["shared"]["coverage"] > 0.92
    assert found["shared"]["half_width"] < 0.3 * found["alone"]["half_width"]


def test_a_wild_visit_keeps_a_wide_interval():
    common = study_shared.common([[study_shared.log_ms(v) for v in c] for c in recorded.read("quick").values()])
    calm, wild = (interval([0.0, by], 2, common)[1] for by in (0.01, 0.5))
    assert calm < 0.04
    assert wild > 0.25


def cases_of(count, **placement):
    placed = replace(CASE.placement, **placement)
    return [replace(CASE, model=f"net{i}", placement=placed, backend="onnxruntime") for i in range(count)]


def scattered(case, number, spread, draw):
    ns = round(1e7 * math.exp(spread * draw.standard_normal()))
    return record(replace(TIMED, samples_ns=((ns,) * 5,)), number, case)


def run_of(folder, groups, visits=2):
    cases = [case for group, _ in groups for case in group]
    with Journal.open(folder, {"cases": cases}) as journal:
        for number in range(visits):
            for group, spread in groups:
                draw = np.random.default_rng([number, group[0].backend == "eager"])
                for case in group:
                    journal.append(scattered(case, number, spread, draw))
    return read(folder)


def test_the_rows_of_a_run_share_within_a_pool_alone(tmp_path):
    one, two = cases_of(20, threads=1), cases_of(20, threads=2)
    few = cases_of(3, threads=3)
    run = run_of(tmp_path, [(one, 0.01), (two, 0.1), (few, 0.01)])
    widths = {
        threads: [row["precision_reached"] for row in table.rows(run) if row["threads"] == threads]
        for threads in (1, 2, 3)
    }
    assert max(widths[1]) < min(widths[2])
    assert max(widths[1]) / min(widths[1]) < 6
    common = sharing(run)
    assert common.of(two[0]).variance == pytest.approx(100 * common.of(one[0]).variance, rel=0.01)
    assert common.of(few[0]) is None
    alone = table.rows(run_of(tmp_path / "few", [(one[:4], 0.01)]))
    assert fmean(row["precision_reached"] for row in alone) > 2 * fmean(widths[1])


def test_two_rounds_of_pairs_tell_a_speed_up_where_many_cases_do(tmp_path):
    eager = [replace(case, backend="eager") for case in cases_of(15)]
    run = run_of(tmp_path, [(eager, 0.02), (cases_of(15), 0.02)])
    found = [row for row in table.rows(run) if row["backend"] == "onnxruntime"]
    ends = [(row["speed_up_ci_low"], row["speed_up"], row["speed_up_ci_high"]) for row in found]
    assert all(0.8 < low < middle < high < 1.25 for low, middle, high in ends)
    assert sum(low <= 1 <= high for low, _, high in ends) >= 12


def test_a_run_knows_what_its_table_says(tmp_path):
    cases = cases_of(20)
    run = run_of(tmp_path, [(cases, 0.02)])
    widths = {row["model"]: row["precision_reached"] for row in table.rows(run)}
    progress = Progress(cases, Budget(min_rounds=2, precision=median(widths.values())))
    for one in run.records:
        progress.add(one)
    wide = {model for model, width in widths.items() if width > median(widths.values())}
    assert {case.model for case in cases if not progress.finished(case)} == wide
    assert len(wide) == 10


def test_of_many_cases_some_are_looked_at():
    found = looked_at(cases_of(3 * LOOKED_AT + 1) + cases_of(5, threads=2))
    assert [len(cases) for cases in found.values()] == [pytest.approx(LOOKED_AT, abs=100), 5]
    assert list(found) == [pool_of(case) for case in (cases_of(1)[0], cases_of(1, threads=2)[0])]


def test_the_variance_of_a_case_is_that_of_its_visits():
    logs = [0.1, 0.2, 0.4]
    common = Spread(0.01, 5.0)
    half = interval(logs, 3, common)[1]
    own = moderated(Spread(variance(logs), 2), common)
    assert half == pytest.approx(2.3646 * math.sqrt(own.variance / 3), rel=1e-3)  # Student's t, 7 degrees of freedom


def test_labels_of_a_fleet_have_pools_of_their_own(tmp_path):
    groups = [[replace(case, fleet_label=label) for case in cases_of(20)] for label in ("calm", "restless")]
    run = run_of(tmp_path, [(groups[0], 0.01), (groups[1], 0.1)])
    progress = Progress([*groups[0], *groups[1]], Budget(min_rounds=2, precision=0.05))
    for one in run.records:
        progress.add(one)
    parts = [progress.part(group) for group in groups]
    for _ in range(2):
        done = [sum(part.finished(case) for case in group) for part, group in zip(parts, groups, strict=True)]
        assert done[0] >= 18
        assert done[1] <= 2
    assert progress.total == 80
