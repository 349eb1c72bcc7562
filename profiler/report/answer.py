"""The answer to "how fast is it here?": one table and one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from profiler.analysis.regression import Quantity
from profiler.analysis.speed import fastest, latency_of, speed_up
from profiler.records.columns import Row
from profiler.report.console import plain_table
from profiler.units import format_bytes, format_count, format_duration

#: The backend that the others are compared with.
_BASE = "eager"


def answer_table(rows: Sequence[Row]) -> Table:
    """Return a table with a row for each setting, in no more than 80 columns."""
    several = len({row["batch"] for row in rows}) > 1
    shapes = len({row["shape"] for row in rows}) > 1
    heads = [*(["shape"] if shapes else []), *(["batch"] if several else [])]
    table = plain_table("backend", *heads, "latency [95%]", "p90", "per s", "memory", "load", f"x {_BASE}")
    table.padding = (0, 1, 0, 0)  # or eight columns would not fit a terminal's width
    for row in rows:
        lead = [*([str(row["shape"] or "")] if shapes else []), *([str(row["batch"])] if several else [])]
        table.add_row(*map(escape, (str(row["backend"]), *lead, *_cells(row, _base(row, rows)))))
    return table


def _base(row: Row, rows: Sequence[Row]) -> Row | None:
    same = ("batch", "shape", "device", "precision", "threads", "memory_format", "mode")
    return next((r for r in rows if r["backend"] == _BASE and all(r[key] == row[key] for key in same)), None)


def _cells(row: Row, base: Row | None) -> list[str]:
    found = latency_of(row)
    if found is None:
        return [str(row["status"]), "", "", "", "", ""]
    p90, rate, memory, load = (row.get(name) for name in ("p90_ms", "throughput_per_s", "peak_memory_bytes", "load_s"))
    return [
        milliseconds(found),
        format_duration(p90 / 1e3) if isinstance(p90, float) else "",
        format_count(rate) if isinstance(rate, float) else "",
        format_bytes(memory) if isinstance(memory, int) else "",
        format_duration(load) if isinstance(load, float) else "",
        "" if base is None or base is row else _times(speed_up(row, base)),
    ]


def milliseconds(found: Quantity) -> str:
    """Return ``12.3 ms [12.1, 12.6]``."""
    said = format_duration(found.value / 1e3)
    if found.interval is None:
        return f"{said} [one visit]"
    scale = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}.get(said.rpartition(" ")[2], 1.0)
    low, high = (f"{end / scale:.3g}" for end in found.interval)
    return f"{said} [{low}, {high}]"


def _times(found: Quantity | None) -> str:
    if found is None:
        return ""
    ends = "" if found.interval is None else f" [{found.interval[0]:.2f}, {found.interval[1]:.2f}]"
    return f"{found.value:.2f}{ends}"


def answer_sentence(rows: Sequence[Row]) -> str:
    """Return which setting is fastest, and how surely; why there is none where all failed."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["batch"], row["shape"]), []).append(row)
    said = [_said(group, several=len(groups) > 1) for group in groups.values()]
    return " ".join(said)


def _said(rows: Sequence[Row], *, several: bool) -> str:
    best = fastest(rows)
    where = f"At batch {rows[0]['batch']}{' ' + str(rows[0]['shape']) if rows[0]['shape'] else ''}: " if several else ""
    if best is None:
        return f"{where}Nothing could be measured: {rows[0]['reason']}."
    found = latency_of(best.row)
    assert found is not None  # it was ranked by it
    name, said = best.row["backend"], milliseconds(found)
    if best.second is None or best.lead is None:
        return f"{where}{name} takes {said}."
    other = best.second["backend"]
    if best.sure:
        return f"{where}Fastest is {name}, {said}: {_times(best.lead)} times as fast as {other}."
    if best.lead.interval is None:
        return (
            f"{where}Fastest was {name}, {said}, before {other}; how surely, one visit does not tell: give more --time."
        )
    return f"{where}{name}, {said}, and {other} cannot be told apart ({_times(best.lead)} times): more --time may tell."
