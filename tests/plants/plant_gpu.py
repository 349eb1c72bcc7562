"""Every planted bug turns its own test red: ``tox run -e plants``.

A copy of the source is patched and the tests that are to see it run in a process of their own. They take their time, so
that the default suite only looks whether each plant still finds its place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.plants.plants import PLANTS, Plant

#: pytest's exit codes: tests ran and some failed.
RED = 1


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for name in ("profiler", "backends", "tests", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder)
    return folder


@pytest.mark.parametrize("plant", PLANTS, ids=[plant.bug for plant in PLANTS])
def test_a_planted_bug_turns_its_test_red(plant: Plant, copy: Path) -> None:
    file = copy / plant.file
    sound = file.read_text(encoding="utf-8")
    file.write_text(sound.replace(plant.text, plant.instead), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *plant.tests.split()]
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    finally:
        file.write_text(sound, encoding="utf-8")
    assert done.returncode == RED, done.stdout[-3000:]
