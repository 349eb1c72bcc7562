"""Charts as a page holds them, legible at any width.

The panels of a chart stand apart, so that they wrap, and its legends are text above them. A panel that is wider than a
small screen is drawn twice, and the style of the page shows the one that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from textwrap import wrap
from typing import Any, NamedTuple

from profiler.report import render
from profiler.report.colours import NEUTRAL
from profiler.report.html import filled
from profiler.report.render import PANEL
from profiler.report.svg import embedded
from profiler.report.vega import Chart, Specification

#: Width of the plot of a panel on a small screen, in pixels, with names at its left and without.
_BESIDE_NAMES, _ALONE = 205, 285
#: Pixels that the names have there, and that each of their two lines takes.
_NAMES, _STEP = 130, 30
#: Mean width of a letter of a title and of a subtitle, in pixels.
_TITLE, _SUBTITLE = 8, 6.2
#: A name in two lines, the second what was done to the network.
_IN_TWO = (
    "indexof(datum.label, ' ') < 0 ? datum.label : "
    "[split(datum.label, ' ')[0], slice(datum.label, indexof(datum.label, ' ') + 1)]"
)
_LEGENDS = ("color", "shape", "strokeDash")
_SHAPES = {
    "circle": "M0-4.5a4.5 4.5 0 1 0 .01 0z",
    "square": "M-4-4h8v8h-8z",
    "triangle-up": "M0-4.5L5 4H-5z",
    "diamond": "M0-5.5L5 0L0 5.5L-5 0z",
    "triangle-down": "M0 4.5L5-4H-5z",
    "cross": "M-5-1.7h3.3V-5h3.4v3.3H5v3.4H1.7V5h-3.4V1.7H-5z",
    "triangle-right": "M4.5 0L-4-5V5z",
}


class Panel(NamedTuple):
    """A part of a chart that is drawn alone.

    Attributes:
        chart: It, without legends.
        shown: ``wide`` or ``narrow``, where there are two of it; else empty.
        said: What it shows, to who cannot see it.
    """

    chart: Chart
    shown: str
    said: str


def markup(charts: Iterable[tuple[str, Chart]]) -> Callable[[], dict[str, str]]:
    """Have charts drawn for a page; return what waits for them.

    Args:
        charts: Each with its name, which begins its ids.

    Returns:
        A function that gives what stands within a ``figure`` of the page, by name.
    """
    kept: dict[str, tuple[list[dict[str, Any]], dict[str, Panel]]] = {}

    def apart() -> Iterator[tuple[str, Chart]]:
        for name, chart in charts:
            own = {f"{name}-p{number}": one for number, one in enumerate(panels_of(chart))}
            kept[name] = (legends_of(chart), own)
            yield from ((part, panel.chart) for part, panel in own.items())

    later = render.svgs(apart())

    def made() -> dict[str, str]:
        svgs = later()
        return {
            name: filled(
                "figure.html.j2",
                legends=legends,
                panels=[(panel.shown, embedded(svgs[part], part, panel.said)) for part, panel in own.items()],
            )
            for name, (legends, own) in kept.items()
        }

    return made


def panels_of(chart: Chart) -> list[Panel]:
    """Return the panels of a chart, each without its legends and as transparent as the page allows."""
    settings = {**chart.parts.get("config", {}), "background": None}
    made = []
    for part in chart.parts.get("concat", (chart,)):
        bare = _changed(part, _without_legends).having(config=settings)
        width = part.parts.get("width", PANEL)
        wide = _titled(bare, width)
        said = _said(bare)
        if width <= PANEL:
            made.append(Panel(wide, "", said))
        else:
            made += [Panel(wide, "wide", said), Panel(_narrow(bare), "narrow", said)]
    return made


def _narrow(chart: Chart) -> Chart:
    """The panel for a small screen."""
    named = any(_is_named(one) for one in _layers(chart))
    smaller = _changed(chart, _short_names)
    if "layer" in smaller.parts:  # names beside points would cover each other
        kept = [
            one for one in smaller.parts["layer"] if one.parts["encoding"].get("text", {}).get("field") != "network"
        ]
        smaller = smaller.having(layer=kept)
    height = {"step": _STEP} if isinstance(chart.parts.get("height"), dict) else chart.parts["height"]
    return _titled(smaller.having(width=_BESIDE_NAMES if named else _ALONE, height=height), _ALONE)


def _layers(chart: Chart) -> Iterator[Chart]:
    yield chart
    for one in chart.parts.get("layer", ()):
        yield from _layers(one)


def _changed(chart: Chart, change: Callable[[Specification], Specification]) -> Chart:
    """This chart with the encoding of each of its layers changed."""
    parts: Specification = {}
    if "encoding" in chart.parts:
        parts["encoding"] = change(chart.parts["encoding"])
    if "layer" in chart.parts:
        parts["layer"] = [_changed(one, change) for one in chart.parts["layer"]]
    return chart.having(**parts)


def _without_legends(encoding: Specification) -> Specification:
    return {
        name: shown | {"legend": None} if name in _LEGENDS and "field" in shown else shown
        for name, shown in encoding.items()
    }


def _is_named(chart: Chart) -> bool:
    axis = chart.parts.get("encoding", {}).get("y", {}).get("axis")
    return bool(axis and "labelLimit" in axis)


def _short_names(encoding: Specification) -> Specification:
    y = encoding.get("y", {})
    if "labelLimit" not in (y.get("axis") or {}):
        return encoding
    return encoding | {"y": y | {"axis": y["axis"] | {"labelLimit": _NAMES, "labelExpr": _IN_TWO}}}


def _titled(chart: Chart, width: float) -> Chart:
    """This chart with its title in lines that are no wider than it."""
    title = _title_of(chart)
    if not title:
        return chart
    lines = {
        name: wrap(" ".join(_lines(title[name])), int((width + 30) / letter))
        for name, letter in (("text", _TITLE), ("subtitle", _SUBTITLE))
        if title.get(name)
    }
    return chart.having(title=title | lines)


def _title_of(chart: Chart) -> Specification:
    title = chart.parts.get("title") or {}
    return {"text": title} if isinstance(title, str) else title


def _lines(text: Any) -> list[str]:
    return [text] if isinstance(text, str) else [*text]


def _said(chart: Chart) -> str:
    title = _title_of(chart)
    return ". ".join(" ".join(_lines(title[name])) for name in ("text", "subtitle") if title.get(name))


def legends_of(chart: Chart) -> list[dict[str, Any]]:
    """Return the legends of a chart: a title, and entries with their name, colour, shape and dashes."""
    found: dict[str, dict[str, Any]] = {}
    layers = [one for part in chart.parts.get("concat", (chart,)) for one in _layers(part)]
    for encoding in (one.parts.get("encoding", {}) for one in layers):
        for name in _LEGENDS:
            shown: Mapping[str, Any] = encoding.get(name, {})
            if shown.get("legend", {}) is None or "range" not in shown.get("scale", {}):
                continue
            title = shown.get("legend", shown).get("title", shown["field"])
            entries = found.setdefault(shown["field"], {"title": title, "entries": {}})["entries"]
            for value, looks in zip(shown["scale"]["domain"], shown["scale"]["range"], strict=True):
                entries.setdefault(value, {"color": NEUTRAL, "shape": "circle", "strokeDash": None})[name] = looks
    return [
        {
            "title": one["title"],
            "entries": [look | {"name": name, "path": _SHAPES[look["shape"]]} for name, look in one["entries"].items()],
        }
        for one in found.values()
    ]
