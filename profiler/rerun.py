"""The gate for torch modules that only their test can build: the test runs again in fresh processes, and serves them.

A module that lives in the process of a test cannot be rebuilt elsewhere by name. So the test itself is started again,
alone, in a process of its own. There ``latency_gate`` judges nothing: it loads what it was given and times it when the
first process asks. Two modules of the same code alternate in one such process. With ``git:REF`` each side has its own;
the baseline's runs in a checkout of REF that holds the test file as it is now: the same case under the other code.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import shlex
import shutil
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import pytest

from backends.base import Model as Loadable
from backends.base import Placement, Session
from profiler import duel, measure, reference, remote, telemetry
from profiler.decision import Rule
from profiler.duel import Trial
from profiler.errors import UserError
from profiler.records import Budget, Conditions, Failure, Measurement
from profiler.reference import Calibration
from profiler.remote import LOAD_S, Code, Line, Worker, WorkerError
from profiler.run import cache_folder
from profiler.testing import Asked, Live, Model, placement_of
from profiler.worker import failure

T = TypeVar("T")

#: A worker that has answered has this long to tear its fixtures down, in seconds.
GRACE_S = 10.0

#: Starts pytest with the descriptors, which come last. Where the profiler itself is the project under test, the one
#: that asks is imported first: the revision's may lack what is needed here.
_BOOT = (
    "import importlib, sys\n"
    "if sys.argv[1]:\n"
    "    sys.path.insert(0, sys.argv[1])\n"
    "    importlib.import_module('profiler.rerun')\n"
    "    sys.path.remove(sys.argv[1])\n"
    "import pytest\n"
    "sys.exit(pytest.main([*sys.argv[2:-2], '--latency-worker=' + ','.join(sys.argv[-2:])]))\n"
)
#: The folder from which this program runs.
_HERE = Path(__file__).resolve().parents[1]
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
        """Start the process; the first thing to ask is one of those that :class:`Server` answers."""
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
    """Both sides in one process of the test; see :class:`profiler.gate.Contest`."""

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
    """Each side in a process of its own, under its own version of the code; see :class:`profiler.gate.Contest`."""

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
        """Refuse, as :meth:`Shared.peak_bytes`."""
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


@contextlib.contextmanager
def opened(model: Model) -> Iterator[Session]:
    """Load a model, live or by name, and run it once."""
    if not isinstance(model, Live):
        with duel.loaded(model.case, cache_folder()) as session:
            yield session
        return
    with duel.opened(
        model.backend, model.placement, lambda: (Loadable(None, lambda: model.module), model.array())
    ) as live:
        yield live


def foreign(top: Path) -> str | None:
    """Return the file of a module that was imported from below ``top``, where another version was to be used."""
    for name, module in list(sys.modules.items()):
        file = vars(module).get("__file__") if isinstance(module, types.ModuleType) else None
        if not file or name.partition(".")[0] in ("profiler", "backends"):
            continue
        path = Path(file)
        if path.is_relative_to(top) and not path.is_relative_to(sys.prefix) and "site-packages" not in path.parts:
            return str(path)
    return None


class Server:
    """The end of the process in which a test runs again; a plugin of its pytest, and its ``latency_gate``."""

    def __init__(self, read: int, write: int) -> None:
        self._line = Line(read, write)
        self._reached = False
        self._problem = "the test ended without a call of latency_gate"

    def takes_over(self, benchmark: Any) -> None:
        """Keep pytest-benchmark from warning that its fixture was not used."""
        benchmark._mode = "latency_gate(...)"  # noqa: SLF001 - it has no other way to say so

    def __call__(self, candidate: Any, **asked: Any) -> None:
        """Answer one request about the models of a gate, then leave the test."""
        self._reached = True
        request = next(self._line.requests(), None)
        if request is not None:
            self._answer(request, candidate, asked)
        pytest.skip("served")

    def _answer(self, request: Mapping[str, Any], candidate: Any, asked: Mapping[str, Any]) -> None:
        answers = {"duel": self._duel, "load": self._load, "visit": self._visit}
        try:
            answers[request["do"]](request, Asked.read(candidate, **asked))
        except BrokenPipeError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the verdict must say it
            with contextlib.suppress(OSError):
                self._line.answer(failure=asdict(failure(error)))

    def _duel(self, request: Mapping[str, Any], asked: Asked) -> None:
        old = _present(asked.baseline)
        new = _again(old) if request["itself"] else asked.candidate
        rule = read(Rule, request["rule"])
        with ExitStack() as stack:
            models = {"baseline": old, "candidate": new}
            sessions = {side: stack.enter_context(opened(model)) for side, model in models.items()}
            trial = duel.between(sessions, rule, request["seed"], request["seconds"])
        self._line.answer(trial=asdict(trial))

    def _load(self, request: Mapping[str, Any], asked: Asked) -> None:
        with opened(_present(getattr(asked, request["side"]))) as session:
            strange = foreign(Path(request["left"])) if request["left"] else None
            if strange is not None:
                raise UserError(
                    f"{strange} was imported, which is the current code: its editable install goes round the path; "
                    "install it in the classic way, or move it to the top of the repository or to src"
                )
            self._line.answer(loaded=True)
            remote.serve(self._line, session, session.facts)

    def _visit(self, request: Mapping[str, Any], asked: Asked) -> None:
        budget, given = Budget(**request["budget"]), request["calibration"]
        with opened(asked.candidate) as session:
            calibration = Calibration(**given) if given else None
            measured = _measured(session, placement_of(asked.candidate), budget, calibration)
        self._line.answer(measurement=asdict(measured))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep why the test could not be imported."""
        if report.failed:
            self._problem = _said(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep why the test did not come as far as the gate."""
        if not report.passed and not self._reached:
            self._problem = _said(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Answer for a test that did not."""
        if self._reached or next(self._line.requests(), None) is None:
            return
        with contextlib.suppress(OSError):
            self._line.answer(failure=asdict(Failure("error", self._problem)))

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Skip the interpreter's shutdown: unloading the runtimes takes long."""
        sys.stdout.flush()
        os._exit(0)


def _said(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Return the last line of a report that says something: the exception, or why the test was skipped."""
    if isinstance(report.longrepr, tuple):
        why = report.longrepr[2].removeprefix("Skipped: ")
        return f"the test is skipped in its own process ({why}); give the options that it needs with --latency-args"
    crash = getattr(report.longrepr, "reprcrash", None)
    said = crash.message if crash is not None else report.longreprtext
    lines = [line.removeprefix("E ").strip() for line in said.splitlines() if line.strip()]
    return (lines[0] if crash is not None else lines[-1]) if lines else "the test failed"


def _present(model: Model | None) -> Model:
    if model is None:
        raise UserError("the gate of this test has no baseline in its own process; build it from the same arguments")
    return model


def _again(model: Model) -> Model:
    """Return the same model with weights of its own: sharing memory would make it too alike."""
    return replace(model, module=copy.deepcopy(model.module)) if isinstance(model, Live) else model


def _measured(session: Session, placement: Placement, budget: Budget, calibration: Calibration | None) -> Measurement:
    workload = reference.Reference(placement, calibration.repeats) if calibration else None
    warmup = measure.warm_up(session, budget)
    threads = placement.threads
    timing = measure.measure(
        session, workload, budget, warmup.typical_ns, threads=threads, core_wait=telemetry.core_wait(threads)
    )
    return Measurement(
        samples_ns=timing.samples_ns,
        calls_per_sample=timing.calls_per_sample,
        reference_ns=timing.reference_ns,
        nominal_ns=calibration.nominal_ns if calibration else None,
        warmup=warmup,
        parity=None,
        conditions=Conditions(),
        facts=dict(session.facts()),
        core_wait_ns=timing.core_wait_ns,
    )
