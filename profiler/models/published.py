"""Published top-1 accuracies on ImageNet, as facts with their recipe and source.

Accuracies of one network under unlike recipes lie 2 to 5 points apart, so that a figure means nothing without its
recipe. ``pycls`` is one plain recipe for all of its networks. What torchvision calls ``IMAGENET1K_V1`` is several: here
the name alone stands for its plain recipes (crops and flips, 90 to 300 epochs), and ``IMAGENET1K_V1:convnext`` for the
others, by family. Recipes of timm are called by the tags of its weights, those that come from the other two as they are
there; ``in1k`` is as many recipes as papers, and also goes by family.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from profiler.models import families

#: Where figures come from.
SOURCES: Mapping[str, str] = {
    "pycls": "model zoo of facebookresearch/pycls: 100 epochs, mean of 5 runs",
    "torchvision": "weights of torchvision 0.29",
    "timm": "results of huggingface/pytorch-image-models",
}


class Published(NamedTuple):
    """One figure.

    Attributes:
        model: As this program names it.
        family: Of its architecture.
        flops: Multiply-adds of one image; of timm's to 1%.
        resolution: Side of the images it was told for, in pixels.
        top1: In percent.
        recipe: How it was trained.
        source: A key of ``SOURCES``.
    """

    model: str
    family: str
    flops: int
    resolution: int
    top1: float
    recipe: str
    source: str


def told_source(recipe: str, source: str) -> str:
    """Return what a table says of where an accuracy comes from: ``pycls (model zoo of ...)``."""
    return f"{recipe} ({SOURCES.get(source, source)})"


@cache
def published() -> tuple[Published, ...]:
    """All published figures; of one name and recipe those that come first are the ones to take."""
    text = files("profiler.models").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(
        Published(model, family, int(flops), int(side), float(top1), recipe, source)
        for model, family, flops, side, top1, recipe, source in list(csv.reader(text.splitlines()))[1:]
    )


@cache
def _by_model() -> Mapping[str, Sequence[Published]]:
    found: dict[str, list[Published]] = {}
    for one in published():
        found.setdefault(one.model, []).append(one)
    return found


def spelled(model: str) -> str:
    """Return a network's name as the zoo spells it, also that of ``ResNet-50``; the text itself where it is another."""
    arch = families.lookup(model) or families.lookup(model.replace("-", ""))
    return arch.name if arch else model.strip()


def figures_of(model: str, resolution: int | None = None) -> list[Published]:
    """Return the published figures of an unscaled network, the one to take where no recipe is named first.

    Args:
        model: Its name; that of timm's may end in the tag of its weights, and then has figures of that recipe alone.
        resolution: Side of its images, in pixels; another than the published has no figure. None asks for any.
    """
    name, _, tag = spelled(model).partition(".") if model.startswith("timm:") else (spelled(model), "", "")
    recipe = _TAGS.get(tag, tag)
    return [
        one
        for one in _by_model().get(name, ())
        if resolution in (None, one.resolution) and (not recipe or one.recipe.partition(":")[0] == recipe)
    ]


#: Recipes that timm calls otherwise than the packages that its weights come from.
_TAGS = {"tv_in1k": "IMAGENET1K_V1", "tv2_in1k": "IMAGENET1K_V2", "pycls_in1k": "pycls"}
