"""Least squares without negative coefficients: fits, what they say of what was left out, how far that is off.

Nothing here knows tables or units: arrays in, numbers out. Each formula names its source.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import stdtrit

from profiler.analysis.regression import LEAST_NETWORKS, Floats

#: Of prediction intervals.
LEVEL = 0.90


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


def margin_of(errors: Floats) -> float:
    """Half width of the 90% prediction interval, from errors of predictions of networks left out.

    With 9 or more, the ``ceil(0.9 (n + 1))``-th smallest absolute error: of a new network that is like the
    measured ones, at least 90% are nearer (split conformal prediction, Vovk et al. 2005). With fewer, Student's
    t times their root mean square, which supposes normal errors.
    """
    n = len(errors)
    rank = math.ceil(LEVEL * (n + 1))
    if rank <= n:
        return float(np.sort(np.abs(errors))[rank - 1])
    rms = float(np.sqrt(np.mean(errors**2)))
    return rms * float(stdtrit(n - 1, 0.5 + LEVEL / 2)) * math.sqrt(1 + 1 / n)


def inside_hull(points: Floats, point: Floats) -> bool:
    """Whether ``point``, shape (d,), is a mean of ``points``, shape (n, d), with weights that are not negative.

    Works for points on a line or all alike too, where hulls made of faces do not exist.
    """
    centre, size = points.mean(axis=0), np.ptp(points, axis=0)
    scale = np.where(size > 0, size, 1.0)
    corners = np.vstack([((points - centre) / scale).T, np.ones(len(points))])
    _, distance = optimize.nnls(corners, np.append((point - centre) / scale, 1.0))
    return bool(distance < 1e-6)
