"""Which scaled networks there are near a target, and what each would cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

from profiler import models
from profiler.errors import UserError
from profiler.models import own_solve
from profiler.models.arch import Arch
from profiler.models.brought import Brought, Network
from profiler.models.complexity import Complexity
from profiler.models.own_family import OwnFamily
from profiler.models.solve import nearest_scaled

CostOf: TypeAlias = Callable[[Complexity], float]

#: The paper's rules, in the order in which they are told.
MARKED = ("dWr", "dwr", "w")

#: Factors around the one that meets the target, and how far apart: rounding moves flops by up to a quarter.
_STEPS, _STEP = 36, 1.012
_LARGEST_FACTOR, _SMALLEST_FACTOR = 1024.0, 1 / 256
#: The same in a family of the user's, whose networks must be built to be counted.
_OWN_REACH = 1.1

#: What is scaled: a network of the zoo, or a family where its code is.
Base: TypeAlias = Arch | OwnFamily


def directions(parts: int = 12, alphas: int = 20) -> list[str]:
    """The rules that are searched: the paper's, alpha in steps of 0.05, and a simplex of free weights.

    Depth, width and resolution share 12 parts in every way; group width goes with the width, by half of it, or not
    at all.
    """
    steps = [f"alpha={a / alphas:.2f}" for a in range(alphas + 1)]
    free = [
        _weighted(d, w, parts - d - w, g)
        for d in range(parts + 1)
        for w in range(parts + 1 - d)
        for g in range(3 if w else 1)
    ]
    return list(dict.fromkeys([*MARKED, *steps, *free]))


def _weighted(d: int, w: int, r: int, half_groups: int) -> str:
    """A rule of whole weights in lowest terms; group width gets ``half_groups`` halves of the width's weight."""
    weights = [2 * d, 2 * w, half_groups * w, 2 * r]
    unit = math.gcd(*weights)
    return "_".join(f"{letter}{weight // unit}" for letter, weight in zip("dwgr", weights, strict=True) if weight)


def structure(arch: Network) -> object:
    """What is built: equal for networks that are the same, however they were arrived at."""
    if isinstance(arch, Brought):
        return arch.name, arch.parameters
    return (arch.stem.width, arch.depths, arch.widths, arch.group_widths, arch.head.width, arch.resolution)


def unscaled(base: Base) -> Network:
    """The base network itself, counted."""
    return own_solve.exact(base, "", 1.0) if isinstance(base, OwnFamily) else base


def nearest_to(base: Base, rule: str, flops: int) -> Network:
    """The network along a rule that is nearest to some flops."""
    return own_solve.nearest(base, rule, flops) if isinstance(base, OwnFamily) else nearest_scaled(base, rule, flops)


def networks_near(base: Base, rule: str, limit: float, cost: CostOf) -> Iterator[Network]:
    """Networks along a rule around the factor at which ``cost`` reaches ``limit``."""
    if isinstance(base, OwnFamily):
        middle = own_solve.crossing(base, rule, limit, cost)
        yield from own_solve.around(base, rule, middle, _OWN_REACH)
    else:
        yield from _near_in_zoo(base, rule, limit, cost)


def _near_in_zoo(base: Arch, rule: str, limit: float, cost: CostOf) -> Iterator[Arch]:
    middle = _crossing(base, rule, limit, cost)
    if middle is None:
        return
    for step in range(-_STEPS // 2, _STEPS // 2 + 1):
        # Four digits, so that a user can give the factor again.
        arch = _scaled(base, rule, float(f"{middle * _STEP**step:.4g}"))
        if arch is not None:
            yield arch


def _crossing(base: Arch, rule: str, limit: float, cost: CostOf) -> float | None:
    """The factor, to 1%, at which a cost along a rule passes a limit; None where it never does."""
    low, high = _SMALLEST_FACTOR, _LARGEST_FACTOR
    if not _reached(base, rule, low, cost) < limit <= _reached(base, rule, high, cost):
        return None
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        if _reached(base, rule, middle, cost) < limit:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def _reached(base: Arch, rule: str, factor: float, cost: CostOf) -> float:
    arch = _scaled(base, rule, factor)
    return 0.0 if arch is None else cost(models.complexity(arch))


def _scaled(base: Arch, rule: str, factor: float) -> Arch | None:
    try:
        return models.scale(base, rule, factor)
    except UserError:  # the input would have no pixels left
        return None
