"""Throughput and latency against the batch."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from profiler.analysis.fit import Fit
from profiler.analysis.frame import SECONDS
from profiler.analysis.load import NEAR_BEST
from profiler.analysis.throughput import curves
from profiler.report.charts.parts import GAP, UNSCALED, colour_of, log_scale, y_title
from profiler.report.render import PANEL


def against_batch(frame: pd.DataFrame, pooled: Sequence[Fit]) -> alt.ConcatChart | None:
    """Throughput and latency against the batch, a line per network, two panels per backend and placement.

    The knee of each line is ringed. None where no network was measured at several batches.
    """
    points = curves(frame, pooled)
    if points.empty:
        return None
    points["scaling"] = points["scaling"].replace("", UNSCALED)
    titles = {
        "throughput": "images/s" if pooled[0].unit in SECONDS else f"batch / {pooled[0].y}",
        "latency": f"{y_title(pooled[0])} of the batch",
    }
    colour = colour_of(points)
    tooltip = [alt.Tooltip("network:N"), alt.Tooltip("batch:Q")]
    tooltip += [alt.Tooltip(f"{name}:Q", title=title, format=".4~g") for name, title in titles.items()]
    x = alt.X("batch:Q", title="batch", scale=log_scale(2))
    panels = []
    for where, rows in points.groupby("where", sort=False):
        for name, title in titles.items():
            y = alt.Y(f"{name}:Q", title=title, scale=log_scale())
            line = alt.Chart(rows).mark_line(point=True, strokeWidth=1.4, opacity=0.8)
            ring = alt.Chart(rows[rows["knee"]]).mark_point(size=140, strokeWidth=1.6, opacity=1)
            layers = [mark.encode(x, y, colour, alt.Detail("network:N"), tooltip=tooltip) for mark in (line, ring)]
            told = alt.TitleParams(str(where), subtitle=f"ringed: {NEAR_BEST:.0%} of the best throughput is reached")
            panels.append(alt.LayerChart(layer=layers, width=PANEL, height=PANEL * 0.8, title=told))
    return alt.concat(*panels, columns=2, spacing=GAP)
