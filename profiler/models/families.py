"""The published networks, as literal data.

Sources: the configurations of the model zoo at https://github.com/facebookresearch/pycls; RegNetZ from
https://arxiv.org/abs/2103.06877; EfficientNet-B6 and B7 from the published coefficients (width 1.8 and 2.0,
depth 2.6 and 3.1) and rounding (https://arxiv.org/abs/1905.11946).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache

from profiler.errors import UserError
from profiler.models.arch import Activation, Arch, BlockKind, Head, Stage, Stem
from profiler.models.scaling import compatible

# Stem width, depths, widths, head width, resolution.
_EFFICIENTNETS = {
    "b0": (32, (1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320), 1280, 224),
    "b1": (32, (2, 3, 3, 4, 4, 5, 2), (16, 24, 40, 80, 112, 192, 320), 1280, 240),
    "b2": (32, (2, 3, 3, 4, 4, 5, 2), (16, 24, 48, 88, 120, 208, 352), 1408, 260),
    "b3": (40, (2, 3, 3, 5, 5, 6, 2), (24, 32, 48, 96, 136, 232, 384), 1536, 300),
    "b4": (48, (2, 4, 4, 6, 6, 8, 2), (24, 32, 56, 112, 160, 272, 448), 1792, 380),
    "b5": (48, (3, 5, 5, 7, 7, 9, 3), (24, 40, 64, 128, 176, 304, 512), 2048, 456),
    "b6": (56, (3, 6, 6, 8, 8, 11, 3), (32, 40, 72, 144, 200, 344, 576), 2304, 528),
    "b7": (64, (4, 7, 7, 10, 10, 13, 4), (32, 48, 80, 160, 224, 384, 640), 2560, 600),
}
# Shared by all of them, per stage.
_EFFICIENTNET_STRIDES = (1, 2, 2, 2, 1, 2, 1)
_EFFICIENTNET_KERNELS = (3, 3, 5, 3, 5, 5, 3)
_EFFICIENTNET_EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)

# Depth, initial width w0, slope wa, width multiplier wm, group width.
_RegNetParameters = tuple[int, int, float, float, int]
_REGNETX: dict[str, _RegNetParameters] = {
    "200mf": (13, 24, 36.44, 2.49, 8),
    "400mf": (22, 24, 24.48, 2.54, 16),
    "600mf": (16, 48, 36.97, 2.24, 24),
    "800mf": (16, 56, 35.73, 2.28, 16),
    "1.6gf": (18, 80, 34.01, 2.25, 24),
    "3.2gf": (25, 88, 26.31, 2.25, 48),
    "4.0gf": (23, 96, 38.65, 2.43, 40),
    "6.4gf": (17, 184, 60.83, 2.07, 56),
    "8.0gf": (23, 80, 49.56, 2.88, 120),
    "12gf": (19, 168, 73.36, 2.37, 112),
    "16gf": (22, 216, 55.59, 2.1, 128),
    "32gf": (23, 320, 69.86, 2.0, 168),
}
_REGNETY: dict[str, _RegNetParameters] = {
    "200mf": (13, 24, 36.44, 2.49, 8),
    "400mf": (16, 48, 27.89, 2.09, 8),
    "600mf": (15, 48, 32.54, 2.32, 16),
    "800mf": (14, 56, 38.84, 2.4, 16),
    "1.6gf": (27, 48, 20.71, 2.65, 24),
    "3.2gf": (21, 80, 42.63, 2.66, 24),
    "4.0gf": (22, 96, 31.41, 2.24, 64),
    "6.4gf": (25, 112, 33.22, 2.27, 72),
    "8.0gf": (17, 192, 76.82, 2.19, 56),
    "12gf": (19, 168, 73.36, 2.37, 112),
    "16gf": (18, 200, 106.23, 2.48, 112),
    "32gf": (20, 232, 115.89, 2.53, 232),
}
# The same, then head width and resolution.
_REGNETZ: dict[str, tuple[_RegNetParameters, int, int]] = {
    "500mf": ((21, 16, 10.7, 2.51, 4), 1024, 224),
    "4.0gf": ((28, 48, 14.5, 2.226, 8), 0, 256),
}

_RESNET_DEPTHS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}
_RESNET_WIDTHS = (256, 512, 1024, 2048)
# Bottleneck, then group width per stage. A ResNet's group is its whole inner width; a ResNeXt has 32 groups.
_RESNETS = {"resnet": (0.25, (64, 128, 256, 512)), "resnext": (0.5, (4, 8, 16, 32))}


def names() -> tuple[str, ...]:
    """Return the name of every network, family by family."""
    return tuple(_zoo())


def get(name: str) -> Arch:
    """Return the base network called ``name``.

    Case, ``-`` for ``_`` and ``4gf`` for ``4.0gf`` do not matter.

    Raises:
        UserError: No network has this name; the message lists the closest ones.
    """
    if arch := lookup(name):
        return arch
    close = get_close_matches(_key(name), _by_key(), n=3, cutoff=0.5)
    hint = " or ".join(_by_key()[key].name for key in close) or "one of the names that `profiler models` lists"
    raise UserError(f"There is no network called {name!r}; try {hint}.")


def lookup(name: str) -> Arch | None:
    """Return the base network called ``name`` as ``get`` does; None where there is none."""
    return _by_key().get(_key(name))


@cache
def _by_key() -> dict[str, Arch]:
    return {_key(known): arch for known, arch in _zoo().items()}


def _key(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(".0gf", "gf")


@cache
def _zoo() -> dict[str, Arch]:
    return {arch.name: arch for arch in _all()}


def _all() -> Iterator[Arch]:
    for size in _EFFICIENTNETS:
        yield _efficientnet(size)
    for size, parameters in _REGNETX.items():
        yield _regnet("regnetx", size, parameters)
    for size, parameters in _REGNETY.items():
        yield _regnet("regnety", size, parameters, se_ratio=0.25)
    for size, (parameters, head, resolution) in _REGNETZ.items():
        yield _regnetz(size, parameters, head, resolution)
    for family in _RESNETS:
        for layers in _RESNET_DEPTHS:
            yield _resnet(family, layers)


def _efficientnet(size: str) -> Arch:
    stem, depths, widths, head, resolution = _EFFICIENTNETS[size]
    columns = zip(depths, widths, _EFFICIENTNET_STRIDES, _EFFICIENTNET_EXPANSIONS, _EFFICIENTNET_KERNELS, strict=True)
    return Arch(
        name=f"efficientnet_{size}",
        family="efficientnet",
        stem=Stem(stem),
        stages=tuple(Stage(d, w, 1, stride, expand, k) for d, w, stride, expand, k in columns),
        head=Head(head),
        resolution=resolution,
        block="mbconv",
        activation="silu",
        se_ratio=0.25,
    )


def _regnetz(size: str, parameters: _RegNetParameters, head: int, resolution: int) -> Arch:
    return _regnet(
        "regnetz",
        size,
        parameters,
        se_ratio=0.25,
        bottleneck=4.0,
        head=head,
        resolution=resolution,
        block="linear_bottleneck",
        activation="silu",
    )


def _regnet(
    family: str,
    size: str,
    parameters: _RegNetParameters,
    *,
    se_ratio: float = 0.0,
    bottleneck: float = 1.0,
    head: int = 0,
    resolution: int = 224,
    block: BlockKind = "bottleneck",
    activation: Activation = "relu",
) -> Arch:
    depth, w0, wa, wm, group_width = parameters
    runs = Counter(_quantised_widths(depth, w0, wa, wm))
    stages = (Stage(d, *compatible(w, bottleneck, group_width), bottleneck=bottleneck) for w, d in sorted(runs.items()))
    return Arch(
        name=f"{family}_{size}",
        family=family,
        stem=Stem(32),
        stages=tuple(stages),
        head=Head(head),
        resolution=resolution,
        block=block,
        activation=activation,
        se_ratio=se_ratio,
    )


def _quantised_widths(depth: int, w0: int, wa: float, wm: float) -> list[int]:
    """Return the width of every block of a RegNet before groups are considered.

    The line u = w0 + wa * i is moved to the nearest power w0 * wm^k, then to the nearest multiple of 8
    (Radosavovic et al., *Designing Network Design Spaces*, https://arxiv.org/abs/2003.13678, section 3.3).
    """
    line = [i * wa + w0 for i in range(depth)]
    powers = [round(math.log(u / w0) / math.log(wm)) for u in line]
    return [round(w0 * wm**k / 8) * 8 for k in powers]


def _resnet(family: str, layers: str) -> Arch:
    bottleneck, group_widths = _RESNETS[family]
    columns = zip(_RESNET_DEPTHS[layers], _RESNET_WIDTHS, group_widths, (1, 2, 2, 2), strict=True)
    return Arch(
        name=f"{family}{layers}",
        family=family,
        stem=Stem(64, kernel=7, pool=True),
        stages=tuple(Stage(d, w, g, stride, bottleneck) for d, w, g, stride in columns),
        head=Head(),
    )
