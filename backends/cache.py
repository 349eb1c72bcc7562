"""Compiled and exported models on disk, by content.

An entry is a folder ``<key>-<digest>``: the key names what went in (model, shape, placement, versions), the
digest what came out. An entry appears by one rename, so other processes see all of it or none; whoever reads
it checks the digest first, so a torn or rotten entry is thrown away and made again. No locks: two processes
that build the same key do the work twice and both end with a valid entry. A folder that cannot be written
costs the cache, never the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PENDING = ".pending-"
_ABANDONED_S = 3600.0

#: Exports and compiled forms kept from earlier runs; a form can be as large as its network's weights.
KEPT_BYTES = 10 << 30


@dataclass(frozen=True, slots=True)
class Entry:
    """Files ready to be loaded.

    Attributes:
        folder: Holds the files, valid inside the context that gave the entry.
        cached: Whether they came from the cache instead of being built.
        note: Why nothing was kept for the next time; None when something was.
    """

    folder: Path
    cached: bool
    note: str | None = None

    @property
    def size(self) -> int:
        """Bytes of the form itself; what is noted about it, in JSON, is left out."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.suffix != ".json")


def content_name(**parts: object) -> str:
    """Return 32 hexadecimal digits that name ``parts`` by content; values are compared as text."""
    text = json.dumps(parts, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def processor() -> str:
    """Return model and instruction sets of the processor: an optimised graph is laid out for them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "flags", "CPU part", "Features")
    return "\n".join(line for line in lines if line.startswith(wanted)) or platform.machine()


@contextmanager
def entry(root: Path | None, name: str | None, build: Callable[[Path], None]) -> Iterator[Entry]:
    """Give the entry ``name`` of the cache in ``root``, made by ``build(folder)`` when it is missing.

    Args:
        root: Folder of the cache; None keeps nothing.
        name: From ``content_name``; None keeps nothing, for content that cannot be named.
        build: Writes files into an empty folder. What it raises passes through.
    """
    found = _find(root, name) if root and name else None
    if found:
        yield Entry(found, cached=True)
        return
    with tempfile.TemporaryDirectory(prefix="latency-profiler-") as scratch:
        build(Path(scratch))
        yield Entry(Path(scratch), cached=False, note=_keep(Path(scratch), root, name))


def prune(root: Path, limit_bytes: int) -> int:
    """Remove the entries that were used longest ago until the rest fits ``limit_bytes``; return the bytes removed.

    A process that reads an entry meanwhile keeps its open files, or finds the entry gone and makes it again.
    """
    entries = sorted(_entries(root), key=lambda one: one[1], reverse=True)
    kept = removed = 0
    for folder, _, size in entries:
        kept += size
        if kept > limit_bytes:
            shutil.rmtree(folder, ignore_errors=True)
            removed += size
    return removed


def _entries(root: Path) -> Iterator[tuple[Path, float, int]]:
    """Yield (folder, time of last use, bytes) of every entry."""
    for folder in root.glob("*-*"):
        try:
            used = folder.stat().st_mtime
            yield folder, used, sum(path.stat().st_size for path in folder.iterdir())
        except OSError:  # another process is removing it, or it is no folder
            continue


def _touch(folder: Path) -> None:
    """Mark an entry as used now; a cache that cannot be written is not pruned either."""
    with suppress(OSError):
        os.utime(folder)


def _find(root: Path, name: str) -> Path | None:
    for folder in sorted(root.glob(f"{name}-*")):
        if _intact(folder):
            _touch(folder)
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    return None


def _intact(folder: Path) -> bool:
    try:
        return folder.name.rpartition("-")[2] == _digest(folder)
    except OSError:
        return False


def _digest(folder: Path) -> str:
    """Digest of names and bytes of all files: 0.2 s for 330 MB where the processor has SHA instructions."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return total.hexdigest()[:32]


def _keep(folder: Path, root: Path | None, name: str | None) -> str | None:
    if root is None:
        return "nothing kept: no cache folder"
    if name is None:
        return "nothing kept: the model has no key"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _copy(folder, root, f"{name}-{_digest(folder)}")
    except OSError as error:
        return f"nothing kept in {root}: {error.strerror or error}"
    return None


def _copy(folder: Path, root: Path, name: str) -> None:
    pending = Path(tempfile.mkdtemp(prefix=_PENDING, dir=root))
    try:
        _sweep(root, pending)
        for path in folder.iterdir():
            shutil.copyfile(path, pending / path.name)
        _publish(pending, root / name)
    finally:
        shutil.rmtree(pending, ignore_errors=True)


def _publish(pending: Path, target: Path) -> None:
    try:
        pending.rename(target)
    except OSError:
        if _intact(target):  # another process was faster
            return
        shutil.rmtree(target, ignore_errors=True)
        pending.rename(target)


def _sweep(root: Path, newest: Path) -> None:
    """Remove what killed processes left, by the clock of the file system: it may be another machine's."""
    now = newest.stat().st_mtime
    for path in root.glob(f"{_PENDING}*"):
        try:
            abandoned = now - path.stat().st_mtime > _ABANDONED_S
        except FileNotFoundError:  # its owner has just finished
            continue
        if abandoned:
            shutil.rmtree(path, ignore_errors=True)
