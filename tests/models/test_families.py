"""The zoo, against the figures that were published with it."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from profiler.errors import UserError
from profiler.models import Complexity, blocks, complexity, get, names
from profiler.models.complexity import padding

# Flops, params and acts of the model zoo at https://github.com/facebookresearch/pycls; RegNetZ as published
# with https://arxiv.org/abs/2103.06877.
PUBLISHED = {
    "efficientnet_b0": (385_825_092, 5_288_548, 6_748_036),
    "efficientnet_b1": (686_817_992, 7_794_184, 10_884_328),
    "efficientnet_b2": (993_578_282, 9_109_994, 13_832_834),
    "efficientnet_b3": (1_827_162_472, 12_233_232, 23_831_296),
    "efficientnet_b4": (4_393_801_064, 19_341_616, 49_489_032),
    "efficientnet_b5": (10_266_426_072, 30_389_784, 98_857_400),
    "regnetx_200mf": (199_040_872, 2_684_792, 2_164_056),
    "regnetx_400mf": (397_678_568, 5_157_512, 3_143_272),
    "regnetx_600mf": (600_891_112, 6_196_040, 3_975_096),
    "regnetx_800mf": (799_700_712, 7_259_656, 5_148_744),
    "regnetx_1.6gf": (1_602_850_792, 9_190_136, 7_933_512),
    "regnetx_3.2gf": (3_176_622_952, 15_296_552, 11_367_432),
    "regnetx_4.0gf": (3_964_499_816, 22_118_248, 12_201_608),
    "regnetx_6.4gf": (6_460_292_264, 26_209_256, 16_369_744),
    "regnetx_8.0gf": (7_995_133_416, 39_572_648, 14_059_688),
    "regnetx_12gf": (12_086_679_016, 46_106_056, 21_366_568),
    "regnetx_16gf": (15_940_756_456, 54_278_536, 25_515_496),
    "regnetx_32gf": (31_735_930_792, 107_811_560, 36_302_160),
    "regnety_200mf": (199_519_076, 3_162_996, 2_168_052),
    "regnety_400mf": (401_849_056, 4_344_144, 3_892_496),
    "regnety_600mf": (601_227_608, 6_055_160, 4_334_296),
    "regnety_800mf": (797_183_328, 6_263_168, 5_249_888),
    "regnety_1.6gf": (1_612_087_326, 11_202_430, 8_044_814),
    "regnety_3.2gf": (3_176_496_162, 19_436_338, 11_263_418),
    "regnety_4.0gf": (3_973_301_344, 20_646_656, 12_287_200),
    "regnety_6.4gf": (6_355_221_876, 30_583_252, 16_407_188),
    "regnety_8.0gf": (7_963_074_196, 39_180_068, 17_968_916),
    "regnety_12gf": (12_092_395_504, 51_822_544, 21_384_496),
    "regnety_16gf": (15_911_534_044, 83_590_140, 23_041_228),
    "regnety_32gf": (32_279_583_362, 145_046_770, 30_261_570),
    "regnetz_500mf": (507_217_126, 7_122_742, 5_860_358),
    "regnetz_4.0gf": (4_015_422_144, 27_116_800, 24_191_936),
    "resnet50": (4_089_185_256, 25_557_032, 11_315_688),
    "resnet101": (7_801_406_440, 44_549_160, 16_433_640),
    "resnet152": (11_513_627_624, 60_192_808, 22_755_816),
    "resnext50": (4_230_480_872, 25_028_904, 14_602_216),
    "resnext101": (7_969_997_800, 44_177_704, 21_426_152),
    "resnext152": (11_709_514_728, 59_951_400, 29_855_720),
}

# Depths, widths and group widths of the same sources, where a formula rather than a table gives them.
SHAPES = {
    "regnetx_1.6gf": ((2, 4, 10, 2), (72, 168, 408, 912), (24, 24, 24, 24)),
    "regnetx_8.0gf": ((2, 5, 15, 1), (80, 240, 720, 1920), (80, 120, 120, 120)),
    "regnety_4.0gf": ((2, 6, 12, 2), (128, 192, 512, 1088), (64, 64, 64, 64)),
    "regnety_16gf": ((2, 4, 11, 1), (224, 448, 1232, 3024), (112, 112, 112, 112)),
    "regnetz_500mf": ((1, 4, 9, 7), (16, 40, 104, 256), (4, 4, 4, 4)),
    "regnetz_4.0gf": ((2, 6, 14, 6), (48, 104, 240, 528), (8, 8, 8, 8)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_complexity_is_the_published_one(name: str) -> None:
    assert complexity(get(name)) == Complexity(*PUBLISHED[name])


@pytest.mark.parametrize("name", SHAPES)
def test_regnet_parameters_give_the_published_stages(name: str) -> None:
    arch = get(name)
    assert (arch.depths, arch.widths, arch.group_widths) == SHAPES[name]


def test_every_network_is_published_but_two() -> None:
    assert set(names()) - set(PUBLISHED) == {"efficientnet_b6", "efficientnet_b7"}


# Parameters in table 2 of https://arxiv.org/abs/1905.11946: 43M and 66M; exact in common reimplementations.
@pytest.mark.parametrize(("name", "params"), [("efficientnet_b6", 43_040_704), ("efficientnet_b7", 66_347_960)])
def test_parameters_of_the_two_that_the_zoo_lacks(name: str, params: int) -> None:
    assert complexity(get(name)).params == params


@pytest.mark.parametrize(("name", "width", "depth"), [("efficientnet_b6", 1.8, 2.6), ("efficientnet_b7", 2.0, 3.1)])
def test_largest_efficientnets_follow_from_the_published_coefficients(name: str, width: float, depth: float) -> None:
    base, arch = get("efficientnet_b0"), get(name)

    def rounded(channels: int) -> int:
        wanted = channels * width
        nearest = max(8, int(wanted + 4) // 8 * 8)
        return nearest + 8 if nearest < 0.9 * wanted else nearest

    assert arch.depths == tuple(math.ceil(depth * d) for d in base.depths)
    assert arch.widths == tuple(rounded(w) for w in base.widths)
    assert (arch.stem.width, arch.head.width) == (rounded(32), rounded(1280))


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("regnety_4gf", "regnety_4.0gf"),
        (" RegNetY-4.0GF ", "regnety_4.0gf"),
        ("EfficientNet-B0", "efficientnet_b0"),
        ("ResNet50", "resnet50"),
    ],
)
def test_spelling_is_forgiven(spelling: str, name: str) -> None:
    assert get(spelling).name == name


def test_forgiven_spellings_are_not_ambiguous() -> None:
    assert [get(name).name for name in names()] == list(names())


def test_unknown_name_gets_the_closest_ones() -> None:
    with pytest.raises(UserError, match=r"'regnety_5gf'.*regnety_\d"):
        get("regnety_5gf")


def test_name_like_nothing_gets_the_command_that_lists_them() -> None:
    with pytest.raises(UserError, match="profiler models"):
        get("?")


@pytest.mark.parametrize("name", names())
def test_blocks_chain_and_add_up(name: str) -> None:
    arch = get(name)
    sequence = list(blocks(arch))
    assert sum(times for _, times in sequence) == sum(arch.depths)
    outputs = [arch.stem.width, *(block.w_out for block, _ in sequence)]
    assert [block.w_in for block, _ in sequence] == outputs[:-1]
    assert all(block.w_mid % block.groups == 0 for block, _ in sequence)


def test_data_does_not_import_torch() -> None:
    program = "import sys, profiler.models; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(("group_width", "times"), [(4, 3), (8, 1), (24, 1 / 3), (16, 0), (48, 0)])
def test_padding_is_what_whole_blocks_of_channels_would_add(group_width: int, times: float) -> None:
    assert padding(96_000, group_width * 10, 10) == pytest.approx(times * 96_000)


def test_neither_depthwise_nor_dense_convolutions_are_padded() -> None:
    assert padding(96_000, 40, 40) == padding(96_000, 40, 1) == 0
    assert complexity(get("efficientnet_b0")).padding_flops == 0
    assert complexity(get("resnet50")).padding_flops == 0
