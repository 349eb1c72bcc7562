"""Charts to files and pages: the house style, the formats, and the script that a page carries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path

import pandas as pd
import vl_convert
from PIL import Image

from profiler.errors import UserError
from profiler.records.files import write_file
from profiler.report import drawer, vega
from profiler.report.colours import EDGE, GRID, INK, MUTED
from profiler.report.html import filled
from profiler.report.vega import Chart, Specification

# Liberation Sans travels with vl-convert and has Arial's and Helvetica's widths: files look alike everywhere.
_FONT = "Helvetica, Arial, Liberation Sans, sans-serif"
#: Width of a panel, in pixels.
PANEL = 300


def empty(reason: str) -> Chart:
    """A chart that says, in words, that there is nothing to see and why."""
    data = pd.DataFrame({"text": [f"Nothing to draw: {reason}"]})
    mark = vega.mark(data, "text", fontSize=15, color=MUTED, font=_FONT).encode(vega.channel("text", "text:N"))
    return styled(mark.having(width=3 * PANEL, height=120))


def styled(chart: Chart, padding: int = 14) -> Chart:
    """A chart in the house style: quiet grid, legible type, no frame, legends in rows."""
    return chart.having(
        config={
            "font": _FONT,
            "background": "white",
            "padding": padding,
            "view": {"stroke": None},
            "axis": {
                "labelFontSize": 11,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
                "labelColor": MUTED,
                "titleColor": INK,
                "gridColor": GRID,
                "domainColor": EDGE,
                "ticks": False,
                "labelPadding": 6,
                "titlePadding": 8,
                "tickCount": 6,
            },
            "title": {
                "anchor": "start",
                "fontSize": 14,
                "color": INK,
                "subtitleFontSize": 12,
                "subtitleColor": MUTED,
                "subtitlePadding": 5,
                "offset": 10,
            },
            "legend": {
                "orient": "bottom",
                "labelFontSize": 12,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
                "titleColor": MUTED,
                "labelColor": INK,
                "titleOrient": "left",
                "titlePadding": 14,
                "symbolSize": 80,
                "symbolOpacity": 1,
                "columns": 6,
                "columnPadding": 16,
                "layout": {"bottom": {"direction": "vertical", "anchor": "start", "margin": 10}},
            },
        }
    )


def svg(chart: Chart) -> str:
    """A chart as SVG text."""
    return str(vl_convert.vegalite_to_svg(chart.to_dict()))


def svgs(charts: Iterable[tuple[str, Chart]]) -> Callable[[], dict[str, str]]:
    """Have charts drawn, each when it is made, by processes that wait for them where there are some.

    Args:
        charts: Each with its name.

    Returns:
        A function that waits for the SVGs, and gives them by name.
    """
    kept: dict[str, Chart] = {}

    def specifications() -> Iterator[Specification]:
        for name, chart in charts:
            kept[name] = chart
            yield chart.to_dict()

    later = drawer.ahead(specifications())
    return lambda: dict(zip(kept, later() or map(svg, kept.values()), strict=True))


def drawing_script() -> str:
    """The script that draws specifications in a page (``window.vegaEmbed``), whole."""
    return str(vl_convert.javascript_bundle())  # type: ignore[call-arg]  # stub only


def _png(chart: Chart) -> bytes:
    """A chart as PNG, twice its size in pixels and of at most 256 colours: sharp on every screen, and small."""
    drawn = vl_convert.vegalite_to_png(chart.to_dict(), scale=2)
    few = Image.open(BytesIO(drawn)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    file = BytesIO()
    few.save(file, "PNG", optimize=True)
    return file.getvalue()


def _html(chart: Chart) -> str:
    return filled("chart.html.j2", spec=chart.to_dict(), script=drawing_script())


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
