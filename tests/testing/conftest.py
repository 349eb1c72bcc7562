"""Folders for nested runs."""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def loaded() -> None:
    """Import what a nested run would import, and throw away, in each of its runs."""
    for module in ("profiler.run.preload", "profiler.testing.fixture", "profiler.testing.server", "scipy.stats"):
        importlib.import_module(module)


@pytest.fixture
def project(loaded: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder for a nested run: nothing is taken from the user's cache, and a warning anywhere fails the run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "cache"))
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


@pytest.fixture
def repository(project: pytest.Pytester) -> Iterator[pytest.Pytester]:
    """A repository with a revision ``before`` whose network has 2 layers; the working tree's has 60."""

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=project.path, check=True, capture_output=True)

    build = """
        from torch import nn

        def build():
            return nn.Sequential(*(nn.Linear(64, 64) for _ in range({depth})))
    """
    project.makepyfile(net=build.format(depth=2))
    git("init", "--quiet")
    git("add", "net.py", "tox.ini")
    git("-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "-m", "before")
    git("tag", "before")
    project.makepyfile(net=build.format(depth=60) + "\n        def recent():\n            return build()\n")
    yield project
    listed = subprocess.run(
        ["git", "worktree", "list", "--porcelain"], cwd=project.path, check=True, capture_output=True, text=True
    )
    assert listed.stdout.count("worktree ") == 1, listed.stdout
