"""Error against a cost: the front, a line per family and scaling rule, and how sure both are."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from profiler.analysis.accuracy import COLUMNS, Accuracies, with_accuracy
from profiler.analysis.fit import Fit
from profiler.analysis.frame import prose, rows_of, unit_of
from profiler.analysis.frontier import Front, fronts
from profiler.errors import UserError
from profiler.report import vega
from profiler.report.charts.parts import GAP, UNSCALED, colour_of, log_scale, shape_of
from profiler.report.colours import INK
from profiler.report.render import PANEL, empty, styled

#: A front of fewer networks is none.
_LEAST = 2
#: More names than this would cover each other.
_MOST_NAMED = 14


def against_error(frame: pd.DataFrame, one: Fit) -> vega.Chart | None:
    """Error against the fitted cost in one group; None where fewer than two networks have an accuracy."""
    rows = rows_of(frame, one.group)
    try:
        told = Accuracies(rows, "", "") if {*COLUMNS} <= {*frame.columns} else with_accuracy(rows)
    except UserError:
        return None
    title = f"Error against {prose(one.y)}"
    panels = [_panel(front, title) for front in fronts(told, one.y) if len(front.points) >= _LEAST]
    return vega.panels(*panels) if panels else None


def all_fronts(found: Sequence[Front]) -> vega.Chart | vega.Chart:
    """A panel for each group; one that says so where no network has both an accuracy and a cost."""
    panels = [_panel(front, front.label) for front in found if front.points]
    return (
        styled(vega.panels(*panels, columns=2, spacing=GAP))
        if panels
        else empty("no network has an accuracy and a cost")
    )


def _panel(front: Front, title: str) -> vega.Chart:
    points = _points(front)
    unit = unit_of(front.y)
    x = vega.x("cost:Q", title=f"{front.what} ({unit})" if unit else front.y, scale=log_scale())
    y = vega.y("error:Q", title="top-1 error (%)", scale=vega.given(zero=False, nice=True, padding=8))
    colour, shape = colour_of(points), shape_of(points)
    tooltip = [
        vega.tip("network:N"),
        vega.tip("cost:Q", format=".4~g"),
        vega.tip("top1:Q", title="top-1", format=".2f"),
        vega.tip("source:N"),
        vega.tip("sure:N", title="on the front"),
    ]
    stairs = vega.mark(_stairs(front), "line", interpolate="step-after", color=INK, strokeWidth=1.4, opacity=0.75)
    lines = vega.mark(_lines(points), "line", strokeWidth=1.2, opacity=0.85)
    named = points[points["member"] & ~points["predicted"]].head(_MOST_NAMED)
    names = vega.mark(named, "text", align="left", dx=7, dy=-7, fontSize=11, limit=160, color=INK)
    sure = vega.mark(points, "rule", strokeWidth=1, opacity=0.85)
    foretold = vega.mark(points, "rule", strokeWidth=1, opacity=0.85, strokeDash=[3, 2])
    layers = [
        stairs.encode(x, y),
        lines.encode(x, y, colour, vega.channel("detail", "line:N"), vega.channel("order", "cost:Q")),
        sure.encode(vega.x("low:Q"), y, colour, vega.channel("x2", "high")),
        foretold.encode(x, vega.y("best:Q"), colour, vega.channel("y2", "worst")),
    ]
    for hollow in (False, True):
        some = points[points["predicted"] == hollow]
        marks = vega.mark(some, "point", filled=not hollow, size=62, opacity=0.85 if hollow else 1, strokeWidth=1.4)
        layers.append(marks.encode(x, y, colour, shape, tooltip=tooltip))
    layers.append(names.encode(x, y, vega.channel("text", "network:N")))
    return vega.layered(*layers, width=2 * PANEL, height=1.3 * PANEL, title=_title(front, points, title))


def _points(front: Front) -> pd.DataFrame:
    """One row per network, with what the marks and a tooltip show."""
    rows = []
    for p in front.points:
        low, high = p.interval or (p.cost, p.cost)
        least, most = p.predicted or (p.top1, p.top1)
        sure = ("yes" if p.member else "no") + ("" if p.probability is None else f", {p.probability:.0%}")
        rows.append(
            {
                "network": p.network,
                "base": p.model,
                "family": p.family or p.model,
                "scaling": p.scaling or UNSCALED,
                "cost": p.cost,
                "low": low,
                "high": high,
                "error": 100 - p.top1,
                "best": 100 - most,
                "worst": 100 - least,
                "top1": p.top1,
                "predicted": p.predicted is not None,
                "source": p.source,
                "sure": sure,
                "member": p.member,
            }
        )
    return pd.DataFrame(rows)


def _lines(points: pd.DataFrame) -> pd.DataFrame:
    """A line for each family through its unscaled networks, and for each base and rule from the base on."""
    unscaled = points[points["scaling"] == UNSCALED]
    made = [unscaled.assign(line=unscaled["family"])]
    for (base, rule), rows in points[points["scaling"] != UNSCALED].groupby(["base", "scaling"], sort=False):
        start = unscaled[unscaled["base"] == base].assign(scaling=str(rule))
        made.append(pd.concat([start, rows]).assign(line=f"{base} {rule}"))
    return pd.concat(made, ignore_index=True)


def _stairs(front: Front) -> pd.DataFrame:
    """The least error that each cost buys, from the cheapest network to the dearest."""
    members = front.members
    ends = [(p.cost, 100 - p.top1) for p in members]
    most = max(p.cost for p in front.points)
    return pd.DataFrame([*ends, (most, ends[-1][1])], columns=["cost", "error"])


def _title(front: Front, points: pd.DataFrame, title: str) -> vega.Specification:
    hollow = "; hollow: predicted, with its 90% interval" if points["predicted"].any() else ""
    bars = "95% intervals of the cost" if (points["low"] < points["high"]).any() else "no intervals of the cost"
    recipe = front.recipe or ", ".join(sorted({text.partition(" (")[0] for text in points["source"]}))
    return vega.title(title, subtitle=f"accuracy under {recipe}; line: the front; bars: {bars}{hollow}")
