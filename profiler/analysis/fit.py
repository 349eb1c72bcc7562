"""What predicts latency here: activations, flops or parameters, and how surely.

Everything is computed per group: rows that share machine, backend, device, precision, threads, batch and
mode. ``acts``, ``flops`` and ``params`` are counts for *one image*; latency is that of a whole batch. As
groups never mix batches this changes no correlation, but a slope at batch 8 is the time of eight images per
million activations of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from profiler.analysis.cost_model import (
    LEAST_FOR_MORE,
    FullModel,
    Outlier,
    TwoTerm,
    find_outliers,
    fit_full,
    fit_two_term,
    row_weights,
)
from profiler.analysis.frame import (
    MORE,
    PROXIES,
    SECONDS,
    checked_rows,
    group_label,
    grouping,
    groups_of,
    scale_of,
    unit_of,
)
from profiler.analysis.regression import (
    LEAST_FOR_BOOTSTRAP,
    LEAST_NETWORKS,
    Coefficient,
    Floats,
    Interval,
    bca_interval,
    coefficient,
    fisher_interval,
    mape,
    resample_weights,
    slope_interval,
    weighted_correlations,
)

RESAMPLES = 4000
SEED = 20210311


@dataclass(frozen=True, slots=True)
class Line:
    """Least squares of y on one proxy: ``y = intercept + slope · x``.

    Attributes:
        proxy: ``acts``, ``flops`` or ``params``.
        x_unit: What one unit of x is: ``M acts``, ``GF``, ``M params``.
        slope: Units of y per unit of x.
        slope_se: HC3 standard error of the slope; None where one network alone sets the slope.
        slope_interval: 95% interval of the slope, see ``slope_interval``.
        intercept: In units of y.
        r: Pearson correlation.
        r_fisher: 95% interval of r by Fisher's z.
        r_bootstrap: 95% BCa interval of r over resampled networks; None below 5 networks. In simulations with
            noise in proportion to latency and 10 to 40 networks spread evenly in log x it covers 84 to 88%,
            Fisher's 81 to 84%: read both as somewhat too narrow.
        r2: Share of the variance explained.
        rmse: Root mean square residual, in units of y.
        mape: Mean of ``|residual| / y``, as a fraction.
        exponent: Of ``y ∝ x^exponent``, least squares in logarithms: 1 where y is in proportion.
        exponent_interval: Its 95% interval, as that of the slope.
        within_slope: The slope when each family has an intercept of its own; None below two families.
        within_interval: Its 95% interval, as that of the slope.
    """

    proxy: str
    x_unit: str
    slope: float
    slope_se: float | None
    slope_interval: Interval | None
    intercept: float
    r: float
    r_fisher: Interval
    r_bootstrap: Interval | None
    r2: float
    rmse: float
    mape: float
    exponent: float | None = None
    exponent_interval: Interval | None = None
    within_slope: float | None = None
    within_interval: Interval | None = None

    @property
    def r_interval(self) -> Interval:
        """The interval to quote: over resampled networks where there are enough of them, else Fisher's."""
        return self.r_bootstrap or self.r_fisher


@dataclass(frozen=True, slots=True)
class Winner:
    """The proxy with the largest ``|r|``.

    Attributes:
        proxy: Its column.
        probability: Share of the paired resamples of networks in which it still has the largest ``|r|``, ties
            counted by half; None below 5 networks.
    """

    proxy: str
    probability: float | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that could not be used, and why."""

    network: str
    why: str


@dataclass(frozen=True, slots=True)
class Fit:
    """The regressions of one group, pooled or for one family.

    Attributes:
        group: Values of the grouping columns the table has.
        family: None where families are pooled.
        y: Column that is explained.
        unit: Its unit, empty where the name does not tell.
        n: Networks used.
        lines: One per proxy that could be fitted, in the order acts, flops, params.
        unfit: For every other proxy, why not.
        winner: None where fewer than two proxies could be fitted.
        two_term: None where acts or flops could not be used.
        left_out: Rows of the group that were not used.
        reason: Why there are no numbers at all; None where there are some.
        outliers: Networks far off the two-term model, the farthest first; see ``_outliers``.
        full: None where y is no time, the table lacks a count, or networks are too few for so many terms.
    """

    group: dict[str, str]
    family: str | None
    y: str
    unit: str
    n: int
    lines: tuple[Line, ...]
    unfit: dict[str, str]
    winner: Winner | None
    two_term: TwoTerm | None
    left_out: tuple[LeftOut, ...]
    reason: str | None
    outliers: tuple[Outlier, ...] = ()
    full: FullModel | None = None

    @property
    def label(self) -> str:
        """The group as people say it: ``onnxruntime · cpu · fp32 · 1 thread · batch 1 · infer``."""
        return group_label(self.group)

    def line(self, proxy: str) -> Line | None:
        """The regression on one proxy, or None."""
        return next((line for line in self.lines if line.proxy == proxy), None)


# --- From table to fits ------------------------------------------------------------------------------------


def fit(frame: pd.DataFrame, y: str = "latency_ms", *, weighted: bool = False) -> list[Fit]:
    """Regress a column on activations, flops and parameters, per group: pooled first, then each family.

    Args:
        frame: One row per network and group, with the columns model, flops, params, acts (counts for one
            image) and ``y``. Grouping columns, family, scaling, factor, status and reason are used where
            present.
        y: Column to explain.
        weighted: Weigh the networks of a line by how surely they were measured, relative to their y, instead
            of all alike. Correlations stay those of the networks alike. The two-term model always does.

    Returns:
        For each group a pooled fit and one for each of its families (where it has more than one). A fit that
        cannot be made says why in ``reason`` or ``unfit`` and holds no number in its place.

    Raises:
        UserError: No rows, a missing column, or text where a number belongs.
    """
    table = checked_rows(frame, y)
    keys = grouping(frame)
    fits: list[Fit] = []
    for group, rows in groups_of(table, keys):
        fits.append(_fit_rows(rows, group, None, y, weighted=weighted))
        families = sorted(set(rows["family"]) - {""})
        if len(families) > 1:
            parts = {name: rows[rows["family"] == name] for name in families}
            fits += [_fit_rows(part, group, name, y, weighted=weighted) for name, part in parts.items()]
    return fits


def _fit_rows(rows: pd.DataFrame, group: dict[str, str], family: str | None, y: str, *, weighted: bool) -> Fit:
    used = rows[rows["why"] == ""]
    left_out = tuple(LeftOut(network, why) for network, why in zip(rows["network"], rows["why"], strict=True) if why)
    networks = pd.factorize(used["network"])[0].astype(np.int64)
    n = int(networks.max()) + 1 if len(networks) else 0
    target = used[y].to_numpy(dtype=np.float64)
    columns = {p: used[p].to_numpy(dtype=np.float64) for p in PROXIES}
    reason = _no_fit(n, target, len(rows), y)
    unfit = {p: why for p, x in columns.items() if (why := reason or _constant(p, x))}
    fitted = {p: x for p, x in columns.items() if p not in unfit}
    draws: dict[str, Floats] = {}
    if fitted and n >= LEAST_FOR_BOOTSTRAP:
        resampled = resample_weights(networks, RESAMPLES, SEED)
        draws = {p: weighted_correlations(x, target, resampled) for p, x in fitted.items()}
    families = pd.factorize(used["family"])[0].astype(np.int64)
    weights: Floats | None = None
    two_term: TwoTerm | None = None
    full: FullModel | None = None
    outliers: tuple[Outlier, ...] = ()
    if {"acts", "flops"} <= fitted.keys():
        acts, flops = (columns[p] / scale_of(p, columns[p])[0] for p in ("acts", "flops"))
        weights = row_weights(acts, flops, target, used["spread"].to_numpy(dtype=np.float64))
        two_term = fit_two_term(acts, flops, target, networks, families, weights)
        if n >= LEAST_FOR_MORE and unit_of(y) in SECONDS and used[[*MORE]].notna().all(axis=None):
            full = fit_full(used, target, networks, families, weights)
        outliers = find_outliers(two_term, acts, flops, target, list(used["network"]))
    ours = weights / target**2 if weighted and weights is not None else None
    lines = tuple(_line(p, x, target, networks, families, draws.get(p), ours) for p, x in fitted.items())
    reason = reason or (None if lines else "; ".join(unfit.values()))
    winner = _winner(lines, draws)
    return Fit(group, family, y, unit_of(y), n, lines, unfit, winner, two_term, left_out, reason, outliers, full)


def _no_fit(n: int, target: Floats, rows: int, y: str) -> str | None:
    if n == 0:
        return f"none of the {rows} cases has a measurement"
    if n < LEAST_NETWORKS:
        return f"only {n} {'network' if n == 1 else 'networks'} measured: a line needs at least {LEAST_NETWORKS}"
    return _constant(y, target)


def _constant(column: str, values: Floats) -> str | None:
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return f"{column} is the same for all networks"
    return None


def _line(
    proxy: str,
    counts: Floats,
    y: Floats,
    networks: NDArray[np.int64],
    families: NDArray[np.int64],
    draws: Floats | None,
    weights: Floats | None,
) -> Line:
    scale, unit = scale_of(proxy, counts)
    x = counts / scale
    n = int(networks.max()) + 1
    share = np.full(len(y), 1 / len(y)) if weights is None else weights / weights.sum()
    centred = x - share @ x
    slope = float((share * centred) @ y / ((share * centred) @ centred))
    intercept = float(share @ y - slope * (share @ x))
    fitted = intercept + slope * x
    r = float(weighted_correlations(x, y, np.ones((1, len(x))))[0])
    se = slope_interval(x, y, weights)
    without = (networks[None, :] != np.arange(n)[:, None]).astype(np.float64)
    bootstrap = None if draws is None else bca_interval(r, draws, weighted_correlations(x, y, without))
    power = coefficient(np.column_stack([np.ones_like(x), np.log(x)]), np.log(y)) if x.min() > 0 else None
    within = _within(x, y, families, weights)
    return Line(
        proxy=proxy,
        x_unit=unit,
        slope=slope,
        slope_se=se[0] if se else None,
        slope_interval=se[1] if se else None,
        intercept=intercept,
        r=r,
        r_fisher=fisher_interval(r, n),
        r_bootstrap=bootstrap,
        r2=r * r,
        rmse=float(np.sqrt(np.mean((y - fitted) ** 2))),
        mape=mape(fitted, y),
        exponent=power.value if power else None,
        exponent_interval=power.interval if power else None,
        within_slope=within.value if within else None,
        within_interval=within.interval if within else None,
    )


def _within(x: Floats, y: Floats, families: NDArray[np.int64], weights: Floats | None) -> Coefficient | None:
    """The slope that all families share when each has an intercept of its own."""
    kinds = np.unique(families)
    own = (families[:, None] == kinds).astype(np.float64)
    centred = x - own @ (own.T @ x / own.sum(axis=0))
    if len(kinds) < 2 or np.abs(centred).max() <= 1e-9 * np.abs(x).max():
        return None
    return coefficient(np.column_stack([own, x]), y, weights)


def _winner(lines: tuple[Line, ...], draws: dict[str, Floats]) -> Winner | None:
    if len(lines) < 2:
        return None
    best = max(lines, key=lambda line: abs(line.r)).proxy
    if not draws:
        return Winner(best, None)
    # Rounded, so that proxies in exact proportion tie instead of winning by the last bit.
    strength = {p: np.round(np.abs(d), 9) for p, d in draws.items()}
    rival = np.max([d for p, d in strength.items() if p != best], axis=0)
    valid = np.isfinite(rival) & np.isfinite(strength[best])
    won = (strength[best] > rival) + (strength[best] == rival) / 2
    return Winner(best, float(np.mean(won[valid])) if valid.any() else None)
