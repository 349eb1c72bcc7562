"""The gate for torch modules that only their test can build: the test runs again in fresh processes, and serves them.

A module that lives in the process of a test cannot be rebuilt elsewhere by name. So the test itself is started again,
alone, in a process of its own. There ``latency_gate`` judges nothing: it loads what it was given and times it when the
first process asks. Two modules of the same code alternate in one such process. With ``git:REF`` each side has its own;
the baseline's runs in a checkout of REF that holds the test file as it is now: the same case under the other code.
"""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import pydantic
import pytest

from profiler.gate import side as remote
from profiler.gate.blocks import Trial
from profiler.gate.decision import Rule
from profiler.gate.side import LOAD_S, Code, Worker, WorkerError
from profiler.measure.calibration import Calibration
from profiler.records.types import Budget, Failure, Measurement

T = TypeVar("T")

#: A worker that has answered has this long to tear its fixtures down, in seconds.
GRACE_S = 10.0

#: Starts pytest with the descriptors, which come last. Where the profiler itself is the project under test, the one
#: that asks is imported first: the revision's may lack what is needed here.
_BOOT = (
    "import importlib, sys\n"
    "if sys.argv[1]:\n"
    "    sys.path.insert(0, sys.argv[1])\n"
    "    importlib.import_module('profiler.testing.rerun')\n"
    "    sys.path.remove(sys.argv[1])\n"
    "import pytest\n"
    "sys.exit(pytest.main([*sys.argv[2:-2], '--latency-worker=' + ','.join(sys.argv[-2:])]))\n"
)
#: The folder from which this program runs.
_HERE = Path(__file__).resolve().parents[2]
_PREFIX = Path(sys.prefix).resolve()
#: A worker of a run under coverage would be traced, and its Python part timed several times too slow.
_TRACERS = ("COV_CORE_SOURCE", "COV_CORE_DATAFILE", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


class NotGatedError(Exception):
    """There is nothing to judge by; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Rerun:
    """One test, to be run again in a process of its own.

    Attributes:
        file: The test's file.
        test: What follows the file in its node id.
        rootdir: As pytest has it.
        folder: The folder in which pytest was started.
        ini: The configuration file, or None.
        path: Where modules are looked for, in this order.
        options: Of pytest.
        name: For messages.
        left: Top folder of the current code, where another version is to be used; None for the current one.
    """

    file: Path
    test: str
    rootdir: Path
    folder: Path
    ini: Path | None
    path: tuple[Path, ...]
    options: tuple[str, ...]
    name: str = "the test in its own process"
    left: Path | None = None

    @classmethod
    def of(cls, item: pytest.Item) -> Rerun:
        """Return how to run ``item`` again as it is."""
        config = item.config
        folder = config.invocation_params.dir.resolve()
        return cls(
            file=item.path.resolve(),
            test=item.nodeid.partition("::")[2],
            rootdir=config.rootpath.resolve(),
            folder=folder,
            ini=config.inipath.resolve() if config.inipath else None,
            # An empty entry is the working folder.
            path=tuple((folder / entry).resolve() for entry in sys.path),
            options=_options(config),
        )

    def under(self, code: Code, top: Path) -> Rerun:
        """Return the same test under another version of the repository at ``top``, checked out at ``code.folder``.

        The test file as it is now is copied there. Every folder of the repository becomes that version's, also where
        an editable install has put it on the path; the checkout and its ``src`` come first, for an editable install
        that uses no path.
        """

        def there(path: Path) -> Path:
            ours = path.is_relative_to(top) and not path.is_relative_to(_PREFIX)
            return code.folder / path.relative_to(top) if ours else path

        file, folder = there(self.file), there(self.folder)
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.file, file)
        ini = there(self.ini) if self.ini else None
        return replace(
            self,
            file=file,
            rootdir=there(self.rootdir),
            folder=folder if folder.is_dir() else code.folder,
            ini=ini if ini and ini.is_file() else None,
            path=(code.folder, code.folder / "src", *map(there, self.path)),
            name=code.name,
            left=top,
        )

    def worker(self) -> Worker:
        """Start the process; the first thing to ask is one of those that ``Server`` answers."""
        environment = {"PYTHONPATH": os.pathsep.join(map(str, self.path)), "PYTEST_ADDOPTS": ""}
        return Worker(self._command(), self.folder, self.name, environment | dict.fromkeys(_TRACERS, ""), GRACE_S)

    def _command(self) -> list[str]:
        itself = self.left is not None and _HERE.is_relative_to(self.left) and not _HERE.is_relative_to(_PREFIX)
        alone = ("-p", "no:cacheprovider", "-o", "addopts=", "-q")
        top = self.ini.parent if self.ini else self.rootdir
        place = (f"--rootdir={self.rootdir}", f"--confcutdir={top}", "-c", str(self.ini or os.devnull))
        boot = (sys.executable, "-P", "-c", _BOOT, str(_HERE) if itself else "")
        return [*boot, *place, *self.options, *alone, f"{self.file}::{self.test}"]


def _options(config: pytest.Config) -> tuple[str, ...]:
    """Return the options that decide how a test is imported; those that decide which tests run are left out."""
    given = config.option
    pairs = [
        *(("-p", name) for name in given.plugins or ()),
        *(("-o", override) for override in given.override_ini or ()),
        *(("-W", warning) for warning in given.pythonwarnings or ()),
    ]
    asked = shlex.split(config.getoption("latency_args"))
    return (f"--import-mode={given.importmode}", *itertools.chain.from_iterable(pairs), *asked)


@dataclass(frozen=True, slots=True)
class Shared:
    """Both sides in one process of the test; see ``profiler.gate.contest.Contest``."""

    rerun: Rerun
    seconds: float

    def trial(self, rule: Rule, seed: int, *, itself: bool = False) -> Trial | Failure:
        """Return the blocks of one trial; with ``itself`` the baseline stands on both sides."""
        wanted = {"rule": asdict(rule), "seed": seed, "seconds": self.seconds, "itself": itself}
        try:
            with self.rerun.worker() as worker:
                answer = worker.ask("duel", self.seconds + LOAD_S, **wanted)
        except WorkerError as error:
            return explained(error.failure)
        return read(Trial, answer["trial"])

    def peak_bytes(self, side: str) -> Failure:
        """Refuse: the weights are in memory before the gate first sees them."""
        return Failure("unsupported", f"the memory of the {side} cannot be told from that of its test")


@dataclass(frozen=True, slots=True)
class Versions:
    """Each side in a process of its own, under its own version of the code; see ``profiler.gate.contest.Contest``."""

    baseline: Rerun
    candidate: Rerun
    seconds: float

    def trial(self, rule: Rule, seed: int, *, itself: bool = False) -> Trial | Failure:
        """Return the blocks of one trial; with ``itself`` the baseline stands on both sides."""
        sides = {"baseline": self.baseline, "candidate": self.baseline if itself else self.candidate}
        try:
            with ExitStack() as stack:
                # Started together: they import at the same time, and nothing is timed yet.
                workers = {side: stack.enter_context(rerun.worker()) for side, rerun in sides.items()}
                for side, worker in workers.items():
                    self._load(worker, sides[side])
                return remote.apart(workers, rule, seed, self.seconds)
        except WorkerError as error:
            return explained(error.failure)

    def _load(self, worker: Worker, rerun: Rerun) -> None:
        side = "baseline" if rerun is self.baseline else "candidate"
        try:
            worker.ask("load", LOAD_S, side=side, left=str(rerun.left or ""))
        except WorkerError as error:
            if side == "candidate":
                raise
            raise NotGatedError(f"the test fails at {rerun.name}: {explained(error.failure).reason}") from None

    def peak_bytes(self, side: str) -> Failure:
        """Refuse, as ``Shared.peak_bytes``."""
        return Shared(self.candidate, self.seconds).peak_bytes(side)


def visit(rerun: Rerun, budget: Budget, calibration: Calibration | None) -> Measurement | Failure:
    """Measure the candidate of a test in a fresh process, as a visit of ``profiler run`` measures a case."""
    wanted = {"budget": asdict(budget), "calibration": asdict(calibration) if calibration else None}
    try:
        with rerun.worker() as worker:
            answer = worker.ask("visit", budget.timeout_s, **wanted)
    except WorkerError as error:
        return explained(error.failure)
    return read(Measurement, answer["measurement"])


def explained(failed: Failure) -> Failure:
    """Add the first error that a worker printed to the sentence of a worker that ended without an answer."""
    said = next((line[1:].strip() for line in failed.detail.splitlines() if line.startswith("E ")), "")
    return replace(failed, reason=f"{failed.reason}: {said}") if said and failed.status == "crashed" else failed


def read(kind: type[T], sent: object) -> T:
    """Return the dataclass that was sent as plain JSON."""
    return pydantic.TypeAdapter(kind).validate_python(sent)
