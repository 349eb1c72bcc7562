"""Where a series of runs changes its level.

By E-divisive: D. Matteson and N. James, "A nonparametric approach for multiple change point analysis of multivariate
data", Journal of the American Statistical Association 109 (2014). It asks nothing of the noise but that runs of one
level may be exchanged, and its permutation test holds its level however short the history is. It is written out here
because the libraries do not fit: apache-otava 0.8 pins numpy 2.2 and scipy below 1.17 and brings clients for BigQuery,
PostgreSQL and Slack; ruptures has no test, so that the number of changes must be guessed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

_Floats: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
_Integers: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.intp]]

#: Level of the test for one more change point in a case's history.
_LEVEL = 0.01
_PERMUTATIONS = 999
#: Fewest runs on each side of a change: two odd runs are no new level. A change shows from about twelve runs on.
_LEAST_RUNS = 3
#: Numbers held at once while permutations are looked at.
_HELD = 1 << 21


def change_points(values: Sequence[float], level: float = _LEVEL, seed: int = 0) -> list[tuple[int, float, float]]:
    """Find changes of level in a series of positive numbers, in their order.

    The best division of any segment so far is accepted when at most ``level`` of the random orders within segments
    have a better one, and then the next one is looked for.

    Args:
        values: Shape (n,); compared by their logarithms, so that changes are relative.
        level: Probability of finding a change in a series that has none.
        seed: Of the random orders.

    Returns:
        For each change the index of the first run at the new level; the median of that level over the one before,
        minus one, so that 0.1 is 10% more; and the share of random orders that look as divided.
    """
    logs, random = np.log(values), np.random.default_rng(seed)
    cuts, found = [0, len(logs)], dict[int, float]()
    while True:
        segments = [(a, logs[a:b]) for a, b in itertools.pairwise(cuts) if b - a >= 2 * _LEAST_RUNS]
        if not segments:
            break
        best, index = max((divided, start + at) for start, part in segments for divided, at in [_best(part)])
        null = np.max([_best_of_random_orders(part, random) for _, part in segments], axis=0)
        # Orders that divide the runs alike differ by rounding only.
        p = (1 + int(np.sum(null >= best * (1 - 1e-9)))) / (_PERMUTATIONS + 1)
        if p > level:
            break
        found[index] = p
        cuts = sorted({*cuts, index})
    return [(at, _change(logs, cuts, at), found[at]) for at in sorted(found)]


def _change(logs: _Floats, cuts: Sequence[int], at: int) -> float:
    place = cuts.index(at)
    before, after = logs[cuts[place - 1] : at], logs[at : cuts[place + 1]]
    return math.expm1(float(np.median(after) - np.median(before)))


def _best(segment: _Floats) -> tuple[float, int]:
    """Return (scaled divergence, index of the change) of the best division of a segment of shape (n,)."""
    divergence = _divergence(_distances(segment))
    at = int(divergence.argmax())
    return float(divergence[at]), int(_divisions(len(segment))[0][at])


def _best_of_random_orders(segment: _Floats, random: np.random.Generator) -> _Floats:
    """Return the divergence of the best division in each of ``_PERMUTATIONS`` orders of a segment."""
    orders = random.permuted(np.tile(segment, (_PERMUTATIONS, 1)), axis=1)
    parts = np.array_split(orders, math.ceil(orders.size * len(segment) / _HELD))
    best: _Floats = np.concatenate([_divergence(_distances(part)).max(axis=-1) for part in parts])
    return best


def _distances(series: _Floats) -> _Floats:
    """Absolute differences within series of shape (..., n); shape (..., n, n)."""
    differences: _Floats = np.abs(series[..., :, None] - series[..., None, :])
    return differences


def _divisions(n: int) -> tuple[_Integers, _Integers]:
    """All (tau, kappa): runs up to tau are compared with those from there up to kappa, later ones with none."""
    tau, kappa = np.triu_indices(n + 1, k=_LEAST_RUNS)
    enough = tau >= _LEAST_RUNS
    return tau[enough], kappa[enough]


def _divergence(distances: _Floats) -> _Floats:
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
    scaled: _Floats = energy * tau * rest / kappa
    return scaled
