"""A model whose cost is its number of rungs: ``tests.studies.ladder:rungs_100`` and so on.

A slow-down of a few percent is made by added rungs, each a small convolution, so that it is real work and not a wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: About 2.5 ms on one core of the machines that run CI.
RUNGS = 100


def __getattr__(name: str) -> Callable[[], Any]:
    """Return the factory of a ladder with as many rungs as its name says."""
    prefix, _, rungs = name.partition("_")
    if prefix != "rungs" or not rungs.isdigit():
        raise AttributeError(name)
    return lambda: ladder(int(rungs))


def ladder(rungs: int) -> Any:
    """Return (module, example input) of a ladder."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    steps = [step for _ in range(rungs) for step in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*steps), torch.zeros(1, 16, 16, 16)
