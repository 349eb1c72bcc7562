"""Networks as data: look one up, scale it, count it, build it. Only building imports torch."""

from __future__ import annotations

from profiler.models.arch import Arch, ConvBlock, Head, Stage, Stem, blocks
from profiler.models.build import build
from profiler.models.complexity import Complexity, complexity
from profiler.models.counting import count
from profiler.models.families import get, names
from profiler.models.scaling import parse_rule, scale, step_words, stepped
from profiler.models.solve import NEAR_TARGET, flops_error, nearest_scaled, scale_to_flops

__all__ = [
    "NEAR_TARGET",
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
    "nearest_scaled",
    "parse_rule",
    "resolve",
    "scale",
    "scale_to_flops",
    "step_words",
    "stepped",
]


def resolve(model: str, scaling: str, factor: float, step: str = "") -> Arch:
    """Return the network that a case names; an empty ``scaling`` means the network as published.

    Raises:
        UserError: The model, the rule, the factor or the step is not valid.
    """
    arch = get(model)
    scaled = scale(arch, scaling, factor) if scaling else arch
    return stepped(scaled, step) if step else scaled
