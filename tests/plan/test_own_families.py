"""Plans that scale families of the user's: what is asked of their code, and what becomes of the answers."""

from __future__ import annotations

import pytest

from profiler.errors import UserError
from profiler.models.brought import Brought, Wanted
from profiler.models.complexity import Complexity
from profiler.plan.cases import Families, expand, notes, wanted
from profiler.plan.read import loads

NAME = "vit.py:vit"


def answers(**flops: int | None) -> Families:
    """Networks by rule and factor, as w4=..., whose one parameter is the flops that they have."""
    found: dict[Wanted, Brought | str] = {}
    for step, count in {"base": 100, **flops}.items():
        rule, factor = ("", 1.0) if step == "base" else (step[:-1], float(step[-1]))
        counts = Complexity(count, 1, 1) if count else None
        found[Wanted(NAME, rule, factor)] = Brought(NAME, NAME, rule, factor, (("n", count),), None, counts)
    return found


def plan(text: str, models: str = f'"{NAME}"'):
    return loads(f'backends = "eager"\nmodels = {models}\n{text}')


def test_a_family_is_asked_for_its_base_and_for_every_step() -> None:
    asked = wanted(plan('scalings = ["w", "dWr"]\nfactors = [1, 2]', f'["resnet50", "{NAME}", "net.onnx", "m:f"]'))
    steps = [("", 1.0), ("w", 1.0), ("w", 2.0), ("dWr", 1.0), ("dWr", 2.0)]
    assert asked == [Wanted(model, *step) for model in (NAME, "m:f") for step in steps]
    assert wanted(plan('scalings = "w"\nflops = "4GF"'))[1:] == [Wanted(NAME, "w", flops=4 * 10**9)]


@pytest.mark.parametrize("text", ["", 'scalings = "w"\nfactors = 2'])
def test_nothing_is_asked_where_nothing_of_the_users_is_scaled(text: str) -> None:
    assert wanted(plan(text, '["resnet50", "net.onnx"]')) == []
    assert wanted(plan("", f'"{NAME}"')) == []


def test_a_family_has_the_cases_of_a_network_of_the_zoo() -> None:
    read = plan('scalings = ["w", "d"]\nfactors = [1, 2]')
    made = expand(read, 1, answers(w1=100, d1=100, w2=200, d2=210))
    assert [case.network for case in made] == [NAME, f"{NAME} w x2", f"{NAME} d x2"]


def test_networks_of_equal_parameters_are_measured_once_and_noted() -> None:
    read = plan('scalings = ["w", "d"]\nfactors = [2]')
    same = answers(w2=200, d2=200)
    assert [case.network for case in expand(read, 1, same)] == [f"{NAME} w x2"]
    assert notes(read, same) == [f"{NAME} d x2 is the same network as {NAME} w x2: measured once"]
    unmoved = answers(w2=100, d2=100)
    assert [case.network for case in expand(read, 1, unmoved)] == [NAME]
    assert notes(read, unmoved) == [f"{NAME} {rule} x2 is the same network as {NAME}: measured once" for rule in "wd"]


def test_flops_far_from_those_of_the_factor_are_noted_and_unknown_ones_are_not() -> None:
    read = plan('scalings = "w"\nfactors = 4')
    assert notes(read, answers(w4=500)) == [
        f"{NAME} w x4: 500F, +25.0% from 4 times {NAME}; --flops 400F solves for the factor"
    ]
    assert notes(read, answers(w4=450)) == notes(read, answers(w4=None)) == []


def test_a_target_has_the_factor_that_was_solved_for_it() -> None:
    read = plan('scalings = "w"\nflops = "1kF"')
    near = Brought(NAME, NAME, "w", 9.7, (("n", 96),), None, Complexity(960, 1, 1))
    (case,) = expand(read, 1, {**answers(), Wanted(NAME, "w", flops=1000): near})
    assert (case.scaling, case.factor, case.target_flops, case.step) == ("w", 9.7, 1000, "")
    found = notes(read, {**answers(), Wanted(NAME, "w", flops=1000): near})
    assert found == [f"{NAME} w 1.00kF: reached 960F (-4.0%)"]


def test_a_model_that_is_no_family_stays_as_it_is_among_others_and_is_refused_alone() -> None:
    why = {Wanted(NAME): "it has no scale", Wanted(NAME, "w", 2.0): "it has no scale"}
    among = plan('scalings = "w"\nfactors = 2', f'["regnety_200mf", "{NAME}"]')
    assert [case.network for case in expand(among, 1, why)] == ["regnety_200mf w x2", NAME]
    assert notes(among, why) == [f"{NAME} is measured as it is, since it cannot be scaled: it has no scale"]
    with pytest.raises(UserError, match=rf"^{NAME} cannot be scaled: it has no scale$"):
        expand(plan('scalings = "w"\nfactors = 2'), 1, why)
