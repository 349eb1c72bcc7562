"""The brought models of the study of runtimes, in torch alone: each returns a module and its example.

Weights are random, as torch draws them; sizes are such that a forward takes milliseconds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

Made = tuple[nn.Module, Tensor]


class Block(nn.Module):
    """Attention and two linear layers, each behind a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return what has the shape of ``x``: (batch, tokens, width)."""
        batch, tokens, width = x.shape
        mixed = self.mixed(self.before(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.wide(self.between(x))


class Bert(nn.Module):
    """BERT-small's sizes: 4 blocks of width 256 over 128 tokens."""

    def __init__(self, sequence: int) -> None:
        super().__init__()
        self.words = nn.Embedding(1000, 256)
        self.places = nn.Parameter(torch.randn(1, sequence, 256) * 0.02)
        self.blocks = nn.Sequential(*(Block(256, 4) for _ in range(4)))
        self.head = nn.Linear(256, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (batch, classes)."""
        return self.head(self.blocks(self.words(tokens) + self.places)[:, 0])


class ViT(nn.Module):
    """6 blocks of width 192, as in ViT-tiny, over the patches of 16 x 16 of an image of 224 x 224."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 192, 16, 16)
        self.places = nn.Parameter(torch.randn(1, 196, 192) * 0.02)
        self.blocks = nn.Sequential(*(Block(192, 3) for _ in range(6)))
        self.norm, self.head = nn.LayerNorm(192), nn.Linear(192, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, classes)."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(patches + self.places)).mean(1))


class Lstm(nn.Module):
    """Two layers of 128 over 100 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = nn.LSTM(40, 128, 2, batch_first=True), nn.Linear(128, 10)

    def forward(self, steps: Tensor) -> Tensor:
        """Return (batch, classes)."""
        return self.head(self.layers(steps)[0][:, -1])


def _pair(given: int, made: int) -> nn.Sequential:
    def layer(width: int) -> list[nn.Module]:
        return [nn.Conv2d(width, made, 3, padding=1), nn.BatchNorm2d(made), nn.ReLU()]

    return nn.Sequential(*layer(given), *layer(made))


class UNet(nn.Module):
    """Three levels down and up again."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([_pair(3, 16), _pair(16, 32), _pair(32, 64)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)])
        self.after = nn.ModuleList([_pair(64, 32), _pair(32, 16)])
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, classes, height, width)."""
        first = self.down[0](images)
        second = self.down[1](functional.max_pool2d(first, 2))
        x = self.down[2](functional.max_pool2d(second, 2))
        for up, after, beside in zip(self.up, self.after, (second, first), strict=True):
            x = after(torch.cat([up(x), beside], 1))
        return self.head(x)


def bert(sequence: int = 128) -> Made:
    return Bert(sequence), torch.randint(0, 1000, (1, sequence))


def vit() -> Made:
    return ViT(), torch.randn(1, 3, 224, 224)


def lstm() -> Made:
    return Lstm(), torch.randn(1, 100, 40)


def unet() -> Made:
    return UNet(), torch.randn(1, 3, 128, 128)
