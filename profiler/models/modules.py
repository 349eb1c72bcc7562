"""The networks as torch modules. Importing this imports torch, which ``profiler.models.build`` puts off.

Only plain layers and static control flow, so that tracing, compiling and exporting see the same graph.
Nothing here draws weights: construct under ``torch.device("meta")`` and fill afterwards.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from profiler.models.arch import Activation, Arch, ConvBlock, blocks


class _SqueezeExcite(nn.Module):
    """Multiply every channel by a gate computed from the mean of all channels (https://arxiv.org/abs/1709.01507)."""

    def __init__(self, width: int, squeezed: int, activation: Activation) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Conv2d(width, squeezed, 1)
        self.activation = _activation(activation)
        self.excite = nn.Conv2d(squeezed, width, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, width, height, width) to the same shape."""
        gate: Tensor = self.gate(self.excite(self.activation(self.squeeze(self.pool(x)))))
        return x * gate


class _Residual(nn.Module):
    """A block beside its shortcut. ``projection`` and ``final`` are empty where the block has none."""

    def __init__(self, block: ConvBlock, activation: Activation) -> None:
        super().__init__()
        self.branch = nn.Sequential(OrderedDict(_branch(block, activation)))
        projected = block.shortcut == "projection"
        self.projection = _conv_bn(block.w_in, block.w_out, stride=block.stride) if projected else nn.Sequential()
        self.final = _activation(activation) if block.activate else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, w_in, height, width) to (batch, w_out, height / stride, width / stride)."""
        out: Tensor = self.final(self.projection(x) + self.branch(x))
        return out


def network(arch: Arch) -> nn.Sequential:
    """Return ``arch`` as a module from (batch, 3, resolution, resolution) to (batch, classes)."""
    stem = _conv_bn(3, arch.stem.width, arch.stem.kernel, stride=2)
    stem.append(_activation(arch.activation))
    if arch.stem.pool:
        stem.append(nn.MaxPool2d(3, stride=2, padding=1))
    body = nn.Sequential(*(_block(block, arch.activation) for block, times in blocks(arch) for _ in range(times)))
    return nn.Sequential(OrderedDict(stem=stem, body=body, head=_head(arch)))


def _conv_bn(w_in: int, w_out: int, kernel: int = 1, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution without bias, padded by half its odd kernel, and its batch norm."""
    conv = nn.Conv2d(w_in, w_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(w_out))


def _block(block: ConvBlock, activation: Activation) -> nn.Module:
    if block.shortcut == "none":
        return nn.Sequential(OrderedDict(_branch(block, activation)))
    return _Residual(block, activation)


def _branch(block: ConvBlock, activation: Activation) -> Iterator[tuple[str, nn.Module]]:
    if block.expand:
        yield "expand", _conv_bn(block.w_in, block.w_mid).append(_activation(activation))
    spatial = _conv_bn(block.w_mid, block.w_mid, block.kernel, stride=block.stride, groups=block.groups)
    yield "spatial", spatial.append(_activation(activation))
    if block.w_se:
        yield "squeeze_excite", _SqueezeExcite(block.w_mid, block.w_se, activation)
    yield "reduce", _conv_bn(block.w_mid, block.w_out)


def _head(arch: Arch) -> nn.Sequential:
    width, head = arch.stages[-1].width, nn.Sequential()
    if arch.head.width:
        head.append(_conv_bn(width, arch.head.width).append(_activation(arch.activation)))
        width = arch.head.width
    return head.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, arch.head.classes)])


def _activation(name: Activation) -> nn.Module:
    return nn.ReLU(inplace=True) if name == "relu" else nn.SiLU()


# A prime, so that no layer's size divides it and no two filters of a layer are equal.
_NORMALS = 1_048_573
# One over the root mean square of a ReLU, and of a sigmoid, of standard normal numbers. SiLU is a ReLU for large
# inputs, so that nothing grows by this gain. By its own, 1.68, inputs came to -1100 in a scaled EfficientNet; what SiLU
# makes of those below -87 are denormal numbers, and the network took twice its time on a CPU that is slow with them.
_GAIN = 2**0.5
_GATE_GAIN = 0.2934**-0.5


@torch.no_grad()
def initialise(module: nn.Module, arch: Arch, seed: int) -> None:
    """Fill every weight and buffer of a network in place, on the CPU, always the same for the same ``seed``.

    Building must cost little, since every visit builds a network, and no measurement depends on fine
    statistics of its weights. So one block of normal numbers is drawn and repeated through all layers, each
    scaled to keep the second moment of what it carries (He et al., https://arxiv.org/abs/1502.01852). Batch
    norm starts as the identity.
    """
    generator = torch.Generator().manual_seed(seed)
    normals = torch.empty(_NORMALS).normal_(generator=generator)
    depth = sum(arch.depths)
    offset = 0
    for name, layer in module.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            offset = _fill(layer.weight.view(-1), normals, offset, _gain(name, arch, depth) * fan_in**-0.5)
            if layer.bias is not None:
                layer.bias.zero_()


def _gain(name: str, arch: Arch, depth: int) -> float:
    """Return the gain of a layer by its place: what follows may shrink its output, a shortcut adds to it."""
    parts = name.split(".")
    if "reduce" in parts:
        # A hundred branches of variance 1/100 make their sum grow by e; of variance 1, by 2^100.
        return (_GATE_GAIN if arch.se_ratio else 1.0) * (depth**-0.5 if "branch" in parts else 1.0)
    linear = name == f"head.{parts[-1]}" or "projection" in parts or "excite" in parts
    return 1.0 if linear else _GAIN


def _fill(weight: Tensor, normals: Tensor, offset: int, std: float) -> int:
    """Write ``normals``, times ``std``, from ``offset`` on and over and over; return the next offset."""
    first, rest = weight[: len(normals) - offset], weight[len(normals) - offset :]
    for chunk in (first, *torch.split(rest, len(normals))):
        torch.mul(normals[offset : offset + len(chunk)], std, out=chunk)
        offset = (offset + len(chunk)) % len(normals)
    return offset
