"""Solving for flops, against an exhaustive search; and a step beside the rule."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import UserError
from profiler.models import (
    NEAR_TARGET,
    Arch,
    complexity,
    flops_error,
    get,
    names,
    nearest_scaled,
    resolve,
    scale,
    scale_to_flops,
    step_words,
)
from profiler.models.scaling import neighbours
from profiler.units import parse_flops

RULES = ("d", "w", "r", "dw", "dwr", "dwgr", "wg", "gr", "dWr", "d1_w2_g2_r0", "alpha=0.5", "d3_w1")
BASES = ("efficientnet_b0", "regnetx_3.2gf", "regnety_4.0gf", "regnetz_500mf", "resnet50", "resnext50")


def test_published_scaler_misses_where_solving_does_not() -> None:
    base = get("resnet50")
    assert complexity(scale(base, "w", 2)) == complexity(base)
    doubled = scale_to_flops(base, "dWr", 2 * complexity(base).flops)
    assert abs(flops_error(doubled, 2 * complexity(base).flops)) < 0.02
    regnet = scale_to_flops(get("regnety_4.0gf"), "w", 16 * 10**9)
    assert abs(flops_error(regnet, 16 * 10**9)) < 0.02


@given(st.sampled_from(BASES), st.sampled_from(RULES), st.floats(8.7, 10.5).map(lambda power: int(10**power)))
@settings(deadline=None, max_examples=40)
def test_no_factor_on_a_dense_grid_beats_the_solved_one(name: str, rule: str, flops: int) -> None:
    base = get(name)
    solved = nearest_scaled(base, rule, flops)
    assert scale(base, rule, float(repr(solved.factor))) == solved
    error = abs(flops_error(solved, flops))
    if error > 0.02:
        assert error <= min(abs(flops_error(step, flops)) for step in grid(base, rule, flops)) + 1e-12


def grid(base: Arch, rule: str, flops: int) -> list[Arch]:
    nominal = flops / complexity(base).flops
    factors = (nominal * 10 ** (i / 250) for i in range(-250, 251))
    return [scale(base, rule, factor) for factor in factors if factor > 1e-3]


def test_target_that_is_the_base_network_gives_factor_one() -> None:
    base = get("regnety_4.0gf")
    solved = scale_to_flops(base, "d", complexity(base).flops)
    assert (solved.factor, flops_error(solved, complexity(base).flops)) == (1.0, 0.0)


def test_network_that_only_a_tie_gives_is_found() -> None:
    # At 1.5 exactly, ties to even take depth 1 up to 2 and depth 3 down to 4; no other factor does both.
    base = get("efficientnet_b0")
    tied = scale(base, "d", 1.5)
    assert tied.depths == (2, 3, 3, 4, 4, 6, 2)
    assert scale(base, "d", 1.4999).depths == (1, 3, 3, 4, 4, 6, 1)
    assert scale(base, "d", 1.5001).depths == (2, 3, 3, 5, 5, 6, 2)
    assert scale_to_flops(base, "d", complexity(tied).flops) == tied


@pytest.mark.parametrize("flops", [10**6, 10**13])
def test_target_beyond_reach_gives_the_nearest_network(flops: int) -> None:
    base = get("regnety_4.0gf")
    solved = nearest_scaled(base, "g", flops)
    every = [scale(base, "g", factor) for factor in (1e-3, 0.01, 0.1, 0.5, 1, 2, 4, 8, 16, 32, 64)]
    assert abs(flops_error(solved, flops)) <= min(abs(flops_error(arch, flops)) for arch in every)


def test_direction_without_effect_gives_the_base_network() -> None:
    solved = nearest_scaled(get("efficientnet_b0"), "g", 10**9)
    assert solved.factor == 1.0
    assert complexity(solved) == complexity(get("efficientnet_b0"))


def test_target_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="above 0"):
        scale_to_flops(get("resnet50"), "d", 0)


def test_scaled_network_is_not_solved_for() -> None:
    with pytest.raises(UserError, match="scale the base network"):
        scale_to_flops(scale(get("resnet50"), "d", 2), "d", 10**10)


def test_last_step_beside_the_rule_meets_what_no_factor_does() -> None:
    base, target = get("efficientnet_b0"), 16 * 10**9
    assert abs(flops_error(nearest_scaled(base, "dwr", target), target)) > 0.03
    solved = scale_to_flops(base, "dwr", target)
    assert abs(flops_error(solved, target)) < NEAR_TARGET
    assert (solved.scaling, solved.step) == ("dwr", "d7+1")
    on_the_rule = scale(base, "dwr", solved.factor)
    assert (*on_the_rule.depths[:6], on_the_rule.depths[6] + 1) == solved.depths
    assert (on_the_rule.widths, on_the_rule.resolution) == (solved.widths, solved.resolution)
    assert step_words(on_the_rule, solved) == f"stage 7 has {solved.depths[6]} blocks, not {solved.depths[6] - 1}"


@given(st.sampled_from(names()), st.sampled_from((*RULES, "g")), st.floats(0, 1.5).map(lambda power: 10**power))
@settings(deadline=None, max_examples=40)
def test_a_target_is_met_or_refused_with_one_that_is(name: str, rule: str, times: float) -> None:
    base = get(name)
    target = round(times * complexity(base).flops)
    try:
        solved = scale_to_flops(base, rule, target)
    except UserError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        nearest = parse_flops(refused.partition(" allow is ")[2].partition(";")[0])
        assert abs(flops_error(scale_to_flops(base, rule, nearest), nearest)) < NEAR_TARGET
        assert abs(nearest / target - 1) > 0.045
        return
    assert abs(flops_error(solved, target)) <= 0.05
    assert resolve(name, rule, float(repr(solved.factor)), solved.step) == solved
    # Where the rule alone is near enough, nothing else is taken.
    assert not solved.step or abs(flops_error(nearest_scaled(base, rule, target), target)) > NEAR_TARGET


def test_several_steps_are_taken_only_where_one_is_too_small() -> None:
    base = get("resnet101")
    target = 10 * complexity(base).flops
    assert abs(flops_error(nearest_scaled(base, "dwr", target), target)) > 0.09
    solved = scale_to_flops(base, "dwr", target)
    assert solved.step[-1] > "1"
    assert abs(flops_error(solved, target)) < NEAR_TARGET
    assert resolve("resnet101", "dwr", solved.factor, solved.step) == solved


@pytest.mark.parametrize("name", names())
def test_neighbours_differ_in_one_dimension_and_are_known_by_their_step(name: str) -> None:
    arch = scale(get(name), "dwgr", 2.7)
    found = list(neighbours(arch, (1, 3)))
    assert len({one.step for one in found}) == len(found) >= 4 + 4 * len(arch.stages)
    for one in found:
        assert resolve(name, "dwgr", 2.7, one.step) == one
        assert step_words(arch, one)
        changed = [k for k, (a, b) in enumerate(zip(numbers(arch), numbers(one), strict=True)) if a != b]
        assert len(changed) == 1
        up = numbers(one)[changed[0]] > numbers(arch)[changed[0]]
        assert one.step[-2] == ("+" if up else "-")
        assert (complexity(one).flops > complexity(arch).flops) == up


def numbers(arch: Arch) -> tuple[int, ...]:
    return (arch.resolution, arch.stem.width, arch.head.width, *arch.depths, *arch.widths)


def test_a_step_that_is_none_is_refused() -> None:
    for step in ("d9+1", "d1+0", "d1", "+1", "w1+999999999", "q+1"):
        with pytest.raises(UserError, match=f"no step '{re.escape(step)}'"):
            resolve("resnet50", "d", 2.0, step)


@pytest.mark.parametrize("flops", ["1e30GF", "1F"])
@pytest.mark.parametrize("rule", ["d", "w", "dwr", "dWr"])
def test_flops_that_no_scaling_has_are_refused_at_once(rule: str, flops: str) -> None:
    with pytest.raises(
        UserError, match=r"^efficientnet_b6 \w+ cannot have (1e\+39|1F): the nearest .* is [\d.]+[MGT]F;"
    ):
        scale_to_flops(get("efficientnet_b6"), rule, parse_flops(flops))
