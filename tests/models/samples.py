"""Small models as users write them, whose counts are known by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Of ``Encoder``: what its linear layers with their biases cost, and the two products of its attention.
ENCODER_LINEAR, ENCODER_ATTENTION = (100_958_208, 294_912), (4_194_304, 65_536)


class Encoder(nn.Module):
    """For input of (1, 64, 256)."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class LstmHead(nn.Module):
    """For input of (1, 50, 40)."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(40, 64, 2, batch_first=True), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Functional(nn.Module):
    """For input of (1, 3, 32, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(8, 3, 3, 3)), nn.Parameter(torch.randn(8, 10))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bc,ck->bk", nn.functional.conv2d(x, self.w).mean((2, 3)), self.v)


class Written(nn.Module):
    """A linear layer as many write it by hand, for input of (2, 5, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(16, 24)), nn.Parameter(torch.randn(24))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w + self.b


class Gpt(nn.Module):
    """One block of a language model with a causal mask, heads that share keys, and its embedding for a head."""

    def __init__(self, width: int = 48, heads: int = 6, shared: int = 2, words: int = 100) -> None:
        super().__init__()
        self.heads, self.shared, self.each = heads, shared, width // heads
        self.words = nn.Embedding(words, width)
        self.query, self.keys = nn.Linear(width, width), nn.Linear(width, 2 * shared * self.each)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        split = lambda y, heads: y.unflatten(-1, (heads, self.each)).transpose(1, 2)  # noqa: E731
        key, value = self.keys(x).chunk(2, -1)
        seen = nn.functional.scaled_dot_product_attention(
            split(self.query(x), self.heads),
            split(key, self.shared),
            split(value, self.shared),
            is_causal=True,
            enable_gqa=True,
        )
        x = x + seen.transpose(1, 2).flatten(2)
        return self.head(x + self.down(nn.functional.gelu(self.up(x))))
