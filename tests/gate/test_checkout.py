"""Sides under git revisions, in processes of their own."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest

from profiler.backends.base import Placement
from profiler.gate.judge import judge_pairs
from profiler.gate.side import Pair, sides
from profiler.gate.verdict import Verdict

NET = """
import torch
from torch import nn

def build():
    body = nn.Sequential(*(nn.Linear(256, 256) for _ in range({rungs})))
    return body, torch.zeros(1, 256)
"""


def judged(baseline: str, candidate: str, folder: Path) -> list[Verdict]:
    with contextlib.chdir(folder):
        return judge_pairs([Pair(*sides(baseline, candidate, Placement(), None, 1))], self_test=False, seed=1)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *arguments], cwd=tmp_path, check=True)

    git("init", "-q", "-b", "main")
    (tmp_path / "net.py").write_text(NET.format(rungs=4), encoding="utf-8")
    git("add", ".")
    git("commit", "-q", "-m", "as it was")
    return tmp_path


def test_a_git_revision_is_gated_in_processes_of_its_own(repository: Path) -> None:
    (repository / "net.py").write_text(NET.format(rungs=24), encoding="utf-8")
    [verdict] = judged("git:main", "net:build", repository)
    assert verdict.status == "regression", verdict.reason
    assert verdict.change is not None
    assert verdict.change[0] > 0.5
    kept = subprocess.run(["git", "worktree", "list"], cwd=repository, capture_output=True, text=True, check=True)
    assert len(kept.stdout.splitlines()) == 1


def test_git_errors_are_sentences(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    [unknown] = judged("git:nowhere", "net:build", repository)
    assert unknown.status == "error"
    assert "git:nowhere: no such revision" in unknown.reason
    [outside] = judged("git:main", "net:build", tmp_path_factory.mktemp("outside"))
    assert outside.status == "error"
    assert "needs a git repository" in outside.reason
    (repository / "other.py").write_text(NET.format(rungs=2), encoding="utf-8")
    [missing] = judged("git:main", "other:build", repository)
    assert missing.status == "error"
    assert "No module named 'other'" in missing.reason
    [uncommitted] = judged("git:main", "./other.py:build", repository)
    assert uncommitted.status == "error"
    assert "git:main: model './other.py:build': there is no file './other.py'" in uncommitted.reason
