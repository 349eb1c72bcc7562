"""What a model of a few terms gets wrong about networks alike, learned from those that were measured.

The logarithm of measured over modelled is a Gaussian process over the logarithms of a network's counts (Rasmussen and
Williams 2006, chapters 2 and 5.4.2): near a measured network the correction is that network's, far from all of them it
is the mean. Networks of one kin may be nearer to each other than their counts say.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from profiler.analysis.nonnegative import non_negative_fit
from profiler.analysis.regression import Floats

#: What separates the words of a network's name, and what comes after the name itself.
_BETWEEN, _AFTER = re.compile(r"[^a-z0-9]+"), re.compile(r"[ @]")
#: What is tried, and the best on what was left out is taken: how far a network counts, in standard deviations of the
#: logarithms; how much more one of the same kin does; and the variance of what nothing explains.
_LENGTHS, _KINSHIPS, _NOISES = (0.5, 1.0, 2.0), (0.0, 1.0, 4.0), (0.03, 0.3)
#: Variance of the mean of all corrections.
_SHIFT = 0.5
#: Parts that networks are left out in; each alone would take minutes for a few hundred.
_FOLDS = 10


@dataclass(frozen=True, slots=True)
class Correction:
    """What to multiply a model's prediction with.

    Attributes:
        centre: Shape (d,), mean of the features of the measured networks.
        size: Shape (d,), their standard deviation.
        points: Shape (n, d), their features, centred and scaled.
        kin: Shape (n,), what they are called, see ``kin_of``.
        pull: Shape (n,), how much each pulls.
        length: How far, in standard deviations.
        kinship: How much more those of the same kin do.
    """

    centre: Floats
    size: Floats
    points: Floats
    kin: NDArray[np.str_]
    pull: Floats
    length: float
    kinship: float

    def factor(self, counts: Floats, kin: Sequence[str] | NDArray[np.str_]) -> Floats:
        """Return the factors for networks with ``counts``, shape (m, d), of ``kin``, shape (m,)."""
        points = (_features(counts) - self.centre) / self.size
        near = _covariance(points, self.points, np.asarray(kin), self.kin, self.length, self.kinship)
        return cast("Floats", np.exp(near @ self.pull))


def kin_of(network: str, family: str) -> str:
    """Return what a network and its like are called: family and the words of its name without numbers.

    ``regnetz evos`` of ``regnetz_d8_evos@320``: another norm or activation costs much and changes no count.
    """
    words = _BETWEEN.split(_AFTER.split(network, maxsplit=1)[0].lower())
    return " ".join([family, *sorted({one for one in words if len(one) > 1 and one.isalpha() and one != family})])


def _features(counts: Floats) -> Floats:
    """Logarithms of the first count, and of what the others are in proportion to it."""
    logs = np.log(np.maximum(counts, 1e-9))
    return np.column_stack([logs[:, 0], logs[:, 1:] - logs[:, :1]])


def _covariance(
    a: Floats, b: Floats, of_a: NDArray[np.str_], of_b: NDArray[np.str_], length: float, kinship: float
) -> Floats:
    near = np.exp(-((a[:, None] - b[None]) ** 2).sum(axis=-1) / (2 * length**2))
    same = (of_a[:, None] == of_b[None]) & (of_a != "")[:, None]
    return cast("Floats", near * (1 + kinship * same) + _SHIFT)


def fit_correction(counts: Floats, kin: NDArray[np.str_], parts: NDArray[np.int64], logs: Floats) -> Correction | None:
    """Learn a correction; None where none does better than nothing on parts left out.

    Args:
        counts: Shape (n, d), positive.
        kin: Shape (n,), see ``kin_of``.
        parts: Shape (n,), what is left out together to choose by.
        logs: Shape (n,), logarithm of measured over modelled.
    """
    features = _features(counts)
    centre, size = features.mean(axis=0), features.std(axis=0)
    size[size <= 0] = 1
    points = (features - centre) / size
    best, least = None, float(np.abs(logs).mean())
    for length, kinship, noise in itertools.product(_LENGTHS, _KINSHIPS, _NOISES):
        whole = _covariance(points, points, kin, kin, length, kinship) + noise * np.eye(len(logs))
        inverse = cast("Floats", np.linalg.inv(whole))
        pull: Floats = inverse @ logs
        error = float(np.abs(_left_out(inverse, pull, parts)).mean())
        if error < least:
            best, least = Correction(centre, size, points, kin, pull, length, kinship), error
    return best


def _left_out(inverse: Floats, pull: Floats, parts: NDArray[np.int64]) -> Floats:
    """Residuals of each part when learned from the others (Rasmussen and Williams 2006, equation 5.12, by blocks)."""
    if len(np.unique(parts)) == len(parts):
        return pull / np.diag(inverse)
    errors = np.empty(len(pull))
    for part in np.unique(parts):
        own = parts == part
        errors[own] = np.linalg.solve(inverse[np.ix_(own, own)], pull[own])
    return errors


def corrected_held_out(
    terms: Floats,
    counts: Floats,
    kin: NDArray[np.str_],
    parts: NDArray[np.int64],
    y: Floats,
    weights: Floats | None = None,
) -> Floats | None:
    """What a fit of terms with a correction says of parts when both are learned from the others alone.

    Args:
        terms: Shape (n, k), of the model.
        counts: Shape (n, d), of the correction.
        kin: Shape (n,), see ``kin_of``.
        parts: Shape (n,), what is left out together; several at a time where there are many.
        y: Shape (n,), positive.
        weights: Shape (n,), positive; None weighs all alike.

    Returns:
        Shape (n,); None where fewer than two parts, or fewer than three rows would be left.
    """
    kinds = np.unique(parts)
    shuffled = np.random.default_rng(0).permutation(kinds)
    said = np.empty_like(y)
    for fold in range(min(_FOLDS, len(kinds))):
        out = np.isin(parts, shuffled[fold::_FOLDS])
        left = ~out
        if len(kinds) < 2 or left.sum() < 3:
            return None
        t0, *slopes = non_negative_fit(terms[left], y[left], None if weights is None else weights[left])
        plain = np.maximum(t0 + terms @ np.array(slopes), 1e-12)
        learned = fit_correction(counts[left], kin[left], parts[left], np.log(y[left] / plain[left]))
        said[out] = plain[out] * (1.0 if learned is None else learned.factor(counts[out], kin[out]))
    return said
