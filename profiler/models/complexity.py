"""Exact flops, parameters and activations of a network, in integers and without building it.

The conventions are those of the published model zoo (https://github.com/facebookresearch/pycls) and of
Dollar, Singh and Girshick, *Fast and Accurate Model Scaling*, https://arxiv.org/abs/2103.06877:

- flops are multiply-adds of convolutions, linear layers and matrix products, for one image; biases of convolutions
  and linear layers are counted;
- params count every learned number, batch-norm's scale and shift included;
- acts are the output elements of whatever multiply-adds; the one exception is the max-pool of a ResNet's stem, which
  the published figures have.

Models that are no data are counted by the same conventions in ``profiler.models.counting`` and ``onnx_counting``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from profiler.models.arch import Arch, ConvBlock, blocks

#: flops, params, acts, flops of padding.
_Cost = tuple[int, int, int, int]

#: Runtimes keep channels in blocks of so many floats, a vector of AVX-512; a narrower group leaves a part of one idle.
CHANNEL_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Complexity:
    """What a network costs on paper, for one image.

    Attributes:
        flops: Multiply-adds.
        params: Learned numbers.
        acts: Output elements of convolutions, linear layers and matrix products.
        layers: How many of those there are; 0 in records made before they were counted. Each costs a launch.
        padding_flops: Multiply-adds that come on top where group widths are padded to whole blocks of channels, see
            ``padding``; None in records made before they were counted.
        uncounted: Which operators no rule knows, in a sentence: all but params are then lower bounds. Empty where
            everything was counted.
    """

    flops: int
    params: int
    acts: int
    layers: int = field(default=0, compare=False)
    padding_flops: int | None = field(default=None, compare=False)
    uncounted: str = ""


def complexity(arch: Arch) -> Complexity:
    """Count ``arch`` at its resolution; takes well under a millisecond whatever the depth."""
    flops = params = acts = layers = padded = 0
    for (layer_flops, layer_params, layer_acts, layer_padding), times in _costs(arch):
        flops += times * layer_flops
        params += times * layer_params
        acts += times * layer_acts
        layers += times * (layer_params > 0)
        padded += times * layer_padding
    return Complexity(flops, params, acts, layers, padded)


def padding(flops: int, width: int, groups: int) -> int:
    """Multiply-adds that a grouped convolution adds when its group width is padded to a multiple of 16.

    A quarter of the width costs four times the arithmetic. Depthwise convolutions have kernels of their own and none.
    """
    group_width = width // groups
    if groups == 1 or group_width == 1:
        return 0
    return flops // group_width * (-group_width % CHANNEL_BLOCK)


def _costs(arch: Arch) -> Iterator[tuple[_Cost, int]]:
    """Yield the cost of each layer and the number of times it occurs."""
    side = _strided(arch.resolution, 2)
    w = arch.stem.width
    yield _conv_bn(3, w, arch.stem.kernel, side), 1
    if arch.stem.pool:
        side = _strided(side, 2)
        yield (0, 0, w * side * side, 0), 1
    for block, times in blocks(arch):
        for cost in _block_costs(block, side):
            yield cost, times
        side = _strided(side, block.stride)
        w = block.w_out
    if arch.head.width:
        yield _conv_bn(w, arch.head.width, 1, side), 1
        w = arch.head.width
    yield _biased(w, arch.head.classes), 1


def _block_costs(block: ConvBlock, side: int) -> Iterator[_Cost]:
    out = _strided(side, block.stride)
    if block.shortcut == "projection":
        yield _conv_bn(block.w_in, block.w_out, 1, out)
    if block.expand:
        yield _conv_bn(block.w_in, block.w_mid, 1, side)
    yield _conv_bn(block.w_mid, block.w_mid, block.kernel, out, block.groups)
    if block.w_se:
        yield _biased(block.w_mid, block.w_se)
        yield _biased(block.w_se, block.w_mid)
    yield _conv_bn(block.w_mid, block.w_out, 1, out)


def _strided(side: int, stride: int) -> int:
    """Side of the output of a convolution or pooling whose padding is half its odd kernel."""
    return (side - 1) // stride + 1


def _conv_bn(w_in: int, w_out: int, kernel: int, side: int, groups: int = 1) -> _Cost:
    """A convolution without bias and its batch norm, with an output of ``side`` x ``side`` pixels."""
    weights = kernel * kernel * w_in * w_out // groups
    pixels = side * side
    flops = weights * pixels
    return flops, weights + 2 * w_out, w_out * pixels, padding(flops, w_out, groups)


def _biased(w_in: int, w_out: int) -> _Cost:
    """A linear layer, or a 1x1 convolution of one pixel, with bias."""
    weights = w_in * w_out + w_out
    return weights, weights, w_out, 0
