"""How well latencies of networks are foretold that a fit has not seen: each network left out, and each family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from profiler.analysis.cost_model import CostModel, corrected, fit_terms, term_lists
from profiler.analysis.frame import grouping
from profiler.analysis.nonnegative import mape
from profiler.analysis.regression import LEAST_NETWORKS
from profiler.analysis.rows import checked_rows, groups_of

#: Stands for a family that no table has, so that whole families are left out.
_STRANGE = "another family"
#: Relative errors whose share of networks is told.
WITHIN = (0.05, 0.10)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What one model said of networks that it had not seen.

    Attributes:
        group: Values of the grouping columns.
        model: ``two terms``, ``more terms`` or ``corrected``.
        left_out: ``network`` or ``family``.
        networks: How many there are.
        error: Mean relative error, as a fraction.
        hits: Share of the networks within each of ``WITHIN``.
        chosen: Whether it is the one that ``profiler predict`` asks.
    """

    group: dict[str, str]
    model: str
    left_out: str
    networks: int
    error: float
    hits: tuple[float, ...]
    chosen: bool


def foretold(frame: pd.DataFrame, y: str) -> tuple[list[HeldOut], dict[str, str]]:
    """Leave each network out, and each family, in every group of a table.

    Returns:
        What each model said; and for each group that has too few networks, under its values, why.

    Raises:
        UserError: The table cannot be used, see ``profiler.analysis.rows.checked_rows``.
    """
    made: list[HeldOut] = []
    without: dict[str, str] = {}
    for group, rows in groups_of(checked_rows(frame, y), grouping(frame)):
        used = rows[rows["why"] == ""]
        n = used["network"].nunique()
        if n <= LEAST_NETWORKS:
            without[" · ".join(group.values())] = f"{n} networks measured and counted, more than 3 are needed"
            continue
        made += _of_group(used, group, y)
    return made, without


def _of_group(used: pd.DataFrame, group: dict[str, str], y: str) -> Iterator[HeldOut]:
    for left_out, strange in (("network", None), ("family", _STRANGE)):
        if strange and used["family"].nunique() < 2:
            continue
        fits = [fit_terms(used, group, y, columns, strange) for columns in term_lists(used, y)]
        best = min(fits, key=lambda model: model.typical)
        models = {"two terms": fits[0]} | ({"more terms": best} if best is not fits[0] else {})
        chosen = corrected(best, used, strange)
        if chosen is not best:
            models["corrected"] = chosen
        for name, model in models.items():
            if model.unseen is not None:
                yield _said(name, model, left_out, used["network"].nunique(), chosen=model is chosen)


def _said(name: str, model: CostModel, left_out: str, networks: int, *, chosen: bool) -> HeldOut:
    assert model.unseen is not None
    errors = np.abs(model.unseen / model.measured - 1)
    hits = tuple(float(np.mean(errors <= limit)) for limit in WITHIN)
    return HeldOut(model.group, name, left_out, networks, mape(model.unseen, model.measured), hits, chosen)
