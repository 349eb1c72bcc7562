"""What is made of readings: watching a GPU through the stub, and sums over readings made up."""

from __future__ import annotations

import json
import os
import time

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.machine import gpu
from profiler.machine.gpu import Reading
from profiler.records.circumstances import Conditions
from tests.machine.nvml_stub import LOST, watched


def test_a_throttle_in_the_middle_is_named(scripted):
    scripted(events=f"0 1 0x44 0 {LOST}")
    readings, note = watched()
    found = gpu._summary(readings, os.getpid(), note)
    assert found["gpu_readings"] == 4
    assert found["gpu_slowdown"] == "power cap, thermal (hardware)"


@pytest.mark.parametrize(
    ("name", "bit", "words"),
    [
        ("GpuIdle", 0x1, ""),
        ("ApplicationsClocksSetting", 0x2, ""),
        ("SwPowerCap", 0x4, "power cap"),
        ("HwSlowdown", 0x8, "hardware slow-down"),
        ("SyncBoost", 0x10, ""),
        ("SwThermalSlowdown", 0x20, "thermal (software)"),
        ("HwThermalSlowdown", 0x40, "thermal (hardware)"),
        ("HwPowerBrakeSlowdown", 0x80, "power brake"),
        ("DisplayClockSetting", 0x100, ""),
    ],
)
def test_each_reason_is_called_by_its_own_name(name, bit, words):
    """By NVIDIA's header (nvml.h, nvmlClocksEventReasons), and by NVIDIA's own binding to it."""
    named = getattr(pynvml, f"nvmlClocksEventReason{name}", None)
    assert bit == (getattr(pynvml, f"nvmlClocksThrottleReason{name}") if named is None else named)
    assert gpu._slowdown([0, bit]) == words


def test_a_summary_is_of_all_readings_each_figure_in_its_own_way():
    readings = [
        Reading(
            0, clock_mhz=1500, memory_clock_mhz=5000, temperature_c=40, utilisation=0.5, processes=((1, 7), (2, 9))
        ),
        Reading(
            1, clock_mhz=1400, memory_clock_mhz=5000, temperature_c=60, utilisation=0.9, processes=((2, 99), (1, 8))
        ),
        Reading(2, clock_mhz=1450, memory_clock_mhz=810, temperature_c=50, utilisation=1.0, processes=((1, 3),)),
    ]
    found = gpu._summary(readings, own=1)
    assert (found["gpu_clock_mhz"], found["gpu_clock_min_mhz"], found["gpu_memory_clock_mhz"]) == (1450, 1400, 5000)
    assert found["gpu_temperature_c"] == 60
    assert found["gpu_utilisation"] == pytest.approx(0.8)
    assert (found["gpu_memory_bytes"], found["gpu_foreign_processes"]) == (8, 1)


def test_only_the_timed_part_counts(scripted):
    scripted(events=f"0x40 0 0 {LOST}")
    watch = gpu.Watch("GPU-aaaa", interval_s=0.05)
    watch._process.wait(timeout=20)
    watch._file.seek(0)
    first, second, third = (json.loads(line)["ns"] for line in watch._file.read().splitlines()[:3])
    found = gpu.add(Conditions(load=1.0), watch, first + 1, third)
    assert first < second < third
    assert (found.gpu_readings, found.gpu_slowdown, found.load) == (2, "", 1.0)


@pytest.mark.parametrize(
    ("clocks", "still"),
    [
        ([1500] * gpu._CLOCK_READINGS, True),
        ([300, 900, *[1500] * gpu._CLOCK_READINGS], True),
        ([*[1500] * gpu._CLOCK_READINGS, 1400], False),
        ([1500, 1515, 1530, 1515, 1500], True),
        ([1500, 1515, 1530, 1545, 1500], False),
        ([1500] * (gpu._CLOCK_READINGS - 1), False),
        ([], False),
    ],
)
def test_a_clock_stands_still_within_two_per_cent(clocks, still):
    assert gpu._stands_still(clocks) is still


def settles(watch, seconds=20.0):
    """Whether the watch says so before its deadline, while its child still runs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and watch._process.poll() is None:
        if watch.settled():
            return True
        time.sleep(0.005)
    return False


def test_a_clock_that_rises_and_then_stands_still_settles(scripted):
    """Asking moves nothing: all readings are there at the end, in their order."""
    scripted(clock="300 600 900 1200 1500")
    watch = gpu.Watch("GPU-aaaa", interval_s=0.01)
    assert settles(watch)
    readings, note = watch.stop()
    clocks = [reading.clock_mhz for reading in readings]
    assert clocks[:4] == [300, 600, 900, 1200]
    assert set(clocks[4:]) == {1500}
    assert len(clocks) >= 4 + gpu._CLOCK_READINGS
    assert note is None


def test_a_clock_that_goes_on_moving_does_not_settle(scripted):
    scripted(clock=" ".join(["1500", "1400"] * 30))
    watch = gpu.Watch("GPU-aaaa", interval_s=0.05)
    assert not settles(watch, 0.8)
    watch.stop()


def test_a_lost_gpu_is_not_waited_for(scripted):
    scripted(clock=f"300 600 {LOST}")
    watch = gpu.Watch("GPU-aaaa", interval_s=0.001)
    watch._process.wait(timeout=20)
    assert watch.settled()
    watch.stop()


@pytest.mark.parametrize("uuid", ["GPU-aaaa", "GPU-zzzz"])
def test_where_nobody_tells_the_clock_nothing_is_waited_for(uuid, scripted):
    scripted(clock=None)
    watch = gpu.Watch(uuid, interval_s=0.01)
    deadline = time.monotonic() + 20
    while not watch.settled():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    watch.stop()


def test_watching_ends_when_told(scripted):
    scripted()
    with gpu.watching("GPU-aaaa") as watch:
        process = watch._process
    assert process.returncode == 0
    assert watch.stop() == ([], None)


def test_without_a_gpu_nothing_is_watched():
    with gpu.watching(None) as watch:
        assert watch is None
    assert gpu.add(Conditions(), None, 0, 1) == Conditions()


def test_power_is_energy_over_time():
    readings = [Reading(10**9, energy_j=5.0), Reading(2 * 10**9), Reading(3 * 10**9, energy_j=145.0)]
    assert gpu._summary(readings, 1)["gpu_power_w"] == 70.0
    assert gpu._summary(readings[:2], 1)["gpu_power_w"] is None


@pytest.mark.parametrize(
    ("processes", "foreign"), [(((1, 5),), 0), (((1, 5), (2, None), (3, 5)), 2), (((2, 5),), None), (None, None)]
)
def test_foreign_processes(processes, foreign):
    """Without this process in the list (a container), nothing is said of the others."""
    assert gpu._summary([Reading(0, processes=processes)], own=1)["gpu_foreign_processes"] == foreign


@given(st.lists(st.integers(0, 0x1FF), max_size=8))
def test_slowdown_names_each_reason_that_any_reading_had(events):
    named = gpu._slowdown(events)
    for bit, reason in gpu._SLOWDOWNS.items():
        assert (reason in named.split(", ")) == any(event & bit for event in events)


def test_a_line_cut_off_by_a_kill_is_left_out():
    line = json.dumps(dict.fromkeys(Reading.__dataclass_fields__) | {"ns": 5})
    assert gpu._parse([line, line[:20]]) == ([Reading(5)], None)


SECOND = 1_000_000_000


def test_power_is_told_from_a_second_at_least_and_of_a_counter_that_moves():
    """From less the steps of the counter, of a tenth of a second, would be a tenth of the figure or more."""
    joules = [Reading(t * SECOND // 10, energy_j=42.0 * t) for t in range(11)]
    assert gpu.power(joules) == 420.0
    assert gpu.power(joules[:10]) is None
    assert gpu.power([Reading(0, energy_j=5.0), Reading(SECOND, energy_j=5.0)]) is None
    assert gpu.power([Reading(0, energy_j=5.0), Reading(SECOND)]) is None


def test_power_of_a_short_timed_part_is_that_of_the_second_that_ends_with_it(monkeypatch):
    readings = [Reading(t * SECOND // 10, energy_j=30.0 * t, clock_mhz=1500 + t) for t in range(21)]

    class Watched:
        def stop(self):
            return readings, None

    found = gpu.add(Conditions(), Watched(), 18 * SECOND // 10, 2 * SECOND)
    assert (found.gpu_power_w, found.gpu_readings, found.gpu_clock_mhz) == (300.0, 3, 1519)
