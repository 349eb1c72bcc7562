"""Architecture as data: what a network is, before anything is built or counted.

Every network here is a stem, stages of one kind of block, and a head. The three kinds of block differ only in
a few numbers, so each block is reduced to one ``ConvBlock``; counting and building both read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

BlockKind = Literal["bottleneck", "linear_bottleneck", "mbconv"]
Activation = Literal["relu", "silu"]


@dataclass(frozen=True, slots=True)
class Stem:
    """The first convolution, of stride 2.

    Attributes:
        width: Output channels.
        kernel: Side of the kernel, in pixels.
        pool: Whether a 3x3 max-pool of stride 2 follows.
    """

    width: int
    kernel: int = 3
    pool: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """A run of blocks with the same output shape; the first one has the stride.

    Attributes:
        depth: Number of blocks.
        width: Output channels of each block.
        group_width: Channels per group of the spatial convolution.
        stride: Stride of the first block.
        bottleneck: Inner width over the block's output width (bottlenecks) or input width (mbconv).
        kernel: Side of the spatial kernel, in pixels.
    """

    depth: int
    width: int
    group_width: int = 1
    stride: int = 2
    bottleneck: float = 1.0
    kernel: int = 3


@dataclass(frozen=True, slots=True)
class Head:
    """After the stages: a 1x1 convolution (none if its width is 0), average pooling and a linear layer."""

    width: int = 0
    classes: int = 1000


@dataclass(frozen=True, slots=True)
class Arch:
    """A network.

    Attributes:
        name: Name of the base network, as in ``profiler.models.names``.
        family: ``efficientnet``, ``regnetx``, ``regnety``, ``regnetz``, ``resnet`` or ``resnext``.
        resolution: Height and width of the input, in pixels.
        block: Kind of the blocks.
        activation: The nonlinearity, everywhere but in the gate of squeeze-excite.
        se_ratio: Width of squeeze-excite over the block's input width; 0 for none.
        scaling: Rule this was scaled by, as given; empty for the base network.
        factor: Scaling factor s; 1.0 for the base network.
        step: The step beside the rule, as ``d3+1``, see ``profiler.models.scaling.neighbours``; empty on the rule.
    """

    name: str
    family: str
    stem: Stem
    stages: tuple[Stage, ...]
    head: Head
    resolution: int = 224
    block: BlockKind = "bottleneck"
    activation: Activation = "relu"
    se_ratio: float = 0.0
    scaling: str = ""
    factor: float = 1.0
    step: str = ""

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks per stage."""
        return tuple(stage.depth for stage in self.stages)

    @property
    def widths(self) -> tuple[int, ...]:
        """Output channels per stage."""
        return tuple(stage.width for stage in self.stages)

    @property
    def group_widths(self) -> tuple[int, ...]:
        """Channels per group of the spatial convolutions, per stage."""
        return tuple(stage.group_width for stage in self.stages)


@dataclass(frozen=True, slots=True)
class ConvBlock:
    """One block: [1x1 expand] -> k x k in groups -> [squeeze-excite] -> 1x1 reduce, beside a shortcut.

    Attributes:
        w_in: Input channels.
        w_mid: Channels of the spatial convolution.
        w_out: Output channels.
        kernel: Side of the spatial kernel.
        stride: Stride of the spatial convolution.
        groups: Groups of the spatial convolution.
        w_se: Channels between the two convolutions of squeeze-excite; 0 for none.
        expand: Whether there is a 1x1 convolution before the spatial one.
        shortcut: ``identity``, ``projection`` (a strided 1x1 convolution) or ``none``.
        activate: Whether the nonlinearity follows the sum.
    """

    w_in: int
    w_mid: int
    w_out: int
    kernel: int
    stride: int
    groups: int
    w_se: int
    expand: bool
    shortcut: Literal["identity", "projection", "none"]
    activate: bool


def blocks(arch: Arch) -> Iterator[tuple[ConvBlock, int]]:
    """Yield every distinct block with the number of times it repeats, from input to output."""
    w_in = arch.stem.width
    for stage in arch.stages:
        yield _block(arch, stage, w_in, stage.stride), 1
        w_in = stage.width
        if stage.depth > 1:
            yield _block(arch, stage, w_in, 1), stage.depth - 1


def _block(arch: Arch, stage: Stage, w_in: int, stride: int) -> ConvBlock:
    # The published networks round the two widths differently; both roundings decide exact counts.
    mobile = arch.block == "mbconv"
    w_mid = int(w_in * stage.bottleneck) if mobile else round(stage.width * stage.bottleneck)
    fits = w_in == stage.width and stride == 1
    return ConvBlock(
        w_in=w_in,
        w_mid=w_mid,
        w_out=stage.width,
        kernel=stage.kernel,
        stride=stride,
        groups=w_mid // stage.group_width,
        w_se=int(w_in * arch.se_ratio) if mobile else round(w_in * arch.se_ratio),
        expand=not (mobile and w_mid == w_in),
        shortcut="identity" if fits else "projection" if arch.block == "bottleneck" else "none",
        activate=arch.block == "bottleneck",
    )
