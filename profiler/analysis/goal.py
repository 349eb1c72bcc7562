"""What a scaled network is to meet, and whether it will, by the models of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from profiler import models
from profiler.analysis.cost_model import CostModel, cost_models
from profiler.analysis.frame import GROUP_KEYS, SECONDS, group_label, latency_column, plain, rows_of, unit_of
from profiler.analysis.predict import costs_of
from profiler.analysis.search import MARKED, CostOf
from profiler.analysis.source import exact_counts
from profiler.errors import UserError
from profiler.models.brought import Network, counts_of
from profiler.models.complexity import Complexity
from profiler.records.intervals import Interval

Kind = Literal["flops", "latency", "memory"]

TOLERANCE = 0.02

_BYTES = {"bytes": 1, "MB": 10**6, "MiB": 1024**2}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A scaled network with its exact complexity and predicted costs.

    Attributes:
        arch: The network; its ``scaling`` is the rule.
        counts: For one image.
        latency: Predicted, in units of the latency column.
        interval: 90% prediction interval of the latency.
        memory: Predicted, in units of the memory column, or None.
        meets: Whether the goal is met.
    """

    arch: Network
    counts: Complexity
    latency: float
    interval: Interval
    memory: float | None
    meets: bool

    @property
    def rule(self) -> str:
        """The weighted form of its rule, as ``d1_w8_g8_r1``."""
        return models.parse_rule(self.arch.scaling).canonical

    @property
    def mark(self) -> str:
        """The paper's name of its rule, or empty."""
        return self.arch.scaling if self.arch.scaling in MARKED else ""


@dataclass(frozen=True, slots=True)
class Goal:
    """What the network is to meet, and the fitted models that tell whether it does.

    Attributes:
        kind: ``flops`` are to be met within 2%; a ``latency`` or ``memory`` must not be exceeded.
        limit: In flops, or in the unit of the column that is predicted.
        said: As the user gave it.
        latency: The model of the latency.
        memory: That of memory, where the run has it.
        place: Where they were measured: the columns of ``profiler.analysis.frame.GROUP_KEYS`` that the table has.
    """

    kind: Kind
    limit: float
    said: str
    latency: CostModel
    memory: CostModel | None
    place: dict[str, str]

    @property
    def cost(self) -> CostOf:
        """What the goal limits, as a function of the complexity."""
        if self.kind == "flops":
            return lambda counts: counts.flops
        model = self.latency if self.kind == "latency" else self.memory
        assert model is not None, "the goal was checked against the run"
        return model.value

    def candidate(self, arch: Network) -> Candidate:
        """Count and predict a network."""
        counts = counts_of(arch)
        reached = self.cost(counts) / self.limit
        return Candidate(
            arch=arch,
            counts=counts,
            latency=self.latency.value(counts),
            interval=self.latency.interval(counts),
            memory=self.memory.value(counts) if self.memory else None,
            meets=abs(reached - 1) <= TOLERANCE if self.kind == "flops" else reached <= 1,
        )


def prepare(frame: pd.DataFrame, family: str, kind: Kind, value: float, said: str) -> Goal:
    """Fit the models of the one group that a table holds, and put the goal in its units.

    Args:
        frame: The table, rows of other groups left out.
        family: Of the network to scale.
        kind: Of the goal, like the next two as ``parse_goal`` returns them.
        value: In flops, seconds or bytes.
        said: As the user gave it.

    Raises:
        UserError: The table cannot be used, has several groups, or lacks what the goal is about.
    """
    frame = exact_counts(frame)
    y = latency_column(frame, None)
    found, without = cost_models(frame, y, family)
    if not found:
        raise UserError(f"the run does not suffice for advice: {'; '.join(f'{k}: {v}' for k, v in without.items())}")
    if len(found) > 1:
        labels = "; ".join(group_label(one.group) for one in found)
        raise UserError(
            f"the run has {len(found)} settings ({labels}): advice needs exactly one; choose it with --backend or "
            "--where"
        )
    memories = [column for column in costs_of(frame) if unit_of(column) in _BYTES and column != y]
    memory = next((m for column in memories for m in cost_models(frame, column, family)[0]), None)
    if kind == "memory" and memory is None:
        raise UserError(f"--memory {said}: the run has no memory measured; measure a run with it first")
    model = memory if kind == "memory" else found[0]
    unit = unit_of(model.y) if model else ""
    scale = 1.0 if kind == "flops" else SECONDS.get(unit, 1e-3) if kind == "latency" else _BYTES[unit]
    return Goal(kind, value / scale, said, found[0], memory, _place(frame, found[0].group))


def _place(frame: pd.DataFrame, group: Mapping[str, str]) -> dict[str, str]:
    """Where a group was measured, with the keys that its label leaves out because all rows share them."""
    row = rows_of(frame, group).iloc[0]
    return {key: plain(row[key]) for key in GROUP_KEYS if key in frame}
