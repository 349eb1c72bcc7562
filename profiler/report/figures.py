"""The charts of a page. A new one is a function of the table and its fits, and one line here that names it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from profiler.analysis.fit import Fit
from profiler.report.charts.batch import against_batch
from profiler.report.charts.behind import behind
from profiler.report.charts.frontier import against_error
from profiler.report.charts.panels import costs, three_panels
from profiler.report.charts.ranked import ranked_bars
from profiler.report.charts.sides import side_by_side
from profiler.report.charts.sizes import against_size
from profiler.report.render import styled
from profiler.report.vega import Chart

#: Charts of one group, from the table and the group's pooled fit; None where there is nothing to see.
_OF_A_GROUP = {"latency": three_panels, "behind": behind, "frontier": against_error}
#: Charts over all groups, from the table and all pooled fits.
_OVER_GROUPS = {
    "answer": ranked_bars,
    "side-by-side": side_by_side,
    "size": against_size,
    "batch": against_batch,
    "costs": costs,
}


def figures(frame: pd.DataFrame, pooled: Sequence[Fit]) -> Iterator[tuple[str, Chart]]:
    """All charts of a table with their names, those of the first group as ``latency-1``, then those over groups.

    Args:
        frame: The table.
        pooled: Its pooled fits.
    """
    for number, one in enumerate(pooled, start=1):
        for name, of_group in _OF_A_GROUP.items():
            if one.lines and (chart := of_group(frame, one)) is not None:
                yield f"{name}-{number}", styled(chart, padding=2)
    for name, over_groups in _OVER_GROUPS.items():
        if (chart := over_groups(frame, pooled)) is not None:
            yield name, styled(chart, padding=2)
