"""Models of cost: a constant and non-negative terms, fitted to measured networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from profiler.analysis.frame import ALL_TERMS, PROXIES, checked_rows, group_label, grouping, groups_of, unit_of
from profiler.analysis.regression import (
    LEAST_FOR_BOOTSTRAP,
    Floats,
    Interval,
    held_out,
    held_out_mape,
    mape,
    non_negative_fit,
    precision_weights,
)
from profiler.models.complexity import Complexity
from profiler.units import format_count

#: More than two terms are fitted to so many networks at least.
LEAST_FOR_MORE = 12


@dataclass(frozen=True, slots=True)
class TwoTerm:
    """``y = t0 + per_acts · acts + per_flops · flops``, no term negative, squared *relative* errors least.

    Rows are weighted by ``profiler.analysis.regression.precision_weights`` where the table has their intervals.

    Attributes:
        t0: In units of y.
        per_acts: Units of y per million activations.
        per_flops: Units of y per GF.
        mape: Mean relative error on the networks it was fitted to, as a fraction.
        loo_mape: The same on each network when fitted without it; None below 4 networks.
        lofo_mape: The same on each family when fitted without it; None below two families, or where the rest
            is fewer than 3 networks.
        weighted: Whether rows were weighted by how surely they were measured.
    """

    t0: float
    per_acts: float
    per_flops: float
    mape: float
    loo_mape: float | None
    lofo_mape: float | None
    weighted: bool = False


@dataclass(frozen=True, slots=True)
class FullModel:
    """The two-term model with terms for parameters, layers and padding beside them, none of them negative.

    Weights must be read, every layer costs a launch, and narrow groups waste arithmetic where channels are kept in
    blocks; see ``profiler.models.complexity.padding``. Fields that ``TwoTerm`` has mean the same.

    Attributes:
        per_params: Units of y per million parameters.
        per_layer: Units of y per convolution or linear layer.
        per_padding: Units of y per GF of padding.
    """

    t0: float
    per_acts: float
    per_flops: float
    per_params: float
    per_layer: float
    per_padding: float
    mape: float
    loo_mape: float | None
    lofo_mape: float | None


@dataclass(frozen=True, slots=True)
class Outlier:
    """A network that the two-term model gets wrong by far more than the others.

    Attributes:
        network: Its name.
        measured: In units of y.
        predicted: In units of y.
    """

    network: str
    measured: float
    predicted: float

    @property
    def excess(self) -> float:
        """How much slower it is than predicted, relative: 0.2 is 20% slower."""
        return self.measured / self.predicted - 1


def row_weights(acts: Floats, flops: Floats, y: Floats, spread: Floats) -> Floats | None:
    """Weights for relative errors by how surely each y was measured; None where nothing tells."""
    if not spread.any():
        return None
    t0, per_acts, per_flops = non_negative_fit(np.column_stack([acts, flops]), y)
    return precision_weights(spread, (t0 + per_acts * acts + per_flops * flops) / y - 1)


def fit_two_term(
    acts: Floats,
    flops: Floats,
    y: Floats,
    networks: NDArray[np.int64],
    families: NDArray[np.int64],
    weights: Floats | None,
) -> TwoTerm:
    counts = np.column_stack([acts, flops])
    t0, per_acts, per_flops = (float(v) for v in non_negative_fit(counts, y, weights))
    return TwoTerm(
        t0=t0,
        per_acts=per_acts,
        per_flops=per_flops,
        mape=mape(t0 + per_acts * acts + per_flops * flops, y),
        loo_mape=held_out_mape(counts, y, networks, weights),
        lofo_mape=held_out_mape(counts, y, families, weights),
        weighted=weights is not None,
    )


def fit_full(
    used: pd.DataFrame, y: Floats, networks: NDArray[np.int64], families: NDArray[np.int64], weights: Floats | None
) -> FullModel:
    units = {p: proxy.scale for p, proxy in PROXIES.items()} | {"padding_flops": PROXIES["flops"].scale}
    counts = np.column_stack([used[c].to_numpy(dtype=np.float64) / units.get(c, 1.0) for c in ALL_TERMS])
    t0, *slopes = (float(v) for v in non_negative_fit(counts, y, weights))
    per_acts, per_flops, per_params, per_layer, per_padding = slopes
    return FullModel(
        t0=t0,
        per_acts=per_acts,
        per_flops=per_flops,
        per_params=per_params,
        per_layer=per_layer,
        per_padding=per_padding,
        mape=mape(t0 + counts @ np.array(slopes), y),
        loo_mape=held_out_mape(counts, y, networks, weights),
        lofo_mape=held_out_mape(counts, y, families, weights),
    )


def find_outliers(
    model: TwoTerm, acts: Floats, flops: Floats, y: Floats, networks: Sequence[str]
) -> tuple[Outlier, ...]:
    """Networks whose log residual is more than 3.5 robust standard deviations, and 10%, from the median.

    3.5 is the limit of Iglewicz and Hoaglin (1993) for scores by the median absolute deviation; below five
    networks that deviation says nothing.
    """
    predicted = model.t0 + model.per_acts * acts + model.per_flops * flops
    if len(y) < LEAST_FOR_BOOTSTRAP or predicted.min() <= 0:
        return ()
    residuals = np.log(y / predicted)
    off = np.abs(residuals - np.median(residuals))
    far = (off > 3.5 * 1.4826 * np.median(off)) & (off > np.log(1.1))
    order = [int(i) for i in np.argsort(-off) if far[i]]
    return tuple(Outlier(networks[i], float(y[i]), float(predicted[i])) for i in order)


LEVEL = 0.90
LEAST_NETWORKS = 4
#: A family has a fit of its own from here on, if that fit does better on networks left out.
LEAST_OF_FAMILY = 6
#: Terms of a time, the simplest first; of memory.
TIMED = (("acts", "flops"), ("acts", "flops", "layers"), ALL_TERMS)
HELD = ("acts", "params")
NAMES = {column: proxy.name for column, proxy in PROXIES.items()} | {"padding_flops": "flops of padding"}

MEMORY_UNITS = ("MiB", "MB", "bytes")


@dataclass(frozen=True, slots=True)
class CostModel:
    """``y = t0 + a · first + b · second + ...``, no term negative, of one group of rows.

    Attributes:
        group: Values of the grouping columns.
        y: Column that is predicted.
        columns: The counts of ``Complexity`` that it is predicted from.
        coefficients: t0 and one per column, in units of y, and of y per single count.
        counts: Shape (n, k), the counts it was fitted to.
        errors: Shape (n,), log of measured over predicted for networks (or families) left out of the fit.
        typical: Mean relative error of those predictions, as a fraction.
        basis: What it rests on, in words.
    """

    group: dict[str, str]
    y: str
    columns: tuple[str, ...]
    coefficients: tuple[float, ...]
    counts: Floats
    errors: Floats
    typical: float
    basis: str

    def value(self, network: Complexity) -> float:
        """The prediction, in units of y."""
        t0, *slopes = self.coefficients
        counts = (getattr(network, column) for column in self.columns)
        return float(t0 + sum(slope * count for slope, count in zip(slopes, counts, strict=True)))

    @property
    def margin(self) -> float:
        """Half width of the 90% prediction interval, in logarithms; see ``margin_of``."""
        return margin_of(self.errors)

    def interval(self, network: Complexity) -> Interval:
        """The 90% prediction interval, in units of y."""
        value, ratio = self.value(network), math.exp(self.margin)
        return (value / ratio, value * ratio)

    def beyond(self, network: Complexity) -> str | None:
        """How a network lies outside of what was measured, in words; None where it lies inside.

        Inside is the convex hull of the logarithms of the first two counts; each must lie within its range.
        """
        point = np.array([getattr(network, column) for column in self.columns], dtype=np.float64)
        low, high = self.counts.min(axis=0), self.counts.max(axis=0)
        for column, value, least, most in zip(self.columns, point, low, high, strict=True):
            if not least <= value <= most:
                side, limit = ("below the least", least) if value < least else ("above the most", most)
                name = NAMES.get(column, column)
                return f"its {name}, {format_count(value)}, are {side} measured, {format_count(limit)}"
        if inside_hull(np.log(self.counts[:, :2]), np.log(point[:2])):
            return None
        return f"no measured networks surround its combination of {' and '.join(self.columns[:2])}"


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
    return rms * float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * math.sqrt(1 + 1 / n)


def inside_hull(points: Floats, point: Floats) -> bool:
    """Whether ``point``, shape (d,), is a mean of ``points``, shape (n, d), with weights that are not negative.

    Works for points on a line or all alike too, where hulls made of faces do not exist.
    """
    centre, size = points.mean(axis=0), np.ptp(points, axis=0)
    scale = np.where(size > 0, size, 1.0)
    corners = np.vstack([((points - centre) / scale).T, np.ones(len(points))])
    _, distance = optimize.nnls(corners, np.append((point - centre) / scale, 1.0))
    return bool(distance < 1e-6)


def cost_models(frame: pd.DataFrame, y: str, family: str | None = None) -> tuple[list[CostModel], dict[str, str]]:
    """The models of all groups of a table.

    Args:
        frame: One row per network and group, as ``profiler.analysis.fit.fit`` takes it.
        y: Column to predict.
        family: Family of the networks that will be asked for; None predicts any.

    Returns:
        The models; and for each group without one, under its label, why.

    Raises:
        UserError: The table has no rows, lacks a column, or holds text where a number belongs.
    """
    made: list[CostModel] = []
    without: dict[str, str] = {}
    for group, rows in groups_of(checked_rows(frame, y), grouping(frame)):
        used = rows[rows["why"] == ""]
        found = _model(used, group, y, family)
        if isinstance(found, str):
            without[group_label(group)] = found
        else:
            made.append(found)
    return made, without


def _model(used: pd.DataFrame, group: dict[str, str], y: str, family: str | None) -> CostModel | str:
    n = used["network"].nunique()
    if n < LEAST_NETWORKS:
        return f"{n} networks with {y}: a prediction needs at least {LEAST_NETWORKS}"
    pooled = _fitted(used, group, y, _strange(used, family))
    ours = used[used["family"] == family] if family else used.head(0)
    if ours["network"].nunique() < LEAST_OF_FAMILY or len(ours) == len(used):
        return pooled
    own = _fitted(ours, group, y, None)
    seen = (used["family"] == family).to_numpy()
    return own if own.typical < float(np.mean(np.abs(np.expm1(-pooled.errors[seen])))) else pooled


def _strange(used: pd.DataFrame, family: str | None) -> str | None:
    """The family asked for, if none of its networks was measured."""
    return family if family and family not in set(used["family"]) else None


def _fitted(used: pd.DataFrame, group: dict[str, str], y: str, strange: str | None) -> CostModel:
    """The model with the least error on what was left out of its fit; the simplest where several have it."""
    if unit_of(y) in MEMORY_UNITS:
        return _fitted_to(HELD, used, group, y, strange)
    enough = used["network"].nunique() >= LEAST_FOR_MORE
    tried = [
        columns for columns in TIMED if columns == TIMED[0] or (enough and used[[*columns]].notna().all(axis=None))
    ]
    return min((_fitted_to(columns, used, group, y, strange) for columns in tried), key=lambda model: model.typical)


def _fitted_to(
    columns: tuple[str, ...], used: pd.DataFrame, group: dict[str, str], y: str, strange: str | None
) -> CostModel:
    counts = used[list(columns)].to_numpy(dtype=np.float64)
    target = used[y].to_numpy(dtype=np.float64)
    spread = used["spread"].to_numpy(dtype=np.float64)
    t0, *slopes = non_negative_fit(counts, target)
    weights = precision_weights(spread, (t0 + counts @ np.array(slopes)) / target - 1)
    by_family = strange is not None and used["family"].nunique() > 1
    parts = pd.factorize(used["family" if by_family else "network"])[0].astype(np.int64)
    predicted = held_out(counts, target, parts, weights)
    if predicted is None:  # one family makes up nearly all rows
        by_family, parts = False, pd.factorize(used["network"])[0].astype(np.int64)
        predicted = held_out(counts, target, parts, weights)
    assert predicted is not None, "four networks leave three to fit"
    coefficients = tuple(float(v) for v in non_negative_fit(counts, target, weights))
    typical = mape(predicted, target)
    basis = _basis(used, columns, typical, strange, by_family=by_family)
    return CostModel(group, y, columns, coefficients, counts, np.log(target / predicted), typical, basis)


def _basis(used: pd.DataFrame, columns: Sequence[str], typical: float, strange: str | None, *, by_family: bool) -> str:
    families = sorted(set(used["family"]) - {""})
    whose = f" of {', '.join(families)}" if families else ""
    *first, last = (NAMES.get(column, column) for column in columns)
    names = f"{', '.join(first)} and {last}"
    left = "a family left out" if by_family else "a network left out"
    text = f"{used['network'].nunique()} networks{whose}, by {names}; error on {left} {typical:.1%}"
    if strange is None:
        return text
    return f"{text}; no {strange} was measured" + ("" if by_family else ", so that the interval may be too narrow")
