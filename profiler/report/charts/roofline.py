"""Layers under the roofline of a machine (Williams et al. 2009)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from profiler.analysis.layers import LayerCost
from profiler.measure.peaks import Peaks
from profiler.report import vega
from profiler.report.colours import EDGE, INK, PALETTE
from profiler.report.render import PANEL, styled

_COLOURS = {"compute": PALETTE[0], "memory": PALETTE[4], "overhead": EDGE}
_DASHES = {"in cache": [1, 0], "in memory": [5, 3]}


def roofline_chart(layers: Sequence[LayerCost], peaks: Peaks) -> vega.Chart:
    """Multiply-adds per second against multiply-adds per byte, both logarithmic; areas are shares of the time."""
    points = pd.DataFrame(
        {
            "layer": f"{layer.name} {layer.operator}",
            "per byte": float(f"{layer.flops / layer.moved_bytes:.4g}"),
            "GF/s": float(f"{layer.flops / layer.latency_ms / 1e6:.4g}"),
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
    x = vega.x("per byte:Q", scale=vega.given(type="log"), title="multiply-adds per byte")
    y = vega.y("GF/s:Q", scale=vega.given(type="log"), title="GF per second", axis=vega.given(format="~g"))
    dashes = vega.given(domain=[*_DASHES], range=[*_DASHES.values()])
    lines = vega.mark(roofs, "line", strokeWidth=1.5).encode(
        x,
        y,
        vega.channel("strokeDash", "roof:N", scale=dashes, legend=vega.given(title="roof")),
        vega.Channel("color", {"value": INK}),
    )
    colour = vega.colour("held by:N", scale=vega.given(domain=[*_COLOURS], range=[*_COLOURS.values()]), title="held by")
    dots = vega.mark(points, "circle", opacity=0.85).encode(
        x,
        y,
        vega.channel("size", "share:Q", legend=None),
        colour,
        tooltip=[vega.tip("layer:N"), vega.tip("GF/s:Q"), vega.tip("share:Q", format=".1%")],
    )
    return styled(
        vega.layered(lines, dots, width=2 * PANEL, height=PANEL, title="Layers, by their share of the time"), padding=2
    )


def _roofs(peaks: Peaks, low: float, high: float) -> list[dict[str, object]]:
    sizes = sorted(peaks.bytes_per_s)
    made: list[dict[str, object]] = []
    for name, size in (("in cache", sizes[0]), ("in memory", sizes[-1])):
        corner = peaks.flops_per_s / peaks.bytes_per_s[size]
        for per_byte in sorted({low, min(max(corner, low), high), high}):
            reached = min(peaks.flops_per_s, per_byte * peaks.bytes_per_s[size])
            made.append({"per byte": per_byte, "GF/s": reached / 1e9, "roof": name})
    return made
