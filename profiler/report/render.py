"""Charts to files and pages: the house style, the formats, and the script that a page carries."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import altair as alt
import pandas as pd
import vl_convert
from PIL import Image

from profiler.errors import UserError
from profiler.records.files import write_file
from profiler.report.html import filled

# Liberation Sans travels with vl-convert and has Arial's and Helvetica's widths: files look alike everywhere.
_FONT = "Helvetica, Arial, Liberation Sans, sans-serif"
INK = "#1f2328"
_MUTED, _GRID = "#5f6670", "#e7e9ec"
#: Width of a panel, in pixels.
PANEL = 300
_VEGA_LITE = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])

Chart: TypeAlias = alt.Chart | alt.LayerChart | alt.ConcatChart | alt.VConcatChart
_Styled = TypeVar("_Styled", alt.Chart, alt.LayerChart, alt.ConcatChart, alt.VConcatChart)


def empty(reason: str) -> alt.Chart:
    """A chart that says, in words, that there is nothing to see and why."""
    data = pd.DataFrame({"text": [f"Nothing to draw: {reason}"]})
    mark = alt.Chart(data, width=3 * PANEL, height=120).mark_text(fontSize=15, color=_MUTED, font=_FONT)
    chart: alt.Chart = styled(mark.encode(text="text:N"))
    return chart


def styled(chart: _Styled, padding: int = 14) -> _Styled:
    """Give a chart the house style: quiet grid, legible type, no frame; return it."""
    # At once and in place: each of altair's configure_ methods copies the chart, several times a panel.
    chart.config = alt.Config(
        font=_FONT,
        background="white",
        padding=padding,
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            labelFontSize=11,
            titleFontSize=12,
            titleFontWeight="normal",
            labelColor=_MUTED,
            titleColor=INK,
            gridColor=_GRID,
            domainColor="#b5bac1",
            ticks=False,
            labelPadding=6,
            titlePadding=8,
            tickCount=6,
        ),
        title=alt.TitleConfig(
            anchor="start",
            fontSize=14,
            color=INK,
            subtitleFontSize=12,
            subtitleColor=_MUTED,
            subtitlePadding=5,
            offset=10,
        ),
        legend=alt.LegendConfig(
            orient="bottom",
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titleColor=_MUTED,
            titleOrient="left",
            titlePadding=14,
            symbolSize=80,
            symbolOpacity=1,
            columns=6,
            columnPadding=16,
        ),
    )
    return chart


def specification(chart: Chart) -> dict[str, Any]:
    """The Vega-Lite specification of a chart, with legends in rows, which altair cannot ask for."""
    # Checking it against the schema takes longer than drawing it; tests check every chart.
    spec: dict[str, Any] = chart.to_dict(validate=False)
    layout = {"bottom": {"direction": "vertical", "anchor": "start", "margin": 10}}
    spec["config"].setdefault("legend", {})["layout"] = layout
    return spec


def svg(chart: Chart) -> str:
    """A chart as SVG text."""
    return str(vl_convert.vegalite_to_svg(specification(chart), vl_version=_VEGA_LITE))


def drawing_script() -> str:
    """The script that draws specifications in a page (``window.vegaEmbed``), whole."""
    return str(vl_convert.javascript_bundle(vl_version=_VEGA_LITE))  # type: ignore[call-arg]  # stub only


def _png(chart: Chart) -> bytes:
    """A chart as PNG, twice its size in pixels and of at most 256 colours: sharp on every screen, and small."""
    drawn = vl_convert.vegalite_to_png(specification(chart), vl_version=_VEGA_LITE, scale=2)
    few = Image.open(BytesIO(drawn)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    file = BytesIO()
    few.save(file, "PNG", optimize=True)
    return file.getvalue()


def _html(chart: Chart) -> str:
    return filled("chart.html.j2", spec=specification(chart), script=drawing_script())


#: How a chart is written, by the end of the file's name; each needs no other file.
_FORMATS: dict[str, Callable[[Chart], str | bytes]] = {".html": _html, ".png": _png, ".svg": svg}


def write_chart(chart: Chart, path: Path) -> None:
    """Write a chart as one file that needs nothing else: ``.html`` (scripts inside), ``.png`` or ``.svg``.

    Raises:
        UserError: The name ends in something else, or the file cannot be written.
    """
    made = _FORMATS.get(path.suffix.lower())
    if made is None:
        raise UserError(f"{path.name}: a chart is written as {', '.join(_FORMATS)}; change the end of the name")
    write_file(path, made(chart))
