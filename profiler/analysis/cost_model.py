"""The one model of a cost: a constant and non-negative terms, fitted to the measured networks of a group.

``fit`` shows it, ``predict`` and ``advise`` ask it. Its prediction interval comes from what it said of networks it had
not seen: each is predicted by a fit to the others, and the relative errors of those are what a new network must expect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from profiler.analysis.correction import Correction, corrected_held_out, fit_correction, kin_of
from profiler.analysis.frame import SECONDS, TERMS, Term, group_label, grouping, scale_of, unit_of
from profiler.analysis.nonnegative import held_out, inside_hull, mape, margin_of, non_negative_fit, precision_weights
from profiler.analysis.regression import Floats
from profiler.analysis.rows import checked_rows, groups_of, uncounted
from profiler.models.complexity import Complexity
from profiler.records.intervals import Interval
from profiler.units import format_count

#: The least that explains a time, and what memory is held for.
TWO_TERMS = ("acts", "flops")
_HELD = ("acts", "params")
_MEMORY_UNITS = ("MiB", "MB", "bytes")

_LEAST_TO_PREDICT = 4
#: More than two terms are fitted to so many networks at least.
_LEAST_FOR_MORE = 12
#: Counts that networks are alike by.
_ALIKE = ("flops", "acts", "params", "layers")
#: Of the error on what was left out: a correction that lowers it to less than this part is worth having.
_CLEARLY = 0.95
#: A family has a fit of its own from here on, if that fit does better on networks left out.
_LEAST_OF_FAMILY = 6


@dataclass(frozen=True, slots=True)
class CostModel:
    """``y = t0 + sum of coefficient · count``, none negative, squared *relative* errors least, of one group of rows.

    Rows are weighted by ``profiler.analysis.nonnegative.precision_weights`` where the table has their intervals.

    Attributes:
        group: Values of the grouping columns.
        y: Column that is predicted.
        t0: In units of y.
        terms: What y grows with; coefficients in units of y.
        mape: Mean relative error on the networks it was fitted to, as a fraction.
        loo_mape: The same on each network when fitted without it; None below 4 networks.
        lofo_mape: The same on each family when fitted without it; None below two families, or where the rest
            is fewer than 3 networks.
        basis: What it rests on, in words.
        measured: Shape (n,), the y it was fitted to.
        counts: Shape (n, k), the counts it was fitted to, as in the table.
        unseen: Shape (n,), what it said of each row when fitted without its network, or without its family where it
            is to be asked about another one; None below 4 networks.
        weights: Shape (n,), how much each row counts; None where all count alike.
        correction: What the terms get wrong about networks alike; None where knowing that foretells no better.
        corrected_by: Columns of the counts that the correction takes.
        kin: Of the networks that are asked about, for the correction.
    """

    group: dict[str, str]
    y: str
    t0: float
    terms: tuple[Term, ...]
    mape: float
    loo_mape: float | None
    lofo_mape: float | None
    basis: str
    measured: Floats = field(compare=False, repr=False)
    counts: Floats = field(compare=False, repr=False)
    unseen: Floats | None = field(compare=False, repr=False)
    weights: Floats | None = field(compare=False, repr=False)
    correction: Correction | None = field(default=None, compare=False, repr=False)
    corrected_by: tuple[str, ...] = ()
    kin: str = ""

    @property
    def fitted(self) -> Floats:
        """What its terms say of the rows it was fitted to, shape (n,)."""
        slopes = np.array([term.coefficient / term.scale for term in self.terms])
        said: Floats = self.t0 + self.counts @ slopes
        return said

    def value(self, network: Complexity) -> float:
        """The prediction, in units of y."""
        said = self.t0 + sum(t.coefficient * (float(getattr(network, t.column)) / t.scale) for t in self.terms)
        if self.correction is None:
            return said
        counts = np.array([[float(getattr(network, column)) for column in self.corrected_by]])
        return said * float(self.correction.factor(counts, [self.kin])[0])

    @property
    def typical(self) -> float:
        """Mean relative error on what was left out of the fit, as a fraction; of the fit where nothing could be."""
        return self.mape if self.unseen is None else mape(self.unseen, self.measured)

    @property
    def margin(self) -> float:
        """Half width of the 90% prediction interval, in logarithms; see ``margin_of``."""
        assert self.unseen is not None, "four networks leave three to fit"
        return margin_of(np.log(self.measured / self.unseen))

    def interval(self, network: Complexity) -> Interval:
        """The 90% prediction interval, in units of y."""
        value, ratio = self.value(network), math.exp(self.margin)
        return (value / ratio, value * ratio)

    def beyond(self, network: Complexity) -> str | None:
        """How a network lies outside of what was measured, in words; None where it lies inside.

        Inside is the convex hull of the logarithms of the first two counts; each must lie within its range.
        """
        point = np.array([getattr(network, term.column) for term in self.terms], dtype=np.float64)
        low, high = self.counts.min(axis=0), self.counts.max(axis=0)
        for term, value, least, most in zip(self.terms, point, low, high, strict=True):
            if not least <= value <= most:
                side, limit = ("below the least", least) if value < least else ("above the most", most)
                return f"its {term.name}, {format_count(value)}, are {side} measured, {format_count(limit)}"
        if inside_hull(np.log(np.maximum(self.counts[:, :2], 1)), np.log(np.maximum(point[:2], 1))):
            return None
        return f"no measured networks surround its combination of {' and '.join(t.column for t in self.terms[:2])}"


def term_lists(used: pd.DataFrame, y: str) -> list[tuple[str, ...]]:
    """The lists of terms that may be fitted to checked rows, the simplest first."""
    if unit_of(y) in _MEMORY_UNITS:
        return [_HELD]
    enough = used["network"].nunique() >= _LEAST_FOR_MORE
    more = [columns for columns in ((*TWO_TERMS, "layers"), tuple(TERMS)) if used[[*columns]].notna().all(axis=None)]
    return [TWO_TERMS, *(more if enough else ())]


def fit_terms(
    used: pd.DataFrame, group: dict[str, str], y: str, columns: Sequence[str], strange: str | None = None
) -> CostModel:
    """Fit one list of terms to the rows of a group.

    Args:
        used: Checked rows that can be used, see ``profiler.analysis.rows.checked_rows``, of three networks or more.
        group: Values of the grouping columns.
        y: Column to predict.
        columns: Of the terms.
        strange: A family that it will be asked about though none of its networks was measured.
    """
    counts, measured = used[[*columns]].to_numpy(dtype=np.float64), used[y].to_numpy(dtype=np.float64)
    scales = [scale_of(column, counts[:, k]) for k, column in enumerate(columns)]
    counted = counts / [scale for scale, _ in scales]
    weights = _weights(counted, measured, used["spread"].to_numpy(dtype=np.float64))
    t0, *slopes = (float(v) for v in non_negative_fit(counted, measured, weights))
    by_network, by_family = (
        held_out(counted, measured, pd.factorize(used[part])[0].astype(np.int64), weights)
        for part in ("network", "family")
    )
    unseen = by_network if strange is None or by_family is None else by_family
    loo_mape, lofo_mape = (None if said is None else mape(said, measured) for said in (by_network, by_family))
    terms = tuple(
        TERMS[column]._replace(scale=scale, unit=unit, coefficient=slope)
        for column, (scale, unit), slope in zip(columns, scales, slopes, strict=True)
    )
    return CostModel(
        group=group,
        y=y,
        t0=t0,
        terms=terms,
        mape=mape(t0 + counted @ np.array(slopes), measured),
        loo_mape=loo_mape,
        lofo_mape=lofo_mape,
        basis=_basis(used, terms, loo_mape, lofo_mape, strange),
        measured=measured,
        counts=counts,
        unseen=unseen,
        weights=weights,
    )


def _weights(counts: Floats, measured: Floats, spread: Floats) -> Floats | None:
    """Weights for relative errors by how surely each y was measured; None where nothing tells."""
    if not spread.any():
        return None
    t0, *slopes = non_negative_fit(counts, measured)
    return precision_weights(spread, (t0 + counts @ np.array(slopes)) / measured - 1)


def _basis(
    used: pd.DataFrame, terms: Sequence[Term], by_network: float | None, by_family: float | None, strange: str | None
) -> str:
    families = sorted(set(used["family"]) - {""})
    whose = f" of {', '.join(families)}" if families else ""
    *first, last = (term.name for term in terms)
    left, error = "a network left out", by_network
    if strange is not None and by_family is not None:
        left, error = "a family left out", by_family
    unsure = used.loc[used["unstable"], "network"].nunique()
    marked = f" ({unsure} unstable)" if unsure else ""
    text = f"{used['network'].nunique()} networks{marked}{whose}, by {', '.join(first)} and {last}"
    text += "" if error is None else f"; error on {left} {error:.1%}"
    if strange is None:
        return text
    return f"{text}; no {strange} was measured" + ("" if by_family else ", so that the interval may be too narrow")


def cost_models(
    frame: pd.DataFrame, y: str, family: str | None = None, name: str = ""
) -> tuple[list[CostModel], dict[str, str]]:
    """The models of all groups of a table that foretell best what was left out of their fit.

    Args:
        frame: One row per network and group, as ``profiler.analysis.fit.fit`` takes it.
        y: Column to predict.
        family: Family of the networks that will be asked for; None predicts any.
        name: What they are called; empty where several are asked for.

    Returns:
        The models; and for each group without one, under its label, why.

    Raises:
        UserError: The table has no rows, lacks a column, or holds text where a number belongs.
    """
    made: list[CostModel] = []
    without: dict[str, str] = {}
    for group, rows in groups_of(checked_rows(frame, y), grouping(frame)):
        used = rows[rows["why"] == ""]
        n = used["network"].nunique()
        if n < _LEAST_TO_PREDICT:
            counts = " and all counts" if uncounted(rows, y).any() else ""
            without[group_label(group)] = (
                f"{n} networks with {y}{counts}: a prediction needs at least {_LEAST_TO_PREDICT}"
            )
        else:
            made.append(_for_family(used, group, y, family, kin_of(name, family or "")))
    return made, without


def _for_family(used: pd.DataFrame, group: dict[str, str], y: str, family: str | None, kin: str) -> CostModel:
    """The model of all rows, or of the family's own where there are enough and they do better alone."""
    pooled = _best(used, group, y, family if family and family not in set(used["family"]) else None, kin)
    seen = (used["family"] == family).to_numpy()
    if not family or used["network"][seen].nunique() < _LEAST_OF_FAMILY or seen.all():
        return pooled
    own = _best(used[seen], group, y, None, kin)
    assert pooled.unseen is not None, "there are enough networks"
    return own if own.typical < mape(pooled.unseen[seen], pooled.measured[seen]) else pooled


def _best(used: pd.DataFrame, group: dict[str, str], y: str, strange: str | None, kin: str) -> CostModel:
    """The model with the least error on what was left out of its fit; the simplest where several have it."""
    fits = (fit_terms(used, group, y, columns, strange) for columns in term_lists(used, y))
    return corrected(min(fits, key=lambda model: model.typical), used, strange, kin)


def corrected(model: CostModel, used: pd.DataFrame, strange: str | None = None, kin: str = "") -> CostModel:
    """Return ``model`` with a correction by networks alike, where that foretells what is left out clearly better.

    Args:
        model: Of a time.
        used: The rows that it was fitted to.
        strange: As for ``fit_terms``.
        kin: Of the networks that are asked about.
    """
    if unit_of(model.y) not in SECONDS or used["network"].nunique() < _LEAST_FOR_MORE or model.unseen is None:
        return model
    columns = [column for column in _ALIKE if used[column].notna().all() and (used[column] > 0).all()]
    counts = used[columns].to_numpy(dtype=np.float64)
    alike = np.array([kin_of(*pair) for pair in zip(used["network"], used["family"], strict=True)])
    parts = pd.factorize(used["network" if strange is None else "family"])[0].astype(np.int64)
    terms = model.counts / [term.scale for term in model.terms]
    unseen = corrected_held_out(terms, counts, alike, parts, model.measured, model.weights)
    if unseen is None or mape(unseen, model.measured) > _CLEARLY * model.typical:
        return model
    plain = np.maximum(model.fitted, 1e-12)
    learned = fit_correction(counts, alike, parts, np.log(model.measured / plain))
    if learned is None:
        return model
    left, error = "network" if strange is None else "family", mape(unseen, model.measured)
    basis = f"{model.basis}; corrected by what is alike, error on a {left} left out {error:.1%}"
    return replace(model, unseen=unseen, correction=learned, corrected_by=tuple(columns), kin=kin, basis=basis)
