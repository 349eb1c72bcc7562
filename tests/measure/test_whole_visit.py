"""Whole visits on a simulated accelerator: what a user reads in the row, against what the device really did.

Everything here is simulated. The scenarios run once, in a process of their own: see ``whole_visit.py``.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.backends.simulator import results_of

US, MS, MIB = 1_000, 1_000_000, 1 << 20
#: What the scenarios give: two convolutions of 5 ms; twenty kernels of 1 µs, each 10 µs to launch.
FORWARD, KERNELS, LAUNCH = 10 * MS, 20, 10 * US


@pytest.fixture(scope="module")
def results() -> Any:
    return results_of(Path(__file__).parent / "whole_visit.py")


def test_the_headline_is_the_time_of_a_forward_until_the_device_has_finished(results: Any) -> None:
    found = results["plain"]["visit"]
    assert statistics.median(found["host"]) == pytest.approx(FORWARD, rel=0.005)
    assert results["plain"]["row"]["latency_ms"] == pytest.approx(FORWARD / MS, rel=0.005)
    assert results["plain"]["row"]["latency_raw_ms"] == pytest.approx(results["plain"]["row"]["latency_ms"])


def test_nothing_is_divided_by_a_reference_and_every_forward_is_a_sample(results: Any) -> None:
    """Also of a forward below a quarter of a millisecond, of which a CPU takes several a sample."""
    for found in (results["plain"]["visit"], results["many"]["visit"]):
        assert (found["reference_ns"], found["nominal_ns"], found["calls_per_sample"]) == ([], None, 1)


def test_the_outputs_are_compared_and_the_row_says_that_it_is_simulated(results: Any) -> None:
    assert results["plain"]["visit"]["parity"] <= 1e-6
    assert results["plain"]["row"]["simulated"] == "true"


def test_time_by_events_is_that_of_the_kernels_and_holds_no_wait_for_the_host(results: Any) -> None:
    assert results["plain"]["visit"]["device_ns"] == [FORWARD] * 20
    assert results["many"]["visit"]["device_ns"] == [KERNELS * US] * 20
    assert results["many"]["visit"]["facts"]["device_queued"] is True


def test_without_what_holds_the_device_up_events_would_tell_the_hosts_pace(results: Any) -> None:
    """The scenario can show the fault: twenty kernels of 1 µs read 200."""
    assert results["unheld"]["ns"] == pytest.approx(KERNELS * LAUNCH, rel=0.02)
    assert results["unheld"]["held_ns"] == [KERNELS * US] * 3


def test_calls_behind_a_pause_that_was_too_short_are_made_again(results: Any) -> None:
    assert results["unheld"]["late"] == [[KERNELS * US] * 3, True]


def test_a_launch_bound_forward_is_said_with_what_a_graph_would_take(results: Any) -> None:
    row = results["many"]["row"]
    assert row["latency_ms"] == pytest.approx(KERNELS * LAUNCH / MS, rel=0.02)
    assert (row["launch_bound"], row["device_ms"]) == ("true", pytest.approx(KERNELS * US / MS))
    assert "would take about 0.02 ms" in row["reason"]
    assert results["plain"]["row"]["launch_bound"] == "false"


def test_a_forward_in_which_the_host_waits_cannot_be_queued_and_says_so(results: Any) -> None:
    """Its time by events holds the wait: it is never taken for the device's own work."""
    found = results["waits"]["visit"]
    assert found["facts"]["device_queued"] is False
    assert min(found["device_ns"]) > 2 * KERNELS * US
    assert "device_ms may hold waits for the host" in results["waits"]["row"]["reason"]
    assert "would take" not in results["waits"]["row"]["reason"]


def test_copies_are_told_beside_the_headline_and_are_no_part_of_it(results: Any) -> None:
    """They take 3 and 7 ms; a forward with them in it would take 20."""
    found = results["copies"]
    assert statistics.median(found["input_ns"]) == pytest.approx(3 * MS, rel=0.01)
    assert statistics.median(found["output_ns"]) == pytest.approx(7 * MS, rel=0.01)
    assert statistics.median(found["host"]) == pytest.approx(FORWARD, rel=0.005)


def test_the_probe_reads_the_clock_and_the_bandwidth_of_the_device(results: Any) -> None:
    """One look before the first block and one after each; 12 MiB are written in 10 µs."""
    found = results["plain"]["visit"]
    assert found["clock_mhz"] == [1000.0] * (len(found["samples_ns"]) + 1)
    assert found["stream_gb_s"] == [pytest.approx(12 * MIB / (10 * US), rel=0.01)] * len(found["clock_mhz"])


def test_a_clock_that_moved_between_two_visits_is_seen_and_said(results: Any) -> None:
    assert [set(looks) for looks in results["clocks"]["looks"]] == [{1000.0}, {960.0}]
    assert "the GPU's clock moved by 4.2% (960 to 1000 MHz)" in results["clocks"]["reason"]


def test_memory_is_what_the_device_lost_whoever_took_it(results: Any) -> None:
    """A runtime with an allocator of its own takes 100 MiB; torch's tensors need bytes and reserve 2 MiB."""
    found = results["memory"]
    assert found["taken"] == 1
    for phase in (found["load"], found["run"]):
        assert phase["device"] == 102 * MIB
        assert phase["reserved"] == 2 * MIB
        assert 0 < phase["allocated"] < MIB


def test_a_training_step_has_its_time_on_the_device_too(results: Any) -> None:
    found = results["train"]
    assert len(found["device_ns"]) == 20
    assert 0 < statistics.median(found["device_ns"]) < statistics.median(found["host"])
    assert set(found["parts_ns"]) == {"forward", "loss", "backward", "optimizer", "zero_grad"}


def test_the_parts_of_a_step_are_the_devices_own_and_nobody_waits_between_them(results: Any) -> None:
    """A product of 1 ms forwards and another one backwards; a wait between two parts would add its launch to each."""
    found = results["train"]
    parts = {name: statistics.median(times) for name, times in found["parts_ns"].items()}
    assert parts == {"forward": MS, "loss": 0, "backward": MS, "optimizer": 0, "zero_grad": 0}
    assert sum(parts.values()) == statistics.median(found["device_ns"])


def test_a_device_that_is_not_there_is_no_measurement(results: Any) -> None:
    assert results["elsewhere"]["status"] == "unsupported"
    assert "there is no sim:2" in results["elsewhere"]["reason"]
