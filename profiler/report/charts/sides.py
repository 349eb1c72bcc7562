"""Backends, devices, precisions and runs side by side, network by network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from profiler.analysis.fit import Fit
from profiler.analysis.frame import group_label
from profiler.report import vega
from profiler.report.charts.parts import dots_of, log_scale, palette_of, points_of, top_of, y_title
from profiler.report.colours import PALETTE
from profiler.report.render import PANEL

_MOST = 40


def side_by_side(frame: pd.DataFrame, pooled: Sequence[Fit]) -> vega.Chart | None:
    """Every network's latency on each side, a line of dots per network; None with fewer than two of either.

    Of more than 40 networks, 40 are shown, evenly spaced from fastest to slowest.
    """
    sides = [one for one in pooled if one.n]
    if len(sides) < 2:
        return None
    varying = [key for key in sides[0].group if len({one.group.get(key) for one in sides}) > 1]
    points = pd.concat([points_of(frame, one).assign(side=setting_of(one, varying)) for one in sides])
    order = points.groupby("network")["y"].min().sort_values().index
    if len(order) < 2:
        return None
    shown = order[np.linspace(0, len(order) - 1, min(_MOST, len(order))).round().astype(int)]
    points = points[points["network"].isin(shown)]
    settings = points["side"].nunique()
    names = list(dict.fromkeys(points["side"]))[: len(PALETTE)]
    points = points[points["side"].isin(names)]
    scale = vega.given(domain=names, range=palette_of(len(names)))
    what, ends = y_title(sides[0]), _ends(points)
    x = vega.x("y:Q", title=what, scale=log_scale(domain=ends, clamp=True), axis=vega.given(orient="top"))
    y = vega.y("network:N", title=None, sort=list(shown), axis=vega.given(labelLimit=220, grid=True))
    colour = vega.colour("side:N", scale=scale, legend=vega.given(title=None))
    tooltip = [vega.tip("network:N"), vega.tip("side:N"), vega.tip("y:Q", title=what, format=".4~g")]
    bars = vega.mark(points.dropna(subset=["low", "high"]), "rule", strokeWidth=1.2, opacity=0.85)
    layers = [bars.encode(vega.Channel("x", x.shown | {"field": "low"}), y, colour, vega.channel("x2", "high"))]
    layers += dots_of(points, x, y, colour, tooltip=tooltip)
    title = _of(len(shown), len(order), "networks")
    if len(names) < settings:
        title += f", {_of(len(names), settings, 'settings')}"
    if points["low"].notna().any():
        title += ", with 95% intervals"
    return vega.panels(vega.layered(*layers, width=1.8 * PANEL, height={"step": 17}, title=title))


def _ends(points: pd.DataFrame) -> list[float]:
    """The axis of ``y``, which holds all intervals but those that would flatten the points."""
    low, y = points["low"].min(), points["y"].min()
    return [float(y if pd.isna(low) else max(low, y / 2)), top_of(points)]


def _of(some: int, every: int, what: str) -> str:
    return f"{every} {what}" if some == every else f"{some} of {every} {what}"


def setting_of(one: Fit, varying: Sequence[str]) -> str:
    """What tells a group from others, as people say it: the values of the keys in which they differ."""
    return group_label({key: one.group[key] for key in varying if key in one.group})
