"""The extra ``report``: vl-convert, which draws charts. Everything else works without them."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from profiler.errors import UserError

NO_CHARTS = "No charts: what draws them is not installed; pip install 'latency-profiler[report]' brings it."
#: Files that vl-convert opens for good when it first draws, and that must be left to write and to clean up with.
_TO_DRAW, _SPARE = 16, 4


class NotDrawnError(UserError):
    """A picture or a page cannot be made here."""


def can_draw() -> bool:
    """Whether charts can be drawn here; where not, ``NO_CHARTS`` says how to get them."""
    with suppress(ImportError):
        return find_spec("vl_convert") is not None
    return False


@contextmanager
def drawing(what: str, *, draws: bool = True) -> Iterator[None]:
    """Turn whatever goes wrong while pictures are made, in Python or deep in what draws them, into one sentence.

    Args:
        what: What is made, for the sentence.
        draws: Whether it is nothing without charts.

    Raises:
        NotDrawnError: ``what`` cannot be made here, and why.
    """
    needed = _SPARE + (_TO_DRAW if draws and "vl_convert" not in sys.modules else 0)
    try:
        with ExitStack() as spare:
            # Asked for beforehand: what draws panics where it may not open a file.
            files = [spare.enter_context(Path(os.devnull).open("rb")) for _ in range(needed)]
            for file in files[_SPARE:]:
                file.close()
            yield
    except (KeyboardInterrupt, SystemExit, UserError):
        raise
    except BaseException as error:  # a panic of Rust's is no Exception
        raise NotDrawnError(f"{what} cannot be made here: {_why(error)}") from error


def _why(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "too few files may be open at once; ulimit -n 256 allows more"
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
