"""Every network on every runtime: how many times as fast as on the first, and how surely."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from profiler.analysis.speed import latency_of, speed_up
from profiler.records.columns import Row
from profiler.report.closing import SETTINGS, network_of
from profiler.report.grid import Cell, Table
from profiler.units import three_digits

#: The backend that others are compared with, where it is among them; else the first.
_BASE = "eager"
#: Stands before what may be as fast as the other.
_EVEN = "≈ "


def runtimes_table(rows: Sequence[Row]) -> Table | None:
    """A row for each network and setting, a column for each backend; None of fewer than two.

    A cell holds how many times as fast it is as eager, or else as the first backend, with the 95% interval of that;
    where this holds 1, or nobody knows it, a mark stands before. What failed says how.
    """
    backends = list(dict.fromkeys(str(row["backend"]) for row in rows))
    if len(backends) < 2:
        return None
    base = _BASE if _BASE in backends else backends[0]
    others = [name for name in backends if name != base]
    varying = [key for key in SETTINGS if len({row[key] for row in rows}) > 1]
    sides: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        lead = (network_of(row), *(str(row[key] or "") for key in varying))
        sides.setdefault(lead, {})[str(row["backend"])] = row
    body = [(*lead, *_cells(side, base, others)) for lead, side in sides.items()]
    note = f"Times as fast as {base}, with 95% intervals. {_EVEN}where the interval holds 1, or none is known."
    return Table(("network", *varying), (f"{base} (ms)", *others), body, note)


def _cells(side: Mapping[str, Row], base: str, others: Iterable[str]) -> list[Cell]:
    beside = side.get(base)
    return [_milliseconds(beside), *(_times(side.get(name), beside) for name in others)]


def _milliseconds(row: Row | None) -> Cell:
    found = latency_of(row) if row else None
    if row is None or found is None:
        return str(row["status"]) if row else ""
    return three_digits(found.value), repr(found.value)


def _times(row: Row | None, beside: Row | None) -> Cell:
    found = speed_up(row, beside) if row and beside else None
    if row is None or found is None:
        return "" if row is None or latency_of(row) is not None else str(row["status"])
    low, high = found.interval or (0.0, float("inf"))
    ends = f" [{low:.2f}, {high:.2f}]" if found.interval else ""
    return f"{_EVEN if low <= 1 <= high else ''}{found.value:.2f}{ends}", repr(found.value)
