"""What a larger batch brings: latency and images per second against batch, and the knee of that curve."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from profiler.analysis.fit import Fit
from profiler.analysis.frame import SECONDS, group_label, measured, network_names, plain, rows_of
from profiler.analysis.load import NEAR_BEST


def curves(frame: pd.DataFrame, pooled: Sequence[Fit]) -> pd.DataFrame:
    """Networks that were measured at several batches, one row per network, place and batch, in that order.

    Args:
        frame: The table the fits were made from.
        pooled: Its pooled fits.

    Returns:
        Columns network, family, scaling, where (the group, without the batch), batch, latency (of the whole batch, in
        the units of the fits), throughput (images per second; per unit of latency where that is no time) and knee
        (whether this row is the knee of its curve). Empty where nothing was measured at several batches.
    """
    parts = [_points(frame, one) for one in pooled if one.n and one.group.get("batch")]
    if not parts:
        return pd.DataFrame(columns=["network", "where", "batch", "latency", "throughput", "knee"])
    table = pd.concat(parts).dropna(subset=["latency"])
    table = table[table["latency"] > 0]
    table["throughput"] = table["batch"] / (table["latency"] * SECONDS.get(pooled[0].unit, 1.0))
    table = table.drop_duplicates(["network", "where", "batch"]).sort_values(["where", "network", "batch"])
    by_curve = table.groupby(["network", "where"])
    table = table[by_curve["batch"].transform("size") > 1].reset_index(drop=True)
    by_curve = table.groupby(["network", "where"])
    near = table["throughput"] >= NEAR_BEST * by_curve["throughput"].transform("max")
    first = table["batch"].where(near).groupby([table["network"], table["where"]]).transform("min")
    return table.assign(knee=table["batch"] == first)


def _points(frame: pd.DataFrame, one: Fit) -> pd.DataFrame:
    rows = rows_of(frame, one.group)
    rows = rows[measured(rows)]
    return pd.DataFrame(
        {
            "network": network_names(rows),
            "family": [plain(v) for v in rows["family"]] if "family" in rows else "",
            "scaling": [plain(v) for v in rows["scaling"]] if "scaling" in rows else "",
            "where": group_label({key: value for key, value in one.group.items() if key != "batch"}),
            "batch": float(str(one.group["batch"])),
            "latency": pd.to_numeric(rows[one.y], errors="coerce"),
        }
    )
