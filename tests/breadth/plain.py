"""Models of torch alone, as people write them: each function returns a module, or a module and its example."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune


class LstmHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(40, 64, 2, batch_first=True), nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class GruTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(500, 32)
        self.rnn, self.head = nn.GRU(32, 48, bidirectional=True, batch_first=True), nn.Linear(96, 17)

    def forward(self, tokens, state=None):
        out, last = self.rnn(self.embedding(tokens), state)
        return {"tags": self.head(out), "state": last}


class Audio(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(1, 16, 80, stride=4), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(4),
            nn.Conv1d(16, 32, 3, padding=2, dilation=2), nn.GELU(), nn.AdaptiveAvgPool1d(1),
        )  # fmt: skip
        self.head = nn.Linear(32, 35)

    def forward(self, wave):
        return functional.log_softmax(self.head(self.body(wave).squeeze(-1)), dim=-1)


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.up, self.side = nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        y = self.down(x)
        coarse = functional.interpolate(self.side(y), size=x.shape[-2:], mode="bilinear", align_corners=False)
        return [self.up(y), coarse, None]


class Bytes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, image):
        return self.conv(image.float() / 255).mean((2, 3))


class Nodes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.register_buffer("adjacency", torch.softmax(torch.randn(100, 100), dim=-1))

    def forward(self, features):
        return self.adjacency @ self.linear(features)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(8, 3, 3, 3)), nn.Parameter(torch.randn(8, 10))

    def forward(self, x):
        features = functional.conv2d(x, self.w).mean((2, 3))
        return torch.einsum("bc,ck->bk", features, self.v) + torch.matmul(features, self.v)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        if x.sum() > 0:
            return self.a(x)
        return self.b(x).relu()


def lstm():
    return LstmHead(), torch.zeros(1, 50, 40)


def gru():
    return GruTagger(), torch.randint(0, 500, (1, 20))


def bare_lstm():
    return nn.LSTM(20, 32), (torch.randn(7, 1, 20), (torch.zeros(1, 1, 32), torch.zeros(1, 1, 32)))


def audio():
    return Audio(), torch.randn(1, 1, 4000)


def segmentation():
    return Segmenter(), torch.randn(1, 3, 64, 64)


def uint8_images():
    return Bytes(), torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)


def nodes():
    return Nodes(), torch.randn(100, 16)


def encoder():
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    return nn.TransformerEncoder(layer, 2), torch.randn(1, 64, 256)


def functions():
    return Functional(), torch.randn(1, 3, 32, 32)


def scripted():
    return torch.jit.script(Gated().eval()), torch.ones(1, 16)


def exported():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
    return torch.export.export(module, (torch.zeros(1, 3, 32, 32),)), torch.randn(1, 3, 32, 32)


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x, times: int):
        for _ in range(times):
            x = self.linear(x).relu()
        return {"last": [x], "all": [x, x + 1]}


class Spectrum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(129, 10)

    def forward(self, wave):
        found = torch.stft(wave, 256, 64, window=torch.hann_window(256), return_complex=True)
        return self.head(found.abs().mean(-1)), found


def scripted_loop():
    return torch.jit.script(Loop().eval()), (torch.randn(1, 8), 3)


def spectrum():
    return Spectrum(), torch.randn(1, 4000)


def normalised():
    return nn.Sequential(nn.Linear(16, 32), nn.RMSNorm(32), nn.GLU(), nn.GroupNorm(4, 16)), torch.randn(2, 16)


def pruned():
    module = nn.Sequential(nn.utils.weight_norm(nn.Conv1d(4, 4, 3)), nn.Flatten(), nn.Linear(72, 8))
    prune.l1_unstructured(module[2], "weight", 0.5)
    return module, torch.randn(1, 4, 20)


def lazy():
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.Flatten(), nn.LazyLinear(5)), torch.randn(1, 3, 8, 8)


def compiled():
    inner = torch.compile(nn.Sequential(nn.Linear(32, 32), nn.ReLU()), backend="eager")
    return nn.Sequential(nn.Linear(16, 32), inner), torch.randn(2, 16)


def quantised():
    layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).eval()
    return torch.ao.quantization.quantize_dynamic(layers, {nn.Linear}, dtype=torch.qint8), torch.randn(1, 64)
