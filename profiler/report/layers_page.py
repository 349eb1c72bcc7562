"""The page of an explained latency: an icicle of modules, a table of layers, and what would make it faster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from profiler.analysis.faster import Suggestion, Tried
from profiler.analysis.layers import Explanation, LayerCost, parts_of
from profiler.records.files import write_file
from profiler.report.explanation import (
    advice_sentence,
    headline_sentence,
    peaks_sentence,
    share_text,
    tracing_sentence,
    tried_sentence,
)
from profiler.report.extra import can_draw, drawing
from profiler.report.html import filled
from profiler.report.sections import header_pairs
from profiler.units import format_bytes, format_count, format_duration

#: What is narrower than this part of the icicle is a line without a name, and is not drawn.
_LEAST = 0.001
_DEPTH = 8
_NUMBERS = ("time", "share", "flops", "params", "moved", "GF/s", "GB/s", "of roof")


@dataclass(slots=True)
class _Node:
    """A module or a layer in the tree of names."""

    name: str
    share: float = 0.0
    latency_ms: float = 0.0
    bound: str = ""
    inner: dict[str, _Node] = field(default_factory=dict)


def write_layers_page(one: Explanation, advices: Sequence[Suggestion], trials: Sequence[Tried], path: Path) -> None:
    """Write the page as one file that needs no other; a chart of the roofline where charts can be drawn.

    Raises:
        UserError: The file cannot be written.
    """
    with drawing(str(path), draws=False):
        page = filled(
            "layers.html.j2",
            title=headline_sentence(one).partition(":")[0],
            pairs=[pair for pair in header_pairs(pd.DataFrame([one.row]), {"": {}}) if pair[0] != "Cases"],
            said=[tracing_sentence(one), peaks_sentence(one)],
            headline=headline_sentence(one).rpartition(". ")[0] + ".",
            advice=[*map(advice_sentence, advices), *map(tried_sentence, trials)],
            boxes=list(_boxes(_tree(one.layers), 0.0, 0)),
            depth=_deepest(_tree(one.layers)),
            operators=_grid("operator", one.by_operator()),
            layers=_grid("layer", one.layers),
            roofline=_roofline(one),
        )
        write_file(path, page)


def _tree(layers: Sequence[LayerCost]) -> _Node:
    root = _Node("forward")
    for layer in layers:
        *within, last = [*filter(None, parts_of(layer.name))][:_DEPTH] or ["(model)"]
        node = root
        _add(node, layer)
        for part in (*within, f"{last}", layer.operator):
            node = node.inner.setdefault(part, _Node(part))
            _add(node, layer)
        node.bound = layer.bound or ""
    root.inner = {name: _joined(inner) for name, inner in root.inner.items()}
    return root


def _joined(node: _Node) -> _Node:
    """Make one of modules that hold nothing but each other: ``spatial.0``."""
    inner = {name: _joined(one) for name, one in node.inner.items()}
    only = next(iter(inner.values())) if len(inner) == 1 else None
    if only is not None and only.inner:
        return replace(only, name=f"{node.name}.{only.name}")
    return replace(node, inner=inner)


def _add(node: _Node, layer: LayerCost) -> None:
    node.share += layer.share
    node.latency_ms += layer.latency_ms


def _boxes(node: _Node, left: float, depth: int, above: str = "") -> Iterator[dict[str, Any]]:
    """Yield the boxes of a tree, each within the one above it; places and widths in percent.

    ``said`` has its name with those of the modules ``above``.
    """
    path = f"{above}{'.' if node.inner else ' '}{node.name}".strip(". ") if depth else ""
    yield {
        "left": f"{left * 100:.3f}",
        "width": f"{node.share * 100:.3f}",
        "depth": depth,
        "name": node.name,
        "said": f"{path or node.name}: {format_duration(node.latency_ms / 1e3)}, {node.share:.1%}",
        "bound": node.bound or "module",
        # A module of modules ends in a point: 1 is not 10.
        "sought": f"{path}." if path and any(each.inner for each in node.inner.values()) else path,
    }
    for inner in node.inner.values():
        if inner.share >= _LEAST:
            yield from _boxes(inner, left, depth + 1, path)
        left += inner.share


def _deepest(node: _Node) -> int:
    return 1 + max((_deepest(inner) for inner in node.inner.values()), default=0)


def _grid(first: str, layers: Sequence[LayerCost]) -> dict[str, Any]:
    """A table for the template: texts, then numbers, each with the value that it is sorted by."""
    texts = ("layer", "operator", "held by") if first == "layer" else ("operator", "held by")
    rows = []
    for layer in layers:
        named = [layer.name or "(model)", layer.operator] if first == "layer" else [layer.name]
        rows.append([*named, layer.bound or "", *_numbers(layer)])
    return {"texts": texts, "numbers": _NUMBERS, "rows": rows, "best": (), "note": ""}


def _numbers(layer: LayerCost) -> list[Any]:
    flops, moved = layer.per_second(layer.flops or None), layer.per_second(layer.moved_bytes or None)
    told = (
        (layer.latency_ms, format_duration(layer.latency_ms / 1e3)),
        (layer.share, share_text(layer)),
        (layer.flops, format_count(layer.flops or 0)),
        (layer.params, format_count(layer.params or 0)),
        (layer.moved_bytes, format_bytes(layer.moved_bytes or 0)),
        (flops, f"{(flops or 0) / 1e9:.3g}"),
        (moved, f"{(moved or 0) / 1e9:.3g}"),
        (layer.of_roof, f"{layer.of_roof or 0:.0%}"),
    )
    return ["" if value is None else (text, value) for value, text in told]


def _roofline(one: Explanation) -> str:
    """The roofline as SVG; empty where it cannot be drawn or peaks are not known."""
    if one.peaks is None or not can_draw():
        return ""
    from profiler.report.charts.roofline import roofline_chart  # with what draws, which may be missing
    from profiler.report.pieces import markup

    return markup([("roofline", roofline_chart(one.layers, one.peaks))])()["roofline"]
