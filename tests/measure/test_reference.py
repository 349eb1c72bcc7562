from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from profiler import backends
from profiler.backends.base import Model, Placement
from profiler.backends.fake_clock import FakeClock
from profiler.backends.inputs import Inputs
from profiler.measure import reference, timing, visit
from profiler.records import nominal
from profiler.records.nominal import Calls
from profiler.records.types import Budget
from tests.backends.states import LEAKS, PLAIN, only, seen, untouched


@pytest.mark.parametrize("threads", [1, 2])
def test_the_reference_draws_none_of_the_models_random_numbers(threads: int) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    reference.Reference(Placement(threads=threads)).run()
    assert torch.equal(torch.rand(4), expected)


class Watch(torch.overrides.TorchFunctionMode):
    """Notes types and places of results, and the switches that operations of the reference see."""

    def __init__(self) -> None:
        self.results: set[tuple[torch.dtype, str]] = set()
        self.switches: list[dict[str, object]] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function.__name__ in ("mm", "conv2d", "relu_", "mul_"):
            self.switches.append(seen())
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.results.add((out.dtype, out.device.type))
        return out


def bf16_by_default() -> None:
    torch.set_default_dtype(torch.bfloat16)


def on_meta_by_default() -> None:
    torch.set_default_device("meta")


@pytest.mark.parametrize("author", [None, bf16_by_default, on_meta_by_default])
@pytest.mark.parametrize("autocast", [False, True])
def test_the_reference_is_single_on_a_cpu_whatever_is_the_default(
    autocast: bool, author: Callable[[], None] | None
) -> None:
    """CPUs without half-precision arithmetic emulate it, and the emulation would be all of the reference."""
    try:
        if author is not None:
            author()
        workload = reference.Reference(Placement(precision="bf16"))
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast), Watch() as watch:
            workload.run()
            assert torch.is_autocast_enabled("cpu") is autocast
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert watch.results == {(torch.float32, "cpu")}


PLACE = Placement(threads=1)
AS_IT_IS = PLAIN | {"threads": 1}


@pytest.fixture(scope="module")
def workload() -> reference.Reference:
    return reference.Reference(PLACE)


@pytest.mark.parametrize("leak", LEAKS)
def test_whatever_is_set_the_reference_costs_the_same(leak: str, workload: reference.Reference) -> None:
    with untouched():
        LEAKS[leak]()
        before = seen()
        with Watch() as watch:
            workload.run()
        assert [only(found, AS_IT_IS) for found in watch.switches] == [AS_IT_IS] * len(watch.switches)
        assert seen() == before
    assert len(watch.switches) > 10


def test_so_does_every_part_of_a_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_WARM_UP_S", 0.0)
    with untouched():
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.benchmark = True
        with Watch() as watch:
            repeats, calls = visit.calibrate(visit.CalibrationTask(PLACE, None, 0.001))
    assert repeats >= 1
    assert len(calls.times_ns) >= 3
    assert {str(only(found, AS_IT_IS)) for found in watch.switches} == {str(AS_IT_IS)}


def test_beside_a_session_with_options_of_its_own_each_has_what_it_means(workload: reference.Reference) -> None:
    """The reference of fp32 that ran in TF32 made ten milliseconds read as twenty-seven."""
    seen_by_the_model: list[dict[str, object]] = []

    class Asks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen_by_the_model.append(seen())
            return x

    ticks = itertools.count(step=10_000_000)
    loading = backends.get("eager:tf32=1,cudnn_benchmark=1").load
    with (
        untouched(),
        loading(Model(None, Asks), Inputs((np.zeros((1, 3, 4, 4), np.float32),)), PLACE) as session,
        Watch() as watch,
    ):
        timed = timing.measure(session, workload, Budget(visit_s=1.0), 1e7, lambda: next(ticks))
    assert len(timed.samples_ns) >= 2
    assert {str(only(found, AS_IT_IS)) for found in watch.switches} == {str(AS_IT_IS)}
    assert {(found["allow_tf32 of cuBLAS"], found["convolutions"], found["cuDNN"]) for found in seen_by_the_model} == {
        (True, "tf32", (True, True, False))
    }


def test_a_call_is_as_many_units_as_come_nearest_to_its_target() -> None:
    now = 0

    def clock() -> int:
        nonlocal now
        now += 700_000
        return now

    assert reference.choose_repeats(Placement(), clock) == round(reference._TARGET_NS / 700_000)


def test_most_processes_of_a_calibration_may_be_disturbed() -> None:
    """The host may give the other half of the core to a neighbour for most of the time."""
    quiet, disturbed = [100, 101, 99, 100], [150, 148, 152, 150]
    assert centre(quiet, quiet) == pytest.approx(100)
    assert centre(disturbed, quiet, disturbed, disturbed) == pytest.approx(100)


def centre(*visits: list[int]) -> float:
    return nominal.nominal([Calls(times, crowded=False) for times in visits])[0]


def test_a_process_that_always_waited_for_a_core_counts_only_where_all_did() -> None:
    waited = Calls([90] * 100, crowded=True)
    assert nominal.nominal([waited, waited, Calls([100] * 3, crowded=False)])[0] == 100
    assert nominal.nominal([waited])[0] == 90


class Timed:
    """A workload whose calls last as long as a script says, in ms."""

    def __init__(self, clock: FakeClock, *script: float) -> None:
        self._clock, self._script = clock, itertools.cycle(script)

    def run(self) -> None:
        self._clock.advance(round(1e6 * next(self._script)))

    def sync(self) -> None:
        """Everything was done in ``run``."""


def calls_over_2_ms(core_wait: Callable[[], int] | None) -> tuple[set[bool], bool]:
    """A block of calls to settle for 25 ms and five that count is of slow ones, every other block of quick ones."""
    clock = FakeClock()
    timed = Timed(clock, *[3.0] * (9 + 5), *[0.5] * (50 + 5))
    calls = reference._sample_beside(Timed(clock, 0.1), timed, 0.1, 25_000_000, core_wait, clock)
    return {ns > 2e6 for ns in calls.times_ns}, calls.crowded


def test_calls_that_waited_for_a_core_do_not_make_a_nominal_time() -> None:
    waits = itertools.accumulate(itertools.cycle([0, 20_000_000, 0, 0]))  # of 42 ms, in the slow blocks
    assert calls_over_2_ms(lambda: next(waits)) == ({False}, False)
    assert calls_over_2_ms(None) == ({True, False}, False)


def test_where_all_calls_waited_they_count_all() -> None:
    waits = itertools.accumulate(itertools.cycle([0, 20_000_000]))
    assert calls_over_2_ms(lambda: next(waits)) == ({True, False}, True)
