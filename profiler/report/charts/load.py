"""Latency against calls per second, as the load grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from profiler.analysis.load import NEAR_BEST, Curve, Limit
from profiler.report import vega
from profiler.report.charts.parts import GAP, palette_of
from profiler.report.colours import INK, PALETTE
from profiler.report.render import PANEL, styled

#: An axis of latencies further apart than this many times is logarithmic.
_FAR = 8
_COLUMNS = ("curve", "load", "streams", "percentile", "calls per s", "ms", "low", "high", "left", "right", "knee")


def load_chart(found: Sequence[Curve], limit: Limit | None) -> vega.Chart | None:
    """The median and the 99th percentile of latency, a line each; closed loops beside open ones; knees are ringed.

    Whiskers are 95% intervals. None where there is no load.
    """
    panels = {
        "Closed loops": pd.DataFrame(_points(found, opened=False), columns=_COLUMNS),
        "Open loops: latency from arrival": pd.DataFrame(_points(found, opened=True), columns=_COLUMNS),
    }
    names = [curve.name for curve in found]
    drawn = [_panel(title, rows, names, limit) for title, rows in panels.items() if len(rows)]
    return styled(vega.panels(*drawn, columns=2, spacing=GAP), padding=2) if drawn else None


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


def _panel(title: str, rows: pd.DataFrame, names: Sequence[str], limit: Limit | None) -> vega.Chart:
    opened = title.startswith("Open")
    far = rows["ms"].max() > _FAR * rows["ms"].min()
    scale = vega.given(type="log", nice=False, padding=14) if far else vega.given(zero=True)
    x = vega.x("calls per s:Q", title="calls per second", scale=vega.given(zero=False, nice=False, padding=24))
    y = vega.y("ms:Q", title="latency (ms)", scale=scale)
    legend = vega.given(title=None) if len(names) > 1 else None
    colour = vega.colour("curve:N", scale=vega.given(domain=list(names), range=palette_of(len(names))), legend=legend)
    dashes = vega.given(domain=["p50", "p99"], range=[[1, 0], [5, 3]])
    dash = vega.channel("strokeDash", "percentile:N", title=None, scale=dashes, legend=vega.given(title=None))
    tooltip = [vega.tip("curve:N"), vega.tip("load:N"), vega.tip("percentile:N")]
    tooltip += [vega.tip(f"{name}:Q", format=".4~g") for name in ("calls per s", "ms", "low", "high")]
    order = vega.channel("order", "calls per s:Q") if opened else vega.channel("order", "streams:Q")
    base = rows.assign(streams=pd.to_numeric(rows["streams"]))
    texts = vega.mark(rows[rows["percentile"] == "p50"], "text", dy=15, fontSize=11, color=INK)
    layers: list[vega.Chart] = [
        vega.mark(base, "line", strokeWidth=1.5, opacity=0.85).encode(x, y, colour, dash, order),
        vega.mark(base, "rule", opacity=0.85).encode(x, vega.y("low:Q"), colour, vega.channel("y2", "high")),
        vega.mark(base, "rule", opacity=0.85).encode(vega.x("left:Q"), y, colour, vega.channel("x2", "right")),
        vega.mark(base, "point", filled=True, size=50, opacity=0.9).encode(x, y, colour, tooltip=tooltip),
        vega.mark(rows[rows["knee"]], "point", size=190, strokeWidth=1.6, opacity=1).encode(x, y, colour),
        texts.encode(x, y, vega.channel("text", "streams:N")),
    ]
    if limit is not None:
        line = vega.mark(pd.DataFrame({"ms": [limit.ms]}), "rule", strokeDash=[2, 2], color=PALETTE[4])
        layers.append(line.encode(vega.y("ms:Q", scale=scale)))
    told = "numbers are requests per second" if opened else "numbers are streams"
    ringed = f"; ringed: the fewest with {NEAR_BEST:.0%} of the most" if rows["knee"].any() else ""
    dotted = f"; dotted: {limit}" if limit is not None else ""
    shown = vega.title(title, subtitle=f"{told}{ringed}{dotted}")
    return vega.layered(*layers, width=1.4 * PANEL, height=PANEL, title=shown)
