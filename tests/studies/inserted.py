"""A real network, and the same with one convolution more: ``tests.studies.inserted:more``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler import models

if TYPE_CHECKING:
    from torch import Tensor, nn

NETWORK, LAYER = "regnety_400mf", "more"


def plain() -> tuple[nn.Module, Tensor]:
    """Return the network itself."""
    return _made(convolutions=0)


def more() -> tuple[nn.Module, Tensor]:
    """Return it after a convolution of 64 channels on 112 x 112 pixels, which takes in one of its inputs repeated."""
    return _made(convolutions=1)


def _made(convolutions: int) -> tuple[nn.Module, Tensor]:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = models.build(models.get(NETWORK))
            self.more = nn.Sequential(*(nn.Conv2d(64, 64, 3, padding=1) for _ in range(convolutions)))

        def forward(self, x: Tensor) -> Tensor:
            made = self.more(x.reshape(1, 12, 112, 112).repeat(1, 6, 1, 1)[:, :64])
            return self.net(x) + made.mean()

    torch.manual_seed(0)
    return Net().eval(), torch.randn(1, 3, 224, 224)
