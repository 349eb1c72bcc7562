"""A user's model that notes under which of torch's switches its forwards run."""

from __future__ import annotations

import torch
from torch import nn

from tests.backends.states import seen

NOTES: list[dict[str, object]] = []


class Asking(nn.Module):
    """One convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(2, 3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        NOTES.append(seen())
        flat: torch.Tensor = self.layer(x).flatten(1)
        return flat


def model() -> tuple[nn.Module, torch.Tensor]:
    """Return the model and an example, after setting what no session asked for."""
    torch.set_float32_matmul_precision("medium")
    return Asking(), torch.zeros(1, 2, 4, 4)
