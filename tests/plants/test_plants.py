"""Each planted bug still finds its place, once: ``plant_gpu.py`` then shows that its test turns red."""

from __future__ import annotations

import pytest

from tests import ROOT
from tests.plants.plants import PLANTS, Plant


@pytest.mark.parametrize("plant", PLANTS, ids=[plant.bug for plant in PLANTS])
def test_a_plant_finds_its_place_and_its_tests(plant: Plant) -> None:
    text = (ROOT / plant.file).read_text(encoding="utf-8")
    assert text.count(plant.text) == 1
    compile(text.replace(plant.text, plant.instead), plant.file, "exec")
    assert all((ROOT / name).is_file() for name in plant.tests.split())


def test_no_two_plants_are_one() -> None:
    assert len({plant.bug for plant in PLANTS}) == len({plant[1:4] for plant in PLANTS}) == len(PLANTS) >= 20
