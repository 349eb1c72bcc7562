"""A small network with every kind of layer, and what the tests of backends do with it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from profiler import backends
from profiler.backends.base import Model, Placement, Session
from profiler.backends.inputs import Inputs

SPECS = {
    "eager": "eager",
    "torchscript": "torchscript",
    "onnxruntime": "onnxruntime",
    "fake": "fake:duration_ms=0.1",
} | ({"openvino": "openvino"} if find_spec("openvino") else {})
# Compiling takes minutes in all: tox's environment runtimes asks for it; test_compile.py holds the rest of the time.
SPECS |= {"compile": "compile", "aoti": "aoti"} if os.environ.get("PROFILER_COMPILE") else {}


REAL = [name for name in SPECS if name != "fake"]


TORCH = [name for name in SPECS if name in ("eager", "torchscript", "compile", "aoti")]


CACHING = [name for name in SPECS if getattr(backends.get(name), "exports", False)]


PLACE = Placement()


CLASSES = 7


class Tiny(nn.Module):
    """Every kind of layer that the networks use; batch norm with statistics that matter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.grouped = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=4, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1), nn.SiLU(), nn.Conv2d(2, 8, 1))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.grouped(x) * torch.sigmoid(self.gate(x))
        return self.head(x.mean((2, 3)))


def tiny() -> nn.Module:
    module = Tiny()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=draw) + (0.5 if "running_var" in name else -0.5))
    return module.eval()


def images(batch: int = 1, seed: int = 0, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 3, size, size), dtype=np.float32)


def fed(example: np.ndarray) -> Inputs:
    return Inputs((example,))


def only(session: Session) -> np.ndarray:
    (output,) = session.outputs()
    return output


def model(cache: Path | None = None) -> Model:
    return Model(key="tiny", module=tiny, cache=cache)


@contextmanager
def loaded(name: str, example: np.ndarray, placement: Placement = PLACE, cache: Path | None = None):
    with backends.get(SPECS[name]).load(model(cache), fed(example), placement) as session:
        yield session


def answer(name: str, example: np.ndarray, placement: Placement = PLACE, cache: Path | None = None) -> np.ndarray:
    with loaded(name, example, placement, cache) as session:
        session.run()
        session.sync()
        return only(session)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())
