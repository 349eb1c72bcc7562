"""Scaling, against published figures."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import UserError
from profiler.models import (
    Complexity,
    blocks,
    complexity,
    get,
    names,
    parse_rule,
    resolve,
    scale,
)
from profiler.models.scaling import compatible

# What the scaler of https://github.com/facebookresearch/pycls gives: model, rule, factor, resolution, depths,
# widths, group widths (one number where all are equal), flops, params, acts.
PUBLISHED = """
efficientnet_b0 d 2 224 2-4-4-6-6-8-2 16-24-40-80-112-192-320 1 782275608 10222984 12093592
efficientnet_b0 d 4 224 4-8-8-12-12-16-4 16-24-40-80-112-192-320 1 1575176640 20091856 22784704
efficientnet_b0 w 2 224 1-2-2-3-3-4-1 24-32-56-112-160-272-456 1 745541698 9720946 9620954
efficientnet_b0 w 4 224 1-2-2-3-3-4-1 32-48-80-160-224-384-640 1 1449978528 18122720 13495072
efficientnet_b0 r 2 316 1-2-2-3-3-4-1 16-24-40-80-112-192-320 1 781008852 5288548 13557220
efficientnet_b0 r 4 448 1-2-2-3-3-4-1 16-24-40-80-112-192-320 1 1537547748 5288548 26961124
efficientnet_b0 dw 2 224 1-3-3-4-4-6-1 16-32-48-96-136-232-384 1 759763246 9510718 10711694
efficientnet_b0 dw 4 224 2-4-4-6-6-8-2 24-32-56-112-160-272-456 1 1509751514 19501522 17052298
efficientnet_b0 dwr 2 252 1-3-3-4-4-5-1 16-24-48-88-128-216-360 1 791827760 7676480 11918184
efficientnet_b0 dwr 4 284 2-3-3-5-5-6-2 24-32-48-104-144-240-400 1 1696567884 13234516 21548476
efficientnet_b0 d1_w8_g8_r1 2 232 1-2-2-3-3-4-1 24-32-56-104-144-256-424 1 781829814 8602822 10191038
efficientnet_b0 d1_w8_g8_r1 4 240 1-2-2-3-3-5-1 24-40-72-136-192-336-560 1 1381124070 15824374 13328046
efficientnet_b0 w1_g1 2 224 1-2-2-3-3-4-1 24-32-56-112-160-272-456 1 745541698 9720946 9620954
efficientnet_b0 w1_g1 4 224 1-2-2-3-3-4-1 32-48-80-160-224-384-640 1 1449978528 18122720 13495072
regnety_4.0gf d 2 224 4-12-24-4 128-192-512-1088 64 7731368928 40738432 21349856
regnety_4.0gf d 4 224 8-24-48-8 128-192-512-1088 64 15247504096 80921984 39475168
regnety_4.0gf w 2 224 2-6-12-2 192-256-704-1536 64 6668468240 36070320 17127440
regnety_4.0gf w 4 224 2-6-12-2 256-384-1024-2176 64 12254643408 69029488 24171984
regnety_4.0gf r 2 316 2-6-12-2 128-192-512-1088 64 8066081248 20646656 24808096
regnety_4.0gf r 4 448 2-6-12-2 128-192-512-1088 64 15882474592 20646656 49110112
regnety_4.0gf dw 2 224 3-8-17-3 128-256-640-1280 64 7605225072 41774608 18976112
regnety_4.0gf dw 4 224 4-12-24-4 192-256-704-1536 64 12974551472 71741520 29788592
regnety_4.0gf dwr 2 252 3-8-15-3 128-192-576-1216 64 7608996768 33204032 20848608
regnety_4.0gf dwr 4 284 3-10-19-3 128-256-640-1344 64 14101852048 46481584 34366032
regnety_4.0gf d1_w8_g8_r1 2 232 2-6-13-2 160-240-640-1440 80 7315872592 34490896 17301520
regnety_4.0gf d1_w8_g8_r1 4 240 2-7-14-2 224-336-896-1904 112 15608249240 68144472 26542408
regnety_4.0gf w1_g1 2 224 2-6-12-2 176-264-704-1496 88 7468685002 38428874 16743994
regnety_4.0gf w1_g1 4 224 2-6-12-2 256-384-1024-2176 128 15730033872 80236144 24171984
regnetz_500mf d 4 224 4-16-36-28 16-40-104-256 4 1840771336 25453672 17963144
regnetz_500mf w 4 224 1-4-9-7 32-80-208-512 4 1787481052 23911132 11268124
regnetz_500mf r 4 448 1-4-9-7 16-40-104-256 4 2022657766 7122742 23401574
regnetz_500mf dw 4 224 2-8-18-14 24-56-144-360 4 1760534918 24334502 13778198
regnetz_500mf dwr 4 284 2-6-14-11 24-48-128-320 4 1867237476 15566244 17061172
regnetz_500mf d1_w8_g8_r1 4 240 1-5-10-8 24-72-184-448 8 2066894444 22142572 12635612
regnetz_500mf w1_g1 4 224 1-4-9-7 32-80-208-512 8 1916182492 24747484 11268124
"""
ROWS = [line.split() for line in PUBLISHED.strip().splitlines()]

RULES = ("d", "w", "r", "dw", "dwr", "dwgr", "wg", "gr", "dWr", "d1_w2_g2_r0", "alpha=0.5", "d3_w1")


def numbers(text: str, length: int) -> tuple[int, ...]:
    values = tuple(map(int, text.split("-")))
    return values * length if len(values) == 1 else values


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_scaling_is_the_published_one(row: list[str]) -> None:
    model, rule, factor, resolution, depths, widths, group_widths, *counts = row
    arch = scale(get(model), rule, float(factor))
    stages = len(arch.stages)
    assert arch.resolution == int(resolution)
    assert arch.depths == numbers(depths, stages)
    assert arch.widths == numbers(widths, stages)
    assert arch.group_widths == numbers(group_widths, stages)
    assert complexity(arch) == Complexity(*map(int, counts))


@pytest.mark.parametrize(
    ("text", "exponents"),
    [
        ("d", (1, 0, 0, 0)),
        ("w", (0, 1 / 2, 0, 0)),
        ("r", (0, 0, 0, 1 / 2)),
        ("g", (0, 0, 1, 0)),
        ("rwd", (1 / 3, 1 / 6, 0, 1 / 6)),
        ("dg", (1, 0, 1 / 2, 0)),
        ("d1_w2_g2_r0", (1 / 3, 1 / 3, 1 / 3, 0)),
        ("w1_d3", (3 / 4, 1 / 8, 0, 0)),
        (" alpha=0.5 ", (1 / 4, 1 / 4, 1 / 4, 1 / 8)),
        ("alpha=1", (0, 1 / 2, 1 / 2, 0)),
        ("alpha=0", (1 / 2, 0, 0, 1 / 4)),
    ],
)
def test_rule_divides_the_factor(text: str, exponents: tuple[float, ...]) -> None:
    assert parse_rule(text).exponents == pytest.approx(exponents, rel=1e-15)


def test_spellings_of_fast_compound_scaling_agree_to_the_last_bit() -> None:
    rules = [parse_rule(text) for text in ("dWr", "alpha=0.8", "d1_w8_g8_r1", "r1_g8_w8_d1")]
    assert len({rule.exponents for rule in rules}) == 1
    assert {rule.canonical for rule in rules} == {"d1_w8_g8_r1"}


@pytest.mark.parametrize("alpha", ["0", "0.1", "0.25", "0.3", "0.5", "0.8", "1"])
def test_alpha_moves_the_weight_from_depth_and_resolution_to_width(alpha: str) -> None:
    a, (d, w, g, r) = float(alpha), parse_rule(f"alpha={alpha}").exponents
    assert (d, 2 * w, 2 * g, 2 * r) == pytest.approx(((1 - a) / 2, a, a, (1 - a) / 2))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        "dd",
        "DWR",
        "dwR",
        "d_w",
        "d1_d2",
        "d1_w2_",
        "w-1",
        "d0_w0",
        "alpha=1.1",
        "alpha=",
        "w1e3",
    ],
)
def test_bad_rule_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(UserError, match=r"not a scaling rule.*'dwr'.*d1_w8_g8_r1.*alpha.*dWr"):
        parse_rule(text)


def test_rule_that_would_overflow_is_refused() -> None:
    with pytest.raises(UserError, match="at most 20 times"):
        parse_rule("d1_g1000")


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf, 1e5])
def test_bad_factor_is_refused(factor: float) -> None:
    with pytest.raises(UserError, match="above 0 and up to 10000"):
        scale(get("resnet50"), "d", factor)


def test_resolution_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="pixels"):
        scale(get("resnet50"), "r", 1e-5)


def test_scaled_network_is_not_scaled_again() -> None:
    once = scale(get("resnet50"), "d", 2)
    with pytest.raises(UserError, match="scale the base network"):
        scale(once, "d", 2)


@pytest.mark.parametrize("name", names())
def test_a_factor_of_one_changes_nothing_that_counts(name: str) -> None:
    assert complexity(scale(get(name), "dwgr", 1)) == complexity(get(name))


def test_provenance_is_kept_and_resolves_to_the_same_network() -> None:
    arch = scale(get("regnety_400mf"), "dWr", 4)
    assert (arch.name, arch.scaling, arch.factor) == ("regnety_400mf", "dWr", 4.0)
    assert resolve(arch.name, arch.scaling, arch.factor) == arch
    assert resolve("regnety_400mf", "", 1.0) == get("regnety_400mf")


@given(st.sampled_from(names()), st.sampled_from((*RULES, "g")), st.floats(-3, 3).map(lambda power: 10**power))
@settings(deadline=None)
def test_every_scaled_network_is_valid(name: str, rule: str, factor: float) -> None:
    try:
        arch = scale(get(name), rule, factor)
    except UserError as error:
        assert "pixels" in str(error)  # noqa: PT017
        return
    assert min(*arch.depths, *arch.widths, *arch.group_widths, arch.resolution // 4) >= 1
    for block, _ in blocks(arch):
        assert block.w_mid == block.groups * (block.w_mid // block.groups) > 0
        assert (block.w_se >= 1) == (arch.se_ratio > 0)


@given(st.integers(1, 500), st.sampled_from([0.25, 0.5, 1.0, 4.0]), st.integers(1, 300))
def test_compatible_widths_hold_whole_groups(eights: int, bottleneck: float, group_width: int) -> None:
    width, group = compatible(8 * eights, bottleneck, group_width)
    inner = width * bottleneck
    assert inner == int(inner)
    assert inner % group == 0
    assert group == min(group_width, int(8 * eights * bottleneck))
    assert abs(inner - 8 * eights * bottleneck) <= max(group, math.lcm(group, max(1, int(bottleneck)))) / 2 or (
        inner == math.lcm(group, max(1, int(bottleneck)))
    )
