"""Layers under the roofline of a machine (Williams et al. 2009)."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from profiler.analysis.layers import LayerCost
from profiler.measure.peaks import Peaks
from profiler.report.render import PANEL, Chart, styled

_COLOURS = {"compute": "#2b6cb0", "memory": "#c05621", "overhead": "#718096"}


def roofline_chart(layers: Sequence[LayerCost], peaks: Peaks) -> Chart:
    """Multiply-adds per second against multiply-adds per byte, both logarithmic; areas are shares of the time."""
    points = pd.DataFrame(
        {
            "layer": f"{layer.name} {layer.operator}",
            "per byte": layer.flops / layer.moved_bytes,
            "GF/s": layer.flops / layer.latency_ms / 1e6,
            "share": layer.share,
            "held by": layer.bound,
        }
        for layer in layers
        if layer.flops and layer.moved_bytes and layer.latency_ms
    )
    if points.empty:
        points = pd.DataFrame({"layer": [], "per byte": [], "GF/s": [], "share": [], "held by": []})
    low, high = (points["per byte"].min() / 2, points["per byte"].max() * 2) if len(points) else (0.1, 100.0)
    roofs = pd.DataFrame(_roofs(peaks, low, high))
    x = alt.X("per byte:Q", scale=alt.Scale(type="log"), title="multiply-adds per byte")
    y = alt.Y("GF/s:Q", scale=alt.Scale(type="log"), title="GF per second")
    lines = (
        alt.Chart(roofs)
        .mark_line(strokeWidth=1.5)
        .encode(x=x, y=y, strokeDash=alt.StrokeDash("roof:N", title=None), color=alt.value("#1f2328"))
    )
    colour = alt.Color("held by:N", scale=alt.Scale(domain=[*_COLOURS], range=[*_COLOURS.values()]), title="held by")
    dots = (
        alt.Chart(points)
        .mark_circle(opacity=0.7)
        .encode(x=x, y=y, size=alt.Size("share:Q", legend=None), color=colour, tooltip=["layer", "GF/s", "share"])
    )
    return styled(alt.LayerChart(layer=[lines, dots], width=2 * PANEL, height=PANEL))


def _roofs(peaks: Peaks, low: float, high: float) -> list[dict[str, object]]:
    sizes = sorted(peaks.bytes_per_s)
    made: list[dict[str, object]] = []
    for name, size in (("in cache", sizes[0]), ("in memory", sizes[-1])):
        corner = peaks.flops_per_s / peaks.bytes_per_s[size]
        for per_byte in sorted({low, min(max(corner, low), high), high}):
            reached = min(peaks.flops_per_s, per_byte * peaks.bytes_per_s[size])
            made.append({"per byte": per_byte, "GF/s": reached / 1e9, "roof": name})
    return made
