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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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


@dataclass(frozen=True, slots=True)
class Rule:
    """What is allowed, and how surely the answer must be known.

    Attributes:
        max_slowdown: The slow-down that must be caught, as a share: 0.05 for 5%.
        alpha: Level of each test for a regression; smaller when several pairs are gated together.
        looks: Numbers of blocks after which the data is looked at, ascending.
    """

    max_slowdown: float
    alpha: float = ALPHA
    looks: tuple[int, ...] = LOOKS

    @property
    def tolerated(self) -> float:
        """The slow-down that never fails: half of the one that must be caught."""
        return self.max_slowdown / 2

    @property
    def divide(self) -> float:
        """What is surely between the tolerated slow-down and the limit is a regression above this, half way."""
        return 0.75 * self.max_slowdown

    def shared(self, pairs: int) -> Rule:
        """Return the rule for one of ``pairs`` that together may raise as many false alarms as one (Bonferroni)."""
        return Rule(self.max_slowdown, self.alpha / pairs, self.looks)


@dataclass(frozen=True, slots=True)
class Interval:
    """A relative change with its bounds: 0.05 is 5% slower."""

    estimate: float
    low: float
    high: float


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


def bounds(ratios: Sequence[float], alpha: float) -> tuple[float, float]:
    """Return (lower, upper) one-sided bounds at level ``alpha`` of the centre of ``ratios``, on their own scale.

    A centre is rejected by the exact signed-rank test if and only if it lies outside: below ``lower`` by the test
    against larger values, above ``upper`` by the test against smaller ones.
    """
    critical = _critical(len(ratios), alpha) if ratios else None
    if critical is None:
        return -math.inf, math.inf
    means = _pairwise_means(ratios)
    return float(means[critical]), float(means[-1 - critical])


def change(ratios: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return candidate over baseline minus one by Hodges and Lehmann's estimator, with its exact interval."""
    import numpy as np

    if not ratios:
        raise ValueError("change of no blocks")
    low, high = bounds(ratios, (1 - confidence) / 2)
    return Interval(math.expm1(float(np.median(_pairwise_means(ratios)))), math.expm1(low), math.expm1(high))


def look(ratios: Sequence[float], rule: Rule) -> Answer | None:
    """Return what these blocks show at one look, or None when they do not show enough."""
    lower, _ = bounds(ratios, rule.alpha)
    # A pass raises no alarm, so its level needs no share of the pairs'.
    _, upper = bounds(ratios, ALPHA)
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
    for blocks in rule.looks:
        if len(ratios) < blocks:
            return None
        answer = look(ratios[:blocks], rule)
        if answer is not None:
            return answer
    return "inconclusive"


def passing_limit(ratios: Sequence[float]) -> float | None:
    """Return the smallest limit that these blocks would have passed; None when there are too few to pass any."""
    _, upper = bounds(ratios, ALPHA)
    return math.expm1(upper) if math.isfinite(upper) else None
