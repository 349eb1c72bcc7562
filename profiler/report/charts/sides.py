"""Backends, devices, precisions and runs side by side, network by network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from profiler.analysis.fit import Fit
from profiler.analysis.frame import group_label
from profiler.report import vega
from profiler.report.charts.parts import log_scale, palette_of, points_of, y_title
from profiler.report.render import PANEL

_MOST = 40


def side_by_side(frame: pd.DataFrame, pooled: Sequence[Fit]) -> vega.Chart | None:
    """Every network's latency on each side, one line of dots per network; None with fewer than two sides.

    Of more than 40 networks, 40 are shown, evenly spaced from fastest to slowest.
    """
    sides = [one for one in pooled if one.n]
    if len(sides) < 2:
        return None
    varying = [key for key in sides[0].group if len({one.group.get(key) for one in sides}) > 1]
    points = pd.concat([points_of(frame, one).assign(side=setting_of(one, varying)) for one in sides])
    order = points.groupby("network")["y"].min().sort_values().index
    shown = order[np.linspace(0, len(order) - 1, min(_MOST, len(order))).round().astype(int)]
    points = points[points["network"].isin(shown)]
    names = list(dict.fromkeys(points["side"]))
    scale = vega.given(domain=names, range=palette_of(len(names)))
    what = y_title(sides[0])
    x = vega.x("y:Q", title=what, scale=log_scale())
    y = vega.y("network:N", title=None, sort=list(shown), axis=vega.given(labelLimit=220, grid=True))
    colour = vega.colour("side:N", scale=scale, legend=vega.given(title=None))
    tooltip = [vega.tip("network:N"), vega.tip("side:N"), vega.tip("y:Q", title=what, format=".4~g")]
    dots = vega.mark(points, "point", filled=True, size=70, opacity=0.9).encode(x, y, colour, tooltip=tooltip)
    title = f"{len(order)} networks" if len(shown) == len(order) else f"{_MOST} of {len(order)} networks"
    return vega.panels(dots.having(width=2 * PANEL, height={"step": 17}, title=title))


def setting_of(one: Fit, varying: Sequence[str]) -> str:
    """What tells a group from others, as people say it: the values of the keys in which they differ."""
    return group_label({key: one.group[key] for key in varying if key in one.group})
