"""Which networks of a run are fastest, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from profiler.analysis.frame import group_label, grouping, measured, network_names, plain
from profiler.analysis.quantity import Quantity
from profiler.analysis.rows import checked_numbers
from profiler.analysis.source import chosen_rows
from profiler.analysis.speed import ratio_interval
from profiler.errors import UserError
from profiler.records.columns import interval_columns
from profiler.units import format_duration

#: Networks within this of a size, relative, are of that size.
_NEAR = 0.10


@dataclass(frozen=True, slots=True)
class Place:
    """A network in a ranking.

    Attributes:
        network: As people say it.
        backend: Where it ran; empty where the table does not tell.
        flops: Of one example; None where they are not known.
        latency: In ms.
        behind: Its latency over that of the first.
        visits: Of which its latency is; None where the table does not tell.
        unstable: Whether the table says so of its latency.
    """

    network: str
    backend: str
    flops: float | None
    latency: Quantity
    behind: Quantity
    visits: float | None = None
    unstable: bool = False

    @property
    def surely(self) -> bool:
        """Whether it is another than the first: the interval of the ratio does not hold 1."""
        ends = self.behind.interval
        return ends is not None and not ends[0] <= 1 <= ends[1]

    def facts(self) -> dict[str, Any]:
        """As plain values."""
        latency, behind = ((one.value, list(one.interval or ())) for one in (self.latency, self.behind))
        said = {"network": self.network, "backend": self.backend, "flops": self.flops}
        return said | {
            "unstable": self.unstable,
            "latency_ms": latency[0],
            "interval_ms": latency[1],
            "times_first": behind[0],
            "times_first_interval": behind[1],
        }


def ranked(
    frame: pd.DataFrame, *, flops: float | None = None, budget_ms: float | None = None, backends: Sequence[str] = ()
) -> dict[str, list[Place]]:
    """Return the networks of each setting, all backends together, the fastest first.

    Args:
        frame: One row per case.
        flops: Only networks within 10% of it.
        budget_ms: Only those whose interval ends within it; then the largest comes first, and what has no size last.
        backends: Only these; empty for all.

    Raises:
        UserError: Nothing is left, or a latency is text.
    """
    if "latency_ms" not in frame:
        raise UserError(f"missing column latency_ms: the table has {', '.join(map(str, frame.columns))}")
    table = frame[measured(frame) & (checked_numbers(frame, "latency_ms", measured(frame)) > 0)].reset_index(drop=True)
    if table.empty:
        raise UserError(f"none of the {len(frame)} rows of the table has a latency above 0")
    table = table.assign(network=network_names(table))
    keep = np.ones(len(table), dtype=bool)
    if backends:
        chosen = [chosen_rows(table, name, None).index for name in backends]  # each of them must be in the table
        keep &= table.index.isin(np.concatenate(chosen))
    counts = pd.to_numeric(table["flops"], errors="coerce") if "flops" in table else pd.Series(np.nan, table.index)
    if flops is not None:
        keep &= np.abs(counts.to_numpy(dtype=np.float64) / flops - 1) <= _NEAR
    latencies = _latencies(table)
    if budget_ms is not None:
        keep &= np.array([(q.interval[1] if q.interval else q.value) <= budget_ms for q in latencies], dtype=bool)
    if not keep.any():
        raise UserError(_none_left(counts, latencies, flops, budget_ms))
    keys = [key for key in grouping(table) if key != "backend"]
    groups: dict[str, list[int]] = {}
    for i in np.flatnonzero(keep):
        label = group_label({key: plain(table[key].iloc[i]) for key in keys})
        groups.setdefault(label, []).append(int(i))

    def order(i: int) -> tuple[float, float]:
        return (0.0 if budget_ms is None else -float(np.nan_to_num(counts.iloc[i])), latencies[i].value)

    return {name: _places(table, counts, latencies, sorted(rows, key=order)) for name, rows in groups.items()}


def _none_left(
    counts: pd.Series[float], latencies: Sequence[Quantity], flops: float | None, budget_ms: float | None
) -> str:
    """Say what was asked, and what the table has."""
    sized = "" if flops is None else f" of {flops / 1e9:.3g}GF, within {_NEAR:.0%}"
    timed = "" if budget_ms is None else f" within {format_duration(budget_ms / 1e3)} with its whole interval"
    sizes = ", ".join(f"{value:.3g}GF" for value in sorted(set((counts.dropna() / 1e9).round(3)))) or "not known"
    fastest = format_duration(min(one.value for one in latencies) / 1e3)
    return (
        f"none of {len(counts)} measured networks is{sized}{timed}: the fastest takes {fastest}, and sizes are {sizes}"
    )


def _latencies(table: pd.DataFrame) -> list[Quantity]:
    names = ("latency_ms", *interval_columns("latency_ms"))
    known = [pd.to_numeric(table[name], errors="coerce") if name in table else None for name in names]
    columns = [[np.nan] * len(table) if one is None else one.astype(float).tolist() for one in known]
    return [
        Quantity(value, (low, high) if 0 < low <= value <= high < np.inf else None)
        for value, low, high in zip(*columns, strict=True)
    ]


def _places(
    table: pd.DataFrame, counts: pd.Series[float], latencies: Sequence[Quantity], rows: Sequence[int]
) -> list[Place]:
    first = latencies[rows[0]]
    visits = pd.to_numeric(table["visits"], errors="coerce").tolist() if "visits" in table else [None] * len(table)
    return [
        Place(
            network=str(table["network"].iloc[i]),
            backend=plain(table["backend"].iloc[i]) if "backend" in table else "",
            flops=float(counts.iloc[i]) if np.isfinite(counts.iloc[i]) else None,
            latency=latencies[i],
            behind=Quantity(latencies[i].value / first.value, ratio_interval(latencies[i], first)),
            visits=visits[i],
            unstable="status" in table and str(table["status"].iloc[i]) == "unstable",
        )
        for i in rows
    ]
