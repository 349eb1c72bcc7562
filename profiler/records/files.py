"""Write a file so that whoever reads it sees the old one or the new one, never half of it."""

from __future__ import annotations

import errno
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from profiler.errors import UserError

#: What the system follows of links to links; more go round.
_LINKS = 40
#: Where a process finds what it holds open, on Linux and elsewhere; ``/dev/stdout`` leads there.
_HELD = re.compile(r"/(?:proc/(?:self|thread-self|\d+)(?:/task/\d+)?|dev)/fd/(\d+)")


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace ``path`` by a file with ``content``, text as UTF-8; it is on the disk when this returns.

    A link stays one, and the file that it leads to is replaced. What is no file (a pipe, a device, what this process
    holds open, as ``/dev/stdout``) is written to.

    Raises:
        OSError: The file cannot be written; what stood at ``path`` is unchanged.
    """
    data = content.encode(errors="replace") if isinstance(content, str) else content
    target = _end_of_links(path)
    if isinstance(target, int) or (target.exists() and not target.is_file()):
        with open(target, "wb", closefd=not isinstance(target, int)) as stream:
            stream.write(data)
    else:
        _replace(target, data)


def _end_of_links(path: Path) -> Path | int:
    """Return what a path leads to: a file, or the descriptor of what this process holds open."""
    for _ in range(_LINKS):
        path = path.parent.resolve() / path.name
        held = _HELD.fullmatch(str(path))
        if held and path.parent.samefile("/dev/fd"):
            return int(held[1])
        if not path.is_symlink():
            return path
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _replace(path: Path, data: bytes) -> None:
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    partial = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file that a user asked for, as ``write_whole`` does.

    Raises:
        UserError: It cannot be written; the sentence names it.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        room = "make room, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise UserError(f"{path} cannot be written ({error.strerror or error}); {room}choose another file.") from error
