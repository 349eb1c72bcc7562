"""A process that draws a page's charts while this one makes its tables.

What draws takes half a second to start, 0.1 s a chart, and holds the interpreter's lock all that time. A command that
ends in a page starts it before its own modules are imported. This file is run by its path: at its top it imports
nothing but Python's own.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

Specification: TypeAlias = dict[str, Any]
#: What is drawn first, and thrown away: it makes the drawer load all it needs.
_FIRST: Specification = {"data": {"values": [{"x": 1}]}, "mark": "point", "encoding": {"x": {"field": "x"}}}
_waiting: list[subprocess.Popen[str]] = []


def start() -> None:
    """Start a process that draws, unless one waits already; where it cannot be had, charts are drawn without it."""
    if not _waiting:
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        with contextlib.suppress(OSError):
            command = [sys.executable, "-P", __file__]
            started = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, text=True)  # noqa: S603  # ours
            _waiting.append(started)
            atexit.register(dismiss)


def dismiss() -> None:
    """End the process that waits, if one does: nothing is left to draw."""
    while _waiting:
        with _waiting.pop() as process:
            process.kill()


def ahead(specs: Iterable[Specification]) -> Callable[[], list[str] | None]:
    """Give specifications of Vega-Lite, each when it is made, to the process that waits; return what gives their SVGs.

    Returns:
        A function that waits for the SVGs, in their order; it returns None where no process waited, or it failed.
    """
    if not _waiting:
        deque(specs, maxlen=0)
        return lambda: None
    process = _waiting.pop()
    pool = ThreadPoolExecutor(1)  # its thread writes while this one makes the next
    for spec in specs:
        pool.submit(_write, process, spec)
    answer = pool.submit(process.communicate)
    pool.shutdown(wait=False)

    def drawn() -> list[str] | None:
        made, _ = answer.result()
        return json.loads(made) if process.returncode == 0 else None

    return drawn


def _write(process: subprocess.Popen[str], spec: Specification) -> None:
    if process.stdin is not None:
        process.stdin.write(f"{json.dumps(spec)}\n")
        process.stdin.flush()


def _serve() -> None:
    """Read specifications, one a line, from standard input, and write a JSON list of their SVGs to standard output."""
    import vl_convert

    vl_convert.vegalite_to_svg(_FIRST)
    json.dump([vl_convert.vegalite_to_svg(json.loads(line)) for line in sys.stdin], sys.stdout)


if __name__ == "__main__":
    _serve()
