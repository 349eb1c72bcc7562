"""Small facts of this machine that are measured once and kept in the user's cache: one JSON object per file."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
from filelock import FileLock

from profiler.records.files import write_whole
from profiler.records.outside import checked, file_bytes, json_of

#: In s. Whoever writes a file needs milliseconds for it.
_PATIENCE_S = 10.0

_Kept = TypeVar("_Kept")


def cache_folder() -> Path:
    """Return where exports, eager outputs and calibrations are kept between runs."""
    return Path(platformdirs.user_cache_dir("latency-profiler", appauthor=False))


def kept(file: Path, name: str, kind: type[_Kept]) -> _Kept | None:
    """Return what is kept in ``file`` under ``name``; None where there is nothing, or it is not of this kind."""
    try:
        return checked(kind, _all(file)[name])
    except (KeyError, ValueError):
        return None


def keep(file: Path, name: str, value: dict[str, Any]) -> None:
    """Keep ``value`` under ``name`` beside what others keep there, this process or another.

    Raises:
        OSError: The file cannot be written, or another process has held it for seconds.
    """
    with alone(file.with_name(f"{file.name}.lock")):
        write_whole(file, json.dumps(_all(file) | {name: value}, indent=1, sort_keys=True))


@contextmanager
def alone(lock: Path, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Keep other processes out that take the same lock, while a file is read, changed and written.

    Raises:
        OSError: The lock cannot be made, or another process has held it for longer (a TimeoutError).
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=patience_s):
            yield
    except NotImplementedError as error:
        raise OSError(errno.ENOLCK, "its file system has no locks", str(lock)) from error


def _all(file: Path) -> dict[str, Any]:
    try:
        found = json_of(file_bytes(file))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
