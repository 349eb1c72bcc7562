"""Vega-Lite specifications of charts, said briefly: marks on data frames, layers of them, and panels of those.

A page of ten charts is made in a tenth of the time that a library takes which checks and copies every part; tests check
them against the schema.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import pandas as pd

#: A Vega-Lite specification, or a part of one.
Specification: TypeAlias = dict[str, Any]
_TYPES = {"Q": "quantitative", "N": "nominal", "O": "ordinal"}


class Channel(NamedTuple):
    """What of the data is seen in one property of a mark.

    Attributes:
        name: Of the property: ``x``, ``color``.
        shown: Its definition.
    """

    name: str
    shown: Specification


def channel(name: str, column: str, **how: object) -> Channel:
    """A column, named with its type as in ``latency:Q``, in a property of a mark.

    Types are Q for quantities, N for names, O for orders; the end of an interval (``x2``, ``y2``) has none.
    """
    return Channel(name, tip(column, **how))


def tip(column: str, **how: object) -> Specification:
    """A column, named as in ``channel``, in a tooltip."""
    field, typed, kind = column.partition(":")
    return {"field": field, **({"type": _TYPES[kind]} if typed else {}), **how}


x, y, colour = (partial(channel, name) for name in ("x", "y", "color"))


def given(**how: object) -> Specification:
    """How a scale, an axis or a legend is set."""
    return how


def title(text: str, **how: object) -> Specification:
    """A title, and how it is set."""
    return {"text": text, **how}


class Chart:
    """A chart, or a part of one."""

    def __init__(self, **parts: object) -> None:
        self.parts: Specification = parts

    def having(self, **parts: object) -> Chart:
        """This chart, with other parts."""
        return Chart(**self.parts | parts)

    def encode(self, *channels: Channel, tooltip: Sequence[Specification] = ()) -> Chart:
        """This chart, with what is seen of its data and what is told of a mark."""
        seen = {one.name: one.shown for one in channels} | ({"tooltip": [*tooltip]} if tooltip else {})
        return self.having(encoding={name: seen[name] for name in sorted(seen)})

    def to_dict(self) -> Specification:
        """The specification, with each data frame in ``datasets``, once."""
        frames: list[pd.DataFrame] = []
        made = _plain(self, frames)
        sets = {f"data-{number}": _records(frame) for number, frame in enumerate(frames)}
        return {**made, "datasets": made.get("datasets", {}) | sets}


def mark(data: pd.DataFrame, kind: str, **style: object) -> Chart:
    """A mark, such as a ``point``, for each row of ``data``, or each group of rows; all are set as ``style`` says."""
    return Chart(data=data, mark={"type": kind, **style})


def layered(*layers: Chart, **parts: object) -> Chart:
    """Charts on top of each other, the first undermost."""
    return Chart(layer=layers, **parts)


def panels(*charts: Chart, **parts: object) -> Chart:
    """Charts in reading order, as many in a row as ``columns`` says, with so many pixels of ``spacing``."""
    return Chart(concat=charts, **parts)


def stacked(*charts: Chart, **parts: object) -> Chart:
    """Charts below each other."""
    return Chart(vconcat=charts, **parts)


def _plain(part: Any, frames: list[pd.DataFrame]) -> Any:
    """A part of a specification as JSON can hold it; its data frames are added to ``frames``."""
    if isinstance(part, Chart):
        part = part.parts
    if isinstance(part, pd.DataFrame):
        number = next((number for number, frame in enumerate(frames) if frame is part), len(frames))
        frames[number:] = frames[number:] or [part]
        return {"name": f"data-{number}"}
    if isinstance(part, dict):
        return {key: _plain(value, frames) for key, value in part.items()}
    return [_plain(value, frames) for value in part] if isinstance(part, (list, tuple)) else part


def _records(frame: pd.DataFrame) -> list[Specification]:
    """Rows as JSON can hold them: what is no number is null."""
    return [{str(name): _known(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _known(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
