"""Solving for flops in a family of the user's, whose rounding nobody knows: by counting what it builds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from profiler.errors import UserError
from profiler.models.brought import Brought, counts_of
from profiler.models.complexity import Complexity
from profiler.models.own_family import OwnFamily
from profiler.models.scaling import MAX_FACTOR
from profiler.models.solve import flops_error, within_reach

#: How far around the crossing to look, in s, and the error in flops that ends the search there.
_REACHES = {1.03: 0.005, 1.1: 0.005, 1.3: 0.02, 2.0: 0.02}
#: Factors that are asked for parameters in each reach; only networks that differ are built.
_ASKED = 200
#: The crossing is found to this share of the limit, or of s; no step towards it is larger than the last, in s.
_MET, _EXACT, _LEAP = 0.01, 0.02, 4.0


def solved(family: OwnFamily, rule: str, flops: int) -> Brought:
    """Return the network along ``rule`` that has ``flops``, within 2% where any has.

    Raises:
        UserError: The rule or the target is not valid, nothing comes within 5%, or networks cannot be counted.
    """
    found = nearest(family, rule, flops)
    try:
        return within_reach(found, rule, flops)
    except UserError as error:
        others = family.refusals[:1]
        raise UserError("; others fail: ".join([str(error), *others])) from error


def nearest(family: OwnFamily, rule: str, flops: int) -> Brought:
    """Return the network along ``rule`` whose flops are nearest to ``flops``; raises UserError as ``solved``."""
    if flops <= 0:
        raise UserError(f"A target is a number of flops above 0, such as 4GF, not {flops}.")
    middle = crossing(family, rule, flops, lambda counts: counts.flops)
    best = exact(family, rule, middle)
    for reach, good_enough in _REACHES.items():
        best = min([best, *around(family, rule, middle, reach)], key=lambda one: abs(flops_error(one, flops)))
        if abs(flops_error(best, flops)) < good_enough:
            break
    return _shortest(family, best)


def exact(family: OwnFamily, rule: str, factor: float) -> Brought:
    """Return a network with its counts; raises UserError where it cannot be had or counted."""
    network = family.counted(family.at(rule, factor))
    counts_of(network)
    return network


def crossing(family: OwnFamily, rule: str, limit: float, cost: Callable[[Complexity], float]) -> float:
    """Return a factor at which a cost is within 1% of a limit, or passes it; the last to be had where it never does.

    The search begins near the limit: networks far above it may be too large to build.
    """
    ends: dict[bool, tuple[float, float]] = {}  # whether above the limit: factor, cost
    base = cost(counts_of(exact(family, "", 1.0)))
    factor = _inside(limit / base if base > 0 else 1.0)
    network = _existing(family, rule, factor) or exact(family, rule, 1.0)
    while True:
        factor, reached = network.factor, cost(counts_of(network))
        ends[reached > limit] = factor, reached
        if abs(reached / limit - 1) <= _MET:
            return factor
        if len(ends) == 2 and ends[True][0] <= (1 + _EXACT) * ends[False][0]:
            return factor
        further = _between(ends, limit) if len(ends) == 2 else _beyond(factor, reached, limit)
        following = _towards(family, rule, factor, further)
        if following is None or following.factor == factor:
            return factor
        network = following


def _towards(family: OwnFamily, rule: str, factor: float, further: float) -> Brought | None:
    """Return a network at a factor or, where there is none, on the way to it."""
    while (network := _existing(family, rule, further)) is None and abs(math.log(further / factor)) > _EXACT:
        further = math.sqrt(further * factor)
    return network


def _between(ends: Mapping[bool, tuple[float, float]], limit: float) -> float:
    """Interpolate logarithms, and leave a quarter of them on either side."""
    (low, less), (high, more) = ends[False], ends[True]
    share = math.log(limit / less) / math.log(more / less) if less > 0 else 0.5
    return float(low * (high / low) ** min(max(share, 0.25), 0.75))


def _beyond(factor: float, reached: float, limit: float) -> float:
    """Return a factor at which a cost in proportion would be a little beyond the limit."""
    ratio = min(max(limit / reached if reached > 0 else 2.0, 1 / _LEAP), _LEAP)
    return _inside(factor * ratio * (1.1 if ratio > 1 else 1 / 1.1))


def _inside(factor: float) -> float:
    return min(max(factor, 1 / MAX_FACTOR), MAX_FACTOR)


def _existing(family: OwnFamily, rule: str, factor: float) -> Brought | None:
    try:
        return exact(family, rule, factor)
    except UserError:  # such as an input without pixels
        return None


def around(family: OwnFamily, rule: str, middle: float, reach: float) -> Iterator[Brought]:
    """Yield each network between ``middle / reach`` and ``middle * reach`` once, with its counts."""
    seen: set[object] = set()
    for step in range(_ASKED):
        # Four digits, so that a user can give the factor again.
        factor = float(f"{_inside(middle * reach ** ((-1) ** step * step / _ASKED)):.4g}")
        try:
            parameters = family.at(rule, factor).parameters
        except UserError:
            continue
        if parameters not in seen and (network := _existing(family, rule, factor)):
            yield network
        seen.add(parameters)


def _shortest(family: OwnFamily, found: Brought) -> Brought:
    """Return a network with a factor of as few digits as give it; 1 where that does."""
    for digits in range(17):
        factor = float(f"{found.factor:.{digits}e}") if digits else 1.0
        if family.at(found.scaling, factor).parameters == found.parameters:
            return family.counted(family.at(found.scaling, factor))
    return found
