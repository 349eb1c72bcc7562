"""Write a file so that whoever reads it sees the old one or the new one, never half of it."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from profiler.errors import UserError


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace ``path`` by a file with ``content``, text as UTF-8; it is on the disk when this returns.

    Raises:
        OSError: The file cannot be written; what stood at ``path`` is unchanged.
    """
    data = content.encode(errors="replace") if isinstance(content, str) else content
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():  # a pipe or a device takes what comes
        path.write_bytes(data)
        return
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
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
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another file.") from error
