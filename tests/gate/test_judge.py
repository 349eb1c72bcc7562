"""Verdicts on scripted trials: confirmation, bias, memory, exit codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from profiler.backends.base import Placement
from profiler.gate.bias import BIAS_FACTOR, bias, kept_bias, measure_bias
from profiler.gate.blocks import Block, Trial
from profiler.gate.contest import Contest
from profiler.gate.decision import LOOKS, Rule
from profiler.gate.judge import judge
from profiler.gate.side import Pair, sides
from profiler.gate.verdict import Status, Verdict, exit_code
from profiler.records.types import Failure

RULE = Rule(0.05)
FAKE = "regnety_200mf @fake:duration_ms="


def _pair(device: str = "cpu", **limits: float | None) -> Pair:
    old, new = sides(f"{FAKE}1", f"{FAKE}2", Placement(device), None, 1)
    return Pair(old, new, **limits)  # type: ignore[arg-type]


def _trial(change: float, noise: float = 0.002, seed: int = 0, blocks: int = 10) -> Trial:
    draw = np.random.default_rng(seed)
    ratios = np.exp(math.log1p(change) + noise * draw.standard_normal(blocks))
    return Trial(
        tuple(Block(candidate_first=False, baseline_ns=(5e6,), candidate_ns=(5e6 * ratio,)) for ratio in ratios), 1.0
    )


@dataclass
class Scripted:
    """A contest whose trials are known beforehand."""

    trials: Sequence[Trial | Failure] = ()
    own: Sequence[Trial | Failure] = ()
    peaks: dict[str, dict[str, int] | Failure] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)

    @property
    def contest(self) -> Contest:
        def answers(script: Iterator[Trial | Failure]) -> Callable[[Rule, int], Trial | Failure]:
            def trial(_: Rule, seed: int) -> Trial | Failure:
                self.seeds.append(seed)
                return next(script)

            return trial

        return Contest("Together", answers(iter(self.trials)), answers(iter(self.own)), self.peaks.__getitem__)


def _judged(
    script: Scripted, own: float | Failure | None = None, device: str = "cpu", **limits: float | None
) -> Verdict:
    rule = None if limits.get("max_slowdown", 0.05) is None else RULE
    return judge(_pair(device, **limits), script.contest, rule, lambda: own, seed=7)


def test_identical_code_passes_without_a_second_trial() -> None:
    contest = Scripted([_trial(0.0)])
    verdict = _judged(contest)
    assert (verdict.status, contest.seeds) == ("pass", [7])
    assert "surely less than 5%" in verdict.reason


def test_a_regression_fails_only_when_fresh_processes_show_it_again() -> None:
    contest = Scripted([_trial(0.10), _trial(0.11, seed=1)])
    verdict = _judged(contest)
    assert (verdict.status, len(verdict.trials or ())) == ("regression", 2)
    assert contest.seeds == [7, 8]
    assert "more than 5%" in verdict.reason
    assert "confirmed in fresh processes: +11" in verdict.reason
    assert verdict.change is not None
    assert verdict.change[0] == pytest.approx(0.105, abs=0.005)


def test_a_regression_that_is_not_confirmed_is_inconclusive() -> None:
    verdict = _judged(Scripted([_trial(0.10), _trial(0.0, seed=1)]))
    assert verdict.status == "inconclusive"
    assert "not confirmed: +1" in verdict.reason


def test_a_change_between_half_the_limit_and_the_limit_says_so() -> None:
    noisy = _trial(0.045, noise=0.012, seed=3, blocks=20)
    verdict = _judged(Scripted([noisy, noisy]))
    assert verdict.status == "regression"
    assert "surely more than 2.5%, half of the limit" in verdict.reason


def test_noise_is_inconclusive_and_names_the_limit_that_would_have_passed() -> None:
    verdict = _judged(Scripted([_trial(0.0, noise=0.5, blocks=LOOKS[-1])]))
    assert verdict.status == "inconclusive"
    assert "would have passed" in verdict.reason


def test_a_failure_is_an_error_with_its_reason() -> None:
    failed = Failure("crashed", "the process was killed by signal 9 (SIGKILL)", "its last words")
    for contest in (Scripted([failed]), Scripted([_trial(0.10), failed])):
        verdict = _judged(contest)
        assert verdict.status == "error"
        assert "SIGKILL" in verdict.reason
        assert verdict.detail == "its last words"


def test_a_limit_finer_than_the_difference_between_processes_is_refused() -> None:
    own = bias([(y, 0.001) for y in (0.02, -0.03, 0.025, -0.015, 0.03)])
    script = Scripted([])
    verdict = _judged(script, own)
    assert (verdict.status, script.seeds) == ("inconclusive", [])
    assert "finer than this machine can tell" in verdict.reason
    # The limit that the sentence names is accepted.
    named = math.expm1(2 * BIAS_FACTOR * own)
    accepted = judge(_pair(), Scripted([_trial(0.0)]).contest, Rule(named * 1.01), lambda: own, seed=7)
    assert accepted.status == "pass"


def test_the_bias_is_what_the_noise_of_the_blocks_does_not_explain() -> None:
    assert bias([(y, 0.01) for y in (0.01, -0.01, 0.01, -0.01, 0.01)]) == 0.0
    assert bias([(y, 0.001) for y in (0.02, -0.02, 0.02, -0.02, 0.02)]) == pytest.approx(0.02, rel=0.01)
    measured = measure_bias(Scripted(own=[_trial(0.01, seed=s) for s in range(5)]).contest, seed=0)
    assert not isinstance(measured, Failure)
    assert bias(measured) == pytest.approx(0.01, abs=0.001)


def test_a_bias_is_measured_once_and_kept(tmp_path: Path) -> None:
    made = []

    def measured() -> list[tuple[float, float]]:
        made.append(1)
        return [(0.01, 0.002)]

    for _ in range(2):
        assert kept_bias(tmp_path, "here", measured) == bias(measured()) > 0
        made.pop()
    kept_bias(tmp_path, "elsewhere", measured)
    assert len(made) == 2
    (tmp_path / "gate.json").write_text("{ half", encoding="utf-8")
    kept_bias(tmp_path, "here", measured)
    assert len(made) == 3


MIB = 1 << 20


@pytest.mark.parametrize(
    ("old", "new", "allowed", "status"),
    [(100, 104, 0.05, "pass"), (100, 106, 0.05, "regression"), (2, 2.9, 0.05, "pass"), (100, 90, 0.0, "pass")],
)
def test_memory_fails_by_growth_beyond_its_own_noise(old: float, new: float, allowed: float, status: str) -> None:
    peaks = {"baseline": {"process": round(old * MIB)}, "candidate": {"process": round(new * MIB)}}
    verdict = _judged(Scripted(peaks=peaks), max_slowdown=None, max_memory_growth=allowed)
    assert verdict.status == status
    assert "peak memory" in verdict.reason


@pytest.mark.parametrize(
    ("device", "told", "source"),
    [
        ("cuda:0", {"process": 100, "allocated": 50, "reserved": 70, "nvml": 90}, "allocated"),
        # A runtime with an allocator of its own takes nothing from torch's.
        ("cuda:0", {"process": 100, "allocated": 0, "nvml": 90}, "nvml"),
        ("cpu", {"process": 100, "allocated": 50}, "process"),
    ],
)
def test_the_memory_that_counts_is_the_tables(device: str, told: dict[str, int], source: str) -> None:
    """Only the source that stands for the case grows; growth of the others fails nothing."""
    for grown, size in told.items():
        peaks = {"baseline": {name: one * MIB for name, one in told.items()}}
        peaks["candidate"] = peaks["baseline"] | {grown: (size + 20) * MIB if size else 0}
        verdict = _judged(Scripted([_trial(0.0)], peaks=peaks), device=device, max_memory_growth=0.1)
        assert verdict.status == ("regression" if grown == source else "pass"), grown
        assert verdict.facts["peak_memory_bytes"] == {side: found[source] for side, found in peaks.items()}


def test_memory_that_nothing_tells_is_an_error_and_unlike_sources_are_not_compared() -> None:
    host, device = {"process": 100 * MIB, "allocated": 0}, {"process": 100 * MIB, "allocated": 50 * MIB}
    runtime = {"process": 100 * MIB, "allocated": 0, "nvml": 60 * MIB}
    memory = {"device": "cuda:0", "max_memory_growth": 0.1}
    untold = _judged(Scripted(peaks={"baseline": host, "candidate": host}), max_slowdown=None, **memory)
    assert untold.status == "error"
    assert "nothing tells what it takes on cuda:0" in untold.reason
    unlike = _judged(Scripted([_trial(0.0)], peaks={"baseline": device, "candidate": runtime}), **memory)
    assert unlike.status == "not comparable"
    assert "allocated of the baseline, nvml of the candidate" in unlike.reason


def test_the_exit_code_of_a_suite_is_its_gravest() -> None:
    def code(*statuses: Status) -> int:
        return exit_code([Verdict("", status, "") for status in statuses])

    assert code("pass") == 0
    assert code("pass", "inconclusive") == 3
    assert code("inconclusive", "not comparable") == 4
    assert code("not comparable", "error") == 2
    assert code("error", "regression", "pass") == 1
