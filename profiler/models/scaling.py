"""Scaling a network along depth, width, group width and resolution.

The rules and every rounding are those of Dollar, Singh and Girshick, *Fast and Accurate Model Scaling*,
https://arxiv.org/abs/2103.06877, and of their scaler in https://github.com/facebookresearch/pycls.
All rounding is to nearest with ties to even, which is what Python's ``round`` does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from profiler.errors import UserError
from profiler.models.arch import Arch, Stage
from profiler.models.complexity import complexity

_MAX_FACTOR = 10_000.0
_MIN_RESOLUTION = 4

_ALLOWED = (
    "a rule is a set of the letters d, w, g, r such as 'dwr', weights such as 'd1_w8_g8_r1', "
    "'alpha=A' with A from 0 to 1, or 'dWr' for alpha=0.8"
)


@dataclass(frozen=True, slots=True)
class ScalingRule:
    """A direction to scale along.

    Attributes:
        text: The rule as it was given, without surrounding blanks.
        d: Weight of depth.
        w: Weight of width.
        g: Weight of group width.
        r: Weight of resolution.
    """

    text: str
    d: float = 0.0
    w: float = 0.0
    g: float = 0.0
    r: float = 0.0

    @property
    def canonical(self) -> str:
        """The weighted form, the same for every spelling of the weights: ``d1_w8_g8_r1`` for ``dWr``."""
        weights = {"d": self.d, "w": self.w, "g": self.g, "r": self.r}
        return "_".join(f"{letter}{weight:g}" for letter, weight in weights.items() if weight)

    @property
    def exponents(self) -> tuple[float, float, float, float]:
        """Powers of s that multiply depth, width, group width and resolution.

        They spend s exactly: flops grow with d * w^2 * r^2, and the weights are normalised to d + w + r = 1.
        Group width is no part of that sum, since flops hardly depend on it; alone it is scaled by s itself.
        """
        # The order of operations decides the last bit, and the last bit decides ties.
        total = self.d + self.w + self.r or self.g / 2
        return self.d / total, self.w / total / 2, self.g / total / 2, self.r / total / 2


def parse_rule(text: str) -> ScalingRule:
    """Read a scaling rule.

    ``dwr`` gives equal weights to the letters named. ``d1_w2_g2_r0`` gives each its own. ``alpha=a`` means
    d (1-a)/2, w a, g a, r (1-a)/2 (equation 9 of the paper), and ``dWr`` is ``alpha=0.8``.

    Raises:
        UserError: The text is none of these.
    """
    text = text.strip()
    weights = _letters(text) or _weighted(text) or _alpha(text)
    if not weights or not any(weights.values()):
        raise UserError(f"{text!r} is not a scaling rule: {_ALLOWED}.")
    rule = ScalingRule(text, **weights)
    # Beyond this s^g overflows; the group width reached its limit, the whole width, long before.
    if rule.exponents[2] > 10:
        raise UserError(f"{text!r} weighs g too much: give it at most 20 times the weights of d, w and r together.")
    return rule


def _letters(text: str) -> dict[str, float] | None:
    if not text or not set(text) <= set("dwgr") or len(set(text)) != len(text):
        return None
    return dict.fromkeys(text, 1.0)


def _weighted(text: str) -> dict[str, float] | None:
    terms = [re.fullmatch(r"([dwgr])(\d+\.?\d*|\.\d+)", term) for term in text.split("_")]
    weights = {term[1]: float(term[2]) for term in terms if term}
    return weights if len(weights) == len(terms) else None


def _alpha(text: str) -> dict[str, float] | None:
    match = re.fullmatch(r"alpha=(\d+\.?\d*|\.\d+)", "alpha=0.8" if text == "dWr" else text)
    if not match or (a := Fraction(match[1])) > 1:
        return None
    # In the smallest whole numbers, so that alpha=0.8 and d1_w8_g8_r1 agree to the last bit.
    d, w = a.denominator - a.numerator, 2 * a.numerator
    unit = math.gcd(d, w)
    return {"d": d / unit, "w": w / unit, "g": w / unit, "r": d / unit}


def scale(arch: Arch, rule: str, factor: float) -> Arch:
    """Return ``arch`` scaled by ``rule`` so that its flops grow by about ``factor``.

    Rounding to usable widths makes the real growth differ; ``scale_to_flops`` corrects for it.

    Args:
        arch: A base network.
        rule: A scaling rule, see ``parse_rule``.
        factor: The scaling factor s, above 0; below 1 shrinks.

    Raises:
        UserError: The rule or the factor is not valid, or the resolution would round to nothing.
    """
    if arch.scaling:
        raise UserError(f"{arch.name} is scaled by {arch.scaling} x{arch.factor:.4g} already; scale the base network.")
    if not 0 < factor <= _MAX_FACTOR:
        raise UserError(f"A scaling factor is above 0 and up to {_MAX_FACTOR:.0f}, not {factor}; 1 changes nothing.")
    return _scaled(arch, parse_rule(rule), float(factor))


def _scaled(arch: Arch, rule: ScalingRule, factor: float) -> Arch:
    by_depth, by_width, by_group, by_side = (factor**exponent for exponent in rule.exponents)
    resolution = round(arch.resolution * by_side / 4) * 4
    if resolution < _MIN_RESOLUTION:
        raise UserError(
            f"{arch.name} {rule.text} x{factor:g} would have an input of {arch.resolution * by_side:.2g} "
            f"pixels, and {_MIN_RESOLUTION} is the least: use a larger factor, or a rule without r."
        )
    depthwise = arch.block == "mbconv"
    stem, head = arch.stem, arch.head
    if depthwise:
        stem = replace(stem, width=_eights(stem.width * by_width))
        head = replace(head, width=_eights(head.width * by_width))
    stages = tuple(_stage(stage, by_depth, by_width, 1.0 if depthwise else by_group) for stage in arch.stages)
    return replace(arch, stem=stem, stages=stages, head=head, resolution=resolution, scaling=rule.text, factor=factor)


def _stage(stage: Stage, by_depth: float, by_width: float, by_group: float) -> Stage:
    group_width = _group(max(1, round(stage.group_width * by_group)))
    width, group_width = compatible(_eights(stage.width * by_width), stage.bottleneck, group_width)
    return replace(stage, depth=max(1, round(stage.depth * by_depth)), width=width, group_width=group_width)


def _eights(width: float) -> int:
    """Round to a multiple of 8, at least 8."""
    return max(1, round(width / 8)) * 8


def _group(width: int) -> int:
    """Round a group width to one that hardware likes: 1, 2, 4 or a multiple of 8."""
    return width if width <= 2 else 4 if width <= 5 else round(width / 8) * 8


def compatible(width: int, bottleneck: float, group_width: int) -> tuple[int, int]:
    """Return the nearest width whose inner width is a whole number of groups, and the group width.

    The inner width v = width * bottleneck is moved to a multiple of the group width, and of the bottleneck
    where that widens, so that v / bottleneck is whole. A group is never wider than v.
    """
    inner = int(max(1, width * bottleneck))
    group_width = min(group_width, inner)
    unit = math.lcm(group_width, int(bottleneck)) if bottleneck > 1 else group_width
    inner = max(unit, round(inner / unit) * unit)
    return int(inner / bottleneck), group_width


# The search looks this far around the crossing, in s, and stops at the first of these errors that is met: a
# network near in s that fits is a better answer than one far away that fits a little better. Rounding moves
# flops by less than a factor of 2 either way, so that nothing that fits lies farther than the last reach.
_REACHES = {1.03: 0.005, 1.1: 0.005, 1.3: 0.02, 2.0: 0.02, 4.0: 0.02}
_SAME = 1 + 1e-9


def scale_to_flops(arch: Arch, rule: str, flops: int) -> Arch:
    """Return ``arch`` scaled along ``rule`` so that it has ``flops``, as far as rounding allows.

    Flops are a step function of s that is not even monotonic, so every step near the target is looked at. The
    result is within 2% where any step is, else it is the nearest; ``flops_error`` says how far off. Its
    factor is a short decimal number that gives the same network again.

    Args:
        arch: A base network.
        rule: A scaling rule, see ``parse_rule``.
        flops: Multiply-adds wanted for one image, above 0; fewer than ``arch`` has shrink it.

    Raises:
        UserError: The rule or the target is not valid, or ``arch`` is scaled already.
    """
    if flops <= 0:
        raise UserError(f"A target is a number of flops above 0, such as 4GF, not {flops}.")
    scale(arch, rule, 1.0)  # refuses what cannot be scaled
    direction = parse_rule(rule)
    bounds = _bounds(arch, direction)
    crossing = _crossing(arch, direction, flops, bounds)
    for reach, good_enough in _REACHES.items():
        low, high = _window(crossing, reach, bounds)
        steps = (_scaled(arch, direction, factor) for factor in _factors(arch, direction, low, high))
        best = min(steps, key=lambda step: abs(flops_error(step, flops)))
        if abs(flops_error(best, flops)) < good_enough or low == 1 or high == 1:
            break
    return _shortest(arch, direction, best)


def flops_error(arch: Arch, target: int) -> float:
    """Return how far the flops of ``arch`` are from ``target``, relative to it: -0.012 is 1.2% below."""
    return complexity(arch).flops / target - 1


def _bounds(arch: Arch, rule: ScalingRule) -> tuple[float, float]:
    """Return the smallest and the largest factor to consider; the smallest keeps the resolution valid."""
    by_side = rule.exponents[3]
    smallest = 1 / _MAX_FACTOR
    if by_side:
        smallest = max(smallest, (0.501 * _MIN_RESOLUTION / arch.resolution) ** (1 / by_side))
    return smallest, _MAX_FACTOR


def _crossing(arch: Arch, rule: ScalingRule, flops: int, bounds: tuple[float, float]) -> float:
    """Return a factor, to 1%, at which the scaled network passes ``flops``, by bisection of its logarithm."""
    low, high = bounds
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        if complexity(_scaled(arch, rule, middle)).flops < flops:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def _window(crossing: float, reach: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the range of factors to search; a whole side of 1 where no factor at all reaches the target."""
    low, high = bounds
    if crossing < 1.02 * low:
        return low, 1.0
    if crossing > high / 1.02:
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
    """Yield the factors in (low, high) at which something that ``_scaled`` rounds may change."""
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
    group_width = _group(stage.group_width)
    for s, whole in _ties(stage.width / 8, exponent, low, high):
        below, above = (compatible(8 * max(1, w), stage.bottleneck, group_width) for w in (whole, whole + 1))
        if groups_move or below != above:
            yield s


def _group_edges(stage: Stage, exponent: float, low: float, high: float) -> Iterator[float]:
    """Yield where a group width changes; ``_group`` joins most whole numbers with their neighbours."""
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


def _shortest(arch: Arch, rule: ScalingRule, scaled: Arch) -> Arch:
    """Return the network ``scaled`` with a factor of as few digits as give it; 1 where that does."""
    for digits in range(17):
        factor = float(f"{scaled.factor:.{digits}e}") if digits else 1.0
        short = _scaled(arch, rule, factor)
        if replace(short, factor=scaled.factor) == scaled:
            return short
    return scaled
