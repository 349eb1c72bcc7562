"""Each check of the host is handed what a sound machine shows, and then each fault that it is there to find."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.machine.finding import Finding
from profiler.machine.host_checks import (
    _FREE_BYTES,
    check_backend,
    check_clock,
    check_disk,
    check_noise,
    check_reference,
    check_threads,
    check_versions,
)
from profiler.measure.timing import SAMPLE_NS
from profiler.records.circumstances import Conditions
from profiler.records.nominal import Calls
from profiler.records.types import Failure, Measurement, Warmup

MS = 1_000_000


QUIET = Conditions(load=0.05, steal_s=0.0, stall_s=0.01, throttled_s=0.0)


MEASURED = Measurement(((9 * MS, 8 * MS),), 1, (), None, Warmup((), steady=True), 1e-7, QUIET, {})


def status(findings):
    return [finding.status for finding in findings]


def ticking(step, count=100):
    return [step * i for i in range(count)]


def test_a_sound_clock():
    assert status(check_clock(ticking(40), SAMPLE_NS)) == ["pass", "pass"]


def test_being_taken_off_the_core_is_not_the_clocks_fault():
    away = [reading + (5 * MS if i > 50 else 0) for i, reading in enumerate(ticking(40))]
    assert status(check_clock(away, SAMPLE_NS)) == ["pass", "pass"]


@given(st.lists(st.integers(1, 200), min_size=2, max_size=50), st.integers(1, 10**6), st.data())
def test_a_clock_that_goes_back_once_is_found(steps, back, data):
    readings = list(itertools.accumulate(steps))
    at = data.draw(st.integers(1, len(readings) - 1))
    broken = [*readings[:at], readings[at - 1] - back, *readings[at:]]
    monotonic, _ = check_clock(broken, SAMPLE_NS)
    assert monotonic.status == "fail"
    assert f"back by {back} ns" in monotonic.said


@pytest.mark.parametrize(
    "readings",
    [
        pytest.param(ticking(1000), id="dear"),
        pytest.param([5] * 100, id="stands still"),
        pytest.param(sorted(ticking(10_000, 10) * 1000), id="coarse"),
    ],
)
def test_a_clock_that_cannot_time_a_sample_is_found(readings):
    assert check_clock(readings, SAMPLE_NS)[1].status == "fail"


@pytest.mark.parametrize(
    ("change", "loud"),
    [
        ({"load": 1.9}, "other programs"),
        ({"steal_s": 0.2}, "steal"),
        ({"stall_s": 0.4}, "stall"),
        ({"throttled_s": 0.01}, "throttled"),
    ],
)
def test_each_kind_of_noise_is_named(change, loud):
    assert check_noise(QUIET, 1.0, 2).status == "pass"
    found = check_noise(replace(QUIET, **change), 1.0, 2)
    assert found.status == "fail"
    assert f"({loud})" in found.said


def test_a_system_that_tells_nothing_is_not_called_quiet():
    assert check_noise(Conditions(), 1.0, 2).status == "unverifiable"


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ((1, 1, 0.99), "pass"),
        ((4, 4, 3.5), "pass"),
        ((2, 1, 0.99), "fail"),
        ((1, 1, 1.9), "fail"),
        ((4, 4, 1.0), "unverifiable"),
    ],
)
def test_threads(seen, expected):
    assert check_threads(seen).status == expected


def test_the_reference_must_repeat():
    def calls(ns: int, crowded: bool = False) -> Calls:
        return Calls([ns] * 8, crowded)

    steady = [calls(5 * MS), calls(5 * MS + 1000), calls(5 * MS)]
    assert check_reference(steady).status == "pass"
    assert check_reference([*steady[:2], calls(9 * MS)]).status == "fail"
    assert "waited for a core" in check_reference([calls(5 * MS, crowded=True)] * 3).said
    assert check_reference(Failure("crashed", "killed")) == Finding("reference", "fail", "killed")


def test_free_disk(tmp_path):
    assert check_disk(tmp_path, _FREE_BYTES).status == "pass"
    full = check_disk(tmp_path, _FREE_BYTES - 1)
    assert full.status == "fail"
    assert "make room" in full.said
    assert "GiB are free" in check_disk(tmp_path / "not" / "there" / "yet").said


def test_versions():
    assert check_versions({"torch": "2.6"}).status == "pass"
    assert check_versions({}).status == "fail"
    both = check_versions({"torch": "2.6", "onnxruntime": "1", "onnxruntime-gpu": "1"})
    assert "overwrite each other" in both.said
    assert both.status == "fail"


@pytest.mark.parametrize(
    ("outcome", "expected", "words"),
    [
        (MEASURED, "pass", "in 8.00 ms and differs by 1e-07"),
        (replace(MEASURED, facts={"nodes_CUDAExecutionProvider": 7}), "pass", "7 nodes on CUDAExecutionProvider"),
        (replace(MEASURED, parity=None), "pass", "nothing to compare"),
        (Failure("unsupported", "not installed"), "unverifiable", "not installed"),
        (Failure("fallback", "3 of 9 nodes"), "fail", "3 of 9 nodes"),
        (Failure("parity", "outputs differ"), "fail", "outputs differ"),
    ],
)
def test_backends(outcome, expected, words):
    found = check_backend("onnxruntime", outcome)
    assert found.status == expected
    assert words in found.said
