"""SVG as a page holds it: smaller, and beside others."""

from __future__ import annotations

import re
from html import escape

#: Where an element is, and its digits that no screen shows. What it says keeps its own.
_PLACE = re.compile(r' (?:transform|d|[xy][12]?|width|height|viewBox)="[^"]*"')
_DIGITS = re.compile(r"-?\d+\.\d{3,}")
#: What every element has, or what the page's style says once.
_USUAL = re.compile(
    r' (?:font-family="[^"]*"|opacity="(?:1|0\.85)"|pointer-events="none"|role="graphics-symbol"|stroke-width="1")'
    r'|<path class="(?:fore|back)ground"[^>]*/>'
)
#: The labels of whiskers: their point has the same.
_OF_LINES = re.compile(r'(<line[^>]*?) aria-label="[^"]*"(?: aria-roledescription="[^"]*")?')
#: In the label of a mark its two coordinates, which stand again behind them by the names of their columns.
_COORDINATES = re.compile(r'(<path aria-label=")[^;"]*; y: [^;"]*; ')
#: In a label that has a network's name, what that name says too; and that nothing is wrong.
_SAID_TWICE = re.compile(
    r'family: ([^;"]*); (?=network: \1)|(?<=aria-label=")scaling: [^;"]*; (?=[^"]*network: )|; status: ok(?=[;"])'
)
_POINT = re.compile(
    r'<path (aria-label="[^"]*") aria-roledescription="point" transform="translate\(([^,"]*),([^)"]*)\)"'
    r' d="([^"]*)"([^>]*)/>'
)


def embedded(svg: str, name: str, said: str) -> str:
    """Return an SVG without what a page does not need of it, and with ids that begin with ``name``.

    It is one picture, which ``said`` says, to who cannot see it: its numbers stand in tables.

    Points are ``use`` elements: each shape stands there once.
    """
    rounded = _PLACE.sub(lambda place: _DIGITS.sub(_shorter, place[0]), svg)
    light = _SAID_TWICE.sub("", _COORDINATES.sub(r"\1", _OF_LINES.sub(r"\1", _USUAL.sub("", rounded))))
    shapes: dict[str, str] = {}

    def used(found: re.Match[str]) -> str:
        label, x, y, shape, style = found.groups()
        return (
            f'<use href="#{shapes.setdefault(shape, f"s{len(shapes)}")}" {label} x="{x}" y="{y}"{_unstroked(style)}/>'
        )

    drawn = _POINT.sub(used, light)
    kept = "".join(f'<path id="{key}" d="{shape}"/>' for shape, key in shapes.items())
    whole = re.sub(r"(<svg[^>]*>)", rf"\1<defs>{kept}</defs>", drawn, count=1) if kept else drawn
    told = whole.replace("<svg ", f'<svg role="img" aria-label="{escape(said)}" ', 1)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", told)


def _shorter(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def _unstroked(style: str) -> str:
    """Return attributes without the width of a stroke that is not there."""
    return style if " stroke=" in style else re.sub(r' stroke-width="[^"]*"', "", style)
