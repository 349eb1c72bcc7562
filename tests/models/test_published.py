from __future__ import annotations

from collections import Counter

import pytest

from profiler import models
from profiler.models import families
from profiler.models.published import SOURCES, figures_of, published, spelled


def test_every_figure_is_one() -> None:
    assert all(1 < one.top1 < 100 and one.flops > 0 and one.source in SOURCES and one.recipe for one in published())
    counted = Counter((one.model, one.resolution, one.recipe) for one in published())
    assert counted.most_common(1)[0][1] == 1


def test_networks_of_the_zoo_have_their_own_flops_and_resolution() -> None:
    own = [one for one in published() if ":" not in one.model]
    assert len({one.model for one in own if one.recipe == "pycls"}) == 36
    for one in own:
        arch = models.get(one.model)
        assert (arch.name, arch.resolution, arch.family) == (one.model, one.resolution, one.family)
        assert models.complexity(arch).flops == one.flops


def test_recipes_of_one_network_are_kept_apart() -> None:
    found = {one.recipe: one.top1 for one in figures_of("torchvision:resnet50")}
    assert found == {"IMAGENET1K_V1": 76.13, "IMAGENET1K_V2": 80.858}
    # torchvision's V1 of ConvNeXt was trained by no plain recipe.
    assert [one.recipe for one in figures_of("torchvision:convnext_tiny")] == ["IMAGENET1K_V1:convnext"]


def test_a_network_is_published_at_its_resolution_alone() -> None:
    assert figures_of("regnety_400mf")[0].top1 == pytest.approx(74.102)
    assert figures_of("regnety_400mf", 224)[0].top1 == pytest.approx(74.102)
    assert figures_of("regnety_400mf", 160) == []


def test_the_tag_of_timms_weights_is_the_recipe() -> None:
    assert {one.recipe for one in figures_of("timm:resnet50")} >= {"a1_in1k", "a3_in1k"}
    assert figures_of("timm:resnet50", 224)[0].recipe == "a1_in1k"  # what timm loads where no tag is named
    assert [(one.resolution, one.recipe) for one in figures_of("timm:resnet50.a3_in1k", 160)] == [(160, "a3_in1k")]
    assert [one.recipe for one in figures_of("timm:tf_efficientnetv2_b0.in1k", 192)] == ["in1k:tf_efficientnetv2"]
    assert [one.recipe for one in figures_of("timm:regnetx_002.pycls_in1k")] == ["pycls"]
    assert figures_of("timm:resnet50.no_such") == []


def test_names_as_papers_write_them() -> None:
    assert [spelled(name) for name in ("ResNet-50", "RegNetY-4.0GF", " a:b ")] == ["resnet50", "regnety_4.0gf", "a:b"]


def test_unknown_networks_have_no_figure() -> None:
    assert figures_of("no_such") == []
    without = {name for name in families.names() if not figures_of(name)}
    assert without == {name for name in families.names() if name.startswith("regnetz")}
