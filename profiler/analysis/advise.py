"""Which way to scale a network for a target on this device.

Rules are searched with exact complexities and the cost models of the run. Those know time and memory and nothing of
accuracy, so the rules of the paper (https://arxiv.org/abs/2103.06877) stand marked among the candidates: ``dWr`` is the
one whose accuracy was shown to keep up with compound scaling, ``dwr``, at a fraction of its activations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from profiler import models
from profiler.analysis.cost_model import CostModel, cost_models
from profiler.analysis.frame import GROUP_KEYS, SECONDS, group_label, latency_column, plain, rows_of, unit_of
from profiler.analysis.growth import CONTROL
from profiler.analysis.predict import costs_of
from profiler.analysis.search import MARKED, CostOf, directions, networks_near, structure
from profiler.analysis.source import exact_counts
from profiler.errors import UserError
from profiler.models.arch import Arch
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

    arch: Arch
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

    def candidate(self, arch: Arch) -> Candidate:
        """Count and predict a network."""
        counts = models.complexity(arch)
        reached = self.cost(counts) / self.limit
        return Candidate(
            arch=arch,
            counts=counts,
            latency=self.latency.value(counts),
            interval=self.latency.interval(counts),
            memory=self.memory.value(counts) if self.memory else None,
            meets=abs(reached - 1) <= TOLERANCE if self.kind == "flops" else reached <= 1,
        )


def _search(base: Arch, goal: Goal) -> tuple[list[Candidate], int]:
    """All distinct networks near the goal, along every direction, each with its prediction.

    Args:
        base: The network to scale.
        goal: What is to be met.

    Returns:
        Candidates in the order of ``directions``, whether they meet the goal or not; and how many networks
        were looked at, those that came out the same included.
    """
    cost = goal.cost
    seen: dict[object, Arch] = {}
    tried = 0
    for rule in directions():
        for arch in networks_near(base, rule, goal.limit, cost):
            seen.setdefault(structure(arch), arch)
            tried += 1
    return [goal.candidate(arch) for arch in seen.values()], tried


def _elasticity(candidates: Sequence[Candidate]) -> float:
    """The power of flops with which predicted latency grows along compound scaling, near the goal.

    It makes networks of slightly unlike flops comparable: 0 where latency is constant, 1 where it is in proportion.
    """
    along = [one for one in candidates if one.arch.scaling == CONTROL]
    flops = np.log([float(one.counts.flops) for one in along])
    if len(along) < 2 or np.ptp(flops) == 0:
        return 1.0
    return float(np.polyfit(flops, np.log([one.latency for one in along]), 1)[0])


def at_equal_flops(one: Candidate, power: float) -> float:
    """Predicted latency with what its flops add or take divided out; to compare, not to tell."""
    return float(one.latency / one.counts.flops**power)


def _best(candidates: Sequence[Candidate], goal: Goal, power: float = 1.0) -> list[Candidate]:
    """The best network along each rule that meets the goal, the best first.

    At given flops that is the least time at equal flops: by time alone the network with 2% fewer would win. Under a
    limit it is the most flops.

    Args:
        candidates: Any networks.
        goal: What is to be met.
        power: From ``_elasticity``.
    """
    met = [one for one in candidates if one.meets]
    if goal.kind == "flops":
        met.sort(key=lambda one: at_equal_flops(one, power))
    else:
        met.sort(key=lambda one: (-one.counts.flops, one.latency))
    rules: dict[str, Candidate] = {}
    for one in met:
        rules.setdefault(one.rule, one)
    return list(rules.values())


def _front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The Pareto front: networks of which none has more flops and is not slower, from fast to slow."""
    kept: list[Candidate] = []
    for one in sorted(candidates, key=lambda c: (c.latency, -c.counts.flops)):
        if not kept or one.counts.flops > kept[-1].counts.flops:
            kept.append(one)
    return kept


def _marked(base: Arch, goal: Goal, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The paper's rules at the goal: solved for its flops, else the largest network along each that meets it."""
    if goal.kind == "flops":
        solved = [models.scale_to_flops(base, rule, round(goal.limit)) for rule in MARKED]
        return [goal.candidate(arch) for arch in solved]
    along = {rule: _best([one for one in candidates if one.arch.scaling == rule], goal) for rule in MARKED}
    return [found[0] for found in along.values() if found]


@dataclass(frozen=True, slots=True)
class Advice:
    """What a search found.

    Attributes:
        base: The network to scale.
        goal: What was asked for, and the models that were asked.
        tried: Number of scaled networks that were looked at.
        distinct: Number of different ones among them.
        power: From ``_elasticity``.
        best: The best along each rule that meets the goal, the best first.
        front: The Pareto front of flops against predicted latency among them.
        marked: The paper's rules.
    """

    base: Arch
    goal: Goal
    tried: int
    distinct: int
    power: float
    best: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    marked: tuple[Candidate, ...]


def advise(base: Arch, goal: Goal) -> Advice:
    """Search all directions from ``base``.

    Raises:
        UserError: No network along any of them meets the goal.
    """
    found, tried = _search(base, goal)
    power = _elasticity(found)
    met = _best(found, goal, power)
    if not met:
        raise UserError(
            f"no scaled {base.name} meets --{goal.kind} {goal.said}: {len(found)} networks near it were tried; "
            "ask for more, or start from another base"
        )
    paper = _marked(base, goal, found)
    return Advice(base, goal, tried, len(found), power, tuple(met), tuple(_front(met)), tuple(paper))


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
    if len(found) != 1:
        labels = "; ".join(group_label(one.group) for one in found)
        told = f"{len(found)} settings ({labels})" if found else "; ".join(f"{k}: {v}" for k, v in without.items())
        raise UserError(f"the run has {told}: advice needs exactly one; choose it with --backend or --where")
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
