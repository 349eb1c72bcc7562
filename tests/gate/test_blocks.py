"""Blocks of two models, on a scripted clock."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from profiler.backends.base import BackendError, Placement
from profiler.errors import UserError
from profiler.gate import blocks, decision
from profiler.gate.decision import Rule
from profiler.gate.tail import TAIL_LOOKS
from profiler.records.types import Case, Failure
from profiler.run.child import Limits
from profiler.run.processes import LocalExecutor
from tests.models import samples

MS = 1_000_000
RULE = Rule(0.05)


class Machine:
    """A machine whose speed depends on its time; slots take eight forwards each."""

    def __init__(self, slowness: Callable[[float], float]) -> None:
        self.now_s = 0.0
        self.slowness = slowness
        self.order: list[str] = []

    def slot(self, name: str, forward_s: float) -> blocks._Slot:
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
    return blocks.collect(old, new, [rule], flip, seconds, machine.clock)


def _change(trial: blocks.Trial) -> float:
    return decision.change(trial.ratios)[0]


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

    trial = blocks.collect(slot, slot, [whole], blocks.coin(3))
    assert abs(_change(trial)) < 0.005
    fixed = blocks.Trial(tuple(_fixed_block(slot, slot) for _ in range(80)), 0.0)
    assert _change(fixed) == pytest.approx(0.5)


def _fixed_block(a: blocks._Slot, b: blocks._Slot) -> blocks.Block:
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
    for forward, single in itertools.product((1_000, 100_000, 2 * MS, 50 * MS), (False, True)):
        shape = blocks._slot_shape(forward, settle=1, single=single)
        assert shape.samples >= 8
        assert shape.samples * shape.calls * forward >= 20 * MS
        assert shape.calls == 1 or not single


class Stalling:
    """A machine on which the candidate stalls in a share of its calls, always the same draw."""

    def __init__(self, share: float, stall: float = 10.0) -> None:
        self.draw = random.Random(1)
        self.share, self.stall = share, stall

    def slot(self, *, stalls: bool) -> blocks._Slot:
        def run() -> list[float]:
            times = [5e6 * self.draw.lognormvariate(0.0, 0.01) for _ in range(10)]
            return [ns * (self.stall if stalls and self.draw.random() < self.share else 1.0) for ns in times]

        return run

    def trial(self, *rules: Rule) -> blocks.Trial:
        return blocks.collect(self.slot(stalls=False), self.slot(stalls=True), rules, blocks.coin(0))


P99, MEAN = Rule(0.2, looks=TAIL_LOOKS, of="p99"), Rule(0.05, of="mean")


def test_blocks_are_added_until_every_rule_has_an_answer() -> None:
    # Twenty calls of a side in a block: the tail needs 40 blocks, and the median of both is the same.
    same = Stalling(0.0).trial(RULE, P99)
    assert (len(same.blocks), same.answer(RULE), same.answer(P99)) == (40, ("pass", 10), ("pass", 40))
    stalls = Stalling(0.05).trial(RULE, P99)
    assert stalls.answer(RULE) == ("pass", 10)
    assert stalls.answer(P99)[0] == "regression"
    # A regression ends it, whatever else is open.
    slower = blocks.collect(lambda: [5e6] * 10, lambda: [6e6] * 10, [RULE, P99], blocks.coin(0))
    assert (len(slower.blocks), slower.answer(RULE), slower.answer(P99)) == (10, ("regression", 10), (None, 10))


def test_a_mean_beyond_the_limit_keeps_it_looking() -> None:
    assert len(Stalling(0.0).trial(RULE, MEAN).blocks) == 10
    stalls = Stalling(0.1).trial(RULE, MEAN)
    assert (stalls.answer(RULE), stalls.answer(MEAN)[0]) == (("pass", 10), "regression")
    # Stalls of a mean that stays within the limit are no matter of the median's.
    assert Stalling(0.01, stall=3.0).trial(RULE, MEAN).answer(MEAN) == ("pass", 10)


def _fake(ms: float, fault: str = "") -> Case:
    return Case("regnety_200mf", "", 1.0, f"fake:duration_ms={ms}{fault}", Placement())


def test_two_fakes_in_one_fresh_process() -> None:
    executor = LocalExecutor()
    trial = executor.call(
        partial(blocks.of_cases, _fake(1.0), _fake(1.2), [RULE], 1, 60.0, allowed=()), None, 60.0, Limits()
    )
    executor.close()
    assert isinstance(trial, blocks.Trial)
    assert decision.decide(trial.ratios, RULE) == "regression"
    assert _change(trial) == pytest.approx(0.2, abs=0.05)
    assert set(trial.facts) == {"baseline", "candidate"}
    assert statistics.fmean(block.candidate_first for block in trial.blocks) not in (0.0, 1.0)


def test_a_side_that_cannot_be_loaded_is_a_failure() -> None:
    executor = LocalExecutor()
    call = partial(blocks.of_cases, _fake(1.0), _fake(1.0, ",fault=unavailable"), [RULE], 1, 60.0, allowed=())
    trial = executor.call(call, None, 60.0, Limits())
    executor.close()
    assert isinstance(trial, Failure)
    assert "unavailable" in trial.reason


def test_a_shape_that_the_model_does_not_take_is_named_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\n\ndef make():\n    return torch.nn.Linear(4, 2), torch.zeros(1, 4)\n"
    )
    case = Case(f"{tmp_path}/net.py:make", "", 1.0, "eager", Placement(), shape="input=1x8")
    said = r"does not run with --shape input=1x8 \(.*: give other inputs"
    with pytest.raises(BackendError, match=said), blocks.loaded(case, None):
        pass


@pytest.mark.usefixtures("one_thread")
def test_a_model_that_keeps_what_it_computed_passes_no_gate() -> None:
    case = Case(f"{Path(samples.__file__)}:keeping", "", 1.0, "eager", Placement())
    with pytest.raises(UserError, match="keeps what it computed"), blocks.loaded(case, None):
        pass
