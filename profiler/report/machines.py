"""Machines side by side: the ratio of each network's cost, and whether the order of networks is the same on both."""

from __future__ import annotations

import pandas as pd

from profiler.analysis.compare import Comparison, comparisons, settings_of
from profiler.analysis.frame import group_label
from profiler.errors import UserError
from profiler.report.grid import Table

#: In which sides differ that are of unlike machines or devices.
_WHERE = frozenset({"run", "host", "fleet_label", "device"})

_NOTE = "The cost on the first machine over that on the second, and whether networks have the same order on both."


def machines_table(frame: pd.DataFrame, y: str) -> Table | None:
    """A row for two labels, devices or runs with what else they have in common; None where there are no two.

    Args:
        frame: One row per case.
        y: The cost.
    """
    try:
        found = [one for one in comparisons(settings_of(frame, y)) if _differing(one) <= _WHERE]
    except UserError:  # unlike models under one name: no ratio means anything
        return None
    keys = [
        key for one in found[:1] for key in one.first if key not in _WHERE and len({o.first[key] for o in found}) > 1
    ]
    rows = []
    for one in found:
        ratio = f"{one.mean:.3f}" + (f" [{one.interval[0]:.3f}, {one.interval[1]:.3f}]" if one.interval else "")
        rank = "" if one.spearman is None else f"{one.spearman:.3f}"
        same = [group_label({key: one.first[key] for key in keys})] if keys else []
        rows.append((" / ".join(reversed(one.labels)), *same, str(len(one.ratios)), ratio, rank))
    texts = ("machines", "of") if keys else ("machines",)
    return Table(texts, ("networks", "ratio [95%]", "rank correlation"), rows, _NOTE) if rows else None


def _differing(one: Comparison) -> set[str]:
    return {key for key, value in one.first.items() if one.second[key] != value}
