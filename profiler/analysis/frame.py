"""Tables as data frames: what their columns mean, which rows belong together, and what people call them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from profiler.analysis.regression import Floats
from profiler.errors import UserError
from profiler.models.complexity import CHANNEL_BLOCK
from profiler.plan.values import closest


class Term(NamedTuple):
    """A count that a cost may grow with, and by how much.

    Attributes:
        column: In tables, and in ``Complexity``.
        name: In prose.
        scale: Counts in one unit.
        unit: What slopes are stated per.
        coefficient: Units of the cost per unit of this; 0 where nothing is fitted.
    """

    column: str
    name: str
    scale: float
    unit: str
    coefficient: float = 0.0


#: All counts; foreign tables need have the first three alone, which are also proxies for a cost on their own.
TERMS = {
    term.column: term
    for term in (
        Term("acts", "activations", 1e6, "M acts"),
        Term("flops", "flops", 1e9, "GF"),
        Term("params", "parameters", 1e6, "M params"),
        Term("layers", "layers", 1.0, "layer"),
        Term(
            "padding_flops",
            "flops of padding",
            1e9,
            f"GF that padding groups to {CHANNEL_BLOCK} channels would add",
        ),
    )
}
PROXIES = {column: TERMS[column] for column in ("acts", "flops", "params")}

GROUP_KEYS = (
    "run",
    "host",
    "fleet_label",
    "backend",
    "device",
    "precision",
    "memory_format",
    "threads",
    "batch",
    "mode",
    "gap_ms",
)
_SHOWN_WHEN_SEVERAL = ("run", "host", "fleet_label", "memory_format")
_OPTIONAL = (*_SHOWN_WHEN_SEVERAL, "gap_ms")
_MEASURED = ("ok", "unstable")
_UNITS = {"ms": "ms", "us": "µs", "s": "s", "mib": "MiB", "mb": "MB", "bytes": "bytes", "hr": "h", "h": "h"}
SECONDS = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "h": 3600.0}
_NOT_LATENCIES = frozenset((*PROXIES, "model", "family", "resolution", *GROUP_KEYS, "factor"))
LATENCY_NAME = re.compile(r"(?:^|[_ ])(?:ms|us|latency|time|infer|inference)(?:$|[_ (])", re.IGNORECASE)


def grouping(frame: pd.DataFrame) -> list[str]:
    """The grouping columns that this table has; run, host and memory format only where there are several.

    A gap only where a row has one: those without are of forwards back to back.
    """
    told = {key: frame[key].dropna().nunique() for key in GROUP_KEYS if key in frame}
    return [key for key, n in told.items() if n > (key in _SHOWN_WHEN_SEVERAL) or key not in _OPTIONAL]


def group_label(group: Mapping[str, str]) -> str:
    """A group as people say it: ``onnxruntime · cpu · fp32 · 1 thread · batch 1 · infer``."""
    say = {
        "threads": lambda v: f"{v} thread" if v == "1" else f"{v} threads",
        "batch": lambda v: f"batch {v}",
        "host": lambda v: f"host {v}",
        "gap_ms": lambda v: f"{v} ms apart",
    }
    return " · ".join(say.get(key, str)(value) for key, value in group.items() if value) or "all networks"


def unit_of(column: str) -> str:
    """Unit of a column, read off the end of its name; empty where it does not tell."""
    return _UNITS.get(re.split(r"[_ (]", column.lower().rstrip(")"))[-1], "")


def prose(column: str) -> str:
    """A column as people say it, without its unit: ``latency`` for ``latency_ms``."""
    name, _, end = column.rpartition("_")
    return (name if name and unit_of(end) else column).replace("_", " ")


def network_names(frame: pd.DataFrame) -> list[str]:
    """The network of each row as people say it: ``regnety_4.0gf dWr x4``, ``net.onnx height=320,width=320``.

    A step beside the rule follows it, as ``d3+1``.
    """
    columns = ("scaling", "factor", "step", "shape")
    parts = [frame[name] if name in frame else [""] * len(frame) for name in columns]
    return [
        " ".join(
            filter(
                None, (plain(model), *((plain(rule), f"x{plain(s)}", plain(step)) if plain(rule) else ()), plain(shape))
            )
        )
        for model, rule, s, step, shape in zip(frame["model"], *parts, strict=True)
    ]


def measured(frame: pd.DataFrame) -> pd.Series[bool]:
    """Which rows hold a measurement: all of them where the table has no column ``status``."""
    if "status" not in frame:
        return pd.Series([True] * len(frame), index=frame.index)
    return frame["status"].isin(_MEASURED)


def unstable(frame: pd.DataFrame) -> pd.Series[bool]:
    """Which rows say that their latency is known less well than was asked; none where there is no column ``status``."""
    if "status" not in frame:
        return pd.Series([False] * len(frame), index=frame.index)
    return frame["status"] == "unstable"


def rows_of(frame: pd.DataFrame, group: Mapping[str, str]) -> pd.DataFrame:
    """The rows of one group, measured or not, in their order."""
    keep = np.ones(len(frame), dtype=bool)
    for key, value in group.items():
        keep &= np.array([plain(v) == value for v in frame[key]], dtype=bool)
    return frame[keep]


def latency_column(frame: pd.DataFrame, asked: str | None) -> str:
    """The column to explain: the one asked for, else ``latency_ms``, else the only one named like a latency.

    Raises:
        UserError: There is no such column, or more than one; or it holds words alone.
    """
    have = ", ".join(map(str, frame.columns))
    if asked is not None:
        if asked not in frame:
            near = closest(asked, map(str, frame.columns))
            raise UserError(f"no column {asked!r}{near or f'; the table has {have}'}")
        told = frame[asked].dropna()
        if len(told) and not _holds_numbers(told):
            numbers = ", ".join(str(column) for column in frame if _holds_numbers(frame[column]))
            raise UserError(
                f"column {asked!r} holds words, such as {told.iloc[0]!r}; the table has numbers in {numbers}"
            )
        return asked
    if "latency_ms" in frame:
        return "latency_ms"
    found = [str(c) for c in frame if c not in _NOT_LATENCIES and LATENCY_NAME.search(str(c))]
    if len(found) != 1:
        what = f"several columns look like a latency ({', '.join(found)})" if found else "no latency column"
        raise UserError(f"{what}: name one with --y; the table has {have}")
    return found[0]


def _holds_numbers(cells: pd.Series[Any]) -> bool:
    return bool(pd.to_numeric(cells, errors="coerce").notna().any())


def scale_of(column: str, counts: Floats) -> tuple[float, str]:
    """What to divide a column of ``TERMS`` by, and the unit then.

    Counts become millions or GF. A proxy that never reaches 10,000 is no count (published tables give flops
    in billions): it keeps its own unit, which the table alone knows.
    """
    if column in PROXIES and np.max(counts, initial=0) < 1e4:
        return 1.0, f"unit of {column}"
    return TERMS[column].scale, TERMS[column].unit


def plain(value: object) -> str:
    """A cell as text: a hole is empty, 4.0 is ``4``."""
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA:
        return ""
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value).strip()
