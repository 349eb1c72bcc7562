"""Charts to files and pages: style, formats, and the scripts that a page carries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import altair as alt
import pandas as pd
import vl_convert

from profiler.errors import UserError

# Liberation Sans travels with vl-convert and has Arial's and Helvetica's widths: files look alike everywhere.
FONT = "Helvetica, Arial, Liberation Sans, sans-serif"
INK, MUTED, GRID = "#1f2328", "#5f6670", "#e7e9ec"
PANEL = 300
FORMATS = (".html", ".png", ".svg")
VEGA_LITE = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])

# A module keeps its names to itself: the bundle leaves hundreds of short ones in the global scope.
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Latency against complexity</title>
<div id="chart"></div>
<script>{scripts}</script>
<script type="application/json" id="spec">{spec}</script>
<script type="module">
const spec = JSON.parse(document.getElementById("spec").textContent);
vegaEmbed("#chart", spec, {{ renderer: "svg", actions: {{ export: true }} }});
</script>
</html>
"""

Chart: TypeAlias = alt.Chart | alt.LayerChart | alt.ConcatChart | alt.VConcatChart
Styled = TypeVar("Styled", alt.Chart, alt.ConcatChart, alt.VConcatChart)


def empty(reason: str) -> alt.Chart:
    """A chart that says, in words, that there is nothing to see and why."""
    data = pd.DataFrame({"text": [f"Nothing to draw: {reason}"]})
    mark = alt.Chart(data, width=3 * PANEL, height=120).mark_text(fontSize=15, color=MUTED, font=FONT)
    chart: alt.Chart = mark.encode(text="text:N")
    return styled(chart)


def styled(chart: Styled, padding: int = 14) -> Styled:
    """The house style: quiet grid, legible type, no frame."""
    styled_chart: Styled = (
        chart.configure(font=FONT, background="white", padding=padding)
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=11,
            titleFontSize=12,
            titleFontWeight="normal",
            labelColor=MUTED,
            titleColor=INK,
            gridColor=GRID,
            domainColor="#b5bac1",
            ticks=False,
            labelPadding=6,
            titlePadding=8,
            tickCount=6,
        )
        .configure_title(
            anchor="start",
            fontSize=14,
            color=INK,
            subtitleFontSize=12,
            subtitleColor=MUTED,
            subtitlePadding=5,
            offset=10,
        )
        .configure_legend(
            orient="bottom",
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titleColor=MUTED,
            titleOrient="left",
            titlePadding=14,
            symbolSize=80,
            symbolOpacity=1,
            columns=6,
            columnPadding=16,
        )
    )
    return styled_chart


def specification(chart: Chart) -> dict[str, Any]:
    """The Vega-Lite specification of a chart, with legends in rows, which altair cannot ask for."""
    spec: dict[str, Any] = chart.to_dict()
    layout = {"bottom": {"direction": "vertical", "anchor": "start", "margin": 10}}
    spec["config"].setdefault("legend", {})["layout"] = layout
    return spec


def svg(chart: Chart) -> str:
    """A chart as SVG text."""
    return str(vl_convert.vegalite_to_svg(specification(chart), vl_version=VEGA_LITE))


def scripts() -> str:
    """The script that draws specifications in a page (``window.vegaEmbed``), whole."""
    return str(vl_convert.javascript_bundle(vl_version=VEGA_LITE))  # type: ignore[call-arg]  # stub only


def embedded(data: object) -> str:
    """JSON that cannot end the script element it stands in, whatever names the data hold."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def save(chart: Chart, path: Path) -> None:
    """Write a chart as one file that needs nothing else: ``.html`` (scripts inside), ``.png`` or ``.svg``.

    Raises:
        UserError: The name ends in something else.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"{path.name}: a chart is written as {', '.join(FORMATS)}; change the end of the name")
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".png":
        path.write_bytes(vl_convert.vegalite_to_png(specification(chart), vl_version=VEGA_LITE, scale=2))
    elif suffix == ".svg":
        path.write_text(svg(chart), encoding="utf-8")
    else:
        page = PAGE.format(scripts=scripts(), spec=embedded(specification(chart)))
        path.write_text(page, encoding="utf-8")
