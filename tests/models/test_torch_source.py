"""Torch modules that are not what a plain copy or a plain array can hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from profiler.models.loaded import Asked
from profiler.models.torch_source import from_module

pytestmark = pytest.mark.usefixtures("one_thread")


def forward(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return module(x)


def pruned() -> nn.Module:
    module = nn.Linear(8, 4)
    prune.l1_unstructured(module, "weight", 0.5)
    return module


def test_a_weight_that_is_computed_is_copied_as_it_is() -> None:
    module, x = pruned().eval(), torch.ones(1, 8)
    loaded = from_module(module, x, Asked("m:pruned"))
    assert loaded.model.module is not None
    copy = loaded.model.module()
    assert torch.equal(forward(copy, x), forward(module, x))
    with torch.no_grad():
        copy.weight_orig.zero_()
        copy.bias.zero_()
    assert forward(copy, x).abs().sum() == 0  # its own hooks work on its own weights
    assert forward(module, x).abs().sum() > 0


def test_lazy_layers_learn_their_sizes_from_the_example_and_always_the_same_weights() -> None:
    made = [
        from_module(
            nn.Sequential(nn.LazyConv2d(8, 3), nn.Flatten(), nn.LazyLinear(5)), torch.ones(1, 3, 8, 8), Asked("m:lazy")
        )
        for _ in range(2)
    ]
    assert made[0].content == made[1].content
    assert made[0].count().params == 8 * 27 + 8 + 5 * 288 + 5


@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_a_module_of_another_precision_is_counted_with_what_is_drawn_in_fp32(kind: torch.dtype) -> None:
    assert from_module(nn.Linear(8, 4).to(kind), torch.ones(1, 8), Asked("m:f")).count().flops == 4 * 9


def test_a_module_in_bf16_is_counted_with_its_own_example() -> None:
    loaded = from_module(nn.Linear(8, 4).bfloat16(), torch.ones(1, 8, dtype=torch.bfloat16), Asked("m:half"))
    assert loaded.count().flops == 4 * 9
