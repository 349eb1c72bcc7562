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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from profiler.backends.base import Placement, Precision
from profiler.gate.blocks import SETTLE_APART, Ready, Trial, coin, collect, loaded, prepared, single_calls
from profiler.gate.decision import Rule
from profiler.gate.likeness import Computed, Kind, is_refused, read_computed, unlike, write_outputs
from profiler.machine import allocator
from profiler.measure.visit import Task, visit
from profiler.records.table import peaks_by_source
from profiler.records.types import Budget, Case, Failure, Memory, Outcome
from profiler.run.child import UNDISTURBED, failure
from profiler.run.preparing import ahead_s

#: A worker that has not loaded its model after this long is stopped, in seconds; likewise one slot.
LOAD_S = 300.0
_SLOT_S = 120.0

#: Starts a worker that serves a case. The profiler is the one that asks, wherever its folder is: its package is
#: imported first, and what is below a package is looked for inside it. What it needs comes from the interpreter, from
#: that folder only what is nowhere else. Then the folder of the version comes first: the models are that version's.
_BOOT = (
    "import sys; here, code, *ends = sys.argv[1:]; "
    "sys.path.insert(0, here); import profiler; del sys.path[0]; "
    "sys.path.append(here); from profiler.gate import worker; "
    "sys.path.insert(0, code); worker.serve_case(*map(int, ends))"
)
#: The folder from which this program runs.
HERE = Path(__file__).resolve().parents[2]
#: What a process is called that runs the code of the working folder.
_CURRENT = "the code as it is"


class WorkerError(Exception):
    """A worker could not do what was asked; the message is one sentence, ``failure`` the row of it."""

    def __init__(self, failed: Failure) -> None:
        super().__init__(failed.reason)
        self.failure = failed


class Worker:
    """The parent's end of the process of one side."""

    def __init__(
        self,
        command: list[str],
        folder: Path,
        name: str,
        what: Mapping[str, object] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        grace_s: float = 0.0,
        mark: str = "",
        load_s: float = LOAD_S,
    ) -> None:
        """Start a process that serves one side.

        Args:
            command: Its last two arguments become the descriptors that it reads and writes.
            folder: Its working folder.
            name: For messages.
            what: What it is to serve, as details of the request to load it.
            environment: Variables besides those of this process.
            grace_s: When it is closed it has so long to end by itself, in seconds.
            mark: With what a line that it prints begins where it says why it failed; empty where nothing marks it.
            load_s: It is stopped where it has not loaded after so many seconds.
        """
        self._name, self._what = name, what or {}
        self._grace_s, self._mark, self._load_s = grace_s, mark, load_s
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        self._output = contextlib.ExitStack()
        self._printed = self._output.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed in close()
        self._pending = b""
        self._process = subprocess.Popen(  # noqa: S603 - the interpreter and the code that the user named
            [*command, str(to_read), str(to_write)],
            cwd=folder,
            env={**UNDISTURBED, **os.environ, **(environment or {})},
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=self._printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)

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

    def load(self) -> None:
        """Have it load what it serves."""
        self.ask("load", self._load_s, **self._what)

    def peaks(self) -> dict[str, int]:
        """Return the peaks of memory of what it serves by source, in bytes; instead of ``load``."""
        peaks: dict[str, int] = self.ask("memory", self._load_s, **self._what)["peaks"]
        return peaks

    def _line(self, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise WorkerError(Failure("timeout", f"{self._name}: no answer within {timeout_s:g} s; it was stopped"))
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                raise WorkerError(self._ended())
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def computed(self, file: Path) -> tuple[Computed, Precision]:
        """Return what it computes and with what precision; the outputs come by way of ``file``."""
        told = self.ask("compute", LOAD_S, file=str(file))
        return read_computed(told["inputs"], told["names"], file, steady=told["steady"]), told["precision"]

    def slot(self) -> list[float]:
        """Hand over the token for one slot; return its times per forward, in ns."""
        times: list[float] = self.ask("slot", _SLOT_S)["ns"]
        return times

    def _ended(self) -> Failure:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        code = self._process.poll()
        end = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        printed = self._printed_last()
        marked = (line.removeprefix(self._mark).strip() for line in printed.splitlines() if line.startswith(self._mark))
        said = next(marked, "") if self._mark else ""
        reason = f"{self._name}: the process {end} before it had answered{f': {said}' if said else ''}"
        return Failure("crashed", reason, printed)

    def _printed_last(self) -> str:
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


def of_case(folder: Path, case: Case, cache: Path, python: str = sys.executable, name: str = _CURRENT) -> Worker:
    """Start a worker that serves ``case``.

    Args:
        folder: Working folder, from which models are imported and relative paths are read.
        case: What to serve.
        cache: Folder for exported forms.
        python: Interpreter with the packages of that version of the code.
        name: Of that version, for messages.
    """
    command = [python, "-P", "-c", _BOOT, str(HERE), str(folder)]
    # A revision that is older than a field takes the case without it.
    younger = {field.name for field in fields(case) if getattr(case, field.name) == field.default}
    given = {key: value for key, value in asdict(case).items() if key not in younger}
    what = {"case": given, "cache": str(cache)}
    return Worker(command, folder, name, what, load_s=LOAD_S + ahead_s(case))


def alternate_workers(
    workers: Mapping[str, Worker], rules: Sequence[Rule], seed: int, seconds: float, allowed: Sequence[Kind]
) -> Trial:
    """Let two loaded workers, ``baseline`` and ``candidate``, alternate; see ``profiler.gate.blocks.alternate``."""
    with tempfile.TemporaryDirectory(prefix="profiler-outputs-") as folder:
        computed = {side: worker.computed(Path(folder) / f"{side}.npz") for side, worker in workers.items()}
    differ = unlike(computed["baseline"][0], computed["candidate"][0], computed["baseline"][1])
    if is_refused(differ, allowed):
        return Trial((), 0.0, unlike=differ)
    single = single_calls(rules)
    facts = {side: worker.ask("ready", LOAD_S, single=single)["facts"] for side, worker in workers.items()}
    trial = collect(workers["baseline"].slot, workers["candidate"].slot, rules, coin(seed), seconds)
    return replace(trial, facts=facts, unlike=differ)


def opened_pipes(read: int, write: int) -> tuple[Iterator[dict[str, Any]], Callable[..., None]]:
    """Return the requests that come, each waited for asleep until the parent is gone, and what answers the last."""

    def requests() -> Iterator[dict[str, Any]]:
        with os.fdopen(read, "rb") as lines:
            yield from map(json.loads, lines)

    def answer(**what: object) -> None:
        os.write(write, json.dumps(what).encode() + b"\n")

    return requests(), answer


def serve(requests: Iterator[dict[str, Any]], answer: Callable[..., None], ready: Ready) -> None:
    """Answer ``compute``, ``ready`` and ``slot`` for a loaded model until the parent is gone."""
    slot: Callable[[], Any] | None = None
    gc.collect()
    gc.disable()
    for request in requests:
        if request["do"] == "compute":
            found = ready.computed()
            names = write_outputs(found.outputs, Path(request["file"]))
            answer(inputs=found.inputs, names=names, steady=found.steady, precision=ready.precision)
        elif request["do"] == "ready":
            slot = prepared(ready.session, SETTLE_APART, single=request["single"] or ready.on_accelerator)
            answer(facts=dict(ready.session.facts()))
        elif slot is not None:
            answer(ns=slot())


def serve_case(read: int, write: int) -> None:
    """Serve one case; what goes wrong is an answer too."""
    requests, answer = opened_pipes(read, write)
    try:
        request = next(requests, None)
        if request is not None:
            _answer(requests, answer, request)
    except BrokenPipeError:
        pass  # the parent is gone, and nobody is left to tell
    except BaseException as error:  # noqa: BLE001 - whatever it is, the verdict must say it
        with contextlib.suppress(OSError):
            answer(failure=asdict(failure(error)))
    os._exit(0)


def _answer(requests: Iterator[dict[str, Any]], answer: Callable[..., None], request: Mapping[str, Any]) -> None:
    details = dict(request["case"])
    case = Case(**details | {"placement": Placement(**details["placement"])})
    cache = Path(request["cache"])
    if request["do"] == "memory":
        # What importing the runtimes takes is no memory of the model's; a forked visit has them loaded too.
        importlib.import_module("profiler.run.preload")
        found = peaks_of_visit(visit(Task(case, Budget(), None, cache, "memory")))
        answer(**({"failure": asdict(found)} if isinstance(found, Failure) else {"peaks": found}))
        return
    allocator.keep_freed()
    with loaded(case, cache) as ready:
        answer(loaded=True)
        serve(requests, answer, ready)


def peaks_of_visit(outcome: Outcome) -> dict[str, int] | Failure:
    """Return what a visit for memory found, by source in bytes."""
    if isinstance(outcome, Memory):
        return peaks_by_source(outcome)
    return outcome if isinstance(outcome, Failure) else Failure("error", f"no memory was measured: {outcome!r:.100}")
