"""Error against a cost: the front, a line per family and scaling rule, and how sure both are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd

from profiler.analysis.accuracy import COLUMNS, Told, with_accuracy
from profiler.analysis.fit import Fit
from profiler.analysis.frame import prose, rows_of, unit_of
from profiler.analysis.frontier import Front, fronts
from profiler.errors import UserError
from profiler.report.charts.parts import GAP, UNSCALED, colour_of, log_scale, shape_of
from profiler.report.render import INK, PANEL, empty, styled

#: A front of fewer networks is none.
_LEAST = 2


def against_error(frame: pd.DataFrame, one: Fit) -> alt.ConcatChart | None:
    """Error against the fitted cost in one group; None where fewer than two networks have an accuracy."""
    try:
        told = Told(frame, "", "") if {*COLUMNS} <= {*frame.columns} else with_accuracy(frame)
    except UserError:
        return None
    found = [front for front in fronts(Told(rows_of(told.frame, one.group), told.recipe, told.source), one.y)]
    front = found[0] if found else None
    return alt.concat(_panel(front)) if front and len(front.points) >= _LEAST else None


def all_fronts(found: Sequence[Front]) -> alt.ConcatChart | alt.Chart:
    """A panel for each group; one that says so where no network has both an accuracy and a cost."""
    panels = [_panel(front) for front in found if front.points]
    return styled(alt.concat(*panels, columns=2, spacing=GAP)) if panels else empty("no network has an accuracy and a cost")


def _panel(front: Front) -> alt.LayerChart:
    points = _points(front)
    unit = unit_of(front.y)
    x = alt.X("cost:Q", title=f"{prose(front.y)} ({unit})" if unit else front.y, scale=log_scale())
    y = alt.Y("error:Q", title="top-1 error (%)", scale=alt.Scale(zero=False, nice=True, padding=8))
    colour, shape = colour_of(points), shape_of(points)
    tooltip = [
        alt.Tooltip("network:N"),
        alt.Tooltip("cost:Q", format=".4~g"),
        alt.Tooltip("top1:Q", title="top-1", format=".2f"),
        alt.Tooltip("source:N"),
        alt.Tooltip("sure:N", title="on the front"),
    ]
    lines = alt.Chart(points).mark_line(strokeWidth=1.2, opacity=0.6)
    layers = [
        _steps(front).encode(x, y),
        lines.encode(x, y, colour, detail=["family:N", "scaling:N", "base:N"], order="cost:Q"),
        alt.Chart(points).mark_rule(strokeWidth=1, opacity=0.5).encode(alt.X("low:Q"), y, colour, x2="high:Q"),
        alt.Chart(points).mark_rule(strokeWidth=1, opacity=0.35).encode(x, alt.Y("best:Q"), colour, y2="worst:Q"),
    ]
    for hollow in (False, True):
        some = points[points["predicted"] == hollow]
        marks = alt.Chart(some).mark_point(filled=not hollow, size=62, opacity=0.85 if hollow else 1, strokeWidth=1.4)
        layers.append(marks.encode(x, y, colour, shape, tooltip=tooltip))
    layers.append(_names(points).encode(x, y, text="network:N"))
    return alt.LayerChart(layer=layers, width=2 * PANEL, height=1.3 * PANEL, title=_title(front, points))
