"""The colours of charts, on paper and on a dark screen.

Marks have a contrast of at least 3 with what is behind them, text of 4.5, in both; and colours stay apart with every
common colour blindness.
"""

from __future__ import annotations

INK, MUTED, GRID, EDGE = "#1f2328", "#5f6670", "#e7e9ec", "#8a919b"
#: What nothing was done to.
NEUTRAL = "#3C3C3C"
#: In hue those of Okabe and Ito, dark enough for paper.
PALETTE = ("#004278", "#B37100", "#0A7A55", "#DB4FA6", "#A33000", "#2F82E0", "#7A5195", "#6B7A00")
_ON_DARK = {
    INK: "#e7e9ec",
    MUTED: "#a3aab4",
    GRID: "#2d3238",
    EDGE: "#6b737d",
    NEUTRAL: "#E3E6EA",
    "#004278": "#3F8CF5",
    "#B37100": "#F5D350",
    "#0A7A55": "#35DDA0",
    "#DB4FA6": "#DB6BA6",
    "#A33000": "#D9772B",
    "#2F82E0": "#66CFFF",
    "#7A5195": "#B79AD6",
    "#6B7A00": "#B5C24A",
}


def dark_rules() -> str:
    """Return the style that gives the marks of drawn charts, within a ``figure``, their colours on a dark screen."""
    return "\n".join(
        f'figure [{what}="{light}"] {{ {what}: {dark}; }}'
        for light, dark in _ON_DARK.items()
        for what in ("fill", "stroke")
    )
