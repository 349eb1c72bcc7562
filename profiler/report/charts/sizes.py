"""Latency against a size of the inputs: resolution, sequence length, or another that has several values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from profiler.analysis.fit import Fit
from profiler.analysis.frame import group_label, measured, plain, rows_of
from profiler.models.shapes import parse_shapes
from profiler.records.columns import interval_columns
from profiler.report import vega
from profiler.report.charts.parts import GAP, palette_of, top_of, y_title
from profiler.report.render import PANEL


def against_size(frame: pd.DataFrame, pooled: Sequence[Fit]) -> vega.Chart | None:
    """Latency against the first size that varies among the shapes of a model; None where none has several.

    A panel per model and placement, a line per backend, with the 95% interval of each point where the table has it.

    Args:
        frame: The table.
        pooled: Its pooled fits.
    """
    points = [each for one in pooled for each in _points(frame, one)]
    if not points:
        return None
    table = pd.concat(points)
    names = list(dict.fromkeys(table["backend"]))
    colour = vega.colour(
        "backend:N",
        scale=vega.given(domain=names, range=palette_of(len(names))),
        legend=vega.given(title=None) if len(names) > 1 else None,
    )
    title = y_title(pooled[0])
    panels = [_panel(rows, colour, title) for _, rows in table.groupby(["model", "where"], sort=False)]
    return vega.panels(*panels, columns=2, spacing=GAP)


def _points(frame: pd.DataFrame, one: Fit) -> list[pd.DataFrame]:
    """One table per model of a group that was measured in several shapes."""
    rows = rows_of(frame, one.group)
    rows = rows[measured(rows)]
    if "shape" not in rows:
        return []
    group = {key: value for key, value in one.group.items() if key != "backend"}
    low, high = interval_columns(one.y)
    found = []
    for model, own in rows.groupby("model", sort=False):
        name, sizes = varying_size([plain(shape) for shape in own["shape"]])
        if name:
            values = {
                column: pd.to_numeric(own[of], errors="coerce") if of in own else None
                for column, of in {"y": one.y, "low": low, "high": high}.items()
            }
            found.append(
                pd.DataFrame({"size": sizes, "shape": own["shape"], **values}).assign(
                    name=name, model=plain(model), backend=one.group.get("backend", ""), where=group_label(group)
                )
            )
    return [table.dropna(subset=["y"]).sort_values("size") for table in found]


def varying_size(shapes: Sequence[str]) -> tuple[str, list[int]]:
    """Return what the first size is called that is not the same in all ``shapes``, and its values; "" where none is.

    ``height`` for a dimension; ``images[2]`` for the third size of an input; all names of those that are the same.
    """
    varying = [(name, sizes) for name, sizes in _sizes(shapes) if len(set(sizes)) > 1]
    first = varying[0][1] if varying else []
    return " = ".join(name for name, sizes in varying if sizes == first), first


def _sizes(shapes: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Yield every size that all shapes have, with its values."""
    read = [parse_shapes(shape) if shape else {} for shape in shapes]
    for name in read[0] if read else ():
        if all(name in each and len(each[name].sizes) == len(read[0][name].sizes) for each in read):
            axes = range(len(read[0][name].sizes))
            called = [name if len(axes) == 1 else f"{name}[{axis}]" for axis in axes]
            yield from ((called[axis], [each[name].sizes[axis] for each in read]) for axis in axes)


def _panel(rows: pd.DataFrame, colour: vega.Channel, title: str) -> vega.Chart:
    name = rows["name"].iloc[0]
    ticks = sorted(set(rows["size"]))
    axis = vega.given(values=ticks, format="d", labelOverlap="greedy")
    x = vega.x("size:Q", title=name, axis=axis, scale=vega.given(zero=False, padding=12))
    y = vega.y("y:Q", title=title, scale=vega.given(domain=[0, top_of(rows)], nice=True, clamp=True))
    tooltip = [vega.tip("shape:N"), vega.tip("backend:N"), vega.tip("y:Q", title=title, format=".4~g")]
    line = vega.mark(rows, "line", point=True, strokeWidth=1.4, opacity=0.85).encode(x, y, colour, tooltip=tooltip)
    whisker = vega.mark(rows.dropna(subset=["low", "high"]), "rule", strokeWidth=1, opacity=0.85)
    layers = [whisker.encode(x, vega.y("low:Q", title=title), vega.channel("y2", "high"), colour), line]
    told = vega.title(rows["model"].iloc[0], subtitle=rows["where"].iloc[0])
    return vega.layered(*layers, width=PANEL, height=PANEL * 0.8, title=told)
