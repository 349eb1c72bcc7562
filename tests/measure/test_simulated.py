"""Reference, memory, flushed caches and second devices on a simulated accelerator, where everything is known.

Everything here is simulated. The scenarios run once, in a process of their own: see ``simulated.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from profiler.measure.timing import REFERENCE_CALLS
from tests.backends.simulator import L2_BYTES, results_of

MIB = 1 << 20
#: What a test knows of times is off by launches alone, of 10 µs each.
LAUNCHES = 0.01


@pytest.fixture(scope="module")
def results() -> Any:
    return results_of(Path(__file__).parent / "simulated.py")


@pytest.fixture(scope="module")
def truth(results: Any) -> dict[str, int]:
    found: dict[str, int] = results["truth"]
    return found


def test_the_reference_waits_for_the_device(results: Any, truth: dict[str, int]) -> None:
    """Submitting takes a thirteenth of the time of one call."""
    for found in results["headlines"].values():
        assert found["reference_ns"] == pytest.approx(truth["product"], rel=LAUNCHES)
    assert results["second"]["reference_ns"] == pytest.approx([truth["product"]] * REFERENCE_CALLS, rel=LAUNCHES)


def test_tf32_leaks_into_no_part_of_a_calibration(results: Any, truth: dict[str, int]) -> None:
    """Neither into the choice of units nor into single calls, nor into what stands in for a model."""
    assert len(results["leaks"]) >= 4
    for leak, found in results["leaks"].items():
        assert found["repeats"] == 1, leak
        assert found["call_ns"] == pytest.approx(truth["product"], rel=LAUNCHES), leak
        assert found["least_ns"] == pytest.approx(truth["product"], rel=LAUNCHES), leak
        assert found["stand_in_ns"] == 2 * truth["convolution"], leak


def test_a_session_in_tf32_is_timed_in_tf32_beside_a_reference_that_is_not(results: Any, truth: dict[str, int]) -> None:
    """Ten milliseconds read as forty when the reference ran in TF32 too, four times as fast."""
    expected = {"eager": 1, "eager:tf32=1": truth["tf32"], "torchscript:tf32=1": truth["tf32"]}
    for backend, divisor in expected.items():
        found = results["headlines"][backend]
        headline = found["raw_ns"] / found["reference_ns"] * truth["product"]
        assert headline == pytest.approx(truth["forward"] / divisor, rel=LAUNCHES), backend
        assert found["device_ns"] == pytest.approx(truth["forward"] / divisor, rel=LAUNCHES), backend


def test_the_gate_tells_a_side_in_tf32_from_one_that_is_not(results: Any, truth: dict[str, int]) -> None:
    assert results["gate"]["baseline_ns"] == pytest.approx(truth["forward"] / truth["tf32"], rel=LAUNCHES)
    assert results["gate"]["candidate_ns"] == pytest.approx(truth["forward"], rel=LAUNCHES)


def test_energy_is_divided_among_the_forwards_that_were_done(results: Any, truth: dict[str, int]) -> None:
    assert results["energy"]["forward_ns"] == pytest.approx(truth["forward"], rel=LAUNCHES)


def test_the_reference_computes_in_the_precision_it_is_for(results: Any) -> None:
    types = {"fp32": "torch.float32", "fp16": "torch.float16", "bf16": "torch.bfloat16"}
    assert results["precisions"] == {name: [f"{kind} sim:1"] for name, kind in types.items()}


def test_twice_the_cache_is_flushed(results: Any) -> None:
    assert results["flushed"]["bytes"] == 2 * L2_BYTES


@pytest.mark.parametrize("device", [0, 1])
def test_what_tensors_hold_is_told_from_what_the_allocator_has_reserved(device: int, results: Any) -> None:
    """64 MiB come and go while the model is loaded, which then holds 3 and takes 5 more: the allocator keeps all."""
    found = results["peaks"][device]
    assert (found["load"]["allocated"], found["load"]["reserved"]) == (64 * MIB, 64 * MIB)
    assert (found["run"]["allocated"], found["run"]["reserved"]) == (8 * MIB, 64 * MIB)


def test_a_second_device_is_measured_and_not_the_first(results: Any, truth: dict[str, int]) -> None:
    """The first one has work for a second: whoever waits for it, or looks at it, is far off."""
    found = results["second"]
    assert found["host_ns"] == pytest.approx(truth["forward"], rel=LAUNCHES)
    assert found["device_ns"] == pytest.approx([truth["forward"]] * 3, rel=LAUNCHES)
    assert found["waited_ns"] < 200_000_000
    assert (found["cold_bytes_on"], found["own_stream_on"]) == ("sim:1", "sim:1")
