"""Counts beside those of fvcore and of torch's own counter, which differ from ours in what is listed here."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from profiler.models import source
from profiler.models.loaded import Asked
from tests.breadth.catalogue import HERE

pytestmark = pytest.mark.filterwarnings("ignore")

MODELS = [
    "timm:resnet18",
    "timm:vit_tiny_patch16_224",
    "timm:convnext_atto",
    "timm:mobilenetv4_conv_small",
    "timm:efficientvit_b0",
    "timm:mixer_s32_224",
    "torchvision:mobilenet_v3_small",
    "torchvision:lraspp_mobilenet_v3_large",
    f"{HERE / 'hub.py'}:bert",
    f"{HERE / 'hub.py'}:vit",
]
#: What fvcore counts beside products: normalisation, pooling and resizing. It counts no fused attention.
PRODUCTS = ("conv", "linear", "matmul", "einsum", "addmm", "bmm")


def biases(module: nn.Module, args: tuple[torch.Tensor, ...]) -> int:
    """The multiply-adds of biases: one for each output of a layer that has one. The other counters leave them out."""
    counted: list[int] = []
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    hooks = [
        part.register_forward_hook(lambda _, __, out: counted.append(out.numel()))
        for part in module.modules()
        if isinstance(part, kinds) and part.bias is not None
    ]
    with torch.no_grad():
        module(*args)
    for hook in hooks:
        hook.remove()
    return sum(counted)


def counted_by_torch(module: nn.Module, args: tuple[torch.Tensor, ...], *, fused: bool) -> int:
    """torch counts two flops for a multiply-add, and on the CPU no attention that is one operator."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if fused:
            module(*args)
        else:
            with sdpa_kernel(SDPBackend.MATH):
                module(*args)
    return counter.get_total_flops() // 2


def counted_by_fvcore(module: nn.Module, args: tuple[torch.Tensor, ...]) -> int:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(module, args)
    analysis.unsupported_ops_warnings(False)  # noqa: FBT003 - fvcore's signature
    analysis.uncalled_modules_warnings(False)  # noqa: FBT003
    found = analysis.by_operator()
    return int(sum(found[name] for name in PRODUCTS))


@pytest.mark.parametrize("model", MODELS)
def test_counts_agree_with_torch_and_fvcore(model: str) -> None:
    loaded = source.load_model(Asked(model))
    assert loaded.model.module is not None
    module = loaded.model.module()
    args, _ = loaded.inputs.mapped(lambda _, array: torch.tensor(array))
    products = loaded.count().flops - biases(module, args)
    assert products == counted_by_torch(module, args, fused=False)
    attention = products - counted_by_torch(module, args, fused=True)
    assert products - attention == counted_by_fvcore(module, args)
    assert loaded.count().params == sum(one.numel() for one in module.parameters())
