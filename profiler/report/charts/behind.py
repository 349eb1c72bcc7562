"""What stands behind a fit: growth with s beside theory, and the residuals of the two-term model."""

from __future__ import annotations

import pandas as pd

from profiler.analysis.cost_model import CostModel
from profiler.analysis.fit import Fit
from profiler.analysis.frame import prose
from profiler.analysis.growth import steps, theory
from profiler.report import vega
from profiler.report.charts.parts import GAP, colour_of, dots_of, log_scale, points_of, shape_of, y_title
from profiler.report.colours import INK
from profiler.report.render import PANEL


def behind(frame: pd.DataFrame, one: Fit) -> vega.Chart | None:
    """Growth of activations and cost with s, and the two-term residuals.

    Args:
        frame: The table the fit was made from.
        one: A pooled fit with at least one network.

    Returns:
        One to three panels; None where there is neither a scaled network nor a two-term model.
    """
    points, relative = points_of(frame, one), steps(frame, one)
    # One scale for all panels: they share a legend, and each rule its colour.
    colour = colour_of(points)
    panels: list[vega.Chart] = []
    if relative["scaling"].nunique() > 1:
        panels += [_growth_panel(relative, one, column, colour) for column in ("acts", "cost")]
    if one.two_term is not None:
        panels.append(_residuals_panel(points, one, one.two_term, colour))
    return vega.panels(*panels, columns=3, spacing=GAP) if panels else None


def _growth_panel(relative: pd.DataFrame, one: Fit, column: str, colour: vega.Channel) -> vega.Chart:
    """Points of scaled networks over their base, and for each rule the power of s that theory gives activations."""
    scaled = relative[relative["scaling"] != ""]
    tooltip = [vega.tip("network:N"), *(vega.tip(f"{name}:Q", format=".3f") for name in ("s", column))]
    x = vega.x("s:Q", title="flops, times the base network's (s)", scale=log_scale())
    name = "activations" if column == "acts" else prose(one.y)
    y = vega.y(f"{column}:Q", title=f"{name}, times the base's", scale=log_scale())
    layers = dots_of(scaled, x, y, colour, tooltip=tooltip)
    lines = _theory_lines(scaled, column)
    if len(lines):
        dashed = vega.mark(lines, "line", strokeDash=[5, 4], strokeWidth=1.4, opacity=0.9)
        told = [vega.tip("theory:N"), vega.tip("scaling:N")]
        layers.insert(0, dashed.encode(x, y, colour, vega.channel("detail", "theory:N"), tooltip=told))
    subtitle = "dashed: s to the power of theory, for activations"
    title = vega.title(f"Growth of {name} with s", subtitle=subtitle, fontWeight="normal")
    return vega.layered(*layers, width=PANEL, height=PANEL * 0.8, title=title)


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


def _residuals_panel(points: pd.DataFrame, one: Fit, model: CostModel, colour: vega.Channel) -> vega.Chart:
    """How far each network is from the two-term model, in percent of what that predicts."""
    points = points.copy()
    points["predicted"] = model.t0 + sum(term.coefficient * points[term.column] for term in model.terms)
    points = points[points["predicted"] > 0]
    points["off"] = 100 * (points["y"] / points["predicted"] - 1)
    tooltip = [
        vega.tip("network:N"),
        vega.tip("y:Q", title=y_title(one), format=".4~g"),
        vega.tip("predicted:Q", format=".4~g"),
        vega.tip("off:Q", title="off by %", format="+.1f"),
    ]
    x = vega.x("predicted:Q", title=f"predicted {y_title(one)}", scale=vega.given(zero=True, nice=True))
    y = vega.y("off:Q", title="measured above predicted (%)")
    zero = vega.mark(pd.DataFrame({"off": [0.0]}), "rule", color=INK, opacity=0.6).encode(y)
    left_out = f", {model.loo_mape:.1%} on a network left out" if model.loo_mape is not None else ""
    subtitle = f"mean error {model.mape:.1%}{left_out}"
    title = vega.title("Residuals of the two-term model", subtitle=subtitle, fontWeight="normal")
    layers = [zero, *dots_of(points, x, y, colour, shape_of(points), tooltip=tooltip)]
    return vega.layered(*layers, width=PANEL, height=PANEL * 0.8, title=title)
