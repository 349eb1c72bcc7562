"""Processes of this package's own that run beside one: they end when it does, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO


def run_beside(module: str, *words: str, stdout: int | IO[bytes] = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """Run ``module`` with ``words``; the end of its standard input is its signal to end.

    It is in a session of its own, so that keys which stop a command (Ctrl-C) do not reach it first.
    """
    # The child must find this package where the parent found it, installed or not.
    places = [str(Path(__file__).parents[2]), *filter(None, sys.path)]
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-P", "-m", module, *words],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
        start_new_session=True,
    )
