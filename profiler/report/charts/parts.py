"""What charts share: the points of a group, and their axes, colours, shapes and tooltips."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import pandas as pd

from profiler.analysis.fit import Fit
from profiler.analysis.frame import PROXIES, measured, network_names, plain, prose, rows_of, scale_of
from profiler.report import vega
from profiler.report.colours import NEUTRAL, PALETTE

UNSCALED = "unscaled"
_RULE_COLOURS = dict(zip((UNSCALED, "d", "w", "r", "dwr", "dWr", "g"), (NEUTRAL, *PALETTE), strict=False))
#: One fewer than colours: families that share one have another of the other.
_SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right")
#: Pixels between panels.
GAP = 26
#: An axis ends at most so many times above the highest point.
_HEADROOM = 1.5


def points_of(frame: pd.DataFrame, one: Fit) -> pd.DataFrame:
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


def dots_of(
    points: pd.DataFrame, *channels: vega.Channel, tooltip: Sequence[vega.Specification] = ()
) -> list[vega.Chart]:
    """One mark per row, hollow where the row is unstable."""
    hollow = points.get("status", pd.Series("", index=points.index)) == "unstable"
    marks = [vega.mark(points[~hollow], "point", filled=True, size=62, opacity=0.85)]
    if hollow.any():
        marks.append(vega.mark(points[hollow], "point", filled=False, size=52, strokeWidth=1.5, opacity=0.85))
    return [mark.encode(*channels, tooltip=tooltip) for mark in marks]


def log_scale(**more: object) -> vega.Specification:
    """A logarithmic axis that ends where the points do."""
    return vega.given(type="log", nice=False, padding=12, **more)


def top_of(points: pd.DataFrame) -> float:
    """Where the axis of ``y`` ends: above all intervals (to ``high``) but those that would flatten the points.

    Two visits may leave an interval of any width.
    """
    return float(min(points[["y", "high"]].max().max(), _HEADROOM * points["y"].max()))


def y_title(one: Fit) -> str:
    """The column that was fitted, as people say it, with its unit: ``latency (ms)``."""
    return f"{prose(one.y)} ({one.unit})" if one.unit and prose(one.y) != one.y else one.y


def colour_of(points: pd.DataFrame) -> vega.Channel:
    """A colour per scaling rule; per family where nothing was scaled in different ways."""
    if points["scaling"].nunique() == 1:
        families = sorted(set(points["family"]))
        scale = vega.given(domain=families, range=palette_of(len(families)))
        return vega.colour("family:N", scale=scale, legend=_legend("family", len(families)))
    present = set(points["scaling"])
    known = [rule for rule in _RULE_COLOURS if rule in present]
    others = sorted(present - set(known))
    used = [_RULE_COLOURS[rule] for rule in known]
    spare = cycle([colour for colour in reversed(PALETTE) if colour not in used] or PALETTE)
    scale = vega.given(domain=known + others, range=used + [next(spare) for _ in others])
    return vega.colour("scaling:N", scale=scale, legend=_legend("scaling", len(present)))


def palette_of(number: int) -> list[str]:
    """So many colours, none of them neutral; they come again after the last."""
    colours = cycle(PALETTE)
    return [next(colours) for _ in range(number)]


def shape_of(points: pd.DataFrame) -> vega.Channel:
    """A shape per family."""
    families = sorted(set(points["family"]))
    shapes = cycle(_SHAPES)
    scale = vega.given(domain=families, range=[next(shapes) for _ in families])
    return vega.channel("shape", "family:N", scale=scale, legend=_legend("family", len(families)))


def _legend(title: str, entries: int) -> vega.Specification | None:
    return vega.given(title=title) if entries > 1 else None
