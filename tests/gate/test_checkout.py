"""Sides under git revisions, in processes of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from profiler.backends.base import Placement
from profiler.gate.checkout import checked_out
from profiler.gate.judge import judge_pairs
from profiler.gate.side import Pair, sides
from profiler.gate.verdict import Verdict
from tests import ROOT

NET = """
import torch
from torch import nn

def build():
    body = nn.Sequential(*(nn.Linear(256, 256) for _ in range({rungs})))
    return body, torch.zeros(1, 256)
"""


def judged(baseline: str, candidate: str, folder: Path, **given: Any) -> list[Verdict]:
    with contextlib.chdir(folder):
        pair = Pair(*sides(baseline, candidate, Placement(), None, 1), **given)
        return judge_pairs([pair], self_test=False, seed=1)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *arguments], cwd=tmp_path, check=True)

    git("init", "-q", "-b", "main")
    (tmp_path / "net.py").write_text(NET.format(rungs=4), encoding="utf-8")
    git("add", ".")
    git("commit", "-q", "-m", "as it was")
    return tmp_path


def worktrees(folder: Path) -> set[Path]:
    listed = subprocess.run(
        ["git", "worktree", "list", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True
    )
    return {Path(line.split(" ", 1)[1]) for line in listed.stdout.splitlines() if line.startswith("worktree ")}


_HELD = """
import sys
from pathlib import Path
from typing import Any
from profiler.gate.checkout import checked_out
with checked_out("main", Path.cwd()) as code:
    print(code, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held(repository: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process that has the revision checked out."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HELD], cwd=repository, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def test_what_a_killed_gate_left_is_removed_by_the_next_one_and_nothing_else(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = tmp_path_factory.mktemp("places")
    monkeypatch.setenv("TMPDIR", str(places))
    monkeypatch.setattr(tempfile, "tempdir", None)
    # A worktree of the user's on a disk that is not there.
    users = places / "disk/code"
    subprocess.run(["git", "worktree", "add", "--detach", users], cwd=repository, check=True, capture_output=True)
    (places / "disk").rename(places / "unplugged")
    with held(repository) as (killed, left), held(repository) as (swept, gone), held(repository) as (_, living):
        for process in (killed, swept):
            process.kill()
            process.wait()
        gone.parent.rename(places / "swept")
        assert worktrees(repository) == {repository, users, left, gone, living}
        with checked_out("main", repository) as code:
            assert worktrees(repository) == {repository, users, code, living}
            assert not left.parent.exists()
            assert (living / "net.py").is_file()
        assert worktrees(repository) == {repository, users, living}
        assert not code.parent.exists()


def test_a_git_revision_is_gated_in_processes_of_its_own(repository: Path) -> None:
    (repository / "net.py").write_text(NET.format(rungs=24), encoding="utf-8")
    [verdict] = judged("git:main", "net:build", repository, allow_different_output=True)
    assert verdict.status == "regression", verdict.reason
    assert verdict.change is not None
    assert verdict.change[0] > 0.5
    assert worktrees(repository) == {repository}


def test_files_of_two_folders_import_what_lies_beside_them(tmp_path: Path) -> None:
    for name, width in (("old", 64), ("new", 128)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text(
            "import torch\nfrom beside import WIDTH\n\n"
            "def build():\n    return torch.nn.Linear(WIDTH, 4), torch.zeros(1, WIDTH)\n",
            encoding="utf-8",
        )
        (tmp_path / name / "beside.py").write_text(f"WIDTH = {width}\n", encoding="utf-8")
    [verdict] = judged("old/net.py:build", "new/net.py:build", tmp_path)
    assert verdict.status == "not comparable", verdict.reason
    assert "input is float32 1x64 in the baseline and float32 1x128 in the candidate" in verdict.reason


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
