"""One straight line: a cost against one complexity, with everything that is said of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiler.analysis.frame import scale_of
from profiler.analysis.nonnegative import mape
from profiler.analysis.quantity import Quantity
from profiler.analysis.regression import (
    Floats,
    bca_interval,
    coefficient,
    fisher_interval,
    weighted_correlations,
)
from profiler.records.intervals import Interval


@dataclass(frozen=True, slots=True)
class Line:
    """Least squares of y on one proxy: ``y = intercept + slope · x``.

    Attributes:
        proxy: ``acts``, ``flops`` or ``params``.
        x_unit: What one unit of x is: ``M acts``, ``GF``, ``M params``.
        slope: Units of y per unit of x.
        slope_se: HC3 standard error of the slope; None where one network alone sets the slope.
        slope_interval: 95% interval of the slope, see ``profiler.analysis.regression.coefficient``.
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


def fit_line(
    proxy: str,
    counts: Floats,
    y: Floats,
    networks: NDArray[np.int64],
    families: NDArray[np.int64],
    draws: Floats | None,
    weights: Floats | None,
) -> Line:
    """Fit one line, in millions or GF of a count, not constant.

    Args:
        proxy: Column of the counts.
        counts: Shape (n,).
        y: Shape (n,), positive.
        networks: Shape (n,), the number of the network of each row, 0 to m - 1.
        families: Shape (n,), the number of its family.
        draws: Shape (resamples,), correlations of resampled networks, or None.
        weights: Shape (n,), positive; None weighs all alike.
    """
    scale, unit = scale_of(proxy, counts)
    x = counts / scale
    n = int(networks.max()) + 1
    share = np.full(len(y), 1 / len(y)) if weights is None else weights / weights.sum()
    centred = x - share @ x
    slope = float((share * centred) @ y / ((share * centred) @ centred))
    intercept = float(share @ y - slope * (share @ x))
    fitted = intercept + slope * x
    one = np.ones_like(x)
    r = float(weighted_correlations(x, y, one[None, :])[0])
    steep = coefficient(np.column_stack([one, x]), y, weights)
    without = (networks[None, :] != np.arange(n)[:, None]).astype(np.float64)
    bootstrap = None if draws is None else bca_interval(r, draws, weighted_correlations(x, y, without))
    power = coefficient(np.column_stack([one, np.log(x)]), np.log(y)) if x.min() > 0 else None
    within = _within(x, y, families, weights)
    return Line(
        proxy=proxy,
        x_unit=unit,
        slope=slope,
        slope_se=steep.error,
        slope_interval=steep.interval,
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


def _within(x: Floats, y: Floats, families: NDArray[np.int64], weights: Floats | None) -> Quantity | None:
    """The slope that all families share when each has an intercept of its own."""
    kinds = np.unique(families)
    own = (families[:, None] == kinds).astype(np.float64)
    centred = x - own @ (own.T @ x / own.sum(axis=0))
    if len(kinds) < 2 or np.abs(centred).max() <= 1e-9 * np.abs(x).max():
        return None
    return coefficient(np.column_stack([own, x]), y, weights)
