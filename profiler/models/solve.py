"""Solving for flops: the factor, and where none on the rule will do, a step beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

from profiler.errors import UserError
from profiler.models.arch import Arch, Stage
from profiler.models.brought import Network, counts_of
from profiler.models.complexity import complexity
from profiler.models.scaling import (
    MAX_FACTOR,
    MIN_RESOLUTION,
    ScalingRule,
    compatible,
    neighbours,
    nice_group,
    parse_rule,
    scale,
    scaled,
)
from profiler.units import format_flops

NetworkT = TypeVar("NetworkT", bound=Network)

#: Shares of a target: what a step beside the rule is taken for, and what is refused.
NEAR_TARGET, OUT_OF_REACH = 0.02, 0.05
#: Networks on the rule beside which a step is looked for, and its sizes: larger ones, in what the rule scales, where
#: none of the first will do.
_BESIDE, _SIZES = 12, (range(1, 2), range(2, 9))

# The search looks this far around the crossing, in s, and stops at the first of these errors that is met: a
# network near in s that fits is a better answer than one far away that fits a little better. Rounding moves
# flops by less than a factor of 2 either way, so that nothing that fits lies farther than the last reach.
_REACHES = {1.03: 0.005, 1.1: 0.005, 1.3: 0.02, 2.0: 0.02, 4.0: 0.02}
_SAME = 1 + 1e-9
# Beyond this s, steps are so many and so small that a window which holds some within 0.01% is searched first.
_FINE, _FINE_REACH = 100.0, {1.0005: 1e-4}
#: Flops that are no longer written with a prefix.
_HUGE = 10**16


def scale_to_flops(arch: Arch, rule: str, flops: int) -> Arch:
    """Return ``arch`` scaled along ``rule`` so that it has ``flops``, within 2% wherever a step beside the rule can.

    Where no factor is that near, one dimension is one step of its grid off, or a few where one is too small: preferably
    one that the rule scales, of a network on the rule that is near the target. ``step`` names it.

    Args:
        arch: A base network.
        rule: A scaling rule, see ``parse_rule``.
        flops: Multiply-adds wanted for one image, above 0; fewer than ``arch`` has shrink it.

    Raises:
        UserError: The rule or the target is not valid, ``arch`` is scaled already, or nothing comes within 5%.
    """
    direction, near = _near(arch, rule, flops)
    best = _shortest(arch, direction, near[0])
    if abs(flops_error(best, flops)) > NEAR_TARGET:
        best = _beside(arch, direction, near, flops)
    return within_reach(best, rule, flops)


def within_reach(best: NetworkT, rule: str, flops: int) -> NetworkT:
    """Return the nearest network to a target; raises UserError where it is not near enough."""
    if abs(flops_error(best, flops)) > OUT_OF_REACH:
        wanted, nearest = (_short(count) for count in (flops, counts_of(best).flops))
        raise UserError(
            f"{best.name} {rule} cannot have {wanted}: the nearest that its depths, widths and resolutions allow is "
            f"{nearest}; ask for that, or scale along another rule"
        )
    return best


def _short(flops: int) -> str:
    """Flops without a blank, as a flag takes them."""
    return format_flops(flops).replace(" ", "") if flops < _HUGE else f"{flops:.3g}"


def nearest_scaled(arch: Arch, rule: str, flops: int) -> Arch:
    """Return the network on the rule whose flops are nearest to ``flops``; ``flops_error`` says how far off.

    Flops are a step function of s that is not even monotonic, so every step near the target is looked at. The
    result is within 2% where any step is. Its factor is a short decimal number that gives the same network again.

    Args:
        arch: A base network.
        rule: A scaling rule, see ``parse_rule``.
        flops: As for ``scale_to_flops``.

    Raises:
        UserError: The rule or the target is not valid, or ``arch`` is scaled already.
    """
    direction, near = _near(arch, rule, flops)
    return _shortest(arch, direction, near[0])


def _near(arch: Arch, rule: str, flops: int) -> tuple[ScalingRule, list[Arch]]:
    """Return the rule, and networks on it around the target, the nearest in flops first."""
    if flops <= 0:
        raise UserError(f"A target is a number of flops above 0, such as 4GF, not {flops}.")
    scale(arch, rule, 1.0)  # refuses what cannot be scaled
    direction = parse_rule(rule)
    bounds = _bounds(arch, direction)
    largest = scaled(arch, direction, bounds[1])
    if complexity(largest).flops < flops and _grows(direction):
        return direction, [largest]
    crossing = _crossing(arch, direction, flops, bounds)
    for reach, good_enough in ((_FINE_REACH if crossing > _FINE else {}) | _REACHES).items():
        low, high = _window(direction, crossing, reach, bounds)
        steps = [scaled(arch, direction, factor) for factor in _factors(arch, direction, low, high)]
        steps.sort(key=lambda step: abs(flops_error(step, flops)))
        if abs(flops_error(steps[0], flops)) < good_enough or low == 1 or high == 1:
            break
    return direction, steps


def _grows(rule: ScalingRule) -> bool:
    """Whether flops grow without end along a rule: a group ends at the whole width."""
    return rule.d + rule.w + rule.r > 0


def _beside(arch: Arch, rule: ScalingRule, near: Sequence[Arch], flops: int) -> Arch:
    """Return the best of the nearest networks on a rule and of those that are a step beside one of them."""

    def worse(found: tuple[int, Arch]) -> tuple[float, bool, int, float]:
        place, one = found
        off = abs(flops_error(one, flops))
        return max(0.0, off - NEAR_TARGET), not _scales(rule, one.step), place, off

    distinct = list({replace(one, factor=1.0): one for one in near}.values())[:_BESIDE]
    found = list(enumerate(_shortest(arch, rule, one) for one in distinct))
    best = min(found, key=worse)
    for sizes in _SIZES:
        if worse(best)[0] > 0:
            beside = ((place, one) for place, on in found for one in neighbours(on, sizes))
            allowed = (
                (place, one) for place, one in beside if _scales(rule, one.step) or one.step[-2:] in ("+1", "-1")
            )
            best = min([best, *allowed], key=worse)
    return best[1]


def _scales(rule: ScalingRule, step: str) -> bool:
    """Whether a step is in a dimension that the rule scales."""
    weights = {"": 1.0, "d": rule.d, "r": rule.r}
    return weights.get(step[:1], rule.w) > 0


def flops_error(network: Network, target: int) -> float:
    """Return how far the flops of a network are from ``target``, relative to it: -0.012 is 1.2% below."""
    return counts_of(network).flops / target - 1


def _bounds(arch: Arch, rule: ScalingRule) -> tuple[float, float]:
    """Return the smallest and the largest factor to consider; the smallest keeps the resolution valid."""
    by_side = rule.exponents[3]
    smallest = 1 / MAX_FACTOR
    if by_side:
        smallest = max(smallest, (0.501 * MIN_RESOLUTION / arch.resolution) ** (1 / by_side))
    return smallest, MAX_FACTOR


def _crossing(arch: Arch, rule: ScalingRule, flops: int, bounds: tuple[float, float]) -> float:
    """Return a factor, to 1%, at which the scaled network passes ``flops``, by bisection of its logarithm."""
    low, high = bounds
    while high > (1.01 if low < _FINE else 1.0001) * low:
        middle = math.sqrt(low * high)
        if complexity(scaled(arch, rule, middle)).flops < flops:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def _window(rule: ScalingRule, crossing: float, reach: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the range of factors to search; a whole side of 1 where no factor at all reaches the target."""
    low, high = bounds
    if crossing < 1.02 * low:
        return low, 1.0
    if crossing > high / 1.02 and not _grows(rule):
        return 1.0, high
    return max(low, crossing / reach), min(high, crossing * reach)


def _factors(arch: Arch, rule: ScalingRule, low: float, high: float) -> list[float]:
    """Return a factor on every step of the scaled network between ``low`` and ``high``.

    Where two quantities tie at once, ties to even can give a network that neither side has, so these count.
    """
    edges = sorted(_edges(arch, rule, low, high))
    middles = [math.sqrt(a * b) for a, b in pairwise([low, *edges, high]) if b > a * _SAME]
    shared = [a for a, b in pairwise(edges) if b <= a * _SAME]
    return sorted(middles + shared)


def _edges(arch: Arch, rule: ScalingRule, low: float, high: float) -> Iterator[float]:
    """Yield the factors in (low, high) at which something that ``scaled`` rounds may change."""
    by_depth, by_width, by_group, by_side = rule.exponents
    depthwise = arch.block == "mbconv"
    by_group = 0.0 if depthwise else by_group
    yield from (s for s, _ in _ties(arch.resolution / 4, by_side, low, high))
    if depthwise:
        for width in (arch.stem.width, arch.head.width):
            yield from (s for s, _ in _ties(width / 8, by_width, low, high))
    for stage in arch.stages:
        yield from (s for s, _ in _ties(stage.depth, by_depth, low, high))
        yield from _width_edges(stage, by_width, low, high, groups_move=bool(by_group))
        # A group is never wider than the whole, so that its own steps beyond do not matter.
        widest = 2 * stage.width * max(1.0, stage.bottleneck) * max(1.0, high**by_width)
        reach = (widest / stage.group_width) ** (1 / by_group) if by_group else high
        yield from _group_edges(stage, by_group, low, min(high, reach))


def _width_edges(stage: Stage, exponent: float, low: float, high: float, *, groups_move: bool) -> Iterator[float]:
    """Yield where a width changes; unless groups move too, only where ``compatible`` lets it."""
    group_width = nice_group(stage.group_width)
    for s, whole in _ties(stage.width / 8, exponent, low, high):
        below, above = (compatible(8 * max(1, w), stage.bottleneck, group_width) for w in (whole, whole + 1))
        if groups_move or below != above:
            yield s


def _group_edges(stage: Stage, exponent: float, low: float, high: float) -> Iterator[float]:
    """Yield where a group width changes; ``nice_group`` joins most whole numbers with their neighbours."""
    for s, whole in _ties(stage.group_width, exponent, low, high):
        if whole in (1, 2, 5) or whole % 8 in (3, 4):
            yield s


def _ties(value: float, exponent: float, low: float, high: float) -> Iterator[tuple[float, int]]:
    """Yield every s in (low, high) where value * s^exponent is a whole number and a half, and the number."""
    if not exponent:
        return
    first, last = (value * s**exponent - 0.5 for s in (low, high))
    for whole in range(max(0, math.ceil(first)), math.floor(last) + 1):
        yield ((whole + 0.5) / value) ** (1 / exponent), whole


def _shortest(arch: Arch, rule: ScalingRule, found: Arch) -> Arch:
    """Return the network ``found`` with a factor of as few digits as give it; 1 where that does."""
    for digits in range(17):
        factor = float(f"{found.factor:.{digits}e}") if digits else 1.0
        short = scaled(arch, rule, factor)
        if replace(short, factor=found.factor) == found:
            return short
    return found
