"""Small models as users write them, whose counts are known by hand."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

#: Of ``Encoder``: what its linear layers with their biases cost, and the two products of its attention.
ENCODER_LINEAR, ENCODER_ATTENTION = (100_958_208, 294_912), (4_194_304, 65_536)


def trained(module: nn.Module) -> nn.Module:
    """Weights that no two tensors have alike: what is frozen or exported keeps equal ones once."""
    for one in module.parameters():
        nn.init.normal_(one, std=0.02)
    return module


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


class Pair(nn.Module):
    """Two inputs, and outputs that are nested; one is None, and one holds indices."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 6), nn.Linear(4, 6)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, object]:
        both = self.a(x) - self.b(y)
        return {"values": [both, (both.relu(), None)], "best": both.argmax(-1)}


class Nested(nn.Module):
    """A dict of dicts, a list, and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, batch: dict[str, dict[str, Tensor]], more: list[Tensor], times: int = 2) -> Tensor:
        return self.linear(batch["left"]["x"] - batch["right"]["x"]) * times + more[0] * 10


class Logarithm(nn.Module):
    """Only numbers above zero have one."""

    def forward(self, x: Tensor) -> Tensor:
        return x.log()


class Turns(nn.Module):
    """A loop whose turns depend on the data: a trace fixes them."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x.sum()) % 3 + 1):
            x = x * 1.5
        return x


def classifier(size: int = 8) -> tuple[nn.Module, Tensor]:
    """One convolution and one linear layer, for images of a size."""
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    return layers, torch.rand(1, 3, size, size)


def tokens() -> tuple[nn.Module, Tensor]:
    """Indices of 7 words; there is no eighth."""
    return nn.Embedding(7, 3), torch.tensor([[6, 0, 3]])


def pair() -> tuple[nn.Module, dict[str, Tensor]]:
    """Keywords in another order than the signature has them."""
    return Pair(), {"y": torch.full((1, 4), 2.0), "x": torch.ones(1, 8)}


def nested() -> tuple[nn.Module, tuple[object, dict[str, object]]]:
    """By position a dict of dicts, by keyword a list and a number."""
    sides = {"left": {"x": torch.ones(1, 4)}, "right": {"x": torch.zeros(1, 4)}}
    return Nested(), ((sides,), {"more": [torch.ones(1, 4)], "times": 3})


def logarithm() -> tuple[nn.Module, Tensor]:
    """Values above zero."""
    return Logarithm(), torch.tensor([[0.5, 1.0, 4.0]])


def graph() -> tuple[nn.Module, Tensor]:
    """Features of five nodes: no axis is a batch."""
    return nn.Linear(4, 4), torch.ones(5, 4)


def turns() -> tuple[nn.Module, Tensor]:
    """Three turns at the values of the example."""
    return Turns(), torch.full((1, 2), 1.0)


def nothing() -> None:
    """Forgets to return."""


def greedy(name: str) -> nn.Module:
    """Needs an argument that no size is."""
    return nn.Linear(len(name), 1)


def broken() -> nn.Module:
    """Fails while it is built."""
    return nn.Linear(-1, 1)


def numbers() -> tuple[nn.Module, int]:
    """An example without a tensor."""
    return nn.Linear(1, 1), 3


class Writing(nn.Module):
    """Changes its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1.0)


class Counting(nn.Module):
    """Keeps state between forwards."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("turns", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.turns += 1
        return x + self.turns


class Keeping(nn.Module):
    """Computes once, and adds to what it kept from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = self.layer(x)
        return self.kept + 1


class Unable(nn.Module):
    """Refuses its input."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("too wide")


class Dropping(nn.Module):
    """Draws at every forward."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, training=True)


def writing() -> tuple[nn.Module, Tensor]:
    """See ``Writing``."""
    return Writing(), torch.ones(1, 4)


def counting() -> tuple[nn.Module, Tensor]:
    """See ``Counting``."""
    return Counting(), torch.ones(1, 4)


def keeping() -> tuple[nn.Module, Tensor]:
    """See ``Keeping``."""
    return Keeping(), torch.ones(1, 64)


def unable() -> tuple[nn.Module, Tensor]:
    """See ``Unable``."""
    return Unable(), torch.ones(1, 4)


def dropping() -> tuple[nn.Module, Tensor]:
    """See ``Dropping``."""
    return Dropping(), torch.ones(1, 64)


def undefined() -> tuple[nn.Module, Tensor]:
    """A logarithm of what has none."""
    return Logarithm(), torch.tensor([[-1.0, 1.0]])


class Uncountable(nn.Module):
    """Refuses whatever is not on a device that holds numbers, and every counter."""

    def forward(self, x: Tensor) -> Tensor:
        if type(x) is not Tensor or torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
            raise TypeError("this model is watched")
        return x * 2


def uncountable() -> tuple[nn.Module, Tensor]:
    """See ``Uncountable``."""
    return Uncountable(), torch.ones(1, 4)


def fatal() -> nn.Module:
    """Takes its process with it."""
    os._exit(7)
