"""One side of a comparison in a process of its own, under a version of the code of its own.

Both sides are started alike and stay loaded; the parent hands a token from one to the other and sleeps. A worker runs
only while it holds the token: between its slots it waits in the kernel. Messages are lines of JSON on two pipes of
their own, so that whatever the user's code prints does no harm.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from profiler.backends.base import Fact, Placement
from profiler.gate.blocks import SETTLE_APART, Trial, coin, collect, loaded, prepared
from profiler.gate.decision import Rule
from profiler.machine import allocator
from profiler.measure.timing import Workload
from profiler.measure.visit import Task, visit
from profiler.records.types import Budget, Case, Failure, Memory
from profiler.run.child import failure

#: A worker that has not loaded its model after this long is stopped, in seconds; likewise one slot.
LOAD_S = 300.0
SLOT_S = 120.0

#: Starts the worker with the folder of its version first on the path, and this program's own last: the models are
#: that version's, the profiler is the one that asks. The profiler is imported first, so that gating it works too.
_BOOT = (
    "import sys; here, code = sys.argv[1:3]; sys.path.append(here); from profiler.gate import side; "
    "sys.path.insert(0, code); side.main(int(sys.argv[3]), int(sys.argv[4]))"
)


@dataclass(frozen=True, slots=True)
class Code:
    """A version of the code.

    Attributes:
        folder: Working folder, from which models are imported and relative paths are read.
        python: Interpreter with the packages of that version.
        name: For messages.
    """

    folder: Path
    python: str = sys.executable
    name: str = "the code as it is"


class WorkerError(Exception):
    """A worker could not do what was asked; the message is one sentence, ``failure`` the row of it."""

    def __init__(self, failed: Failure) -> None:
        super().__init__(failed.reason)
        self.failure = failed


class Worker:
    """The parent's end of one worker."""

    def __init__(
        self,
        command: list[str],
        folder: Path,
        name: str,
        environment: Mapping[str, str] | None = None,
        grace_s: float = 0.0,
    ) -> None:
        """Start ``command`` in ``folder``; its last two arguments become the descriptors it reads and writes.

        When it is closed it has ``grace_s`` seconds to end by itself.
        """
        self.name = name
        self._grace_s = grace_s
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        self._output = contextlib.ExitStack()
        self._printed = self._output.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed in close()
        self._pending = b""
        self._process = subprocess.Popen(  # noqa: S603 - the interpreter and the code that the user named
            [*command, str(to_read), str(to_write)],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=self._printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)

    @classmethod
    def of_case(cls, code: Code) -> Worker:
        """Start a worker that serves a ``Case``; the first thing to ask is ``load``."""
        here = str(Path(__file__).parents[2])
        return cls([code.python, "-P", "-c", _BOOT, here, str(code.folder)], code.folder, code.name)

    def ask(self, what: str, timeout_s: float, **details: object) -> dict[str, Any]:
        """Send one request and return the answer; raises WorkerError when there is none in time."""
        try:
            os.write(self._write, json.dumps({"do": what, **details}).encode() + b"\n")
        except BrokenPipeError:
            raise WorkerError(self._ended()) from None
        answer = self._line(timeout_s)
        if "failure" in answer:
            raise WorkerError(Failure(**answer["failure"]))
        return answer

    def _line(self, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise WorkerError(Failure("timeout", f"{self.name}: no answer within {timeout_s:g} s; it was stopped"))
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                raise WorkerError(self._ended())
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def slot(self) -> list[float]:
        """Hand over the token for one slot; return its times per forward, in ns."""
        times: list[float] = self.ask("slot", SLOT_S)["ns"]
        return times

    def _ended(self) -> Failure:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        code = self._process.poll()
        end = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        return Failure("crashed", f"{self.name}: the process {end} before it had answered", self.printed())

    def printed(self) -> str:
        """Return the end of what the worker printed."""
        size = self._printed.seek(0, os.SEEK_END)
        self._printed.seek(max(0, size - 4000))
        return self._printed.read().decode(errors="replace").strip()

    def close(self) -> None:
        """End the worker with everything it started."""
        for descriptor in (self._write, self._read):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        if self._grace_s:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._grace_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def apart(workers: Mapping[str, Worker], rule: Rule, seed: int, seconds: float) -> Trial:
    """Let two loaded workers, ``baseline`` and ``candidate``, alternate."""
    facts = {side: worker.ask("ready", LOAD_S)["facts"] for side, worker in workers.items()}
    trial = collect(workers["baseline"].slot, workers["candidate"].slot, rule, coin(seed), seconds)
    return Trial(trial.blocks, trial.seconds, trial.late, facts)


def duel(sides: Mapping[str, tuple[Code, Case]], rule: Rule, seed: int, seconds: float, cache: Path) -> Trial | Failure:
    """Run one trial with a fresh process of each side; see ``profiler.gate.blocks.duel``."""
    try:
        with contextlib.ExitStack() as stack:
            workers = {}
            for side, (code, case) in sides.items():
                worker = workers[side] = stack.enter_context(Worker.of_case(code))
                worker.ask("load", LOAD_S, case=asdict(case), cache=str(cache))
            return apart(workers, rule, seed, seconds)
    except WorkerError as error:
        return error.failure


def peak_bytes(code: Code, case: Case, cache: Path) -> dict[str, int] | Failure:
    """Return the peaks of memory of ``case`` by source, in a fresh process of its version of the code."""
    try:
        with Worker.of_case(code) as worker:
            peaks: dict[str, int] = worker.ask("memory", LOAD_S, case=asdict(case), cache=str(cache))["peaks"]
            return peaks
    except WorkerError as error:
        return error.failure


class Line:
    """The worker's end: requests in, answers out."""

    def __init__(self, read: int, write: int) -> None:
        self._requests: IO[bytes] = os.fdopen(read, "rb")
        self._write = write

    def requests(self) -> Iterator[dict[str, Any]]:
        """Wait, asleep, for each request until the parent is gone."""
        for line in self._requests:
            yield json.loads(line)

    def answer(self, **what: object) -> None:
        """Answer the last request."""
        os.write(self._write, json.dumps(what).encode() + b"\n")


def serve(line: Line, session: Workload, facts: Callable[[], Mapping[str, Fact]]) -> None:
    """Answer ``ready`` and ``slot`` for a loaded session until the parent is gone."""
    slot: Callable[[], Any] | None = None
    gc.collect()
    gc.disable()
    for request in line.requests():
        if request["do"] == "ready":
            slot = prepared(session, SETTLE_APART)
            line.answer(facts=dict(facts()))
        elif slot is not None:
            line.answer(ns=slot())


def main(read: int, write: int) -> None:
    """Serve one case; what goes wrong is an answer too."""
    line = Line(read, write)
    try:
        request = next(line.requests(), None)
        if request is not None:
            _serve_case(line, request)
    except BrokenPipeError:
        pass  # the parent is gone, and nobody is left to tell
    except BaseException as error:  # noqa: BLE001 - whatever it is, the verdict must say it
        with contextlib.suppress(OSError):
            line.answer(failure=asdict(failure(error)))
    os._exit(0)


def _serve_case(line: Line, request: Mapping[str, Any]) -> None:
    details = dict(request["case"])
    case = Case(**details | {"placement": Placement(**details["placement"])})
    cache = Path(request["cache"])
    if request["do"] == "memory":
        # What importing the runtimes takes is no memory of the model's; a forked visit has them loaded too.
        importlib.import_module("profiler.run.preload")
        reply = visit(Task(case, Budget(), None, cache, "memory"))
        if isinstance(reply.outcome, Memory):
            line.answer(peaks=reply.outcome.run_bytes)
        elif isinstance(reply.outcome, Failure):
            line.answer(failure=asdict(reply.outcome))
        return
    allocator.keep_freed()
    with loaded(case, cache) as session:
        line.answer(loaded=True)
        serve(line, session, session.facts)
