"""The tail: whether the 99th percentile of single calls has grown by more than is allowed.

The median of a model that stalls in a few of its calls is that of one that never does. Here the slowest hundredth of
all calls of both sides is looked at. Where the candidate's calls, divided by a growth, are as slow as the baseline's,
each block's share of that hundredth is equally likely to be the one side's surplus or the other's, as the order within
a block is random: a growth is rejected by the exact sign-flip test on the surpluses of the blocks (R. A. Fisher, "The
Design of Experiments", 1935, section 21; E. S. Edgington and P. Onghena, "Randomization Tests", 2007). Calls of one
block need not be independent: whatever disturbs many of them is one surplus.

A growth in bursts that are rarer than the blocks is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from profiler.gate.decision import ALPHA, Answer, Change, Rule, first_answer, weigh
from profiler.records.intervals import CONFIDENCE, Interval

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

TAIL_RULE = (
    "the exact sign-flip test on the blocks' shares of the slowest hundredth of all calls, at 0.0025, looked at after "
    "20, 40, 80, 160 and 320; limits are those of the median; twice"
)
_Q = 0.99
#: Blocks after which it is looked at: nine calls beyond the percentile are the fewest that can reach 0.0025.
TAIL_LOOKS = (20, 40, 80, 160, 320)
#: Halvings of the range in which a bound lies: to a millionth of a percent.
_STEPS = 40
#: Beyond so many calls the normal approximation of the exact test is as good.
_MANY = 1000
#: Where so many times as many calls would not tell, two to this power, their number is not named.
_HOPELESS = 6

#: Times of single calls in each block of one side, in ns.
Calls: TypeAlias = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """Logarithms of the calls of both sides, with the number of the block of each."""

    old: Floats
    old_blocks: Integers
    new: Floats
    new_blocks: Integers

    @classmethod
    def of(cls, baseline: Calls, candidate: Calls) -> _Pair:
        return cls(*_flat(baseline), *_flat(candidate))

    def bounds(self, alpha: float, times: int = 1) -> Interval:
        """Return (lower, upper) one-sided bounds at ``alpha`` of the logarithm of the growth.

        With ``times`` those of a trial as long as so many of these.
        """
        below = float(self.new.min() - self.old.max()) - 1.0
        above = float(self.new.max() - self.old.min()) + 1.0

        def slower(growth: float) -> bool:
            return _probability(self._surpluses(growth), times) <= alpha

        def faster(growth: float) -> bool:
            return _probability(-self._surpluses(growth), times) <= alpha

        return _edge(slower, below, above, -math.inf), _edge(faster, above, below, math.inf)

    def _surpluses(self, growth: float) -> Integers:
        """Return how many more calls of the candidate than of the baseline each block has in the slowest hundredth."""
        import numpy as np

        moved = self.new - growth
        pooled = np.concatenate([self.old, moved])
        at = min(math.ceil(_Q * len(pooled)), len(pooled) - 1)
        threshold = np.partition(pooled, at)[at]
        blocks = int(max(self.old_blocks[-1], self.new_blocks[-1])) + 1
        candidate = np.bincount(self.new_blocks[moved >= threshold], minlength=blocks)
        return candidate - np.bincount(self.old_blocks[self.old >= threshold], minlength=blocks)


def _flat(calls: Calls) -> tuple[Floats, Integers]:
    import numpy as np

    values = np.log(np.concatenate([np.asarray(block, dtype=np.float64) for block in calls]))
    return values, np.repeat(np.arange(len(calls)), [len(block) for block in calls])


def _probability(surpluses: Integers, times: int) -> float:
    """Return how likely signs by the toss of a coin make the sum of the surpluses as large as it is."""
    import numpy as np

    sizes = np.abs(surpluses[surpluses != 0])
    total, reach = int(surpluses.sum()), int(sizes.sum())
    if times * reach > _MANY:
        return 0.5 * math.erfc((times * total - 1) / math.sqrt(2 * times * float((sizes**2).sum())))
    ways = np.zeros(times * reach + 1)
    ways[0] = 1.0
    # Of the positive ones alone: with p for their sum, the whole is p - (reach - p).
    for size in np.repeat(sizes, times):
        ways[size:] += ways[:-size].copy()
        ways /= 2
    return float(ways[times * (reach + total) // 2 :].sum())


def _edge(rejected: Callable[[float], bool], inside: float, outside: float, none: float) -> float:
    """Return the last growth that is rejected on the way from ``inside``, which should be; ``none`` where it is not."""
    if not rejected(inside):
        return none
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if rejected(middle) else (inside, middle)
    return inside


def _weighed(pair: _Pair, rule: Rule, times: int = 1) -> Answer | None:
    lower, _ = pair.bounds(rule.alpha, times)
    # A pass raises no alarm, so its level needs no share of the pairs'.
    _, upper = pair.bounds(ALPHA, times)
    return weigh(lower, upper, rule)


def decide_tail(baseline: Calls, candidate: Calls, rule: Rule) -> tuple[Answer | None, int]:
    """Return the answer at the first look that gives one, and how many blocks it saw; None when more are needed."""
    return first_answer(
        len(baseline), rule, lambda blocks: _weighed(_Pair.of(baseline[:blocks], candidate[:blocks]), rule)
    )


def tail_change(baseline: Calls, candidate: Calls, confidence: float = CONFIDENCE) -> Change:
    """Return the 99th percentile of candidate over baseline minus one, with its interval, which may be infinite."""
    low, high = _Pair.of(baseline, candidate).bounds((1 - confidence) / 2)
    return percentile_ns(candidate) / percentile_ns(baseline) - 1, (math.expm1(low), math.expm1(high))


def percentile_ns(calls: Calls) -> float:
    """Return the 99th percentile of all calls."""
    import numpy as np

    return float(np.quantile(np.concatenate([np.asarray(block, dtype=np.float64) for block in calls]), _Q))


def calls_needed(baseline: Calls, candidate: Calls, rule: Rule) -> int | None:
    """Return about how many calls of each side, if like these, would tell; None where it takes far more."""
    pair = _Pair.of(baseline, candidate)
    times = (1 << power for power in range(1, _HOPELESS + 1))
    found = next((many for many in times if _weighed(pair, rule, many) is not None), None)
    return found and found * min(len(pair.old), len(pair.new))
