"""Folders of the user's beside their model that are called as ours: ``backends`` and ``profiler``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.testing.nested import BRIEF

_NET = """
import torch
from torch import nn

from backends import WIDTH

def net():
    return nn.Linear(WIDTH, WIDTH), torch.zeros(1, WIDTH)
"""
_TEST = """
from backends.mine import net
from profiler.testing import torch_model

def test_mine(latency_gate):
    latency_gate(torch_model(*net()), baseline=torch_model(*net()), max_slowdown=10, allow_different_output=True)
"""
#: What an installed console script does.
_SCRIPT = "import sys; from profiler.cli.app import main; sys.exit(main())"
_MINE = "backends.mine:net"
_LIMITS = ("--max-slowdown", "99%", "--no-self-test")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository whose model is in a package ``backends``, with a folder ``profiler`` that is no package."""
    for file, text in {
        "backends/__init__.py": "WIDTH = 8\n",
        "backends/mine.py": _NET,
        "profiler/notes.py": "raise ImportError('these are notes')\n",
        "test_mine.py": _TEST,
        "pytest.ini": "[pytest]\n",
    }.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text, encoding="utf-8")
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "as it was")):
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *words], cwd=tmp_path, check=True)
    return tmp_path


def _done(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / ".cache"), "PYTEST_ADDOPTS": ""}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_revision_is_gated_from_the_folder(folder: Path) -> None:
    sides = ("--baseline", "git:main", "--candidate", _MINE)
    done = _done(folder, sys.executable, "-m", "profiler", "gate", *sides, *_LIMITS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_test_of_the_folder_is_gated(folder: Path) -> None:
    done = _done(folder, sys.executable, "-m", "pytest", *BRIEF)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_mine.py::test_mine  PASS: " in done.stdout


def test_a_package_of_our_name_does_not_hide_ours_from_the_console_script(folder: Path) -> None:
    (folder / "profiler/__init__.py").write_text("raise ImportError('not this one')\n", encoding="utf-8")
    script = folder / "bin/profiler"
    script.parent.mkdir()
    script.write_text(_SCRIPT, encoding="utf-8")
    done = _done(folder, sys.executable, str(script), "gate", "--baseline", _MINE, "--candidate", _MINE, *_LIMITS)
    assert done.returncode == 0, done.stdout + done.stderr
