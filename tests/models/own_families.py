"""Families that tests scale: those that the documentation shows, and a cheap one."""

from __future__ import annotations

import re
from pathlib import Path

from tests import ROOT

#: Linear layers of one width on the tokens of a sequence: flops are depth * tokens * width * (width + 1).
MLP = """
import torch
from torch import nn

def scale(depth, width, group_width, resolution):
    width, tokens = 4 * max(1, round(8 * width)), round(16 * resolution**2)
    return {"depth": max(1, round(4 * depth)), "width": width, "tokens": tokens}

def build(size):
    layers = [nn.Linear(size["width"], size["width"]) for _ in range(size["depth"])]
    return nn.Sequential(*layers), torch.ones(1, size["tokens"], size["width"])
"""


def write_mlp(folder: Path) -> str:
    """Write the cheap family and return its name."""
    (folder / "mlp.py").write_text(MLP, encoding="utf-8")
    return "mlp.py:mlp"


def write_shown(folder: Path) -> None:
    """Write vit.py and encoder.py as the documentation shows them."""
    page = (ROOT / "docs" / "how-to" / "own-family.md").read_text(encoding="utf-8")
    for text in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        (folder / text.split()[1]).write_text(text, encoding="utf-8")
