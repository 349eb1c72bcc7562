"""The proof for a real GPU, step by step on the simulated one, so that it works the first time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.backends.simulator import results_of
from tests.studies import prove_gpu

MIB = 1 << 20


@pytest.fixture(scope="module")
def results() -> Any:
    return results_of(Path(__file__).parent / "proved.py")


@pytest.fixture(scope="module")
def steps(results: Any) -> Any:
    return results["found"]["steps"]


def test_no_claim_is_refuted_and_what_cannot_be_told_is_neither_true_nor_false(results: Any, steps: Any) -> None:
    assert results["refuted"] == []
    assert steps["clock"]["claims"] == {"probe within 1% of NVML": None}
    told = [holds for step in steps.values() for holds in step.get("claims", {}).values()]
    assert told.count(True) >= 8


def test_the_clock_and_the_events_are_those_of_the_device(results: Any, steps: Any) -> None:
    assert steps["clock"]["probe_mhz"] == 1000.0
    assert (steps["events"]["queued_ns"], results["small"]["queued_ns"]) == (10_000_000, 20_000)
    assert results["small"]["plain_ns"] == 201_000


def test_the_reference_is_the_same_with_tf32(steps: Any) -> None:
    assert steps["tf32"]["off_ns"] == steps["tf32"]["on_ns"] == 4_000_000


def test_what_a_visit_says_of_memory_is_what_the_device_lost(steps: Any) -> None:
    assert steps["memory eager"]["by_hand"] == steps["memory eager"]["told"]["device"] == 2 * MIB


def test_the_spread_is_over_processes_and_of_every_way(steps: Any) -> None:
    visits = steps["spread"]["visits"]
    assert [len(found) for found in visits.values()] == [3, 3]
    for ways in steps["spread"]["cv"].values():
        assert ways == {"raw": pytest.approx(0), "device": pytest.approx(0), "normalised": pytest.approx(0)}


def test_what_this_device_cannot_do_is_skipped_with_the_reason(steps: Any) -> None:
    assert "onnxruntime runs on cpu and cuda" in steps["onnxruntime"]["skipped"]


def test_what_was_found_is_kept_after_each_step(results: Any) -> None:
    assert results["kept"]["steps"].keys() == results["found"]["steps"].keys()


def test_without_time_nothing_is_begun(results: Any) -> None:
    assert results["late"]["steps"]["clock"]["skipped"] == "no time is left"


def test_a_step_that_fails_loses_no_other_and_is_refuted(results: Any) -> None:
    broken = results["broken"]
    assert "unknown model 'nothing'" in broken["steps"]["events"]["error"]
    assert broken["steps"]["clock"]["probe_mhz"] == 1000.0
    assert prove_gpu.refuted(broken) == ["events"]


def test_commands_name_the_device_and_keep_to_the_time(results: Any) -> None:
    doctor, tests, paper = results["commands"]
    assert doctor[1:] == ["-m", "profiler", "doctor", "--device", "sim:0", "--json"]
    assert tests[-2:] == ["-m", "gpu"]
    assert 0 < int(paper[paper.index("--time") + 1].removesuffix("s")) < 600


def test_a_command_that_takes_too_long_is_stopped() -> None:
    assert prove_gpu.shell(["sleep", "20"], 1.0)[0] == 124
    assert prove_gpu.shell(["sh", "-c", "echo out; exit 3"], 10.0) == (3, "out\n")
