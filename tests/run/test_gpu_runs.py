"""What a run makes of visits to a GPU: those that slowed themselves down, and the pass for energy."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from profiler.backends.base import Placement
from profiler.cli import run
from profiler.errors import UserError
from profiler.records.circumstances import Conditions
from profiler.records.on_device import device_notes
from profiler.records.reading import Run
from profiler.records.table import rows
from profiler.records.types import Budget, Case, Failure, Measurement, Record, Warmup
from profiler.run import clocks
from profiler.run.batch import with_batches
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.lab import Lab, one_visit
from profiler.run.schedule import Progress


def test_whoever_tries_whether_a_batch_fits_counts_no_energy():
    """It would be two seconds of each of twenty tries."""
    asked = []

    class Asks:
        def call(self, _function, task, _timeout_s, _limits):
            asked.append(task.energy)
            return Failure("error", "only asked")

    lab = Lab(Budget(), Asks(), lambda _: Limits(), Calibrations(Asks(), Path("nowhere"), lambda _: Limits()))
    with_batches([replace(CASE, batch_asked="max")], Path("nowhere"), lab, print, resume=False)
    assert asked == [False]


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


SLOWED = replace(
    MEASURED,
    conditions=Conditions(gpu_slowdown="power cap, thermal (software)", gpu_clock_mhz=900.0),
    device_ns=(3, 4, 5),
)


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


def row_of(*outcomes):
    visits = tuple(record(number, outcome) for number, outcome in enumerate(outcomes))
    (row,) = rows(Run(Path("journal.jsonl"), records=visits))
    return row


def test_a_row_says_that_the_gpu_slowed_itself_down():
    row = row_of(SLOWED, MEASURED)
    assert "in 1 of 2 visits the GPU slowed itself down (thermal (software))" in row["reason"]
    assert (row["gpu_slowdown"], row["gpu_clock_mhz"]) == ("power cap, thermal (software)", 900.0)
    assert row["gpu_power_w"] is None
    assert row["device_ms"] == pytest.approx(4e-6)


CAPPED = replace(MEASURED, conditions=Conditions(gpu_slowdown="power cap", gpu_clock_mhz=900.0))


def finishes(outcomes, **budget):
    """After which of the visits the case needs no further one."""
    progress = Progress([CASE], Budget(min_rounds=2, **budget))
    for number, outcome in enumerate(outcomes, 1):
        progress.add(record(number, outcome))
        if progress.finished(CASE):
            return number
    return None


def test_a_power_limit_is_how_a_card_works_and_costs_no_visit():
    assert finishes([CAPPED] * 5) == 2
    row = row_of(CAPPED, CAPPED)
    assert "in 2 of 2 visits the GPU worked at its power limit" in row["reason"]
    assert "slowed" not in row["reason"]


def at(*clock_mhz):
    return replace(MEASURED, clock_mhz=clock_mhz)


@pytest.mark.parametrize(
    ("visits", "visit"),
    [
        ([at(1980), at(1980), at(1980)], 2),
        ([at(1980), at(1950), at(1980)], 2),  # 1.5%
        ([at(1980), at(1935), at(1980)], 3),  # 2.3%, and visited again once
        ([at(1980), at(1900), at(1800)], 3),
        ([at(1980, 1900), at(1980), at(1980)], 3),  # within a visit
        ([at(1980, 1000, 1980, 1980, 1980), at(1980), at(1980)], 2),  # a look that was interrupted
    ],
)
def test_a_clock_that_moved_is_visited_again_once(visits, visit):
    assert finishes(visits) == visit


def test_a_clock_that_moved_is_said_with_both_ends():
    assert "the GPU's clock moved by 4.2% (1900 to 1980 MHz)" in row_of(at(1980), at(1900))["reason"]
    assert "clock" not in row_of(at(1980), at(1970))["reason"]


def test_without_a_probe_the_drivers_clock_is_looked_at():
    slow, fast = (replace(MEASURED, conditions=Conditions(gpu_clock_mhz=mhz)) for mhz in (1500.0, 1600.0))
    assert "moved" in row_of(slow, fast)["reason"]


def events(host_ns, device_ns, **facts):
    return replace(MEASURED, samples_ns=((host_ns,) * 3,), device_ns=(device_ns,) * 3, facts=facts)


def test_a_launch_bound_row_says_so_and_what_a_graph_would_take():
    row = row_of(*[events(2_000_000, 500_000, device_queued=True)] * 2)
    assert row["launch_bound"] == "true"
    assert "works for 0.5 of 2 ms" in row["reason"]
    assert "eager:cuda_graph=1) would take about 0.5 ms" in row["reason"]


@pytest.mark.parametrize(
    ("backend", "asked"),
    [
        ("onnxruntime", "onnxruntime:cuda_graph=1"),
        ("compile", "compile:mode=reduce-overhead"),
        ("compile:mode=reduce-overhead", None),
        ("eager:cuda_graph=1", None),
        ("torchscript", None),
    ],
)
def test_each_backend_asks_for_graphs_in_its_own_words(backend, asked):
    row = {"latency_ms": 2.0, "device_ms": 0.5, "launch_bound": "true"}
    (said,) = device_notes(replace(CASE, backend=backend), [MEASURED], row)
    assert ("a CUDA graph" in said) is (asked is not None)
    assert f"({asked})" in said if asked else True


@pytest.mark.parametrize(
    ("facts", "expected"), [({"device_queued": True}, "false"), ({"device_queued": False}, None), ({}, None)]
)
def test_a_row_is_called_not_launch_bound_only_where_launches_were_queued(facts, expected):
    """1.19 times is not launch-bound; of a time that may hold waits nobody knows, as of an older journal's."""
    row = row_of(*[events(1_190_000, 1_000_000, **facts)] * 2)
    assert row["launch_bound"] == expected
    assert "launch" not in row["reason"]


def test_time_by_events_has_an_interval_over_visits_by_the_rule_of_the_headline():
    visits = [events(ns, ns // 2, device_queued=True) for ns in (1_000_000, 1_010_000, 1_030_000, 1_020_000)]
    row = row_of(*visits)
    for name in ("ms", "ci_low_ms", "ci_high_ms"):
        assert row[f"device_{name}"] == pytest.approx(row[f"latency_{name}"] / 2, rel=1e-9)
    assert row["device_ci_low_ms"] < row["device_ms"] < row["device_ci_high_ms"]
    assert row_of(visits[0])["device_ci_low_ms"] is None


def test_copies_and_the_probe_are_columns_of_their_own():
    seen = replace(
        MEASURED,
        input_ns=(3_000_000, 1_000_000, 2_000_000),
        output_ns=(500_000,),
        clock_mhz=(1980.0,),
        stream_gb_s=(4e3,),
    )
    row = row_of(seen, seen)
    assert [row[name] for name in ("input_ms", "output_ms", "probe_clock_mhz", "stream_gb_s")] == [2, 0.5, 1980, 4000]
    assert row["latency_ms"] == pytest.approx(1e-5)
    assert row_of(MEASURED)["input_ms"] is row_of(MEASURED)["probe_clock_mhz"] is None


def test_an_old_journal_on_a_gpu_is_divided_by_its_reference_as_it_was():
    """Its visits hold a reference and its nominal time, which those of today lack."""
    old = replace(MEASURED, samples_ns=((240, 240, 240),), reference_ns=((12,), (12,)), nominal_ns=10.0)
    row = row_of(old, old)
    assert (row["latency_ms"], row["latency_raw_ms"]) == (pytest.approx(2e-4), pytest.approx(2.4e-4))


def test_no_reference_is_calibrated_for_an_accelerator():
    asked = []

    class Asks:
        def call(self, function, task, _timeout_s, _limits):
            asked.append(task)
            return Failure("error", "only asked")

    calibrations = Calibrations(Asks(), Path("nowhere"), lambda _: Limits())
    lab = Lab(Budget(), Asks(), lambda _: None, calibrations)
    one_visit(CASE, 0, lab)
    assert [task.calibration for task in asked] == [None]
    assert "not divided by a reference" in calibrations.get(CASE.placement).reason


class Tells:
    """Answers which GPU a device is."""

    def __init__(self, uuid):
        self.uuid = uuid

    def call(self, _function, device, _timeout_s, _limits):
        return self.uuid if device == "cuda:0" else Failure("error", "no such device")

    def close(self):
        pass


def test_clocks_are_held_of_the_gpus_that_cases_run_on(monkeypatch):
    locked, warned = [], []

    @contextmanager
    def lock(uuids, mhz, warn):
        locked.append((uuids, mhz))
        warn("not permitted")
        yield
        locked.append("reset")

    monkeypatch.setattr(clocks, "locked_clocks", lock)
    monkeypatch.setattr(clocks, "LocalExecutor", lambda: Tells("GPU-aaaa"))
    with clocks.held_clocks(1410, ["cuda:0", "cuda:0", "cpu", "cuda:7"], warned.append):
        assert locked == [(["GPU-aaaa"], 1410)]
    assert (locked[-1], warned) == ("reset", ["not permitted"])


def test_where_there_is_no_gpu_nothing_is_held_and_the_run_goes_on():
    warned = []
    with clocks.held_clocks(1410, ["cpu"], warned.append):
        pass
    assert warned == ["--lock-clocks 1410 holds nothing: no case runs on an NVIDIA GPU that works"]
    with clocks.held_clocks(None, ["cuda:0"], None):
        pass


@pytest.mark.parametrize("mhz", [-1, 0, 99, 10_000])
def test_what_is_no_clock_is_refused_in_one_sentence(mhz):
    with pytest.raises(UserError, match=rf"--lock-clocks {mhz}: expected MHz from 100"):
        clocks.checked_clock(mhz)
    assert clocks.checked_clock(1410) == 1410


def test_the_clocks_of_a_fleet_are_not_held_from_here():
    how = run.How(meeting=object(), lock_clocks=1410)
    with pytest.raises(UserError, match="holds the GPUs of this machine alone"):
        run._run(None, {"models": "resnet50"}, how)


def test_a_clock_that_no_gpu_has_moves_nothing():
    """As a damaged journal may hold one."""
    assert row_of(at(1980), at(1e-308))["reason"].count("clock") == 0
