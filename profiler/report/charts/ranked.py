"""Latencies of a few networks as bars with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from profiler.analysis.fit import Fit
from profiler.analysis.frame import measured, network_names, prose, rows_of
from profiler.records.columns import interval_columns
from profiler.report import vega
from profiler.report.charts.parts import palette_of, y_title
from profiler.report.charts.sides import setting_of
from profiler.report.colours import INK, PALETTE
from profiler.report.render import PANEL

#: More networks are points of other charts.
_MOST = 12


def ranked_bars(frame: pd.DataFrame, pooled: Sequence[Fit]) -> vega.Chart | None:
    """A bar with its 95% interval for each network and setting, the fastest first; None for none, or for too many.

    Args:
        frame: The table.
        pooled: Its pooled fits.
    """
    varying = [key for key in pooled[0].group if len({one.group.get(key) for one in pooled}) > 1] if pooled else []
    points = [_measured_points(frame, one).assign(side=setting_of(one, varying)) for one in pooled]
    table = pd.concat(points) if points else pd.DataFrame({"network": []})
    sides = list(dict.fromkeys(table["side"])) if len(table) else []
    if not 0 < table["network"].nunique() <= _MOST or len(sides) > len(PALETTE):
        return None
    order = list(table.groupby("network")["y"].min().sort_values().index)
    what = y_title(pooled[0])
    y = vega.y("network:N", title=None, sort=order, axis=vega.given(labelLimit=260))
    offset = vega.channel("yOffset", "side:N", sort=sides)
    legend = vega.given(title=None) if len(sides) > 1 else None
    colour = vega.colour("side:N", scale=vega.given(domain=sides, range=palette_of(len(sides))), legend=legend)
    x = vega.x("y:Q", title=what, scale=vega.given(domain=[0, float(1.25 * table["y"].max())], clamp=True))
    tip = [vega.tip("network:N"), vega.tip("side:N"), vega.tip("y:Q", title=what, format=".4~g")]
    bars = vega.mark(table, "bar", opacity=0.85).encode(x, y, offset, colour, tooltip=tip)
    whiskers = vega.mark(table.dropna(subset=["low", "high"]), "rule", strokeWidth=1.4, color=INK)
    lines = whiskers.encode(vega.x("low:Q", title=what), y, offset, vega.channel("x2", "high"))
    unsure = vega.mark(table[table["status"] == "unstable"], "text", text="?", align="left", dx=4, color=INK)
    marks = unsure.encode(vega.x("end:Q", title=what), y, offset)
    height = max(60, 26 * len(order) * max(1, len(sides) * 0.7))
    title = f"{prose(pooled[0].y).capitalize()} of each network"
    if table["low"].notna().any():
        title += ", with 95% intervals"
    return vega.panels(vega.layered(bars, lines, marks, width=1.8 * PANEL, height=height, title=title))


def _measured_points(frame: pd.DataFrame, one: Fit) -> pd.DataFrame:
    """Network, y and the ends of its interval for each measured row of a group; counts are not needed."""
    rows = rows_of(frame, one.group)
    rows = rows[measured(rows)]
    low, high = interval_columns(one.y)
    cells = {"y": one.y, "low": low, "high": high}
    numbers = {name: pd.to_numeric(rows[of], errors="coerce") if of in rows else None for name, of in cells.items()}
    status = rows.get("status", "")
    table = pd.DataFrame(numbers, index=rows.index).assign(network=network_names(rows), status=status)
    table["end"] = table["y"].where(table["high"].isna(), table["high"])
    return table.dropna(subset=["y"])
