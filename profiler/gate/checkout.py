"""Another version of the code: a git revision, checked out beside the working folder for as long as it is needed."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from profiler.errors import UserError

#: Where a checkout lies: the folder's name begins so, and it holds the code and a lock.
_PREFIX, _CODE, _LOCK = "profiler-gate-", "code", "lock"


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
def checked_out(revision: str, folder: Path) -> Iterator[Path]:
    """Check ``revision`` out and remove it afterwards; gives that version of ``folder``.

    Untracked files (weights, data) are not part of a revision: models that need them must find them elsewhere. What an
    earlier process left because it was killed is removed first.

    Args:
        revision: Branch, tag or commit.
        folder: A folder in the repository.
    """
    top, name = root(folder), commit(revision, folder)
    _remove_left(folder)
    place = Path(tempfile.mkdtemp(prefix=_PREFIX))
    # Held while this process lives, whatever ends it.
    with FileLock(place / _LOCK):
        try:
            _git("worktree", "add", "--detach", "--force", str(place / _CODE), name, folder=folder)
            inside = place / _CODE / folder.resolve().relative_to(top.resolve())
            if not inside.is_dir():
                raise UserError(f"git:{revision} has no folder {folder.resolve().relative_to(top.resolve())}")
            yield inside
        finally:
            _remove(place, folder)


def _remove_left(folder: Path) -> None:
    """Remove checkouts of this repository that no living process holds; worktrees of the user's are left alone."""
    with contextlib.suppress(UserError):
        lines = _git("worktree", "list", "--porcelain", folder=folder).splitlines()
        paths = [Path(line.removeprefix("worktree ")) for line in lines if line.startswith("worktree ")]
        for place in (path.parent for path in paths if path.name == _CODE and path.parent.name.startswith(_PREFIX)):
            if not place.exists():
                _remove(place, folder)
                continue
            with contextlib.suppress(OSError, Timeout), FileLock(place / _LOCK, blocking=False):
                _remove(place, folder)


def _remove(place: Path, folder: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    with contextlib.suppress(UserError):
        _git("worktree", "remove", "--force", str(place / _CODE), folder=folder)
