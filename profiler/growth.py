"""How activations and latency grow when a network is scaled, rule by rule, beside what theory says.

One convolution has flops in proportion to d · w² · r² and activations in proportion to d · w · r² (Dollar, Singh and
Girshick, *Fast and Accurate Model Scaling*, section 3). A rule that multiplies flops by s therefore multiplies
activations by s to the power of its weights of depth and resolution and half its weight of width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from profiler.errors import UserError
from profiler.fit import Fit, measured, network_names, plain, rows_of
from profiler.models.scaling import parse_rule
from profiler.regression import Coefficient, coefficient

LEAST_STEPS = 3


def theory(rule: str) -> float | None:
    """The power of s with which activations grow: 1/2 for ``w``, 1 for ``d`` and ``r``, 1 - a/2 for ``alpha=a``.

    None for a text that is no rule.
    """
    try:
        by_depth, by_width, _, by_side = parse_rule(rule).exponents
    except UserError:
        return None
    return by_depth + by_width + 2 * by_side


@dataclass(frozen=True, slots=True)
class Growth:
    """How costs grow along one rule, as powers of the measured growth in flops.

    Attributes:
        rule: As in the table.
        theory: Of activations, see :func:`theory`.
        acts: Exponent of activations, of the networks as rounding left them.
        cost: Exponent of the measured column, each base network with a level of its own.
        steps: Scaled networks it rests on.
    """

    rule: str
    theory: float | None
    acts: Coefficient
    cost: Coefficient
    steps: int


def steps(frame: pd.DataFrame, one: Fit) -> pd.DataFrame:
    """The scaled networks of a group, relative to their base.

    Args:
        frame: The table the fit was made from.
        one: A pooled fit.

    Returns:
        Columns network, model, scaling, s (flops), acts and cost, each over that of the base network; bases
        themselves have scaling ``""``. Networks whose base was not measured are not in it.
    """
    rows = rows_of(frame, one.group)
    rows = rows[measured(rows)]
    table = pd.DataFrame(
        {
            "network": network_names(rows),
            "model": [plain(v) for v in rows["model"]],
            "scaling": [plain(v) for v in rows["scaling"]] if "scaling" in rows else "",
            **{
                name: pd.to_numeric(rows[column], errors="coerce").to_numpy(dtype=float)
                for name, column in (("s", "flops"), ("acts", "acts"), ("cost", one.y))
            },
        }
    )
    table = table[(table[["s", "acts", "cost"]] > 0).all(axis=1)]
    bases = table[table["scaling"] == ""].drop_duplicates("model").set_index("model")
    table = table[table["model"].isin(bases.index)].reset_index(drop=True)
    for column in ("s", "acts", "cost"):
        table[column] /= table["model"].map(bases[column])
    return table


def growth(relative: pd.DataFrame) -> list[Growth]:
    """Exponents of every rule with at least three scaled networks, in the order of their first appearance.

    Args:
        relative: From :func:`steps`.
    """
    rules = [rule for rule in dict.fromkeys(relative["scaling"]) if rule]
    return [found for rule in rules if (found := _growth(relative, rule))]


def _growth(relative: pd.DataFrame, rule: str) -> Growth | None:
    scaled = relative[relative["scaling"] == rule]
    bases = relative[(relative["scaling"] == "") & relative["model"].isin(scaled["model"])]
    if len(scaled) < LEAST_STEPS or np.ptp(np.log(scaled["s"].to_numpy(dtype=float))) < 1e-9:
        return None
    both = pd.concat([scaled, bases])
    models = pd.factorize(both["model"])[0]
    own = (models[:, None] == np.arange(models.max() + 1)).astype(np.float64)
    log_s = np.log(both["s"].to_numpy(dtype=np.float64))
    terms = np.column_stack([own, log_s])
    acts, cost = (coefficient(terms, np.log(both[c].to_numpy(dtype=np.float64))) for c in ("acts", "cost"))
    return Growth(rule, theory(rule), acts, cost, len(scaled))
