"""Where visits run: each in a fresh process of this machine.

A process is forked from a server that has the runtimes loaded already (tens of milliseconds instead of seconds);
``spawn`` starts each from nothing, for systems without fork and for doubt about what a fork inherits. While a child
runs, the parent sleeps in the kernel: it must not take a core from what is being timed.

What is forked from one server has its libraries at the same addresses, and so the same luck with them: visits agree
with each other more than processes do that start from nothing. So another takes its place after a while
(docs/estimator.md).
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from profiler.backends.exhausted import memory_ran_out
from profiler.errors import UserError
from profiler.records.types import Failure
from profiler.run.child import Limits, answer_parent, put

Isolation = Literal["forkserver", "spawn"]
_A = TypeVar("_A")
_R = TypeVar("_R")

#: What the fork server holds ready. CUDA must not be initialised before a fork; importing does not.
_PRELOAD = ["profiler.run.preload"]
_FORKSERVER = multiprocessing.get_context("forkserver")
#: Starting changes the environment of this process for a moment.
_STARTING = threading.Lock()
#: In s. How long the first server serves; each later one four times as long, up to the last figure: starting one takes
#: two seconds, and the next visit of a case shall meet another server. study_layout tells.
_SERVES_S, _SERVES_AT_MOST_S = 4.0, 60.0
_SPAWN = multiprocessing.get_context("spawn")
#: Variables that say where a starting process finds modules.
_PATH, _SAFE = "PYTHONPATH", "PYTHONSAFEPATH"
_WARNINGS = "PYTHONWARNINGS"
#: Seconds that a wait of the system can be told, 24 days.
_LONGEST_S = 2**31 / 1000 - 1
#: Open files below which the fork server dies with a traceback of its own.
_FEWEST_FILES = 19
#: The server is not waited for any longer than this, in seconds.
_READY_S = 60.0
#: Bytes of a process's last output that are kept for the row of a failure.
_KEPT = 4000


class Executor(Protocol):
    """Runs one function in a fresh process, somewhere."""

    def call(self, function: Callable[[_A], _R], argument: _A, timeout_s: float, limits: Limits) -> _R | Failure:
        """Return what ``function(argument)`` returns, or why it returned nothing. Never raises for the child."""

    def close(self) -> None:
        """End whatever still runs."""


class _Server:
    """The server of this process, which all executors share: when it is due to be replaced."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children, self._serves_s, self._due = 0, _SERVES_S, 0.0

    @contextlib.contextmanager
    def child(self) -> Iterator[bool]:
        """Hold the server while a child of it lives; give whether another has just taken its place.

        It does where the server was due and no other child lives.
        """
        with self._lock:
            now = time.monotonic()
            replaced = bool(self._due) and now >= self._due and not self._children
            if replaced:
                with contextlib.suppress(OSError):  # it has ended, or is another process's
                    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]  # noqa: SLF001
                start_server()
                self._serves_s = min(4 * self._serves_s, _SERVES_AT_MOST_S)
            if replaced or not self._due:
                self._due = now + self._serves_s
            self._children += 1
        try:
            yield replaced
        finally:
            with self._lock:
                self._children -= 1


_SERVER = _Server()


class LocalExecutor:
    """Fresh processes on this machine, one at a time."""

    def __init__(self, isolation: Isolation | None = None) -> None:
        self.isolation: Isolation = isolation or ("spawn" if sys.platform == "win32" else "forkserver")
        if self.isolation == "forkserver":
            start_server()
        self._child: BaseProcess | None = None

    def wait(self) -> None:
        """Wait until the server that starts processes is ready; raises UserError where it cannot be."""
        if self.isolation == "forkserver":
            self.call(len, "", _READY_S, Limits())

    def call(self, function: Callable[[_A], _R], argument: _A, timeout_s: float, limits: Limits) -> _R | Failure:
        """Run ``function(argument)`` in a fresh process; see ``Executor``."""
        if self.isolation == "spawn":
            return self._call(function, argument, timeout_s, limits)
        with _SERVER.child() as replaced:
            if replaced:
                self._call(len, "", _READY_S, Limits())  # what it takes to load is no part of the visit's time
            return self._call(function, argument, timeout_s, limits)

    def _call(self, function: Callable[[_A], _R], argument: _A, timeout_s: float, limits: Limits) -> _R | Failure:
        kills = _oom_kills()
        try:
            child, results, output = self._started(function, argument, limits)
        except (OSError, EOFError) as error:  # EOFError: of the fork server, which met the same
            raise UserError(
                f"no process can be started to measure in ({_reason(error)}): end what else runs here, or allow more "
                "open files and processes, as ulimit -n 256 and ulimit -u 256 do"
            ) from error
        tail = _Tail(output)
        try:
            received: _R | Failure = _receive(child, results, timeout_s)
        finally:
            self._child = None
            _end(child)
            results.close()
            printed = tail.close()
        if isinstance(received, Failure):
            return _explain(received, printed, oom=_oom_kills() > kills)
        return received

    def _started(
        self, function: Callable[[_A], _R], argument: _A, limits: Limits
    ) -> tuple[BaseProcess, Connection, Connection]:
        """Start a process; return it, and where its result and its output come from."""
        context = _FORKSERVER if self.isolation == "forkserver" else _SPAWN
        if self.isolation == "forkserver" and _files_allowed() < _FEWEST_FILES:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        results, results_end = context.Pipe(duplex=False)
        output, output_end = context.Pipe(duplex=False)
        with _STARTING:
            where = {name: os.environ.get(name) for name in (_PATH, _SAFE)}
        arguments = (results_end, output_end, function, argument, limits, where)
        self._child = child = context.Process(target=answer_parent, args=arguments, daemon=True)
        with _STARTING, _of_its_own(where):
            child.start()
        results_end.close()
        output_end.close()
        return child, results, output

    def close(self) -> None:
        """Kill the child that runs now, if any."""
        if self._child is not None:
            _end(self._child)


def start_server() -> None:
    """Start the server of fresh processes, which loads the runtimes while this process does something else."""
    if sys.platform == "win32":
        return
    _FORKSERVER.set_forkserver_preload(_PRELOAD)
    where = {name: os.environ.get(name) for name in (_PATH, _SAFE, _WARNINGS)}
    with _STARTING, contextlib.suppress(OSError, EOFError), _of_its_own(where):  # the first call says what is wrong
        # What a process leaves that ends at once or is killed the tracker clears away, and would complain of.
        put({_WARNINGS: "ignore"})
        multiprocessing.resource_tracker.ensure_running()
        put({_WARNINGS: where[_WARNINGS]})
        multiprocessing.forkserver.ensure_running()


@contextlib.contextmanager
def _of_its_own(where: Mapping[str, str | None]) -> Iterator[None]:
    """Keep what is started here from the parent's main module and from modules of the folder where the user stands.

    It needs nothing of the main module, a test runner or a notebook takes long to import, and a script without a guard
    would start over. What runs in the child must therefore come from an importable module. The server imports this
    package before it is told the parent's path: a folder ``profiler`` of the user's is not it.
    """
    main_module = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    python, ours = Path(os.__file__).parent, Path(__file__).parents[2]
    put({_PATH: os.pathsep.join([str(python), str(ours), *filter(None, sys.path)]), _SAFE: "1"})
    try:
        yield
    finally:
        put(where)
        sys.modules["__main__"] = main_module


def _receive(child: BaseProcess, results: Connection, timeout_s: float) -> _R | Failure:
    deadline = time.monotonic() + timeout_s
    multiprocessing.connection.wait([results, child.sentinel], min(timeout_s, _LONGEST_S))
    try:
        if results.poll():
            received: _R = results.recv()
            return received
    except EOFError:
        pass
    child.join(max(0.0, min(5.0, deadline - time.monotonic())))
    if child.exitcode is None:
        return Failure(
            "timeout",
            f"no result within {timeout_s:g} s and was stopped; raise budget.timeout_s to wait longer",
        )
    return Failure("crashed", _exit_reason(child.exitcode))


def _files_allowed() -> int:
    """Return how many files this process may have open; only asked where there is a fork server."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _reason(error: OSError | EOFError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "the process that starts others ended"


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"the process ended with exit code {code} before it had a result"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"the process was killed by signal {-code} ({name})"


def _explain(failed: Failure, printed: str, *, oom: bool) -> Failure:
    """Add what the process last printed; an end for want of memory, by the kernel or with such words, is an ``oom``."""
    detail = "\n".join(part for part in (failed.detail, printed) if part)
    words, _, _names_of_files = printed.partition("Fatal Python error")
    if failed.status == "crashed" and (oom or memory_ran_out(words)):
        who = "the kernel ran out of memory" if oom else "its last words are that memory ran out"
        return Failure("oom", f"{failed.reason}: {who}; try a smaller batch", detail)
    return Failure(failed.status, failed.reason, detail)


def _end(child: BaseProcess) -> None:
    """Kill a child with everything it started, and reap it."""
    if child.pid is not None and child.exitcode is None:
        child.join(0.5)
    if child.pid is not None and child.exitcode is None:
        _kill_group(child.pid)
        child.kill()
        child.join()


def _kill_group(pid: int) -> None:
    if not hasattr(os, "killpg"):
        return
    try:
        if os.getpgid(pid) != os.getpgid(0):
            os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _oom_kills() -> int:
    """Return how often the kernel has killed for memory, as far as this system counts it."""
    for path in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        try:
            lines = Path(path).read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


class _Tail:
    """Drain a pipe in a thread that sleeps until something is written, and keep the end of it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._kept = b""
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        while True:
            try:
                chunk = os.read(self._pipe.fileno(), 65536)
            except OSError:
                return
            if not chunk:
                return
            self._kept = (self._kept + chunk)[-_KEPT:]

    def close(self) -> str:
        # A grandchild may hold the other end open: what it prints no longer matters.
        self._thread.join(1.0)
        text = self._kept.decode(errors="replace").strip()
        if not self._thread.is_alive():
            self._pipe.close()
        return text
