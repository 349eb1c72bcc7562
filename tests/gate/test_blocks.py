"""Blocks of two models, on a scripted clock."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import count

import pytest

from profiler.backends.base import Placement
from profiler.gate import blocks, decision
from profiler.gate.decision import Rule
from profiler.records.types import Case, Failure
from profiler.run.child import Limits
from profiler.run.processes import LocalExecutor

MS = 1_000_000
RULE = Rule(0.05)


class Machine:
    """A machine whose speed depends on its time; slots take eight forwards each."""

    def __init__(self, slowness: Callable[[float], float]) -> None:
        self.now_s = 0.0
        self.slowness = slowness
        self.order: list[str] = []

    def slot(self, name: str, forward_s: float) -> blocks.Slot:
        def run() -> list[float]:
            self.order.append(name)
            times = []
            for _ in range(8):
                taken = forward_s * self.slowness(self.now_s)
                self.now_s += taken
                times.append(taken * 1e9)
            return times

        return run

    def clock(self) -> float:
        return self.now_s


def _trial(
    machine: Machine, ratio: float, flip: Callable[[], bool], rule: Rule = RULE, seconds: float = 1e9
) -> blocks.Trial:
    old, new = machine.slot("A", 0.005), machine.slot("B", 0.005 * ratio)
    return blocks.collect(old, new, rule, flip, seconds, machine.clock)


def _change(trial: blocks.Trial) -> float:
    return decision.change(trial.ratios).estimate


def test_blocks_are_abba_or_baab_by_the_coin() -> None:
    machine = Machine(lambda _: 1.0)
    flips = iter([False, True] * 5)
    trial = _trial(machine, 1.0, lambda: next(flips))
    assert "".join(machine.order) == "ABBABAAB" * 5
    assert [block.candidate_first for block in trial.blocks] == [False, True] * 5
    assert len(trial.blocks[0].baseline_ns) == len(trial.blocks[0].candidate_ns) == 16


def test_the_coin_is_fair_and_repeats_by_its_seed() -> None:
    tosses = [blocks.coin(5)() for _ in range(1)]
    coin, again = blocks.coin(5), blocks.coin(5)
    many = [coin() for _ in range(1000)]
    assert many == [again() for _ in range(1000)]
    assert many[:1] == tosses
    assert 450 < sum(many) < 550


def test_a_slow_down_is_found_at_the_first_look() -> None:
    trial = _trial(Machine(lambda _: 1.0), 1.10, blocks.coin(0))
    assert len(trial.blocks) == 10
    assert _change(trial) == pytest.approx(0.10)
    assert decision.decide(trial.ratios, RULE) == "regression"
    assert trial.latency_ns("baseline") == pytest.approx(5 * MS)
    assert trial.latency_ns("candidate") == pytest.approx(5.5 * MS)


def test_a_drift_cancels() -> None:
    trial = _trial(Machine(lambda s: 1.0 + 0.05 * s), 1.0, blocks.coin(0))
    assert _change(trial) == pytest.approx(0.0, abs=1e-3)


def test_a_hog_in_step_with_the_slots_biases_nothing_in_random_order_and_everything_in_a_fixed_one() -> None:
    whole = Rule(0.05, looks=(80,))
    number = count()

    def slot() -> list[float]:
        return [5e6 * (1.5 if next(number) % 2 else 1.0)] * 8

    trial = blocks.collect(slot, slot, whole, blocks.coin(3))
    assert abs(_change(trial)) < 0.005
    fixed = blocks.Trial(tuple(_fixed_block(slot, slot) for _ in range(80)), 0.0)
    assert _change(fixed) == pytest.approx(0.5)


def _fixed_block(a: blocks.Slot, b: blocks.Slot) -> blocks.Block:
    first, second, third, fourth = a(), b(), a(), b()
    return blocks.Block(candidate_first=False, baseline_ns=(*first, *third), candidate_ns=(*second, *fourth))


def test_time_that_is_used_up_ends_before_the_next_look() -> None:
    machine = Machine(lambda s: 1.0 + (0.5 if int(s * 7) % 2 else 0.0))
    flips = iter([False, True] * 100)
    noisy = Rule(0.001)
    trial = _trial(machine, 1.0007, lambda: next(flips), noisy, seconds=5.0)
    assert trial.late
    assert len(trial.blocks) in (10, 20)
    assert trial.seconds <= 5.0


def test_a_slot_outlasts_20_ms_and_has_8_samples() -> None:
    for forward in (1_000, 100_000, 2 * MS, 50 * MS):
        shape = blocks.slot_shape(forward, settle=1)
        assert shape.samples >= 8
        assert shape.samples * shape.calls * forward >= 20 * MS


def _fake(ms: float, fault: str = "") -> Case:
    return Case("regnety_200mf", "", 1.0, f"fake:duration_ms={ms}{fault}", Placement())


def test_two_fakes_in_one_fresh_process() -> None:
    executor = LocalExecutor()
    job = blocks.Job(_fake(1.0), _fake(1.2), RULE, seed=1, seconds=60.0)
    trial = executor.call(blocks.duel, job, 60.0, Limits())
    executor.close()
    assert isinstance(trial, blocks.Trial)
    assert decision.decide(trial.ratios, RULE) == "regression"
    assert _change(trial) == pytest.approx(0.2, abs=0.05)
    assert set(trial.facts) == {"baseline", "candidate"}
    assert statistics.fmean(block.candidate_first for block in trial.blocks) not in (0.0, 1.0)


def test_a_side_that_cannot_be_loaded_is_a_failure() -> None:
    executor = LocalExecutor()
    job = blocks.Job(_fake(1.0), _fake(1.0, ",fault=unavailable"), RULE, seed=1, seconds=60.0)
    trial = executor.call(blocks.duel, job, 60.0, Limits())
    executor.close()
    assert isinstance(trial, Failure)
    assert "unavailable" in trial.reason
