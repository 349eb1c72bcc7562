from __future__ import annotations

import math
from contextlib import suppress

import pytest

from profiler.analysis.accuracy import published_model
from profiler.analysis.accuracy_model import Trained, fit_accuracy, foretellable, left_out
from profiler.errors import UserError
from profiler.models.published import published


@pytest.mark.parametrize(
    ("recipe", "networks", "mean", "worst"),
    [("pycls", 36, 0.45, 2.3), ("IMAGENET1K_V1", 37, 1.05, 4.4), ("IMAGENET1K_V2", 21, 0.7, 2.3)],
)
def test_errors_on_networks_left_out(recipe: str, networks: int, mean: float, worst: float) -> None:
    found = left_out(published_model(recipe))
    assert found.networks == networks
    assert found.mean < mean
    assert found.worst < worst
    assert 0.85 <= found.covered <= 0.95


def test_families_left_out_are_covered() -> None:
    model = published_model("pycls")
    told = []
    for family in model.families:
        rest = fit_accuracy("pycls", [one for one in model.trained if one.family != family])
        for one in (one for one in model.trained if one.family == family):
            said = rest.foretell(family, one.flops)
            assert said is not None
            told.append((abs(said.top1 - one.top1), said.interval[0] <= one.top1 <= said.interval[1]))
    assert sum(error for error, _ in told) / len(told) < 1
    assert 0.85 <= sum(held for _, held in told) / len(told) < 1


def test_what_the_law_says_is_foretold() -> None:
    trained = [
        Trained(family, flops, 224, 100 - math.exp(level - 0.1 * math.log(flops / 1e9)))
        for family, level in (("a", 3.0), ("b", 3.2))
        for flops in (2e8, 4e8, 8e8, 1.6e9, 3.2e9)
    ]
    said = fit_accuracy("r", trained).foretell("b", 1e9)
    assert said is not None
    assert said.top1 == pytest.approx(100 - math.exp(3.2))
    assert said.interval == pytest.approx((said.top1, said.top1), abs=1e-3)
    assert said.beyond == ""


def test_more_flops_never_foretell_less() -> None:
    model = published_model("pycls")
    assert len(model.curve) == 2
    told = [model.foretell("regnety", 1e8 * 1.5**step) for step in range(20)]
    values = [one.top1 for one in told if one]
    assert len(values) == 20
    assert values == sorted(values)


def test_nine_in_ten_intervals_hold_over_all_recipes() -> None:
    found = []
    for recipe in {one.recipe for one in published()}:
        with suppress(UserError):
            found.append(left_out(published_model(recipe)))
    held, networks = sum(one.covered * one.networks for one in found), sum(one.networks for one in found)
    assert networks > 600
    assert 0.88 < held / networks < 0.92


def test_extrapolation_is_said() -> None:
    model = published_model("pycls")
    beyond = [said.beyond for flops in (1e8, 2e10, 1e9) if (said := model.foretell("efficientnet", flops))]
    assert "below the least flops published of efficientnet, 386 MF" in beyond[0]
    assert "beyond the most flops published of efficientnet, 10.3 GF" in beyond[1]
    assert beyond[2] == ""


def test_another_family_is_foretold_more_loosely_and_only_beside_several() -> None:
    model = published_model("pycls")
    known, other = model.foretell("regnety", 4e9), model.foretell("regnetz", 4e9)
    assert known
    assert other
    assert other.beyond == "no regnetz was published"
    assert other.interval[1] - other.interval[0] > 1.5 * (known.interval[1] - known.interval[0])
    one = fit_accuracy("one", [each for each in model.trained if each.family == "regnetx"])
    assert one.foretell("regnetz", 4e9) is None


def test_a_network_under_two_names_counts_once() -> None:
    model = published_model("pycls")
    twice = fit_accuracy("pycls", [*model.trained, *(one._replace(flops=one.flops * 1.004) for one in model.trained)])
    assert twice.trained == model.trained


def test_too_few_are_said() -> None:
    with pytest.raises(UserError, match=r"2 networks have an accuracy under mine .* needs 8"):
        fit_accuracy("mine", [Trained("a", 1e9, 224, 70), Trained("a", 2e9, 224, 72)])


@pytest.mark.parametrize("rule", ["", "dwr", "dWr", "alpha=0.5", "d1_w8_g8_r1", "d2_w3_r1"])
def test_rules_that_are_foretold(rule: str) -> None:
    assert foretellable(rule) == ""


@pytest.mark.parametrize("rule", ["w", "d", "r", "dw", "w1_g1", "alpha=0.9", "d1_w4_g4_r7"])
def test_rules_that_are_not(rule: str) -> None:
    assert "not foretold" in foretellable(rule)
