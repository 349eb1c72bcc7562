"""Charts, as pure functions from tables to altair specifications; saved without a browser or a network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import altair as alt
import numpy as np
import pandas as pd

from profiler.analysis.cost_model import CostModel
from profiler.analysis.fit import Fit
from profiler.analysis.frame import (
    PROXIES,
    SECONDS,
    group_label,
    measured,
    network_names,
    plain,
    prose,
    rows_of,
    scale_of,
)
from profiler.analysis.growth import steps, theory
from profiler.analysis.line import Line
from profiler.analysis.throughput import NEAR_BEST, curves
from profiler.report.render import INK, PANEL, Chart, empty, styled

# Okabe and Ito's palette, told apart with every common colour blindness; the unscaled network stays neutral.
UNSCALED = "unscaled"
RULE_COLOURS = {
    UNSCALED: "#555555",
    "d": "#0072B2",
    "w": "#E69F00",
    "r": "#009E73",
    "dwr": "#CC79A7",
    "dWr": "#D55E00",
    "g": "#56B4E9",
}
OTHER_COLOURS = ("#56B4E9", "#8C6D1F", "#000000", "#B8A800", "#7A5195")
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "stroke")


def latency(frame: pd.DataFrame, fits: Sequence[Fit]) -> Chart:
    """Latency against activations, flops and parameters: three panels side by side, a row per group.

    Args:
        frame: The table the fits were made from.
        fits: What ``profiler.analysis.fit.fit`` made of it.

    Returns:
        A chart; one that says so where nothing was measured.
    """
    rows = [group(frame, one).properties(title=_row_title(one)) for one in fits if one.family is None and one.n]
    if not rows:
        return empty(next((one.reason for one in fits if one.reason), None) or "the table has no measured case")
    return styled(alt.vconcat(*rows, spacing=34))


def group(frame: pd.DataFrame, one: Fit) -> alt.ConcatChart:
    """The three panels of one group, in reading order; a page may wrap them by setting ``columns``.

    Args:
        frame: The table the fit was made from.
        one: A pooled fit with at least one network.
    """
    points = _points(frame, one)
    return alt.concat(*(_panel(points, one, proxy) for proxy in PROXIES), columns=3, spacing=26)


def behind(frame: pd.DataFrame, one: Fit) -> alt.ConcatChart | None:
    """What stands behind a group's fit: growth of activations and cost with s, and the two-term residuals.

    Args:
        frame: The table the fit was made from.
        one: A pooled fit with at least one network.

    Returns:
        One to three panels; None where there is neither a scaled network nor a two-term model.
    """
    points, relative = _points(frame, one), steps(frame, one)
    # One scale for all panels: they share a legend, and each rule its colour.
    colour = _colour(points)
    panels: list[alt.LayerChart] = []
    if relative["scaling"].nunique() > 1:
        panels += [_growth_panel(relative, one, column, colour) for column in ("acts", "cost")]
    if one.two_term is not None:
        panels.append(_residuals_panel(points, one, one.two_term, colour))
    return alt.concat(*panels, columns=3, spacing=26) if panels else None


def _growth_panel(relative: pd.DataFrame, one: Fit, column: str, colour: alt.Color) -> alt.LayerChart:
    """Points of scaled networks over their base, and for each rule the power of s that theory gives activations."""
    scaled = relative[relative["scaling"] != ""]
    tooltip = [alt.Tooltip("network:N"), *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("s", column))]
    x = alt.X("s:Q", title="flops, times the base network's (s)", scale=alt.Scale(type="log", nice=False, padding=12))
    name = "activations" if column == "acts" else prose(one.y)
    y = alt.Y(f"{column}:Q", title=f"{name}, times the base's", scale=alt.Scale(type="log", nice=False, padding=12))
    dots = alt.Chart(scaled).mark_point(filled=True, size=62, opacity=0.85).encode(x, y, colour, tooltip=tooltip)
    lines = _theory_lines(scaled, column)
    layers = [dots]
    if len(lines):
        dashed = alt.Chart(lines).mark_line(strokeDash=[5, 4], strokeWidth=1.4, opacity=0.9)
        told = [alt.Tooltip("theory:N"), alt.Tooltip("scaling:N")]
        layers.insert(0, dashed.encode(x, y, colour, alt.Detail("theory:N"), tooltip=told))
    subtitle = "dashed: s to the power of theory, for activations"
    title = alt.TitleParams(f"Growth of {name} with s", subtitle=subtitle, fontWeight="normal")
    chart: alt.LayerChart = alt.LayerChart(layer=layers, width=PANEL, height=PANEL * 0.8, title=title)
    return chart


def _theory_lines(scaled: pd.DataFrame, column: str) -> pd.DataFrame:
    """Both ends of the line of each rule, over the range of s that was measured."""
    ends = sorted({min(1.0, float(scaled["s"].min())), max(1.0, float(scaled["s"].max()))})
    known = {rule: power for rule in dict.fromkeys(scaled["scaling"]) if (power := theory(rule)) is not None}
    rows = [
        {"scaling": rule, "s": s, column: s**power, "theory": f"s^{power:.2f}"}
        for rule, power in known.items()
        for s in ends
    ]
    return pd.DataFrame(rows)


def _residuals_panel(points: pd.DataFrame, one: Fit, model: CostModel, colour: alt.Color) -> alt.LayerChart:
    """How far each network is from the two-term model, in percent of what that predicts."""
    points = points.copy()
    points["predicted"] = model.t0 + sum(term.coefficient * points[term.column] for term in model.terms)
    points = points[points["predicted"] > 0]
    points["off"] = 100 * (points["y"] / points["predicted"] - 1)
    tooltip = [
        alt.Tooltip("network:N"),
        alt.Tooltip("y:Q", title=_y_title(one), format=".4~g"),
        alt.Tooltip("predicted:Q", format=".4~g"),
        alt.Tooltip("off:Q", title="off by %", format="+.1f"),
    ]
    x = alt.X("predicted:Q", title=f"predicted {_y_title(one)}", scale=alt.Scale(zero=True, nice=True))
    y = alt.Y("off:Q", title="measured above predicted (%)")
    dots = alt.Chart(points).mark_point(filled=True, size=62, opacity=0.85)
    zero = alt.Chart(pd.DataFrame({"off": [0.0]})).mark_rule(color=INK, opacity=0.6).encode(y)
    left_out = f", {model.loo_mape:.1%} on a network left out" if model.loo_mape is not None else ""
    subtitle = f"mean error {model.mape:.1%}{left_out}"
    title = alt.TitleParams("Residuals of the two-term model", subtitle=subtitle, fontWeight="normal")
    layers = [zero, dots.encode(x, y, colour, _shape(points), tooltip=tooltip)]
    chart: alt.LayerChart = alt.LayerChart(layer=layers, width=PANEL, height=PANEL * 0.8, title=title)
    return chart


def side_by_side(frame: pd.DataFrame, pooled: Sequence[Fit]) -> alt.ConcatChart | None:
    """Every network's latency on each side, one line of dots per network; None with fewer than two sides.

    Of more than 40 networks, 40 are shown, evenly spaced from fastest to slowest.
    """
    sides = [one for one in pooled if one.n]
    if len(sides) < 2:
        return None
    varying = [key for key in sides[0].group if len({one.group.get(key) for one in sides}) > 1]
    points = pd.concat([_points(frame, one).assign(side=_side(one, varying)) for one in sides])
    order = points.groupby("network")["y"].min().sort_values()
    shown = order.index if len(order) <= 40 else order.index[np.linspace(0, len(order) - 1, 40).round().astype(int)]
    points = points[points["network"].isin(shown)]
    names = list(dict.fromkeys(points["side"]))
    palette = cycle([*RULE_COLOURS.values()][1:])
    colour = alt.Color(
        "side:N", scale=alt.Scale(domain=names, range=[next(palette) for _ in names]), legend=alt.Legend(title=None)
    )
    x = alt.X("y:Q", title=_y_title(sides[0]), scale=alt.Scale(type="log", nice=False, padding=12))
    y = alt.Y("network:N", title=None, sort=list(shown), axis=alt.Axis(labelLimit=220, grid=True))
    tooltip = [
        alt.Tooltip("network:N"),
        alt.Tooltip("side:N"),
        alt.Tooltip("y:Q", title=_y_title(sides[0]), format=".4~g"),
    ]
    dots = alt.Chart(points).mark_point(filled=True, size=70, opacity=0.9).encode(x, y, colour, tooltip=tooltip)
    title = "Side by side" if len(order) <= 40 else f"Side by side: 40 of {len(order)} networks"
    return alt.concat(dots.properties(width=2 * PANEL, height=alt.Step(17), title=title))


def _side(one: Fit, varying: Sequence[str]) -> str:
    return group_label({key: one.group[key] for key in varying if key in one.group})


def against_batch(frame: pd.DataFrame, pooled: Sequence[Fit]) -> alt.ConcatChart | None:
    """Throughput and latency against the batch, a line per network, two panels per backend and placement.

    The knee of each line is ringed. None where no network was measured at several batches.
    """
    points = curves(frame, pooled)
    if points.empty:
        return None
    points["scaling"] = points["scaling"].replace("", UNSCALED)
    titles = {
        "throughput": "images/s" if pooled[0].unit in SECONDS else f"batch / {pooled[0].y}",
        "latency": f"{_y_title(pooled[0])} of the batch",
    }
    colour = _colour(points)
    tooltip = [alt.Tooltip("network:N"), alt.Tooltip("batch:Q")]
    tooltip += [alt.Tooltip(f"{name}:Q", title=title, format=".4~g") for name, title in titles.items()]
    x = alt.X("batch:Q", title="batch", scale=alt.Scale(type="log", base=2, nice=False, padding=12))
    panels = []
    for where, rows in points.groupby("where", sort=False):
        for name, title in titles.items():
            y = alt.Y(f"{name}:Q", title=title, scale=alt.Scale(type="log", nice=False, padding=12))
            line = alt.Chart(rows).mark_line(point=True, strokeWidth=1.4, opacity=0.8)
            ring = alt.Chart(rows[rows["knee"]]).mark_point(size=140, strokeWidth=1.6, opacity=1)
            layers = [mark.encode(x, y, colour, alt.Detail("network:N"), tooltip=tooltip) for mark in (line, ring)]
            told = alt.TitleParams(str(where), subtitle=f"ringed: {NEAR_BEST:.0%} of the best throughput is reached")
            panels.append(alt.LayerChart(layer=layers, width=PANEL, height=PANEL * 0.8, title=told))
    return alt.concat(*panels, columns=2, spacing=26)


def costs(frame: pd.DataFrame, fits: Sequence[Fit]) -> alt.ConcatChart | None:
    """Other costs, such as memory, against activations: a panel per fit that has networks; None without any.

    Args:
        frame: The table.
        fits: Pooled fits of the columns to draw.
    """
    panels = [
        _panel(_points(frame, one), one, "acts").properties(title=alt.TitleParams(_y_title(one), subtitle=one.label))
        for one in fits
        if one.n
    ]
    return alt.concat(*panels, columns=3, spacing=26) if panels else None


def _row_title(one: Fit) -> alt.TitleParams:
    networks = f"{one.n} network" if one.n == 1 else f"{one.n} networks"
    return alt.TitleParams(one.label, subtitle=networks, fontSize=15, offset=16)


def _points(frame: pd.DataFrame, one: Fit) -> pd.DataFrame:
    """One row per measured network of a group, in the units of the axes, with what a tooltip shows."""
    rows = rows_of(frame, one.group)
    rows = rows[measured(rows)]
    points = pd.DataFrame({"network": network_names(rows), "y": pd.to_numeric(rows[one.y], errors="coerce")})
    points["family"] = [plain(v) for v in rows["family"]] if "family" in rows else ""
    points["scaling"] = [plain(v) or UNSCALED for v in rows["scaling"]] if "scaling" in rows else UNSCALED
    for proxy in PROXIES:
        counts = pd.to_numeric(rows[proxy], errors="coerce")
        points[proxy] = counts / scale_of(proxy, counts.dropna().to_numpy(dtype=float))[0]
    for name, column in {"low": "latency_ci_low_ms", "high": "latency_ci_high_ms"}.items():
        ours = one.y == "latency_ms" and column in rows
        points[name] = pd.to_numeric(rows[column], errors="coerce") if ours else None
    for column in ("resolution", "status", "parity"):
        points[column] = [plain(v) for v in rows[column]] if column in rows else ""
    return points.dropna(subset=["y", *PROXIES])


def _panel(points: pd.DataFrame, one: Fit, proxy: str) -> alt.LayerChart:
    line = one.line(proxy)
    unit = line.x_unit if line else PROXIES[proxy].unit
    x = alt.X(f"{proxy}:Q", title=_x_title(proxy, unit), scale=alt.Scale(zero=True, nice=True))
    # One range for the three panels of a group, to compare heights; one extent, to align rows.
    tops = [points[["y", "high"]].max().max(), *(_ends(points, each)["y"].max() for each in one.lines)]
    axis = alt.Axis(minExtent=34, title=_y_title(one), format="~s" if one.unit == "bytes" else alt.Undefined)
    y = alt.Y("y:Q", axis=axis, scale=alt.Scale(domain=[0, max(tops)], nice=True))
    base = alt.Chart(points)
    dots = base.mark_point(filled=True, size=62, opacity=0.85).encode(
        x, y, _colour(points), _shape(points), tooltip=_tooltip(points, one, proxy, unit)
    )
    layers = [dots]
    if points["low"].notna().any():
        bars = base.mark_rule(strokeWidth=1, opacity=0.55)
        layers.insert(0, bars.encode(x, alt.Y("low:Q", axis=axis), alt.Y2("high:Q"), _colour(points)))
    if line:
        mark = alt.Chart(_ends(points, line)).mark_line(color=INK, strokeWidth=1.4, opacity=0.75, clip=True)
        layers.insert(0, mark.encode(x, y, tooltip=alt.Tooltip("line:N", title="fit")))
    chart: alt.LayerChart = alt.LayerChart(
        layer=layers, width=PANEL, height=PANEL * 0.8, title=_panel_title(one, proxy, line)
    )
    return chart


def _ends(points: pd.DataFrame, line: Line) -> pd.DataFrame:
    """Both ends of a fitted line, and its equation."""
    x = pd.Series([points[line.proxy].min(), points[line.proxy].max()])
    text = f"{line.intercept:.4g} + {line.slope:.4g} per {line.x_unit}"
    return pd.DataFrame({line.proxy: x, "y": line.intercept + line.slope * x, "line": text})


def _panel_title(one: Fit, proxy: str, line: Line | None) -> alt.TitleParams:
    """What is seen: the correlation with its interval, the best one in bold."""
    best = one.winner == proxy
    name = PROXIES[proxy].name.capitalize()
    if line is None:
        return alt.TitleParams(name, subtitle=one.unfit.get(proxy, ""), fontWeight="normal")
    low, high = line.r_interval
    return alt.TitleParams(
        f"{name}: r = {line.r:.3f}" + (" (best)" if best else ""),
        subtitle=f"95% interval {low:.3f} to {high:.3f}",
        fontWeight="bold" if best else "normal",
    )


def _x_title(proxy: str, unit: str) -> str:
    """``activations of one image (millions)``; parameters do not depend on the image."""
    name = PROXIES[proxy].name + ("" if proxy == "params" else " of one image")
    return f"{name} ({'millions' if unit.startswith('M ') else unit})"


def _y_title(one: Fit) -> str:
    return f"{prose(one.y)} ({one.unit})" if one.unit and prose(one.y) != one.y else one.y


def _colour(points: pd.DataFrame) -> alt.Color:
    """A colour per scaling rule; per family where nothing was scaled in different ways."""
    if points["scaling"].nunique() == 1:
        families = sorted(set(points["family"]))
        palette = cycle([*RULE_COLOURS.values()][1:] if len(families) > 1 else [RULE_COLOURS["d"]])
        scale = alt.Scale(domain=families, range=[next(palette) for _ in families])
        return alt.Color("family:N", scale=scale, legend=_legend("family", len(families)))
    present = set(points["scaling"])
    known = [rule for rule in RULE_COLOURS if rule in present]
    others = sorted(present - set(known))
    used = [RULE_COLOURS[rule] for rule in known]
    spare = cycle([colour for colour in OTHER_COLOURS if colour not in used])
    scale = alt.Scale(domain=known + others, range=used + [next(spare) for _ in others])
    return alt.Color("scaling:N", scale=scale, legend=_legend("scaling", len(present)))


def _shape(points: pd.DataFrame) -> alt.Shape:
    families = sorted(set(points["family"]))
    shapes = cycle(SHAPES)
    scale = alt.Scale(domain=families, range=[next(shapes) for _ in families])
    return alt.Shape("family:N", scale=scale, legend=_legend("family", len(families)))


def _legend(title: str, entries: int) -> alt.Legend | None:
    return alt.Legend(title=title) if entries > 1 else None


def _tooltip(points: pd.DataFrame, one: Fit, proxy: str, unit: str) -> list[alt.Tooltip]:
    shown = [
        alt.Tooltip("network:N"),
        alt.Tooltip("y:Q", title=_y_title(one), format=".4~g"),
        alt.Tooltip("low:Q", title="95% from", format=".4~g"),
        alt.Tooltip("high:Q", title="95% to", format=".4~g"),
        alt.Tooltip(f"{proxy}:Q", title=unit, format=".4~g"),
        *(alt.Tooltip(f"{name}:N") for name in ("family", "scaling", "resolution", "status", "parity")),
    ]
    return [tip for tip in shown if points[str(tip.shorthand)[:-2]].replace("", None).notna().any()]
