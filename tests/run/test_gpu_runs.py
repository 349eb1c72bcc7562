"""What a run makes of visits to a GPU: those that slowed themselves down, and the pass for energy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from profiler.backends.base import Placement
from profiler.records.circumstances import Conditions
from profiler.records.reading import Run
from profiler.records.table import rows
from profiler.records.types import Budget, Case, Failure, Measurement, Record, Warmup
from profiler.run.lab import Lab, one_visit
from profiler.run.schedule import Progress


def test_energy_takes_seconds_and_is_counted_in_the_first_round_alone():
    asked = []

    class Asks:
        def call(self, _function, task, _timeout_s, _limits):
            asked.append(task.energy)
            return Failure("error", "only asked")

    lab = Lab(Budget(), Asks(), lambda _: None, None)
    for number in range(3):
        one_visit(Case("resnet50", "", 1.0, "fake", Placement()), number, lab)
    assert asked == [True, False, False]


CASE = Case("resnet50", "", 1.0, "eager", Placement("cuda:0"))


MEASURED = Measurement(((10, 10, 10),), 1, (), None, Warmup((10,), steady=True), None, Conditions(), {}, {})


SLOWED = replace(MEASURED, conditions=Conditions(gpu_slowdown="power cap", gpu_clock_mhz=900.0), device_ns=(3, 4, 5))


def record(number, outcome):
    return Record(CASE, None, None, "host", number, "2026-01-01T00:00:00+00:00", 1.0, outcome)


def test_a_slowed_visit_is_tried_again_until_the_rounds_are_used_up():
    progress = Progress([CASE], Budget(rounds=5, min_rounds=2))
    outcomes = [SLOWED, MEASURED, SLOWED, MEASURED]
    finished = []
    for number, outcome in enumerate(outcomes):
        progress.add(record(number, outcome))
        finished.append(progress.finished(CASE))
    assert finished == [False, False, False, True]


def test_a_row_says_that_the_gpu_slowed_itself_down():
    visits = tuple(record(number, outcome) for number, outcome in enumerate([SLOWED, MEASURED]))
    (row,) = rows(Run(Path("journal.jsonl"), records=visits))
    assert "in 1 of 2 visits the GPU slowed itself down (power cap)" in row["reason"]
    assert (row["gpu_slowdown"], row["gpu_clock_mhz"], row["gpu_power_w"]) == ("power cap", 900.0, None)
    assert row["device_ms"] == 4e-6
