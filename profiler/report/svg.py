"""SVG as a page holds it: smaller, and beside others."""

from __future__ import annotations

import re

#: Digits of a coordinate that no screen shows.
_DIGITS = re.compile(r"-?\d+\.\d{3,}")
#: What every element has, or what the page's style says once.
_USUAL = re.compile(
    r' (?:font-family="[^"]*"|opacity="1"|pointer-events="none"|role="graphics-symbol"|stroke-width="1")'
    r'|<path class="(?:fore|back)ground"[^>]*/>'
)
#: The labels of whiskers: their point has the same.
_OF_LINES = re.compile(r'(<line[^>]*?) aria-label="[^"]*"(?: aria-roledescription="[^"]*")?')
#: In the label of a mark its two coordinates, which stand again behind them by the names of their columns.
_COORDINATES = re.compile(r'(<path aria-label=")[^;"]*; y: [^;"]*; ')


def embedded(svg: str, name: str) -> str:
    """Return an SVG without what a page does not need of it, and with ids that begin with ``name``."""
    rounded = _DIGITS.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), svg)
    light = _COORDINATES.sub(r"\1", _OF_LINES.sub(r"\1", _USUAL.sub("", rounded)))
    return re.sub(r'(\bid="|url\(#)', rf"\g<1>{name}-", light)
