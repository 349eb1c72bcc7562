"""Accuracy of networks that nobody trained, from those that somebody did, by one recipe.

log error = level of the family + slope · log flops (+ bend · log² flops, where networks left out are foretold better
with it), slope and bend shared by all families. On the 36 networks of pycls the error on one left out is 0.7 points in
the mean and 3.5 at most without the bend, 0.4 and 2.3 with it (``left_out``). Dollar, Singh and Girshick, *Fast and
Accurate Model Scaling* (https://arxiv.org/abs/2103.06877, figure 1), found networks scaled by ``dwr`` and ``dWr`` about
as accurate at equal flops, and those scaled by ``w`` alone less: rules that leave out depth, width or resolution are
not foretold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from profiler.analysis.regression import Floats
from profiler.errors import UserError
from profiler.models.scaling import parse_rule
from profiler.records.intervals import Interval
from profiler.units import format_flops

#: So many networks of a recipe tell what its accuracies depend on.
LEAST_NETWORKS = 8
#: From so many families on, what they have in common tells of another.
_LEAST_FAMILIES = 3
#: Flops nearer than this, of one family and resolution, are of one network under two names.
_ONE_NETWORK = 0.02
#: The least share of a dimension in a rule whose accuracy was published: that of depth and resolution in dWr.
_LEAST_SHARE = 0.1
_LEVEL = 0.90


class Trained(NamedTuple):
    """A network whose accuracy is known: family, multiply-adds, side of its images in pixels, top-1 in percent."""

    family: str
    flops: float
    resolution: int
    top1: float


class Foretold(NamedTuple):
    """A predicted top-1 in percent, its 90% interval, and how it extrapolates, in words; empty where it does not."""

    top1: float
    interval: Interval
    beyond: str


class LeftOut(NamedTuple):
    """What is said of networks left out: how many, mean and largest error in points, share that the interval holds."""

    networks: int
    mean: float
    worst: float
    covered: float


@dataclass(frozen=True, slots=True)
class AccuracyModel:
    """The fit of one recipe.

    Attributes:
        recipe: Its name.
        trained: What it was fitted to.
        families: In the order of ``levels``.
        levels: Shape (f,), of each family, in logarithms of the error in percent at 1 GF.
        curve: Shape (1,) or (2,): slope and bend of log error against log flops.
        spread: Standard deviation of the residuals, in logarithms.
        covariance: Shape (f + c, f + c), of levels and curve, in units of ``spread`` squared.
    """

    recipe: str
    trained: tuple[Trained, ...]
    families: tuple[str, ...]
    levels: Floats
    curve: Floats
    spread: float
    covariance: Floats

    def foretell(self, family: str, flops: float) -> Foretold | None:
        """Predict a network of ``family``; of one that was not trained where what there is tells of another."""
        known = family in self.families
        if not known and len(self.families) < _LEAST_FAMILIES:
            return None
        places = len(self.families)
        share = np.eye(places)[self.families.index(family)] if known else np.full(places, 1 / places)
        row = np.append(share, self._terms(flops))
        variance = self.spread**2 * (1 + float(row @ self.covariance @ row))
        # Levels of families that were trained scatter about their mean; so does that of another one.
        variance += 0.0 if known else float(np.var(self.levels, ddof=1)) * (1 + 1 / places)
        centre = float(row @ np.append(self.levels, self.curve))
        margin = _quantile(len(self.trained) - len(row) if known else places - 1) * math.sqrt(variance)
        most = math.log(100)
        top1, low, high = (100 - math.exp(min(most, each)) for each in (centre, centre + margin, centre - margin))
        return Foretold(top1, (low, high), self._beyond(family, flops))

    def _terms(self, flops: float) -> Floats:
        """Powers of log GF, shape (c,); where a bend would let the error rise again it stays where it is."""
        x = math.log(flops / 1e9)
        if len(self.curve) > 1:
            x = min(x, -self.curve[0] / (2 * self.curve[1]))
        return np.array([x**power for power in range(1, len(self.curve) + 1)], dtype=np.float64)

    def _beyond(self, family: str, flops: float) -> str:
        known = family in self.families
        range_ = [one.flops for one in self.trained if one.family == family or not known]
        low, high = min(range_), max(range_)
        whose = f" of {family}" if known else ""
        if not low * (1 - _ONE_NETWORK) <= flops <= high * (1 + _ONE_NETWORK):
            side, limit = ("below the least", low) if flops < low else ("beyond the most", high)
            return f"{format_flops(flops)} are {side} flops published{whose}, {format_flops(limit)}"
        return "" if known else f"no {family} was published"


def fit_accuracy(recipe: str, trained: Sequence[Trained]) -> AccuracyModel:
    """Fit the networks of one recipe, least squares in logarithms; a network under two names counts once.

    Raises:
        UserError: There are too few.
    """
    used = _distinct(trained)
    needed = max(LEAST_NETWORKS, len({one.family for one in used}) + 4)
    if len(used) < needed:
        raise UserError(
            f"{len(used)} networks have an accuracy under {recipe} that a prediction can rest on, and it needs {needed}"
        )
    straight, bent = (_fitted(recipe, used, powers) for powers in (1, 2))
    # The error falls with flops over all that was trained.
    falls = bent.curve[1] > 0 and -bent.curve[0] / (2 * bent.curve[1]) >= math.log(max(one.flops for one in used) / 1e9)
    return bent if falls and left_out(bent).mean < left_out(straight).mean else straight


def _fitted(recipe: str, used: tuple[Trained, ...], powers: int) -> AccuracyModel:
    families = tuple(sorted({one.family for one in used}))
    own = np.array([[one.family == name for name in families] for one in used], dtype=np.float64)
    x = np.log([one.flops / 1e9 for one in used])
    terms = np.column_stack([own, *(x**power for power in range(1, powers + 1))])
    log_error = np.log([100 - one.top1 for one in used])
    inverse = np.linalg.pinv(terms.T @ terms)
    found = inverse @ terms.T @ log_error
    residuals = log_error - terms @ found
    spread = math.sqrt(float(residuals @ residuals) / (len(used) - terms.shape[1]))
    return AccuracyModel(recipe, used, families, found[: len(families)], found[len(families) :], spread, inverse)


def _distinct(trained: Sequence[Trained]) -> tuple[Trained, ...]:
    kept: list[Trained] = []
    for one in trained:
        same = (o for o in kept if (o.family, o.resolution) == (one.family, one.resolution))
        if 0 < one.top1 < 100 and not any(abs(one.flops / o.flops - 1) < _ONE_NETWORK for o in same):
            kept.append(one)
    return tuple(kept)


def left_out(model: AccuracyModel) -> LeftOut:
    """Return the errors on each network when fitted without it; those that are alone in their family stay out."""
    errors, covered = [], []
    for one in model.trained:
        rest = tuple(other for other in model.trained if other is not one)
        if all(other.family != one.family for other in rest):
            continue
        said = _fitted(model.recipe, rest, len(model.curve)).foretell(one.family, one.flops)
        if said is not None:
            errors.append(abs(said.top1 - one.top1))
            covered.append(said.interval[0] <= one.top1 <= said.interval[1])
    if not errors:
        return LeftOut(0, math.inf, math.inf, 0.0)
    return LeftOut(len(errors), float(np.mean(errors)), max(errors), float(np.mean(covered)))


def foretellable(rule: str) -> str:
    """Return why the accuracy of networks scaled by a rule is not foretold; empty where it is, as of unscaled ones."""
    if not rule:
        return ""
    by = parse_rule(rule)
    if min(by.d, by.w, by.r) < _LEAST_SHARE * (1 - 1e-9) * (by.d + by.w + by.r):
        return "scaled by a rule that all but leaves out depth, width or resolution, whose accuracy is not foretold"
    return ""


def _quantile(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + _LEVEL) / 2))
