"""Scaling a network along depth, width, group width and resolution.

The rules and every rounding are those of Dollar, Singh and Girshick, *Fast and Accurate Model Scaling*,
https://arxiv.org/abs/2103.06877, and of their scaler in https://github.com/facebookresearch/pycls.
All rounding is to nearest with ties to even, which is what Python's ``round`` does.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

from profiler.errors import UserError
from profiler.models.arch import Arch, Stage

MAX_FACTOR = 10_000.0
MIN_RESOLUTION = 4

_ALLOWED = (
    "a rule is a set of the letters d, w, g, r such as 'dwr', weights such as 'd1_w8_g8_r1', "
    "'alpha=A' with A from 0 to 1, or 'dWr' for alpha=0.8"
)


class Factors(NamedTuple):
    """What each dimension of a base network is multiplied by; flops grow with depth * width^2 * resolution^2."""

    depth: float = 1.0
    width: float = 1.0
    group_width: float = 1.0
    resolution: float = 1.0


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

    def factors(self, s: float) -> Factors:
        """What the dimensions are multiplied by so that flops grow by about ``s``."""
        return Factors(*(s**exponent for exponent in self.exponents))


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
    return scaled(arch, parse_rule(rule), _checked(factor))


def factors_of(rule: str, factor: float) -> Factors:
    """Return what the dimensions are multiplied by; raises UserError where the rule or the factor is not valid."""
    return parse_rule(rule).factors(_checked(factor))


def _checked(factor: float) -> float:
    if not 0 < factor <= MAX_FACTOR:
        raise UserError(f"A scaling factor is above 0 and up to {MAX_FACTOR:.0f}, not {factor}; 1 changes nothing.")
    return float(factor)


def scaled(arch: Arch, rule: ScalingRule, factor: float) -> Arch:
    """Return what ``scale`` does, for a base network and a factor that were checked."""
    by_depth, by_width, by_group, by_side = rule.factors(factor)
    resolution = round(arch.resolution * by_side / 4) * 4
    if resolution < MIN_RESOLUTION:
        raise UserError(
            f"{arch.name} {rule.text} x{factor:g} would have an input of {arch.resolution * by_side:.2g} "
            f"pixels, and {MIN_RESOLUTION} is the least: use a larger factor, or a rule without r."
        )
    depthwise = arch.block == "mbconv"
    stem, head = arch.stem, arch.head
    if depthwise:
        stem = replace(stem, width=_eights(stem.width * by_width))
        head = replace(head, width=_eights(head.width * by_width))
    stages = tuple(_stage(stage, by_depth, by_width, 1.0 if depthwise else by_group) for stage in arch.stages)
    return replace(arch, stem=stem, stages=stages, head=head, resolution=resolution, scaling=rule.text, factor=factor)


def _stage(stage: Stage, by_depth: float, by_width: float, by_group: float) -> Stage:
    group_width = nice_group(max(1, round(stage.group_width * by_group)))
    width, group_width = compatible(_eights(stage.width * by_width), stage.bottleneck, group_width)
    return replace(stage, depth=max(1, round(stage.depth * by_depth)), width=width, group_width=group_width)


def _eights(width: float) -> int:
    """Round to a multiple of 8, at least 8."""
    return max(1, round(width / 8)) * 8


def nice_group(width: int) -> int:
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


def neighbours(arch: Arch, sizes: Iterable[int] = (1,)) -> Iterator[Arch]:
    """Yield every network that differs from ``arch`` in one dimension, named by its ``step``.

    ``r+1`` is an input 4 pixels larger, ``d3-1`` a third stage with one block less, ``w3+1`` one of the next width that
    its groups allow; ``stem+1`` and ``head+1`` are 8 channels more, where stem and head are scaled.

    Args:
        arch: Any network.
        sizes: How many steps of its grid that dimension is off, up and down.
    """
    for by in (sign * size for size in sizes for sign in (1, -1)):
        if arch.resolution + 4 * by >= MIN_RESOLUTION:
            yield replace(arch, resolution=arch.resolution + 4 * by, step=f"r{by:+d}")
        for number, stage in enumerate(arch.stages, start=1):
            if stage.depth + by >= 1:
                yield _with_stage(arch, replace(stage, depth=stage.depth + by), number, f"d{number}{by:+d}")
            if width := _width_beside(stage, by):
                yield _with_stage(arch, replace(stage, width=width), number, f"w{number}{by:+d}")
        if arch.block == "mbconv":
            if (width := arch.stem.width + 8 * by) >= 8:
                yield replace(arch, stem=replace(arch.stem, width=width), step=f"stem{by:+d}")
            if (width := arch.head.width + 8 * by) >= 8:
                yield replace(arch, head=replace(arch.head, width=width), step=f"head{by:+d}")


def stepped(arch: Arch, step: str) -> Arch:
    """Return the neighbour of ``arch`` with that ``step``.

    Raises:
        UserError: There is none.
    """
    size = re.fullmatch(r"[a-z]+\d*[+-]([1-9]\d?)", step)
    for found in neighbours(arch, [int(size[1])] if size else ()):
        if found.step == step:
            return found
    raise UserError(f"{arch.name} has no step {step!r}: expected one such as r+1, d2-1 or w3+1")


def step_words(arch: Arch, other: Arch) -> str:
    """Say in words where a neighbour differs: ``stage 3 has 5 blocks, not 4``."""
    if other.resolution != arch.resolution:
        return f"an input of {other.resolution} px, not {arch.resolution}"
    for part in ("stem", "head"):
        if (new := getattr(other, part).width) != (old := getattr(arch, part).width):
            return f"a {part} of width {new}, not {old}"
    number, old, new = next(
        (k, a, b) for k, (a, b) in enumerate(zip(arch.stages, other.stages, strict=True), 1) if a != b
    )
    if new.depth != old.depth:
        return f"stage {number} has {new.depth} blocks, not {old.depth}"
    return f"stage {number} has width {new.width}, not {old.width}"


def _with_stage(arch: Arch, stage: Stage, number: int, step: str) -> Arch:
    return replace(arch, stages=(*arch.stages[: number - 1], stage, *arch.stages[number:]), step=step)


def _width_beside(stage: Stage, by: int) -> int | None:
    """Return the width so many steps up or down that the bottleneck and the groups of a stage allow; None for none."""
    away = 8 if by > 0 else -8
    widest = stage.width + (by + 1) * (
        8 + int(math.lcm(stage.group_width, int(max(1.0, stage.bottleneck))) / stage.bottleneck)
    )
    grid = (
        compatible(width, stage.bottleneck, stage.group_width)
        for width in range(stage.width // 8 * 8 + away, widest if by > 0 else 0, away)
    )
    kept = [width for width, group in grid if group == stage.group_width and (width - stage.width) * by > 0]
    return next(itertools.islice(dict.fromkeys(kept), abs(by) - 1, None), None)
