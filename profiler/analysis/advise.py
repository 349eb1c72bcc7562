"""Which way to scale a network for a target on this device.

Rules are searched with exact complexities and the cost models of the run. Those know time and memory and nothing of
accuracy, so the rules of the paper (https://arxiv.org/abs/2103.06877) stand marked among the candidates: ``dWr`` is the
one whose accuracy was shown to keep up with compound scaling, ``dwr``, at a fraction of its activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiler.analysis.goal import Candidate, Goal
from profiler.analysis.growth import CONTROL
from profiler.analysis.search import MARKED, Base, directions, nearest_to, networks_near, structure, unscaled
from profiler.errors import UserError
from profiler.models.arch import Arch
from profiler.models.brought import Network
from profiler.models.own_family import NotScalableError, open_family
from profiler.run.families import answered

#: Into how many parts the rules share their weights, where each network must be built to be counted.
_OWN_PARTS, _OWN_ALPHAS = 4, 10


def _search(base: Base, goal: Goal) -> tuple[list[Candidate], int]:
    """All distinct networks near the goal, along every direction, each with its prediction.

    Args:
        base: The network to scale.
        goal: What is to be met.

    Returns:
        Candidates in the order of ``directions``, whether they meet the goal or not; and how many networks
        were looked at, those that came out the same included.
    """
    cost = goal.cost
    seen: dict[object, Network] = {}
    tried = 0
    for rule in directions() if isinstance(base, Arch) else directions(_OWN_PARTS, _OWN_ALPHAS):
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


def _marked(base: Base, goal: Goal, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The paper's rules at the goal: solved for its flops, else the largest network along each that meets it."""
    if goal.kind == "flops":
        solved = [nearest_to(base, rule, round(goal.limit)) for rule in MARKED]
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

    base: Network
    goal: Goal
    tried: int
    distinct: int
    power: float
    best: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    marked: tuple[Candidate, ...]


def advise(base: Base, goal: Goal) -> Advice:
    """Search all directions from ``base``.

    Raises:
        UserError: No network along any of them meets the goal.
    """
    itself = unscaled(base)
    found, tried = _search(base, goal)
    power = _elasticity(found)
    met = _best(found, goal, power)
    if not met:
        raise UserError(
            f"no scaled {base.name} meets --{goal.kind} {goal.said}: {len(found)} networks near it were tried; "
            "ask for more, or start from another base"
        )
    paper = _marked(base, goal, found)
    return Advice(itself, goal, tried, len(found), power, tuple(met), tuple(_front(met)), tuple(paper))


def advise_own(name: str, goal: Goal) -> Advice:
    """Search from the base of a family of the user's, in a process of its own: that builds networks to count them.

    Raises:
        UserError: As ``advise``, or the model is no family or breaks.
    """
    return answered(_advised, (name, goal))


def _advised(asked: tuple[str, Goal]) -> Advice:
    name, goal = asked
    try:
        with open_family(name) as family:
            return advise(family, goal)
    except NotScalableError as error:
        raise UserError(f"{name} cannot be scaled: {error}") from error
