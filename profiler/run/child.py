"""The process of a visit: its limits, its end, and how it fails."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing.connection
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection

from profiler.backends.base import BackendError, FallbackError, Placement
from profiler.errors import UserError
from profiler.records.types import Failure


@dataclass(frozen=True, slots=True)
class Limits:
    """What the process of a visit may use.

    Attributes:
        cores: Cores to pin the process to; empty leaves the choice to the system.
        memory_bytes: Limit on private memory (RLIMIT_DATA), or None.
    """

    cores: tuple[int, ...] = ()
    memory_bytes: int | None = None


LimitsFor = Callable[[Placement], Limits]


def answer_parent(
    results: Connection,
    output: Connection,
    function: Callable[[object], object],
    argument: object,
    limits: Limits,
    where: Mapping[str, str | None],
) -> None:
    """Run ``function(argument)`` in this process and send its result, or a Failure, through ``results``.

    ``where`` is what the parent's environment says of where modules are; this process was started with another.
    """
    _isolate(output)
    put(where)
    try:
        _limit(limits)
        result = function(argument)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the row must say it
        result = failure(error)
    results.send(result)
    results.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # Skip the interpreter's shutdown: unloading the runtimes takes longer than the fork did.
    os._exit(0)


def put(variables: Mapping[str, str | None]) -> None:
    """Set variables of the environment; None removes one."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _isolate(output: Connection) -> None:
    """Cut the process off from the terminal and tie its life to the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    faulthandler.enable(file=2)
    if hasattr(os, "setsid"):
        with contextlib.suppress(OSError):
            os.setsid()
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """Wait, asleep, for the parent to end, however it ends; then kill this process and all that it started."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    multiprocessing.connection.wait([parent.sentinel])
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _limit(limits: Limits) -> None:
    if limits.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, limits.cores)
    if limits.memory_bytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limits.memory_bytes, limits.memory_bytes))


#: Parts of the messages by which runtimes say that memory ran out; none has an exception type of its own on the CPU.
_OOM = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "failed to allocate memory",
)

#: Where torch's advice to its own developers begins, which it appends to every error of CUDA.
_ADVICE = re.compile(r"\n(?:Search for `cuda|CUDA kernel errors might be).*", re.DOTALL)


def failure(error: BaseException) -> Failure:
    """Return the row for an exception: its kind, one sentence, and the traceback."""
    detail = "".join(traceback.format_exception(error))[-4000:]
    text = " ".join(_ADVICE.sub("", str(error)).split()) or type(error).__name__
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _OOM):
        return Failure(
            "oom",
            f"out of memory: {text[:300]}; try a smaller batch or resolution, or raise the limit",
            detail,
        )
    if isinstance(error, FallbackError):
        return Failure("fallback", text, detail)
    if isinstance(error, (BackendError, UserError)):
        return Failure("error", text, detail)
    return Failure("error", f"{type(error).__name__}: {text[:500]}", detail)
