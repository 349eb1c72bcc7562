"""Standard streams as they come: closed, full, a pipe that nobody reads, or unable to spell what is printed."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: What a stream without these letters is given instead; any other becomes a question mark.
_SPELT = {"·": "-", "µ": "u", "±": "+/-", "≈": "~", "≤": "<=", "…": "...", "²": "^2"}


class _Tolerant(io.FileIO):
    """A file that is written no more once that has failed, and remembers why."""

    failed: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        if self.failed is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failed = error
        return memoryview(data).nbytes


def _spelt(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_SPELT.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


def guard_streams() -> None:
    """Make standard streams that take whatever is printed; call it before anything opens a file."""
    codecs.register_error("spelt", _spelt)
    # Else the next file that is opened would be the standard stream.
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)  # noqa: FBT003 - takes no keyword
    os.close(opened)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is getattr(sys, f"__{name}__"):
            setattr(sys, name, _tolerant(getattr(sys, name), descriptor))


def _tolerant(stream: io.TextIOWrapper | None, descriptor: int) -> io.TextIOWrapper:
    if stream is None:
        return open(descriptor, "w", encoding="utf-8", closefd=False)
    if not isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO):  # a console of Windows
        stream.reconfigure(errors="spelt")
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Tolerant(descriptor, "w", closefd=False)),
        encoding=stream.encoding,
        errors="spelt",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def lost() -> str | None:
    """Write what is left to write; return why some of what was printed is lost, None where nothing is.

    A pipe that nobody reads any more (``| head``) has lost nothing.
    """
    sys.stdout.flush()
    failed: OSError | None = getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "failed", None)
    return None if failed is None or failed.errno == errno.EPIPE else failed.strerror
