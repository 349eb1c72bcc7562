"""Files that a user asked for: pages, charts, verdicts."""

from __future__ import annotations

from pathlib import Path

from profiler.errors import UserError
from profiler.records.files import write_whole


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        UserError: It cannot be written; the sentence names it.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise UserError(f"{path} could not be written: {error.strerror or error}") from error
