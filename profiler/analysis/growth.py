"""How activations and latency grow when a network is scaled, rule by rule, beside what theory says.

One convolution has flops in proportion to d · w² · r² and activations in proportion to d · w · r² (Dollar, Singh and
Girshick, *Fast and Accurate Model Scaling*, section 3). A rule that multiplies flops by s therefore multiplies
activations by s to the power of its weights of depth and resolution and half its weight of width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from profiler.analysis.fit import Fit
from profiler.analysis.frame import measured, network_names, plain, rows_of
from profiler.analysis.quantity import Quantity
from profiler.analysis.regression import coefficient, geometric_mean
from profiler.errors import UserError
from profiler.models.scaling import parse_rule

_LEAST_STEPS = 3
#: Compound scaling (Tan and Le 2019): what the other rules are held against.
CONTROL = "dwr"


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
    """How costs change along one rule: as powers of s, or as ratios to compound scaling.

    Attributes:
        rule: As in the table.
        acts: Of activations, of the networks as rounding left them.
        cost: Of the measured column.
        bases: Base networks.
        networks: Scaled networks it rests on.
    """

    rule: str
    acts: Quantity
    cost: Quantity
    bases: int
    networks: int

    @property
    def theory(self) -> float | None:
        """The power of s with which activations should grow, see ``theory``."""
        return theory(self.rule)


def steps(frame: pd.DataFrame, one: Fit) -> pd.DataFrame:
    """The scaled networks of a group, relative to their base.

    Args:
        frame: The table the fit was made from.
        one: A pooled fit.

    Returns:
        Columns network, model, scaling, factor (as asked for), and s (flops), acts and cost, each over that of the
        base network; bases themselves have scaling ``""``. Networks whose base was not measured are not in it.
    """
    wanted = ("model", "scaling", "factor", "step", "shape", "status", "flops", "acts", one.y, *one.group)
    rows = rows_of(frame[[name for name in dict.fromkeys(wanted) if name in frame]], one.group)
    rows = rows[measured(rows)]
    table = pd.DataFrame(
        {
            "network": network_names(rows),
            "model": [plain(v) for v in rows["model"]],
            "scaling": [plain(v) for v in rows["scaling"]] if "scaling" in rows else "",
            "factor": pd.to_numeric(rows["factor"], errors="coerce") if "factor" in rows else np.nan,
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
        table[column] /= table["model"].map(bases[column]).astype(float)  # of no row it would be text
    return table


def growth(relative: pd.DataFrame) -> list[Growth]:
    """Exponents of every rule with at least three scaled networks, in the order of their first appearance.

    They are powers of the measured growth in flops; each base network has a level of its own.

    Args:
        relative: From ``steps``.
    """
    rules = [rule for rule in dict.fromkeys(relative["scaling"]) if rule]
    return [found for rule in rules if (found := _growth(relative, rule))]


def _growth(relative: pd.DataFrame, rule: str) -> Growth | None:
    scaled = relative[relative["scaling"] == rule]
    bases = relative[(relative["scaling"] == "") & relative["model"].isin(scaled["model"])]
    if len(scaled) < _LEAST_STEPS or np.ptp(np.log(scaled["s"].to_numpy(dtype=float))) < 1e-9:
        return None
    both = pd.concat([scaled, bases])
    models = pd.factorize(both["model"])[0]
    own = (models[:, None] == np.arange(models.max() + 1)).astype(np.float64)
    log_s = np.log(both["s"].to_numpy(dtype=np.float64))
    terms = np.column_stack([own, log_s])
    acts, cost = (coefficient(terms, np.log(both[c].to_numpy(dtype=np.float64))) for c in ("acts", "cost"))
    return Growth(rule, acts, cost, len(bases), len(scaled))


def paces(relative: pd.DataFrame, control: str = CONTROL, only: str | None = None) -> list[Growth]:
    """Every rule beside one, compound scaling, of the same bases by the same factors, at equal flops; cheapest first.

    Ratios are geometric means over bases of costs per multiply-add, with Student's interval over three or more; below 1
    the rule is the cheaper. Empty where the control was not measured.

    Rounded widths and depths leave the flops of a pair some percent apart, so that costs are compared per multiply-add.
    Only networks scaled up count: a rule that adds few activations on the way up takes few away on the way down.

    Args:
        relative: From ``steps``.
        control: Rule that the others are held against.
        only: The one rule that is wanted; None for every one.
    """
    scaled = relative[(relative["scaling"] != "") & (relative["factor"] > 1)]
    scaled = scaled.drop_duplicates(["model", "scaling", "factor"])
    held = scaled[scaled["scaling"] == control].set_index(["model", "factor"])
    found = []
    for rule in [only] if only else dict.fromkeys(scaled["scaling"]):
        own = scaled[scaled["scaling"] == rule].set_index(["model", "factor"])
        own, other = own.align(held, join="inner", axis=0)
        if rule == control or own.empty:
            continue
        logs = {c: np.log((own[c] / own["s"]) / (other[c] / other["s"])) for c in ("acts", "cost")}
        by_base = {c: np.exp(each.groupby("model").mean().to_numpy(dtype=float)) for c, each in logs.items()}
        acts, cost = (Quantity(*geometric_mean(by_base[c])) for c in ("acts", "cost"))
        found.append(Growth(rule, acts, cost, len(by_base["cost"]), len(own)))
    return sorted(found, key=lambda each: each.cost.value)
