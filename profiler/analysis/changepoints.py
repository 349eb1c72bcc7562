"""Where a series of runs changes its level."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    Integers = np.ndarray[tuple[int, ...], np.dtype[np.intp]]


#: Level of the test for one more change point in a case's history.
LEVEL = 0.01
PERMUTATIONS = 999
#: Fewest runs on each side of a change: two odd runs are no new level. A change shows from about twelve runs on.
LEAST_RUNS = 3
#: Numbers held at once while permutations are looked at.
_HELD = 1 << 21


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A run from which on a case costs something else.

    Attributes:
        index: Of the first run at the new level.
        change: Median of the new level over that of the one before, minus one: 0.1 is 10% more.
        p: Share of random orders of the runs that look as divided.
    """

    index: int
    change: float
    p: float


def change_points(values: Sequence[float], level: float = LEVEL, seed: int = 0) -> list[ChangePoint]:
    """Find changes of level in a series of positive numbers, in their order.

    The best division of any segment so far is accepted when at most ``level`` of the random orders within segments
    have a better one, and then the next one is looked for.

    Args:
        values: Shape (n,); compared by their logarithms, so that changes are relative.
        level: Probability of finding a change in a series that has none.
        seed: Of the random orders.
    """
    import numpy as np

    logs, random = np.log(values), np.random.default_rng(seed)
    cuts, found = [0, len(logs)], dict[int, float]()
    while True:
        segments = [(a, logs[a:b]) for a, b in itertools.pairwise(cuts) if b - a >= 2 * LEAST_RUNS]
        if not segments:
            break
        best, index = max((divided, start + at) for start, part in segments for divided, at in [_best(part)])
        null = np.max([_best_of_random_orders(part, random) for _, part in segments], axis=0)
        # Orders that divide the runs alike differ by rounding only.
        p = (1 + int(np.sum(null >= best * (1 - 1e-9)))) / (PERMUTATIONS + 1)
        if p > level:
            break
        found[index] = p
        cuts = sorted({*cuts, index})
    return [ChangePoint(at, _change(logs, cuts, at), found[at]) for at in sorted(found)]


def _change(logs: Floats, cuts: Sequence[int], at: int) -> float:
    import numpy as np

    place = cuts.index(at)
    before, after = logs[cuts[place - 1] : at], logs[at : cuts[place + 1]]
    return math.expm1(float(np.median(after) - np.median(before)))


def _best(segment: Floats) -> tuple[float, int]:
    """Return (scaled divergence, index of the change) of the best division of a segment of shape (n,)."""
    divergence = _divergence(_distances(segment))
    at = int(divergence.argmax())
    return float(divergence[at]), int(_divisions(len(segment))[0][at])


def _best_of_random_orders(segment: Floats, random: np.random.Generator) -> Floats:
    """Return the divergence of the best division in each of ``PERMUTATIONS`` orders of a segment."""
    import numpy as np

    orders = random.permuted(np.tile(segment, (PERMUTATIONS, 1)), axis=1)
    parts = np.array_split(orders, math.ceil(orders.size * len(segment) / _HELD))
    best: Floats = np.concatenate([_divergence(_distances(part)).max(axis=-1) for part in parts])
    return best


def _distances(series: Floats) -> Floats:
    """Absolute differences within series of shape (..., n); shape (..., n, n)."""
    import numpy as np

    differences: Floats = np.abs(series[..., :, None] - series[..., None, :])
    return differences


def _divisions(n: int) -> tuple[Integers, Integers]:
    """All (tau, kappa): runs up to tau are compared with those from there up to kappa, later ones with none."""
    import numpy as np

    tau, kappa = np.triu_indices(n + 1, k=LEAST_RUNS)
    enough = tau >= LEAST_RUNS
    return tau[enough], kappa[enough]


def _divergence(distances: Floats) -> Floats:
    """Scaled energy distance of both parts for each division: Q of Matteson and James with alpha = 1.

    Args:
        distances: Shape (..., n, n), both orders of a pair.

    Returns:
        Shape (..., d) for the d divisions of n runs.
    """
    tau, kappa = _divisions(distances.shape[-1])
    rest = kappa - tau
    sums = distances.cumsum(axis=-1).cumsum(axis=-2)
    first, both, across = (sums[..., a - 1, b - 1] for a, b in ((tau, tau), (kappa, kappa), (tau, kappa)))
    between, second = across - first, both - 2 * across + first
    energy = 2 * between / (tau * rest) - first / (tau * (tau - 1)) - second / (rest * (rest - 1))
    scaled: Floats = energy * tau * rest / kappa
    return scaled
