from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from profiler.backends.base import Placement
from profiler.backends.fake_clock import FakeClock
from profiler.measure import reference
from profiler.records import nominal
from profiler.records.nominal import Calls


@pytest.mark.parametrize("threads", [1, 2])
def test_the_reference_draws_none_of_the_models_random_numbers(threads: int) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    reference.Reference(Placement(threads=threads)).run()
    assert torch.equal(torch.rand(4), expected)


def test_half_precision_is_referred_to_single_on_a_cpu() -> None:
    """CPUs without half-precision arithmetic emulate it, and the emulation would be all of the reference."""
    dtypes = set()

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                dtypes.add(out.dtype)
            return out

    workload = reference.Reference(Placement(precision="bf16"))
    with Watch():
        workload.run()
    assert dtypes == {torch.float32}


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
    """A block of calls to settle for 25 ms and three that count is of slow ones, every other block of quick ones."""
    clock = FakeClock()
    timed = Timed(clock, *[3.0] * (9 + 3), *[0.5] * (50 + 3))
    calls = reference._sample_beside(Timed(clock, 0.1), timed, 0.1, core_wait, clock)
    return {ns > 2e6 for ns in calls.times_ns}, calls.crowded


def test_calls_that_waited_for_a_core_do_not_make_a_nominal_time() -> None:
    waits = itertools.accumulate(itertools.cycle([0, 20_000_000, 0, 0]))  # of 36 ms, in the slow blocks
    assert calls_over_2_ms(lambda: next(waits)) == ({False}, False)
    assert calls_over_2_ms(None) == ({True, False}, False)


def test_where_all_calls_waited_they_count_all() -> None:
    waits = itertools.accumulate(itertools.cycle([0, 20_000_000]))
    assert calls_over_2_ms(lambda: next(waits)) == ({True, False}, True)
