"""Tests and intervals on a few dozen networks: lines, correlations, geometric means; no verdict.

A new statistic over networks goes here. One over the visits of a case goes into ``profiler.records.intervals``, and
the test of two sides is ``profiler.gate.decision``. Nothing here knows tables or units: arrays in, numbers out. Each
formula names its source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from profiler.analysis.quantity import Quantity
from profiler.records.intervals import CONFIDENCE, Interval

Floats: TypeAlias = NDArray[np.float64]

#: Networks for a line or an interval, for a correlation of ranks, for resampling.
LEAST_NETWORKS = 3
_LEAST_FOR_RANKS = 4
LEAST_FOR_BOOTSTRAP = 5


def geometric_mean(ratios: Sequence[float] | Floats) -> tuple[float, Interval | None]:
    """Geometric mean, and its 95% interval by Student's t over the logarithms; None below three.

    Over two an interval spans orders of magnitude.
    """
    logs = np.log(ratios)
    centre = float(logs.mean())
    if len(logs) < LEAST_NETWORKS:
        return math.exp(centre), None
    t = float(stdtrit(len(logs) - 1, 0.5 + CONFIDENCE / 2))
    half = t * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    return math.exp(centre), (math.exp(centre - half), math.exp(centre + half))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's correlation; None below four networks, or where one side is constant."""
    if len(first) < _LEAST_FOR_RANKS or min(np.ptp(first), np.ptp(second)) == 0:
        return None
    from scipy import stats  # half a second, which one command needs

    return float(stats.spearmanr(first, second).statistic)


def fisher_interval(r: float, n: int) -> Interval:
    """95% interval of a Pearson correlation: ``tanh(atanh r ± z / sqrt(n - 3))`` (Fisher 1921).

    Args:
        r: Correlation of the sample.
        n: Size of the sample. With three or fewer it says nothing: the interval is (-1, 1).
    """
    if n <= 3:
        return (-1.0, 1.0)
    if abs(r) >= 1:
        return (r, r)
    half = float(ndtri(0.5 + CONFIDENCE / 2)) / np.sqrt(n - 3)
    centre = np.arctanh(r)
    return (float(np.tanh(centre - half)), float(np.tanh(centre + half)))


def coefficient(terms: Floats, y: Floats, weights: Floats | None = None) -> Quantity:
    """The last coefficient of (weighted) least squares, with an error that uneven noise does not spoil.

    The error is that of MacKinnon and White (1985): residuals divided by 1 - leverage. Student's t has the
    degrees of freedom of Bell and McCaffrey (2002) for this estimator instead of n - p: complexities of
    networks span decades, a few large networks set the slope, and with noise in proportion to latency n - 2
    covers only 86 to 91% (10 to 40 networks spread evenly in log x) where this covers 94 to 96%. With even
    noise it is somewhat wider than need be.

    Args:
        terms: Shape (n, p), of full rank; the last column is that of the coefficient.
        y: Shape (n,).
        weights: Shape (n,), positive; None weighs all alike.

    Returns:
        No error and no interval where one row alone sets the coefficient (leverage 1).
    """
    root = np.ones_like(y) if weights is None else np.sqrt(weights)
    design, target = terms * root[:, None], y * root
    solver = np.linalg.pinv(design)
    hat = design @ solver
    pull, leverage = solver[-1], np.diag(hat)
    value = float(pull @ target)
    # A row with an intercept of its own has leverage 1 too, but says nothing about this coefficient.
    own = leverage > 1 - 1e-9
    if np.any(np.abs(pull[own]) > 1e-9 * np.abs(pull).max()):
        return Quantity(value)
    stretched = np.where(own, 0.0, pull / np.where(own, 1.0, 1 - leverage))
    error = float(np.sqrt(np.sum((stretched * (target - hat @ target)) ** 2)))
    half = error * float(stdtrit(_bell_mccaffrey(stretched, hat), 0.5 + CONFIDENCE / 2))
    return Quantity(value, (value - half, value + half), error)


def _bell_mccaffrey(stretched: Floats, hat: Floats) -> float:
    """Satterthwaite degrees of freedom of the HC3 variance under even noise: tr(G)² / tr(G²)."""
    rows = stretched[:, None] * (np.eye(len(hat)) - hat)
    gram = rows @ rows.T
    return float(np.trace(gram) ** 2 / np.sum(gram**2))


def weighted_correlations(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Pearson correlations of the same points under many weightings.

    Args:
        x: Shape (n,), not constant.
        y: Shape (n,), not constant.
        weights: Shape (resamples, n), not negative.

    Returns:
        Shape (resamples,); NaN where a weighting leaves x or y constant.
    """
    share = weights / weights.sum(axis=1, keepdims=True)
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    mean_x, mean_y = share @ x, share @ y
    spread = (share @ x**2 - mean_x**2, share @ y**2 - mean_y**2)
    flat = np.minimum(*spread) < 1e-12
    scale = np.sqrt(np.where(flat, np.nan, spread[0] * spread[1]))
    return cast("Floats", np.clip((share @ (x * y) - mean_x * mean_y) / scale, -1, 1))


def resample_weights(networks: NDArray[np.int64], resamples: int, seed: int) -> Floats:
    """How often each row is drawn when whole networks are drawn with replacement.

    Args:
        networks: Shape (n,), the number of the network of each row, 0 to m - 1.
        resamples: Number of draws of m networks.
        seed: Same seed, same draws.

    Returns:
        Shape (resamples, n).
    """
    count = int(networks.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return draws[:, networks].astype(np.float64)


def bca_interval(estimate: float, draws: Floats, jackknife: Floats) -> Interval:
    """95% bias-corrected and accelerated bootstrap interval (Efron 1987).

    Args:
        estimate: On the whole sample.
        draws: Shape (resamples,), on each resample; NaN is ignored.
        jackknife: Shape (n,), with each unit left out; NaN is ignored.
    """
    draws, jackknife = draws[np.isfinite(draws)], jackknife[np.isfinite(jackknife)]
    if len(draws) == 0 or np.ptp(draws) < 1e-12:
        return (estimate, estimate)
    below = np.mean(draws < estimate) + np.mean(draws == estimate) / 2
    bias = ndtri(np.clip(below, 1 / (len(draws) + 1), len(draws) / (len(draws) + 1)))
    skew = jackknife.mean() - jackknife if len(jackknife) else np.zeros(1)
    cube = 6 * np.sum(skew**2) ** 1.5
    acceleration = np.sum(skew**3) / cube if cube > 0 else 0.0
    z = bias + ndtri([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high = np.quantile(draws, ndtr(bias + z / (1 - acceleration * z)))
    return (float(low), float(high))
