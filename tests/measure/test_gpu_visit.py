"""A visit whose GPU is told by the stub of NVIDIA's library: warm-up, conditions, energy."""

from __future__ import annotations

import os

from profiler.backends.base import Placement
from profiler.machine.gpu import Reading
from profiler.measure import energy, visit
from profiler.records.types import Budget, Case


def test_a_visit_does_not_call_itself_warm_while_the_clock_moves(scripted, monkeypatch):
    """The fake forward is steady from its first sample: only the clock can keep it warming up."""
    monkeypatch.setattr(visit.accelerator, "uuid", lambda _device: "GPU-bbbb")
    monkeypatch.setattr(energy, "_SECONDS", 0.01)
    case = Case("resnet50", "", 1.0, "fake:duration_ms=1", Placement())

    def is_steady(seconds, clock):
        scripted(clock=clock)
        task = visit.Task(case, Budget(visit_s=0.01, warmup_s=seconds), None, None)
        return visit.visit(task).warmup.steady

    assert not is_steady(0.7, " ".join(["1500", "1000"] * 30))
    assert is_steady(20.0, "300 1500")


def test_energy_of_a_forward_is_power_times_its_time():
    """50 W for a second in which four forwards ran; readings outside do not count."""
    readings = [Reading(0, energy_j=0.0), *(Reading(10**9 + t * 10**8, energy_j=900 + 5.0 * t) for t in range(11))]
    assert energy._per_forward(readings, 10**9, 2 * 10**9, 4) == 12.5
    assert energy._per_forward(readings, 10**9, 10**9 + 1, 4) is None


class Idle:
    """A workload that does nothing."""

    def run(self) -> None:
        pass

    def sync(self) -> None:
        pass


def test_energy_where_nobody_counts_it_is_empty(scripted, monkeypatch):
    scripted(energy=None)
    monkeypatch.setattr(energy, "_SECONDS", 0.01)
    assert energy.joules_per_forward(Idle(), "GPU-aaaa") is None
    assert energy.joules_per_forward(Idle(), None) is None


def test_a_visit_brings_home_what_its_gpu_did(scripted, monkeypatch):
    """A whole visit, its GPU told by the stub: a slow-down throughout, other processes beside ours."""
    scripted(events="0x40", processes=f"4242:{1 << 30},{os.getpid()}:{1 << 28},4243:5")
    monkeypatch.setattr(visit.accelerator, "uuid", lambda _device: "GPU-bbbb")
    monkeypatch.setattr(energy, "_SECONDS", 0.01)
    case = Case("resnet50", "", 1.0, "fake:duration_ms=1", Placement())
    measured = visit.visit(visit.Task(case, Budget(visit_s=0.4, warmup_s=20.0), None, None))
    found = measured.conditions
    assert found.gpu_readings >= 1
    assert (found.gpu_slowdown, found.gpu_foreign_processes) == ("thermal (hardware)", 2)
    assert (found.gpu_clock_mhz, found.gpu_temperature_c, found.gpu_note) == (1500, 40, None)
    assert found.gpu_memory_bytes == 1 << 28


def test_a_visit_that_shall_not_count_energy_does_not(scripted, monkeypatch):
    scripted(energy="1000 2000")
    monkeypatch.setattr(visit.accelerator, "uuid", lambda _device: "GPU-bbbb")
    monkeypatch.setattr(visit, "joules_per_forward", None)
    case = Case("resnet50", "", 1.0, "fake:duration_ms=1", Placement())
    task = visit.Task(case, Budget(visit_s=0.01, warmup_s=0.1), None, None, energy=False)
    assert visit.visit(task).energy_j is None
