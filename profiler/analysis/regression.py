"""Pure statistics of a few dozen networks: lines, correlations, and models without negative terms.

Nothing here knows tables or units: arrays in, numbers out. Each formula names its source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

LEAST_FOR_RANKS = 4


def geometric_mean(ratios: Sequence[float]) -> tuple[float, Interval | None]:
    """Geometric mean, and its 95% interval by Student's t over the logarithms; None below three."""
    logs = np.log(ratios)
    centre = float(logs.mean())
    if len(logs) < 3:
        return math.exp(centre), None
    t = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(logs) - 1))
    half = t * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    return math.exp(centre), (math.exp(centre - half), math.exp(centre + half))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's correlation; None below four networks, or where one side is constant."""
    if len(first) < LEAST_FOR_RANKS or min(np.ptp(first), np.ptp(second)) == 0:
        return None
    return float(stats.spearmanr(first, second).statistic)


LEAST_FOR_BOOTSTRAP = 5


Floats: TypeAlias = NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]

CONFIDENCE = 0.95
LEAST_NETWORKS = 3


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
    half = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) / np.sqrt(n - 3)
    centre = np.arctanh(r)
    return (float(np.tanh(centre - half)), float(np.tanh(centre + half)))


def slope_interval(x: Floats, y: Floats, weights: Floats | None = None) -> tuple[float, Interval] | None:
    """HC3 standard error of the slope of a line, and its 95% interval; see ``coefficient``.

    Args:
        x: Shape (n,), not constant.
        y: Shape (n,).
        weights: Shape (n,), positive; None weighs all alike.

    Returns:
        The error and the interval; None where one point alone sets the slope (leverage 1).
    """
    if len(x) < LEAST_NETWORKS:
        return None
    found = coefficient(np.column_stack([np.ones_like(x), x]), y, weights)
    return (found.error, found.interval) if found.error is not None and found.interval else None


class Coefficient(NamedTuple):
    """A coefficient of a least-squares fit, its HC3 standard error and its 95% interval, None if not known."""

    value: float
    error: float | None
    interval: Interval | None


def coefficient(terms: Floats, y: Floats, weights: Floats | None = None) -> Coefficient:
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
        return Coefficient(value, None, None)
    stretched = np.where(own, 0.0, pull / np.where(own, 1.0, 1 - leverage))
    error = float(np.sqrt(np.sum((stretched * (target - hat @ target)) ** 2)))
    half = error * float(stats.t.ppf(0.5 + CONFIDENCE / 2, _bell_mccaffrey(stretched, hat)))
    return Coefficient(value, error, (value - half, value + half))


def _bell_mccaffrey(stretched: Floats, hat: Floats) -> float:
    """Satterthwaite degrees of freedom of the HC3 variance under even noise: tr(G)² / tr(G²)."""
    rows = stretched[:, None] * (np.eye(len(hat)) - hat)
    gram = rows @ rows.T
    return float(np.trace(gram) ** 2 / np.sum(gram**2))


def precision_weights(spread: Floats, residuals: Floats) -> Floats:
    """Weights of measurements that are uncertain by different amounts, around a model that is not exact.

    A weight is ``1 / (spread² + lack²)``, where lack is what the residuals show beyond the spread of the
    measurements (the random-effects weights of DerSimonian and Laird, 1986, by moments). Without lack, the few
    networks that happened to be measured best would decide alone.

    Args:
        spread: Shape (n,), relative standard deviation of each measurement; all 0 where nothing is known.
        residuals: Shape (n,), relative residuals of a fit that weighs all alike.

    Returns:
        Shape (n,), with a mean of 1; all 1 where nothing is known.
    """
    lack = max(0.0, float(np.mean(residuals**2) - np.mean(spread**2)))
    variance = spread**2 + lack
    if variance.min() <= 0:
        return np.ones_like(spread)
    weights = 1 / variance
    return cast("Floats", weights / weights.mean())


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
    bias = stats.norm.ppf(np.clip(below, 1 / (len(draws) + 1), len(draws) / (len(draws) + 1)))
    skew = jackknife.mean() - jackknife if len(jackknife) else np.zeros(1)
    cube = 6 * np.sum(skew**2) ** 1.5
    acceleration = np.sum(skew**3) / cube if cube > 0 else 0.0
    z = bias + stats.norm.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high = np.quantile(draws, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return (float(low), float(high))


def non_negative_fit(counts: Floats, y: Floats, weights: Floats | None = None) -> Floats:
    """Coefficients (t0, then one per count), none negative, that minimise ``sum(w · ((fit - y) / y)²)``.

    Relative errors, because the noise of a latency is in proportion to it and a small network matters as much
    as a large one; with absolute errors the largest networks alone would set all three terms.

    Args:
        counts: Shape (n, k), such as activations and flops.
        y: Shape (n,), positive.
        weights: Shape (n,), positive; None weighs all alike.
    """
    terms = np.column_stack([np.ones_like(y), counts])
    scale = terms.max(axis=0)
    scale[scale <= 0] = 1
    root = np.ones_like(y) if weights is None else np.sqrt(weights)
    solution, _ = optimize.nnls(terms / scale * (root / y)[:, None], root)
    return cast("Floats", solution / scale)


def mape(predicted: Floats, y: Floats) -> float:
    """Mean absolute relative error, as a fraction."""
    return float(np.mean(np.abs(predicted - y) / y))


def held_out(counts: Floats, y: Floats, parts: NDArray[np.int64], weights: Floats | None = None) -> Floats | None:
    """What ``non_negative_fit`` says of each part when fitted to the others.

    Args:
        counts: Shape (n, k).
        y: Shape (n,), positive.
        parts: Shape (n,), the number of the part of each row.
        weights: Shape (n,), positive; None weighs all alike.

    Returns:
        Shape (n,); None with fewer than two parts, or where fewer than 3 rows would be left to fit.
    """
    predicted = np.empty_like(y)
    kinds = np.unique(parts)
    if len(kinds) < 2:
        return None
    for part in kinds:
        out = parts == part
        if np.sum(~out) < LEAST_NETWORKS:
            return None
        kept = None if weights is None else weights[~out]
        t0, *slopes = non_negative_fit(counts[~out], y[~out], kept)
        predicted[out] = t0 + counts[out] @ np.array(slopes)
    return predicted


def held_out_mape(counts: Floats, y: Floats, parts: NDArray[np.int64], weights: Floats | None = None) -> float | None:
    """Mean relative error of ``held_out``, as a fraction, or None."""
    predicted = held_out(counts, y, parts, weights)
    return None if predicted is None else mape(predicted, y)
