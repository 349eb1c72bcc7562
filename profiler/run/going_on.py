"""How a run is continued, as a command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from profiler.records.reading import Run

#: For how long a run goes on that was given no time.
_TIME = "3min"


def again(folder: Path, given: Sequence[str] | None = None) -> str:
    """Return the command that continues what a process was started for, with its results in ``folder``.

    Args:
        folder: Of the run.
        given: What the process was given; None for this one.
    """
    words = [word for word in (sys.argv[1:] if given is None else given) if word != "--resume"]
    if "--out" in words:
        at = words.index("--out")
        del words[at : at + 2]
    words = [word for word in words if not word.startswith("--out=")]
    return shlex.join(["profiler", *words, "--out", str(folder), "--resume"])


def narrowing(run: Run) -> str:
    """Return the command that visits the cases of a run again; empty where it was not started by ``profiler run``."""
    given = list(run.sessions[-1].facts.get("argv", ())) if run.sessions else []
    if given[:1] != ["run"]:
        return ""
    timed = any(word.split("=")[0] == "--time" for word in given)
    return again(run.path.parent, given) + ("" if timed else f" --time {_TIME}")
