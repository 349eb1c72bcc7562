"""Networks as data: look one up, scale it, count it, build it. Only building imports torch."""

from __future__ import annotations

from profiler.models.arch import Arch, ConvBlock, Head, Stage, Stem, blocks
from profiler.models.build import build
from profiler.models.complexity import Complexity, complexity
from profiler.models.counting import count
from profiler.models.families import get, names
from profiler.models.scaling import flops_error, parse_rule, scale, scale_to_flops

__all__ = [
    "Arch",
    "Complexity",
    "ConvBlock",
    "Head",
    "Stage",
    "Stem",
    "blocks",
    "build",
    "complexity",
    "count",
    "flops_error",
    "get",
    "names",
    "parse_rule",
    "resolve",
    "scale",
    "scale_to_flops",
]


def resolve(model: str, scaling: str, factor: float) -> Arch:
    """Return the network that a case names; an empty ``scaling`` means the network as published.

    Raises:
        UserError: The model, the rule or the factor is not valid.
    """
    arch = get(model)
    return scale(arch, scaling, factor) if scaling else arch
