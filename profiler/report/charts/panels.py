"""A cost against activations, flops and parameters, with the fitted lines."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from profiler.analysis.fit import Fit, fit
from profiler.analysis.frame import PROXIES
from profiler.analysis.line import Line
from profiler.analysis.predict import costs_of
from profiler.report import vega
from profiler.report.charts.parts import GAP, colour_of, dots_of, points_of, shape_of, top_of, y_title
from profiler.report.colours import INK
from profiler.report.render import PANEL, empty, styled

#: What is told of a point where not all have the same.
_TOLD = ("family", "scaling", "resolution", "parity")


def latency_panels(frame: pd.DataFrame, fits: Sequence[Fit]) -> vega.Chart:
    """Latency against activations, flops and parameters: three panels side by side, a row per group.

    Args:
        frame: The table the fits were made from.
        fits: What ``profiler.analysis.fit.fit`` made of it.

    Returns:
        A chart; one that says so where nothing was measured.
    """
    rows = [
        three_panels(frame, one).having(title=_row_title(frame, one)) for one in fits if one.family is None and one.n
    ]
    if not rows:
        return empty(next((one.reason for one in fits if one.reason), None) or "the table has no measured case")
    return styled(vega.stacked(*rows, spacing=34))


def three_panels(frame: pd.DataFrame, one: Fit) -> vega.Chart:
    """The three panels of one group, in reading order; a page may wrap them by setting ``columns``.

    Args:
        frame: The table the fit was made from.
        one: A pooled fit with at least one network.
    """
    points = points_of(frame, one)
    return vega.panels(*(_panel(points, one, proxy) for proxy in PROXIES), columns=3, spacing=GAP)


def costs(frame: pd.DataFrame, pooled: Sequence[Fit]) -> vega.Chart | None:
    """Other costs, such as memory, against activations: a panel per cost and group; None without any.

    Args:
        frame: The table.
        pooled: Its pooled fits of the main cost, which is left out.
    """
    columns = [column for column in costs_of(frame) if column not in {one.y for one in pooled}]
    others = [one for column in columns for one in fit(frame, column) if one.family is None and one.n]
    panels = [
        _panel(points_of(frame, one), one, "acts").having(title=vega.title(y_title(one), subtitle=one.label))
        for one in others
    ]
    return vega.panels(*panels, columns=3, spacing=GAP) if panels else None


def _row_title(frame: pd.DataFrame, one: Fit) -> vega.Specification:
    networks = f"{one.n} network" if one.n == 1 else f"{one.n} networks"
    if (points_of(frame, one)["status"] == "unstable").any():
        networks += "; hollow: unstable"
    return vega.title(one.label, subtitle=networks, fontSize=15, offset=16)


def _panel(points: pd.DataFrame, one: Fit, proxy: str) -> vega.Chart:
    line = one.line(proxy)
    unit = line.x_unit if line else PROXIES[proxy].unit
    x = vega.x(f"{proxy}:Q", title=_x_title(proxy, unit), scale=vega.given(zero=True, nice=True))
    # One range for the three panels of a group, to compare heights; one extent, to align rows.
    tops = [top_of(points), *(_ends(points, each)["y"].max() for each in one.lines)]
    axis = vega.given(minExtent=34, title=y_title(one), **({"format": "~s"} if one.unit == "bytes" else {}))
    y = vega.y("y:Q", axis=axis, scale=vega.given(domain=[0, max(tops)], nice=True, clamp=True))
    seen = (x, y, colour_of(points), shape_of(points))
    layers = dots_of(points, *seen, tooltip=_tooltip(points, one, proxy, unit))
    if points["low"].notna().any():
        bars = vega.mark(points, "rule", strokeWidth=1, opacity=0.85)
        layers.insert(0, bars.encode(x, vega.y("low:Q", axis=axis), vega.channel("y2", "high"), colour_of(points)))
    if line:
        mark = vega.mark(_ends(points, line), "line", color=INK, strokeWidth=1.4, opacity=0.75, clip=True)
        layers.insert(0, mark.encode(x, y, tooltip=[vega.tip("line:N", title="fit")]))
    return vega.layered(*layers, width=PANEL, height=PANEL * 0.8, title=_panel_title(one, proxy, line))


def _ends(points: pd.DataFrame, line: Line) -> pd.DataFrame:
    """Both ends of a fitted line, and its equation."""
    x = pd.Series([points[line.proxy].min(), points[line.proxy].max()])
    text = f"{line.intercept:.4g} + {line.slope:.4g} per {line.x_unit}"
    return pd.DataFrame({line.proxy: x, "y": line.intercept + line.slope * x, "line": text})


def _panel_title(one: Fit, proxy: str, line: Line | None) -> vega.Specification:
    """What is seen: the correlation with its interval, the best one in bold."""
    best = one.winner == proxy
    name = PROXIES[proxy].name.capitalize()
    if line is None:
        return vega.title(name, subtitle=one.unfit.get(proxy, ""), fontWeight="normal")
    low, high = line.r_interval
    return vega.title(
        f"{name}: r = {line.r:.3f}" + (" (best)" if best else ""),
        subtitle=f"95% interval {low:.3f} to {high:.3f}",
        fontWeight="bold" if best else "normal",
    )


def _x_title(proxy: str, unit: str) -> str:
    """``activations of one image (millions)``; parameters do not depend on the image."""
    name = PROXIES[proxy].name + ("" if proxy == "params" else " of one image")
    return f"{name} ({'millions' if unit.startswith('M ') else unit})"


def _tooltip(points: pd.DataFrame, one: Fit, proxy: str, unit: str) -> list[vega.Specification]:
    shown = [
        vega.tip("network:N"),
        vega.tip("y:Q", title=y_title(one), format=".4~g"),
        vega.tip("low:Q", title="95% from", format=".4~g"),
        vega.tip("high:Q", title="95% to", format=".4~g"),
        vega.tip(f"{proxy}:Q", title=unit, format=".4~g"),
        *(vega.tip(f"{name}:N") for name in _TOLD if points[name].nunique() > 1),
        vega.tip("status:N"),
    ]
    return [tip for tip in shown if points[tip["field"]].replace("", None).notna().any()]
