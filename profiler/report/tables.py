"""What the page says of fits, as sentences and tables: lines, models, growth with s, knees of batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from profiler.analysis.fit import Fit
from profiler.analysis.frame import SECONDS, prose
from profiler.analysis.growth import CONTROL, growth, paces, steps
from profiler.analysis.load import NEAR_BEST
from profiler.analysis.throughput import curves
from profiler.report.grid import Table
from profiler.report.words import full_sentence, outliers_sentence, rates_sentence, two_term_sentence


def lines_table(fits: Sequence[Fit]) -> Table:
    """A row for every fitted line, and one for what could not be fitted, with the reason in place of numbers."""
    unit = f" ({fits[0].unit})" if fits[0].unit else ""
    numbers = (f"slope{unit}", "95% of slope", f"intercept{unit}", "r", "95% of r", "error", "n")
    rows: list[Sequence[str]] = []
    best: list[int] = []
    for one in fits:
        name = one.family or "all families"
        for line in one.lines:
            if one.winner == line.proxy:
                best.append(len(rows))
            slope = (f"{line.slope:.4g}", _interval(line.slope_interval), f"{line.intercept:.4g}")
            r = (f"{line.r:.3f}", _interval(line.r_interval, ".3f"), f"{line.mape:.1%}", str(one.n))
            rows.append((name, f"per {line.x_unit}", *slope, *r))
        reasons = [one.reason] if one.reason else [f"{proxy}: {why}" for proxy, why in one.unfit.items()]
        rows += [(name, why) for why in reasons]
    return Table(("networks", "on"), numbers, rows, best=frozenset(best))


def growth_table(frame: pd.DataFrame, one: Fit) -> Table | None:
    """Exponents of s for each rule, beside those of theory; None where too little was scaled."""
    cost = prose(one.y)
    rows = []
    for each in growth(steps(frame, one)):
        expected = "" if each.theory is None else f"{each.theory:.2f}"
        powers = (expected, f"{each.acts.value:.2f}", f"{each.cost.value:.2f}", _interval(each.cost.interval, ".2f"))
        rows.append((each.rule, *powers, str(each.networks)))
    note = (
        "Powers of s, the growth of flops over the base network's. Theory is that of one convolution; stems, heads "
        "and rounded widths and depths make a network differ."
    )
    numbers = ("theory, acts", "acts", cost, f"95% of {cost}", "scaled networks")
    return Table(("scaled by",), numbers, rows, note) if rows else None


def pace_table(frame: pd.DataFrame, one: Fit) -> Table | None:
    """Every rule beside compound scaling at equal flops; None where that was not measured."""
    cost = prose(one.y)
    rows = [
        (each.rule, f"{each.acts.value:.3f}", f"{each.cost.value:.3f}", _interval(each.cost.interval, ".3f"),
         str(each.bases), str(each.networks))
        for each in paces(steps(frame, one))
    ]  # fmt: skip
    note = (
        f"Times that of compound scaling ({CONTROL}) of the same base by the same factor above 1, per multiply-add. "
        "The interval is over base networks."
    )
    numbers = ("acts", cost, f"95% of {cost}", "bases", "networks")
    return Table(("scaled by",), numbers, rows, note) if rows else None


def knees_table(frame: pd.DataFrame, pooled: Sequence[Fit]) -> Table | None:
    """The knee of each network's curve, beside the batches with the lowest latency and the best throughput.

    None where no network was measured at several batches.
    """
    unit = "images/s" if pooled[0].unit in SECONDS else "throughput"
    cost = f"{prose(pooled[0].y)} ({pooled[0].unit})" if pooled[0].unit else prose(pooled[0].y)
    rows = []
    for (where, network), curve in curves(frame, pooled).groupby(["where", "network"], sort=False):
        shown = curve.iloc[0], curve[curve["knee"]].iloc[0], curve.sort_values("throughput").iloc[-1]
        numbers = [f"{point[column]:{form}}" for point in shown for column, form in _POINT.items()]
        rows.append((str(network), str(where), *numbers))
    heads = [f"{which}: {what}" for which in ("smallest", "knee", "best") for what in ("batch", unit, cost)]
    note = (
        f"The knee is the smallest measured batch with at least {NEAR_BEST:.0%} of the best throughput measured: "
        "beyond it a larger batch buys little but waiting."
    )
    return Table(("network", "where"), heads, rows, note) if rows else None


_POINT = {"batch": "g", "throughput": ".4g", "latency": ".4g"}


def model_sentences(one: Fit, margins: Mapping[str, float]) -> list[str]:
    """The model of both, the speeds it amounts to, who is far from it, and how well it foretells.

    Args:
        one: A pooled fit.
        margins: Half width of the 90% prediction interval of each group, in logarithms, under its label.
    """
    text = two_term_sentence(one)
    if text is None:
        return []
    told = [f"Both together, no term negative: {text}", full_sentence(one), rates_sentence(one), outliers_sentence(one)]
    if one.label in margins:
        ratio = math.exp(margins[one.label])
        told.append(
            f"Of new networks like these, nine in ten lie between {1 / ratio:.2f} and {ratio:.2f} times the prediction."
        )
    return [each for each in told if each]


def _interval(ends: tuple[float, float] | None, form: str = ".4g") -> str:
    return f"[{ends[0]:{form}}, {ends[1]:{form}}]" if ends else ""
