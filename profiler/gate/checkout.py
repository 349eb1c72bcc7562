"""Another version of the code: a git revision, checked out beside the working folder for as long as it is needed."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from profiler.errors import UserError
from profiler.gate.side import Code


def _git(*arguments: str, folder: Path) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the user's own git, on the user's own words
            ["git", *arguments],  # noqa: S607 - wherever the user has it
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise UserError("git:REF needs the program git, which is not installed here") from None
    if done.returncode:
        raise UserError(f"git {arguments[0]} failed in {folder}: {done.stderr.strip()}")
    return done.stdout.strip()


def commit(revision: str, folder: Path) -> str:
    """Return the full name of the commit that ``revision`` names in the repository around ``folder``."""
    root(folder)
    try:
        return _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", folder=folder)
    except UserError:
        raise UserError(
            f"git:{revision}: no such revision in this repository; a shallow clone may lack it: "
            "fetch it first (in a CI checkout: fetch-depth 0)"
        ) from None


def root(folder: Path) -> Path:
    """Return the top folder of the repository around ``folder``."""
    try:
        return Path(_git("rev-parse", "--show-toplevel", folder=folder))
    except UserError as error:
        if "not a git repository" in str(error):
            raise UserError(f"git:REF needs a git repository; {folder} is in none") from None
        raise


@contextlib.contextmanager
def checked_out(revision: str, folder: Path, python: str | None = None) -> Iterator[Code]:
    """Check ``revision`` out into a folder of its own and remove it afterwards.

    Untracked files (weights, data) are not part of a revision: models that need them must find them elsewhere.

    Args:
        revision: Branch, tag or commit.
        folder: A folder in the repository; the same folder of the other version becomes its working folder.
        python: Interpreter with the packages of that version; None for this one.
    """
    top, name = root(folder), commit(revision, folder)
    place = Path(tempfile.mkdtemp(prefix="profiler-gate-"))
    try:
        _git("worktree", "add", "--detach", "--force", str(place / "code"), name, folder=folder)
        inside = place / "code" / folder.resolve().relative_to(top.resolve())
        if not inside.is_dir():
            raise UserError(f"git:{revision} has no folder {folder.resolve().relative_to(top.resolve())}")
        yield Code(inside, python or sys.executable, f"git:{revision}")
    finally:
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(UserError):
            _git("worktree", "prune", folder=folder)
