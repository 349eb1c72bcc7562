"""Built networks: what they count to, that they run, and that their weights are sane and repeatable."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from profiler.models import build, complexity, count, get, names, scale
from profiler.models.arch import Arch
from profiler.models.build import _skeleton

RULES = ("d", "w", "g", "r", "dwr", "dWr", "wg", "alpha=0.5")
SMALL = ("efficientnet_b0", "regnetx_200mf", "regnety_200mf", "regnetz_500mf", "resnet50", "resnext50")


pytestmark = pytest.mark.usefixtures("one_thread")


def counted(arch: Arch) -> tuple[object, ...]:
    """Count without running batch norm, which changes no shape and takes most of the time on the meta device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.BatchNorm2d, "forward", lambda _, x: x)
        return astuple(count(_skeleton(arch), (torch.zeros(1, 3, arch.resolution, arch.resolution, device="meta"),)))


def expected(arch: Arch) -> tuple[object, ...]:
    """The closed form without the pool of a ResNet's stem, which its published acts have and no operator multiplies."""
    side = ((arch.resolution - 1) // 2 + 1 - 1) // 2 + 1
    found = complexity(arch)
    return astuple(replace(found, acts=found.acts - arch.stem.pool * arch.stem.width * side * side))


def images(arch: Arch, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, arch.resolution, arch.resolution, generator=generator)


@pytest.mark.parametrize("name", names())
def test_module_counts_to_the_closed_form(name: str) -> None:
    arch = get(name)
    assert counted(arch) == expected(arch)


@given(st.sampled_from(SMALL), st.sampled_from(RULES), st.floats(-2, 0.5).map(lambda power: 10**power))
@settings(max_examples=25)
def test_scaled_module_counts_to_the_closed_form(name: str, rule: str, factor: float) -> None:
    arch = scale(get(name), rule, factor)
    assert counted(arch) == expected(arch)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("rule", ["d", "dwr", "g", "w"])
def test_extreme_network_runs(name: str, rule: str) -> None:
    arch = scale(get(name), rule, 1e-4)
    output = build(arch)(images(arch)) if arch.resolution < 64 else _skeleton(arch)(images(arch).to("meta"))
    assert output.shape == (1, 1000)


def test_smallest_resolution_runs() -> None:
    arch = scale(get("resnet50"), "r", 0.0004)
    assert arch.resolution == 4
    assert build(arch)(images(arch)).isfinite().all()


@pytest.mark.parametrize("name", [*SMALL, "resnet152", "efficientnet_b7", "regnetz_4.0gf"])
def test_activations_fit_half_precision_and_depend_on_the_input(name: str) -> None:
    # At a quarter of the pixels the same layers run, and fast.
    arch = scale(get(name), "r", 1 / 16)
    module, largest = build(arch), 0.0

    def watch(_layer: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal largest
        largest = max(largest, output.abs().max().item())

    for layer in module.modules():
        layer.register_forward_hook(watch)
    with torch.no_grad():
        first, second = module(images(arch, batch=2))
    assert largest < 10_000
    assert torch.finfo(torch.float16).tiny < first.std() < 1000
    assert (first - second).abs().max() > 0.01 * first.std()


@pytest.mark.parametrize(("rule", "factor"), [("", 1.0), ("dWr", 2.0), ("dwr", 4.0)])
def test_no_denormal_numbers_slow_a_network_down(rule: str, factor: float) -> None:
    """SiLU makes them of inputs below -87; by its own gain inputs came to -1100 here, and time doubled."""
    arch = scale(get("efficientnet_b0"), rule, factor) if rule else get("efficientnet_b0")
    module, lowest = build(arch), 0.0

    def watch(_layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal lowest
        lowest = min(lowest, inputs[0].min().item())

    for layer in module.modules():
        if isinstance(layer, nn.SiLU):
            layer.register_forward_pre_hook(watch)
    with torch.no_grad():
        module(images(arch))
    assert -50 < lowest < -5


def test_deep_network_neither_explodes_nor_vanishes() -> None:
    arch = scale(scale_base := get("regnety_200mf"), "d", 8)
    assert sum(arch.depths) == 8 * sum(scale_base.depths)
    with torch.no_grad():
        output = build(arch)(images(arch))
    assert 0.01 < output.std() < 100


def test_weights_depend_on_the_seed_alone() -> None:
    arch = get("regnety_200mf")
    torch.manual_seed(5)
    first = build(arch, seed=3).state_dict()
    torch.manual_seed(6)
    again, other = build(arch, seed=3).state_dict(), build(arch, seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    build(get("regnety_200mf"))
    assert torch.equal(before, torch.get_rng_state())


def test_every_tensor_is_filled() -> None:
    state = build(get("regnety_200mf")).state_dict()
    assert all(value.isfinite().all() for value in state.values())
    assert {key for key, value in state.items() if (value == 0).all()} == {
        key for key in state if key.endswith(("bias", "running_mean", "num_batches_tracked"))
    }


def test_no_two_filters_of_a_layer_are_equal() -> None:
    # Layers of more weights than the block of normals would repeat themselves if its length divided theirs.
    weight = build(get("resnet50")).get_parameter("body.14.branch.spatial.0.weight").flatten(1)
    assert weight.numel() > 2**20
    assert len(np.unique(weight.detach().numpy(), axis=0)) == len(weight)


def test_module_trains() -> None:
    arch = scale(get("regnetz_500mf"), "r", 0.1)
    module = build(arch).train()
    module(images(arch, batch=4)).square().mean().backward()
    gradients = [parameter.grad for parameter in module.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_built_in_evaluation_mode() -> None:
    assert not any(part.training for part in build(get("regnetx_200mf")).modules())
