"""What an unmeasured network will cost, and how far that may be off: every cost of a table, in each of its groups."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from profiler.analysis.cost_model import CostModel, cost_models
from profiler.analysis.frame import PROXIES, SECONDS, group_label, latency_column, measured, rows_of, unit_of, unstable
from profiler.models.brought import Network, counts_of
from profiler.models.complexity import Complexity
from profiler.records.intervals import Interval

#: Columns of our own tables that are predicted beside the latency; the others are parts of these.
_OWN_COSTS = ("peak_memory_bytes", "epoch_s")
#: What such columns are called in tables of others.
_OTHER_COSTS = re.compile(r"(?:memory|peak|step|epoch|energy).*_(?:ms|s|h|mib|mb|bytes|j)$", re.IGNORECASE)
_NOTHING = "the network has none of the counts that it is predicted by: measure it"
_NO_COSTS = re.compile(r"_ci_|raw|p\d\d|precision|images|loader|samples")


def costs_of(frame: pd.DataFrame) -> list[str]:
    """The columns worth predicting: the latency, and memory, step, epoch and energy where they hold numbers."""
    own = [column for column in _OWN_COSTS if column in frame]
    named = [c for c in map(str, frame.columns) if _OTHER_COSTS.search(c) and not _NO_COSTS.search(c)]
    held = [c for c in own or named if pd.to_numeric(frame[c], errors="coerce").notna().any()]
    return list(dict.fromkeys([latency_column(frame, None), *held]))


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one group's model says of one network.

    Attributes:
        group: Values of the grouping columns.
        y: Column.
        unit: Its unit, or empty.
        value: In units of y.
        interval: 90% prediction interval.
        basis: What it rests on.
        beyond: How the network lies outside of what was measured, or None.
        measured: y of the same network, where the table has it.
        error: Mean relative error on what was left out of the fit, as a fraction.
        unstable: Whether the table says so of what was measured.
    """

    group: dict[str, str]
    y: str
    unit: str
    value: float
    interval: Interval
    basis: str
    beyond: str | None
    measured: float | None
    error: float
    unstable: bool = False


def predict(frame: pd.DataFrame, arch: Network) -> tuple[list[Prediction], dict[str, str]]:
    """Predict every cost that a table has, in each of its groups.

    Returns:
        Predictions; and for each group and column without one, why.

    Raises:
        UserError: The table cannot be used.
    """
    network = counts_of(arch)
    made: list[Prediction] = []
    without: dict[str, str] = {}
    for y in costs_of(frame):
        found, missing = cost_models(frame, y, arch.family or None, arch.name)
        made += [_prediction(frame, model, network, arch) for model in found if model.value(network) > 0]
        missing |= {group_label(model.group): _NOTHING for model in found if model.value(network) <= 0}
        without |= {f"{label}, {y}": why for label, why in missing.items()}
    return made, without


def _prediction(frame: pd.DataFrame, model: CostModel, network: Complexity, arch: Network) -> Prediction:
    seen, unsure = _measured(frame, model, network, arch)
    return Prediction(
        group=model.group,
        y=model.y,
        unit=unit_of(model.y),
        value=model.value(network),
        interval=model.interval(network),
        basis=model.basis,
        beyond=model.beyond(network),
        measured=seen,
        error=model.typical,
        unstable=unsure,
    )


def _measured(frame: pd.DataFrame, model: CostModel, network: Complexity, arch: Network) -> tuple[float | None, bool]:
    """The y of the row that is this very network, if it was measured; and whether it is a time and unstable."""
    rows = rows_of(frame, model.group)
    same = measured(rows) & (rows["model"] == arch.name)
    for proxy in PROXIES:
        same &= pd.to_numeric(rows[proxy], errors="coerce") == getattr(network, proxy)
    values = pd.to_numeric(rows.loc[same, model.y], errors="coerce").dropna()
    if values.empty:
        return None, False
    unsure = unit_of(model.y) in SECONDS and bool(unstable(rows).loc[values.index[0]])
    return float(values.iloc[0]), unsure
