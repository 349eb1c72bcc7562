"""What predicts a cost here: activations, flops or parameters, and how surely.

Everything is computed per group: rows that share machine, backend, device, precision, threads, batch and
mode. ``acts``, ``flops`` and ``params`` are counts for *one image*; latency is that of a whole batch. As
groups never mix batches this changes no correlation, but a slope at batch 8 is the time of eight images per
million activations of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from profiler.analysis.cost_model import TWO_TERMS, CostModel, fit_terms, term_lists
from profiler.analysis.frame import PROXIES, SECONDS, TERMS, group_label, grouping, unit_of
from profiler.analysis.line import Line, fit_line
from profiler.analysis.regression import (
    LEAST_FOR_BOOTSTRAP,
    LEAST_NETWORKS,
    Floats,
    resample_weights,
    weighted_correlations,
)
from profiler.analysis.rows import checked_rows, groups_of, uncounted

_RESAMPLES = 4000
SEED = 20210311

#: The largest over the smallest count below which networks are alike in it, and no line on it means anything.
_ALIKE = 1.1


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
        winner: The proxy with the largest ``|r|``; None where fewer than two proxies could be fitted.
        winner_probability: Share of the paired resamples of networks in which it still has the largest ``|r|``, ties
            counted by half; None below 5 networks.
        two_term: The model of acts and flops; None where one of them could not be used.
        full: The model of all that is counted; None where y is no time, the table lacks a count, or networks are too
            few for so many terms.
        left_out: Rows of the group that were not used: the network, and why.
        outliers: Networks far off the two-term model, the farthest first: name, measured and predicted y.
        reason: Why there are no numbers at all; None where there are some.
    """

    group: dict[str, str]
    family: str | None
    y: str
    unit: str
    n: int
    lines: tuple[Line, ...]
    unfit: dict[str, str]
    winner: str | None
    winner_probability: float | None
    two_term: CostModel | None
    full: CostModel | None
    left_out: tuple[tuple[str, str], ...]
    outliers: tuple[tuple[str, float, float], ...]
    reason: str | None

    @property
    def label(self) -> str:
        """The group as people say it: ``onnxruntime · cpu · fp32 · 1 thread · batch 1 · infer``."""
        return group_label(self.group)

    def line(self, proxy: str) -> Line | None:
        """The regression on one proxy, or None."""
        return next((line for line in self.lines if line.proxy == proxy), None)


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
    fits: list[Fit] = []
    for group, rows in groups_of(checked_rows(frame, y), grouping(frame)):
        fits.append(_fit_rows(rows, group, None, y, weighted=weighted))
        families = sorted(set(rows["family"]) - {""})
        if len(families) > 1:
            parts = {name: rows[rows["family"] == name] for name in families}
            fits += [_fit_rows(part, group, name, y, weighted=weighted) for name, part in parts.items()]
    return fits


def _fit_rows(rows: pd.DataFrame, group: dict[str, str], family: str | None, y: str, *, weighted: bool) -> Fit:
    used = rows[rows["why"] == ""]
    n = used["network"].nunique()
    target = used[y].to_numpy(dtype=np.float64)
    columns = {p: used[p].to_numpy(dtype=np.float64) for p in PROXIES}
    reason = _no_fit(n, target, rows, y)
    unfit = {p: why for p, x in columns.items() if (why := reason or _constant(p, x) or _alike(p, x))}
    fitted = {p: x for p, x in columns.items() if p not in unfit}
    two_term = fit_terms(used, group, y, TWO_TERMS) if fitted.keys() >= {*TWO_TERMS} else None
    weights = two_term.weights / target**2 if weighted and two_term and two_term.weights is not None else None
    lines, draws = _lines(used, fitted, target, weights)
    winner, probability = _winner(lines, draws)
    return Fit(
        group=group,
        family=family,
        y=y,
        unit=unit_of(y),
        n=n,
        lines=lines,
        unfit=unfit,
        winner=winner,
        winner_probability=probability,
        two_term=two_term,
        full=_full(used, group, y) if two_term else None,
        left_out=tuple((name, why) for name, why in zip(rows["network"], rows["why"], strict=True) if why),
        outliers=_outliers(two_term, list(used["network"])) if two_term else (),
        reason=reason or (None if lines else "; ".join(unfit.values())),
    )


def _no_fit(n: int, target: Floats, rows: pd.DataFrame, y: str) -> str | None:
    if n == 0:
        return _nothing_to_fit(rows, y)
    if n < LEAST_NETWORKS:
        measured = "measured and counted" if uncounted(rows, y).any() else "measured"
        return f"only {n} {'network' if n == 1 else 'networks'} {measured}: a line needs at least {LEAST_NETWORKS}"
    return _constant(y, target)


def _nothing_to_fit(rows: pd.DataFrame, y: str) -> str:
    """Whether measurements are missing, or the counts to explain them with, as a model that nothing counts has none."""
    left = rows[uncounted(rows, y)]
    if left.empty:
        return (
            f"none of the {len(rows)} cases has a measurement" if len(rows) > 1 else "the only case has no measurement"
        )
    have = f"{len(left)} of the {len(rows)} cases {'has' if len(left) == 1 else 'have'}" if len(rows) > 1 else "it has"
    missing = ", ".join(proxy for proxy in PROXIES if left[proxy].isna().any())
    return f"{have} a measurement, but no {missing} to explain it with"


def _constant(column: str, values: Floats) -> str | None:
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return f"{column} is the same for all networks"
    return None


def _alike(column: str, values: Floats) -> str | None:
    if values.max() < _ALIKE * values.min():
        return f"{column} differs by less than {_ALIKE - 1:.0%} between networks"
    return None


def _lines(
    used: pd.DataFrame, fitted: Mapping[str, Floats], target: Floats, weights: Floats | None
) -> tuple[tuple[Line, ...], dict[str, Floats]]:
    """The line on each proxy; and the correlations of resampled networks, where there are enough of them."""
    networks, families = (pd.factorize(used[part])[0].astype(np.int64) for part in ("network", "family"))
    draws: dict[str, Floats] = {}
    if fitted and networks.max() + 1 >= LEAST_FOR_BOOTSTRAP:
        resampled = resample_weights(networks, _RESAMPLES, SEED)
        draws = {p: weighted_correlations(x, target, resampled) for p, x in fitted.items()}
    lines = (fit_line(p, x, target, networks, families, draws.get(p), weights) for p, x in fitted.items())
    return tuple(lines), draws


def _winner(lines: tuple[Line, ...], draws: dict[str, Floats]) -> tuple[str | None, float | None]:
    """The proxy with the largest ``|r|``, and in which share of the draws it has it."""
    if len(lines) < 2:
        return None, None
    best = max(lines, key=lambda line: abs(line.r)).proxy
    if not draws:
        return best, None
    # Rounded, so that proxies in exact proportion tie instead of winning by the last bit.
    strength = {p: np.round(np.abs(d), 9) for p, d in draws.items()}
    rival = np.max([d for p, d in strength.items() if p != best], axis=0)
    valid = np.isfinite(rival) & np.isfinite(strength[best])
    won = (strength[best] > rival) + (strength[best] == rival) / 2
    return best, float(np.mean(won[valid])) if valid.any() else None


def _full(used: pd.DataFrame, group: dict[str, str], y: str) -> CostModel | None:
    everything = tuple(TERMS)
    if unit_of(y) not in SECONDS or everything not in term_lists(used, y):
        return None
    return fit_terms(used, group, y, everything)


def _outliers(model: CostModel, networks: list[str]) -> tuple[tuple[str, float, float], ...]:
    """Networks whose log residual is more than 3.5 robust standard deviations, and 10%, from the median.

    3.5 is the limit of Iglewicz and Hoaglin (1993) for scores by the median absolute deviation; below five
    networks that deviation says nothing.
    """
    y, predicted = model.measured, model.fitted
    if len(y) < LEAST_FOR_BOOTSTRAP or predicted.min() <= 0:
        return ()
    residuals = np.log(y / predicted)
    off = np.abs(residuals - np.median(residuals))
    far = (off > 3.5 * 1.4826 * np.median(off)) & (off > np.log(1.1))
    order = [int(i) for i in np.argsort(-off) if far[i]]
    return tuple((networks[i], float(y[i]), float(predicted[i])) for i in order)
