"""The plans that ask what the paper claims."""

from __future__ import annotations

import pytest

from profiler.plan.cases import complexities, expand
from profiler.plan.duration import estimate_seconds
from profiler.plan.read import load


@pytest.mark.parametrize(("name", "largest"), [("fast-and-accurate", 16e9), ("fast-and-accurate-gpu", 16e9)])
def test_it_has_the_networks_of_every_claim(name: str, largest: float) -> None:
    plan = load(name)
    made = expand(plan, 2)
    counted = complexities(made)
    networks = {case.network for case in made}
    assert {f"efficientnet_b{k}" for k in range(5)} <= networks
    scaled = {(case.model, case.scaling, case.mode) for case in made if case.scaling}
    for model in ("efficientnet_b0", "regnety_400mf", "regnetz_500mf"):
        assert {rule for base, rule, mode in scaled if (base, mode) == (model, "infer")} == {
            "d",
            "w",
            "r",
            "dwr",
            "dWr",
        }
    training = {case.network for case in made if case.mode == "train"}
    assert {"efficientnet_b4", "regnety_4.0gf dWr x4"} <= training
    flops = [found.flops for found in counted.values() if found]
    assert 0.85 * largest < max(flops) < 1.15 * largest
    assert plan.memory


def test_it_takes_less_than_an_hour_on_a_thread() -> None:
    plan = load("fast-and-accurate")
    made = expand(plan, 2)
    assert 600 < estimate_seconds(made, complexities(made), plan.budget) < 3600
