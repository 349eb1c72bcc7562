"""Latencies of a few networks as bars with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from profiler.analysis.fit import Fit
from profiler.analysis.frame import measured, network_names, rows_of
from profiler.records.columns import interval_columns
from profiler.report.charts.parts import palette_of, y_title
from profiler.report.charts.sides import setting_of
from profiler.report.render import PANEL

#: More networks are points of other charts.
_MOST = 12


def ranked_bars(frame: pd.DataFrame, pooled: Sequence[Fit]) -> alt.ConcatChart | None:
    """A bar with its 95% interval for each network and setting, the fastest first; None for none, or for too many.

    Args:
        frame: The table.
        pooled: Its pooled fits.
    """
    varying = [key for key in pooled[0].group if len({one.group.get(key) for one in pooled}) > 1] if pooled else []
    points = [_measured_points(frame, one).assign(side=setting_of(one, varying)) for one in pooled]
    table = pd.concat(points) if points else pd.DataFrame({"network": []})
    if not 0 < table["network"].nunique() <= _MOST:
        return None
    sides = list(dict.fromkeys(table["side"]))
    order = list(table.groupby("network")["y"].min().sort_values().index)
    what = y_title(pooled[0])
    y = alt.Y("network:N", title=None, sort=order, axis=alt.Axis(labelLimit=260))
    offset = alt.YOffset("side:N", sort=sides)
    legend = alt.Legend(title=None) if len(sides) > 1 else None
    colour = alt.Color("side:N", scale=alt.Scale(domain=sides, range=palette_of(len(sides))), legend=legend)
    x = alt.X("y:Q", title=what, scale=alt.Scale(domain=[0, float(1.25 * table["y"].max())], clamp=True))
    tip = [alt.Tooltip("network:N"), alt.Tooltip("side:N"), alt.Tooltip("y:Q", title=what, format=".4~g")]
    bars = alt.Chart(table).mark_bar(opacity=0.85).encode(x, y, offset, colour, tooltip=tip)
    whiskers = alt.Chart(table.dropna(subset=["low", "high"])).mark_rule(strokeWidth=1.4, color="#1f2328")
    lines = whiskers.encode(alt.X("low:Q", title=what), y, offset, x2="high:Q")
    height = max(60, 26 * len(order) * max(1, len(sides) * 0.7))
    return alt.concat(alt.LayerChart(layer=[bars, lines], width=2 * PANEL, height=height))


def _measured_points(frame: pd.DataFrame, one: Fit) -> pd.DataFrame:
    """Network, y and the ends of its interval for each measured row of a group; counts are not needed."""
    rows = rows_of(frame, one.group)
    rows = rows[measured(rows)]
    low, high = interval_columns(one.y)
    cells = {"y": one.y, "low": low, "high": high}
    numbers = {name: pd.to_numeric(rows[of], errors="coerce") if of in rows else None for name, of in cells.items()}
    table = pd.DataFrame(numbers, index=rows.index).assign(network=network_names(rows))
    return table.dropna(subset=["y"])
