"""Throughput and latency against the batch."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from profiler.analysis.fit import Fit
from profiler.analysis.frame import SECONDS
from profiler.analysis.load import NEAR_BEST
from profiler.analysis.throughput import curves
from profiler.report import vega
from profiler.report.charts.parts import GAP, UNSCALED, colour_of, log_scale, y_title
from profiler.report.render import PANEL


def against_batch(frame: pd.DataFrame, pooled: Sequence[Fit]) -> vega.Chart | None:
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
    tooltip = [vega.tip("network:N"), vega.tip("batch:Q")]
    tooltip += [vega.tip(f"{name}:Q", title=title, format=".4~g") for name, title in titles.items()]
    x = vega.x("batch:Q", title="batch", scale=log_scale(base=2))
    panels = []
    for where, rows in points.groupby("where", sort=False):
        for name, title in titles.items():
            y = vega.y(f"{name}:Q", title=title, scale=log_scale())
            line = vega.mark(rows, "line", point=True, strokeWidth=1.4, opacity=0.85)
            ring = vega.mark(rows[rows["knee"]], "point", size=140, strokeWidth=1.6, opacity=1)
            seen = (x, y, colour, vega.channel("detail", "network:N"))
            layers = [mark.encode(*seen, tooltip=tooltip) for mark in (line, ring)]
            told = vega.title(str(where), subtitle=f"ringed: {NEAR_BEST:.0%} of the best throughput is reached")
            panels.append(vega.layered(*layers, width=PANEL, height=PANEL * 0.8, title=told))
    return vega.panels(*panels, columns=2, spacing=GAP)
