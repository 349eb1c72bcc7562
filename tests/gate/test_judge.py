"""Verdicts on scripted trials: confirmation, bias, memory, exit codes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from profiler.backends.base import Placement
from profiler.gate import said
from profiler.gate.bias import BIAS_FACTOR, bias, kept_bias, measure_bias
from profiler.gate.blocks import Block, Trial
from profiler.gate.contest import Contest
from profiler.gate.decision import LOOKS, Rule
from profiler.gate.judge import judge, rules_of
from profiler.gate.likeness import Kind, Unlike
from profiler.gate.side import Pair, sides
from profiler.gate.verdict import Status, Verdict, exit_code
from profiler.records.types import Failure

FAKE = "regnety_200mf @fake:duration_ms="
#: What is tried where no latency is gated: sides that compute the same.
SAME = Trial((), 0.0)


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
        def answers(script: Iterator[Trial | Failure]) -> Callable[[Sequence[Rule], int], Trial | Failure]:
            def trial(_: Sequence[Rule], seed: int) -> Trial | Failure:
                self.seeds.append(seed)
                return next(script)

            return trial

        return Contest("Together", answers(iter(self.trials)), answers(iter(self.own)), self.peaks.__getitem__)


def _judged(
    script: Scripted, own: float | Failure | None = None, device: str = "cpu", **limits: float | None
) -> Verdict:
    pair = _pair(device, **limits)
    return judge(pair, script.contest, rules_of(pair), lambda: own, seed=7)


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


def _tailed(stall: float, blocks: int = 40, seed: int = 0, slower: float = 1.0) -> Trial:
    """A trial whose candidate stalls for ten times as long in a share of its calls."""
    draw = np.random.default_rng(seed)
    old, new = (5e6 * np.exp(0.01 * draw.standard_normal((blocks, 20))) for _ in range(2))
    new *= slower * np.where(draw.random(new.shape) < stall, 10.0, 1.0)
    return Trial(
        tuple(Block(candidate_first=False, baseline_ns=a, candidate_ns=b) for a, b in zip(old, new, strict=True)), 1.0
    )


def test_a_tail_that_grew_fails_where_it_is_gated_and_is_told_where_not() -> None:
    silent = _judged(Scripted([_tailed(0.05)]))
    assert silent.status == "inconclusive"
    assert "surely less than 5%; but the mean has surely grown by more: +5" in silent.reason
    assert "--max-p99" in silent.reason
    gated = _judged(Scripted([_tailed(0.05), _tailed(0.05, seed=1)]), max_p99=0.2)
    assert gated.status == "regression"
    assert "99th percentile 5.1" in gated.reason
    assert "more than 20%; confirmed in fresh processes: 99th percentile" in gated.reason
    assert gated.facts["p99"]["change"] == pytest.approx(8.8, abs=0.5)
    assert gated.facts["p99"]["calls"] == 2 * 40 * 20
    rules = {rule.of: rule.alpha for rule in gated.facts["rules"]}
    assert rules == {"median": 0.00125, "p99": 0.00125}
    alone = _judged(Scripted([_tailed(0.0, slower=1.5)]), max_slowdown=None, max_p99=0.8)
    assert alone.status == "pass", alone.reason
    assert "surely less than 80%" in alone.reason


def test_a_tail_that_was_not_seen_again_is_inconclusive() -> None:
    verdict = _judged(Scripted([_tailed(0.05), _tailed(0.0, seed=1)]), max_p99=0.2)
    assert verdict.status == "inconclusive"
    assert "not confirmed: 99th percentile" in verdict.reason


def test_too_few_calls_for_the_tail_say_how_many_are_needed() -> None:
    late = replace(_tailed(0.05, blocks=10), late=True)
    verdict = _judged(Scripted([late]), max_p99=0.2)
    assert verdict.status == "inconclusive"
    assert "when the time was used up" in verdict.reason
    assert re.search(r"200 calls of each side are too few: about (400|800|1,600) are needed", verdict.reason), (
        verdict.reason
    )
    assert verdict.facts["p99"]["low"] is None or verdict.facts["p99"]["high"] is None
    json.dumps(verdict.facts["p99"], allow_nan=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(said, "calls_needed", lambda *_: None)
        assert "far more like these would not tell" in _judged(Scripted([late]), max_p99=0.2).reason


def test_a_mean_that_may_have_grown_by_chance_is_told_and_passes() -> None:
    once = _tailed(0.0, blocks=10)
    slow = replace(once.blocks[0], candidate_ns=(2e8, *once.blocks[0].candidate_ns[1:]))
    verdict = _judged(Scripted([replace(once, blocks=(slow, *once.blocks[1:]))]))
    assert verdict.status == "pass"
    assert "but the mean is +19%, which so few blocks cannot tell from chance" in verdict.reason


@pytest.mark.parametrize(
    ("kind", "status", "allow"),
    [("output", "different output", "allow_different_output"), ("inputs", "not comparable", "allow_different_inputs")],
)
def test_sides_that_are_not_alike_are_not_timed_unless_they_may_differ(kind: Kind, status: Status, allow: str) -> None:
    verdict = _judged(Scripted([Trial((), 0.0, unlike=Unlike(kind, "they differ"))]))
    assert (verdict.status, verdict.reason) == (status, "they differ; nothing was timed")
    allowed = _judged(Scripted([replace(_trial(0.0), unlike=Unlike(kind, "they differ"))]), **{allow: True})
    assert allowed.status == "pass"
    assert allowed.reason.endswith("; they differ, as is allowed")
    # Also where it is seen only when a regression is to be confirmed, and where nothing but memory is gated.
    again = _judged(Scripted([_trial(0.1), Trial((), 0.0, unlike=Unlike(kind, "they differ"))]))
    assert again.status == status
    memory = Scripted([Trial((), 0.0, unlike=Unlike(kind, "they differ"))])
    assert _judged(memory, max_slowdown=None, max_memory_growth=0.1).status == status


def test_a_side_that_differs_from_itself_is_told_and_timed() -> None:
    verdict = _judged(Scripted([replace(_trial(0.0), unlike=Unlike("itself", "two forwards differ"))]))
    assert (verdict.status, verdict.reason.rpartition("; ")[2]) == ("pass", "two forwards differ")


def test_a_pair_of_which_nothing_is_gated_says_what_was_looked_at() -> None:
    verdict = _judged(Scripted([SAME]), max_slowdown=None)
    assert (verdict.status, verdict.reason) == ("pass", "both sides compute the same; nothing else was gated")


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
    accepted = judge(_pair(), Scripted([_trial(0.0)]).contest, [Rule(named * 1.01)], lambda: own, seed=7)
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
    verdict = _judged(Scripted([SAME], peaks=peaks), max_slowdown=None, max_memory_growth=allowed)
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
    untold = _judged(Scripted([SAME], peaks={"baseline": host, "candidate": host}), max_slowdown=None, **memory)
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
    assert code("error", "different output", "pass") == 1
