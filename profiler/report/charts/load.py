"""Latency against calls per second, as the load grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import altair as alt
import pandas as pd

from profiler.analysis.load import NEAR_BEST, Curve, Limit
from profiler.report.charts.parts import GAP, palette_of
from profiler.report.render import PANEL, Chart, styled

#: An axis of latencies further apart than this many times is logarithmic.
_FAR = 8
_COLUMNS = ("curve", "load", "streams", "percentile", "calls per s", "ms", "low", "high", "left", "right", "knee")


def load_chart(found: Sequence[Curve], limit: Limit | None) -> Chart | None:
    """The median and the 99th percentile of latency, a line each; closed loops beside open ones; knees are ringed.

    Whiskers are 95% intervals. None where there is no load.
    """
    panels = {
        "Closed loops": pd.DataFrame(_points(found, opened=False), columns=_COLUMNS),
        "Open loops: latency from arrival": pd.DataFrame(_points(found, opened=True), columns=_COLUMNS),
    }
    names = [curve.name for curve in found]
    drawn = [_panel(title, rows, names, limit) for title, rows in panels.items() if len(rows)]
    return styled(alt.concat(*drawn, columns=2, spacing=GAP)) if drawn else None


def _points(found: Sequence[Curve], *, opened: bool) -> Iterator[tuple[object, ...]]:
    for curve in found:
        knee = curve.knee
        for one in curve.opened if opened else curve.closed:
            record, point = one
            label = f"{record.load.rate:g}" if record.load.rate else str(record.load.streams)
            at = (point.calls_per_s, point.calls_low_per_s, point.calls_high_per_s)
            for name in ("p50", "p99"):
                ms, low, high = (getattr(point, f"{name}{end}_ms") for end in ("", "_low", "_high"))
                if ms is not None:
                    ringed = one is knee and name == "p50"
                    yield (curve.name, str(record.load), label, name, at[0], ms, low, high, at[1], at[2], ringed)


def _panel(title: str, rows: pd.DataFrame, names: Sequence[str], limit: Limit | None) -> alt.LayerChart:
    opened = title.startswith("Open")
    far = rows["ms"].max() > _FAR * rows["ms"].min()
    scale = alt.Scale(type="log", nice=False, padding=14) if far else alt.Scale(zero=True)
    x = alt.X("calls per s:Q", title="calls per second", scale=alt.Scale(zero=False, nice=False, padding=24))
    y = alt.Y("ms:Q", title="latency (ms)", scale=scale)
    legend = alt.Legend(title=None) if len(names) > 1 else None
    colour = alt.Color("curve:N", scale=alt.Scale(domain=list(names), range=palette_of(len(names))), legend=legend)
    dash = alt.StrokeDash("percentile:N", title=None, scale=alt.Scale(domain=["p50", "p99"], range=[[1, 0], [5, 3]]))
    tooltip = [alt.Tooltip("curve:N"), alt.Tooltip("load:N"), alt.Tooltip("percentile:N")]
    tooltip += [alt.Tooltip(f"{name}:Q", format=".4~g") for name in ("calls per s", "ms", "low", "high")]
    order = alt.Order("calls per s:Q") if opened else alt.Order("streams:Q")
    base = alt.Chart(rows.assign(streams=pd.to_numeric(rows["streams"])))
    texts = alt.Chart(rows[rows["percentile"] == "p50"]).mark_text(dy=15, fontSize=11)
    layers: list[alt.Chart] = [
        base.mark_line(strokeWidth=1.5, opacity=0.8).encode(x, y, colour, dash, order=order),
        base.mark_rule(opacity=0.5).encode(x, alt.Y("low:Q"), colour, y2="high:Q"),
        base.mark_rule(opacity=0.5).encode(alt.X("left:Q"), y, colour, x2="right:Q"),
        base.mark_point(filled=True, size=50, opacity=0.9).encode(x, y, colour, tooltip=tooltip),
        alt.Chart(rows[rows["knee"]]).mark_point(size=190, strokeWidth=1.6, opacity=1).encode(x, y, colour),
        texts.encode(x, y, colour, text="streams:N"),
    ]
    if limit is not None:
        line = alt.Chart(pd.DataFrame({"ms": [limit.ms]})).mark_rule(strokeDash=[2, 2], color="#D55E00")
        layers.append(line.encode(alt.Y("ms:Q", scale=scale)))
    told = "numbers are requests per second" if opened else "numbers are streams"
    ringed = f"; ringed: the fewest with {NEAR_BEST:.0%} of the most" if rows["knee"].any() else ""
    dotted = f"; dotted: {limit}" if limit is not None else ""
    shown = alt.TitleParams(title, subtitle=f"{told}{ringed}{dotted}")
    return alt.LayerChart(layer=layers, width=1.4 * PANEL, height=PANEL, title=shown)
