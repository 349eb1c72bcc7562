"""The gate's decision: exact tests on interleaved blocks, and three answers instead of two.

Each block gives one number, ``ln(candidate ÷ baseline)``. Blocks are looked at after 10, 20, 40 and 80. A slow-down
that is surely more than half of the limit is a *regression*, one that is surely less than the limit is a *pass*. One
that is surely both is a regression from three quarters of the limit on: "surely" is meant within these processes, and
others of the same code differ by some tenths of a percent, so that a slow-down of the whole limit must be caught from
below it. When 80 blocks show neither, the answer is *inconclusive*, with the limit that they would have passed.

"Surely" is Wilcoxon's exact one-sided signed-rank test at 0.0025 at each look. It asks of the blocks only that they
are equally likely to lie above and below their centre, which the random order within each block provides
(F. Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1, 1945; the intervals are those of
J. Tukey's ordered pairwise means, M. Hollander and D. Wolfe, "Nonparametric Statistical Methods", section 3.3).
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from profiler.records.intervals import CONFIDENCE, Interval

if TYPE_CHECKING:
    import numpy as np

RULE = (
    "Wilcoxon's exact signed-rank test on interleaved blocks at 0.0025, looked at after 10, 20, 40 and 80; a "
    "regression is surely more than half of the limit, and more than three quarters where surely less than all; twice"
)


#: Blocks after which the data is looked at. Nine are the fewest that can reach 0.0025: the test's smallest p-value is
#: 2^-n.
LOOKS = (10, 20, 40, 80)
#: Level of each one-sided test. Four looks at a slow-down of exactly half the limit err at most four times as often,
#: and a regression must be seen twice.
ALPHA = 0.0025

Answer = Literal["pass", "regression", "inconclusive"]
#: What of a forward's times is compared: the median or the mean of each block, or the 99th percentile of all calls. The
#: mean fails nothing: it tells whether a median that passes hides slow calls.
Quantity = Literal["median", "mean", "p99"]
#: A relative change with its interval: 0.05 is 5% slower.
Change: TypeAlias = tuple[float, Interval]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is allowed, and how surely the answer must be known.

    Attributes:
        max_slowdown: The slow-down that must be caught, as a share: 0.05 for 5%.
        alpha: Level of each test for a regression; smaller when several are made together.
        looks: Numbers of blocks after which the data is looked at, ascending.
        of: What must not slow down.
    """

    max_slowdown: float
    alpha: float = ALPHA
    looks: tuple[int, ...] = LOOKS
    of: Quantity = "median"

    @property
    def tolerated(self) -> float:
        """The slow-down that never fails: half of the one that must be caught."""
        return self.max_slowdown / 2

    @property
    def divide(self) -> float:
        """What is surely between the tolerated slow-down and the limit is a regression above this, half way."""
        return 0.75 * self.max_slowdown

    def shared(self, rules: int) -> Rule:
        """Return the one of ``rules`` that together may raise as many false alarms as one (Bonferroni)."""
        return replace(self, alpha=self.alpha / rules)


@functools.cache
def _critical(n: int, alpha: float) -> int | None:
    """Return the largest k with P(W ≤ k) ≤ ``alpha`` for the signed-rank statistic W of ``n`` blocks, or None."""
    import numpy as np

    ways = np.zeros(n * (n + 1) // 2 + 1)
    ways[0] = 1.0
    for rank in range(1, n + 1):
        ways[rank:] += ways[:-rank].copy()
        ways /= 2
    within = int(np.searchsorted(np.cumsum(ways), alpha * (1 + 1e-12), side="right"))
    return within - 1 if within else None


def _pairwise_means(ratios: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the ordered means of all pairs, each block paired with itself too (Walsh averages)."""
    import numpy as np

    y = np.asarray(ratios, dtype=np.float64)
    one, other = np.triu_indices(len(y))
    return np.sort((y[one] + y[other]) / 2)


def _bounds(ratios: Sequence[float], alpha: float) -> Interval:
    """Return (lower, upper) one-sided bounds at level ``alpha`` of the centre of ``ratios``, on their own scale.

    A centre is rejected by the exact signed-rank test if and only if it lies outside: below ``lower`` by the test
    against larger values, above ``upper`` by the test against smaller ones.
    """
    critical = _critical(len(ratios), alpha) if ratios else None
    if critical is None:
        return -math.inf, math.inf
    means = _pairwise_means(ratios)
    return float(means[critical]), float(means[-1 - critical])


def change(ratios: Sequence[float], confidence: float = CONFIDENCE) -> Change:
    """Return candidate over baseline minus one by Hodges and Lehmann's estimator, with its exact interval."""
    import numpy as np

    if not ratios:
        raise ValueError("change of no blocks")
    low, high = _bounds(ratios, (1 - confidence) / 2)
    return math.expm1(float(np.median(_pairwise_means(ratios)))), (math.expm1(low), math.expm1(high))


def look(ratios: Sequence[float], rule: Rule) -> Answer | None:
    """Return what these blocks show at one look, or None when they do not show enough."""
    lower, _ = _bounds(ratios, rule.alpha)
    # A pass raises no alarm, so its level needs no share of the pairs'.
    _, upper = _bounds(ratios, ALPHA)
    return weigh(lower, upper, rule)


def weigh(lower: float, upper: float, rule: Rule) -> Answer | None:
    """Return the answer to (lower, upper) bounds of the logarithm of a change, or None when they are too wide."""
    slower, within = lower > math.log1p(rule.tolerated), upper < math.log1p(rule.max_slowdown)
    if slower and within:
        return "regression" if math.expm1((lower + upper) / 2) > rule.divide else "pass"
    if slower or within:
        return "regression" if slower else "pass"
    return None


def decide(ratios: Sequence[float], rule: Rule) -> Answer | None:
    """Return the answer at the first look that gives one, or None when more blocks are needed."""
    return first_answer(len(ratios), rule, lambda blocks: look(ratios[:blocks], rule))[0]


def first_answer(blocks: int, rule: Rule, look: Callable[[int], Answer | None]) -> tuple[Answer | None, int]:
    """Return what the first look says that gives an answer, and how many blocks it saw.

    Args:
        blocks: So many there are; None is the answer where the next look needs more.
        rule: Whose looks are made.
        look: Says what so many of the first blocks show, or None when they do not show enough.
    """
    for due in rule.looks:
        if blocks < due:
            return None, blocks
        answer = look(due)
        if answer is not None:
            return answer, due
    return "inconclusive", rule.looks[-1]


def look_at_means(ratios: Sequence[float], rule: Rule) -> Answer | None:
    """Return whether the mean has surely grown by more than the limit, or not at all; None where it may have."""
    lower, _ = _bounds(ratios, rule.alpha)
    if lower > math.log1p(rule.max_slowdown):
        return "regression"
    return "pass" if mean_change(ratios) <= rule.max_slowdown else None


def mean_change(ratios: Sequence[float]) -> float:
    """Return the growth of the mean in the average block, from its logarithm in each."""
    return statistics.fmean(map(math.expm1, ratios))


def passing_limit(ratios: Sequence[float]) -> float | None:
    """Return the smallest limit that these blocks would have passed; None when there are too few to pass any."""
    _, upper = _bounds(ratios, ALPHA)
    return math.expm1(upper) if math.isfinite(upper) else None
