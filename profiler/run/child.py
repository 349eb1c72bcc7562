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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection

from profiler.backends.base import BackendError, FallbackError, Placement
from profiler.backends.exhausted import memory_may_have_run_out, memory_ran_out
from profiler.errors import UserError
from profiler.records.types import Failure

#: What a process that measures has in its environment unless the user set it otherwise. ONNX Runtime would write into
#: the user's cache how it is used, and complain where it cannot; a module that its user compiles would leave processes
#: of the compiler beside it.
UNDISTURBED = {"ORT_DISABLE_TELEMETRY": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}


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
    undisturbed()
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


def undisturbed() -> None:
    """Set ``UNDISTURBED`` before a runtime is imported; what the user set stays."""
    for name, value in UNDISTURBED.items():
        os.environ.setdefault(name, value)


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


#: Where torch's advice to its own developers begins, which it appends to every error of CUDA.
_ADVICE = re.compile(r"\n(?:Search for `cuda|CUDA kernel errors might be).*", re.DOTALL)


#: What stands behind a message that memory is one cause of.
_MAYBE_MEMORY = (
    "memory may have run out, or the library has no way to compute this here: try a smaller batch or resolution, "
    "then another precision or backend"
)


def failure(error: BaseException) -> Failure:
    """Return the row for an exception: its kind, one sentence, and the traceback."""
    detail = "".join(traceback.format_exception(error))[-4000:]
    for cause in reversed(list(_causes(error))):  # what a backend made of it has its own remedy, which is not this one
        if isinstance(cause, MemoryError) or _says_so(cause):
            said = f"out of memory: {_text(cause)[:300]}; try a smaller batch or resolution, or raise the limit"
            return Failure("oom", said, detail)
    text = _text(error)
    if isinstance(error, FallbackError):
        return Failure("fallback", text, detail)
    known = isinstance(error, (BackendError, UserError))
    said = text if known else f"{type(error).__name__}: {text[:500]}"
    maybe = any(memory_may_have_run_out(str(cause)) for cause in _causes(error))
    return Failure("error", f"{said.rstrip('.')}; {_MAYBE_MEMORY}" if maybe else said, detail)


def _says_so(error: BaseException) -> bool:
    # The name of a model or a file that a sentence quotes says nothing.
    return not isinstance(error, UserError) and memory_ran_out(f"{type(error).__name__}: {error}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _text(error: BaseException) -> str:
    """Return the message in one line, without what is meant for torch's own developers."""
    return " ".join(_ADVICE.sub("", str(error)).split()) or type(error).__name__
