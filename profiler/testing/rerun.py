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
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import pytest

from profiler.gate.blocks import Trial
from profiler.gate.contest import Contest
from profiler.gate.decision import Rule
from profiler.gate.worker import HERE, LOAD_S, Worker, WorkerError
from profiler.measure.visit import Task
from profiler.records.types import Failure, Measurement

T = TypeVar("T")

#: A worker that has answered has this long to tear its fixtures down, in seconds.
_GRACE_S = 10.0

#: Starts pytest with the descriptors, which come last. The profiler is the one that asks, whatever the path holds: its
#: package is imported first, and what is below a package is looked for inside it.
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); import profiler; del sys.path[0]; import pytest; "
    "sys.exit(pytest.main([*sys.argv[2:-2], '--latency-worker=' + ','.join(sys.argv[-2:])]))"
)
#: Pytest warns of that import.
_EARLY = "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"
_PREFIX = Path(sys.prefix).resolve()
#: A worker of a run under coverage would be traced, and its Python part timed several times too slow.
_TRACERS = ("COV_CORE_SOURCE", "COV_CORE_DATAFILE", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


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
        longer_s: How much longer than others its models may take to load where nothing is kept, in seconds.
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
    longer_s: float = 0.0

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

    def under(self, code: Path, top: Path, name: str) -> Rerun:
        """Return the same test under another version of the repository at ``top``, checked out at ``code``.

        The test file as it is now is copied there. Every folder of the repository becomes that version's, also where
        an editable install has put it on the path; the checkout and its ``src`` come first, for an editable install
        that uses no path.
        """

        def there(path: Path) -> Path:
            ours = path.is_relative_to(top) and not path.is_relative_to(_PREFIX)
            return code / path.relative_to(top) if ours else path

        file, folder = there(self.file), there(self.folder)
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.file, file)
        ini = there(self.ini) if self.ini else None
        return replace(
            self,
            file=file,
            rootdir=there(self.rootdir),
            folder=folder if folder.is_dir() else code,
            ini=ini if ini and ini.is_file() else None,
            path=(code, code / "src", *map(there, self.path)),
            name=name,
            left=top,
        )

    def worker(self, side: str = "") -> Worker:
        """Start the process, in which ``Server`` answers; ``side`` is what a request to load is for."""
        environment = {"PYTHONPATH": os.pathsep.join(map(str, self.path)), "PYTEST_ADDOPTS": ""}
        environment |= dict.fromkeys(_TRACERS, "")
        what = {"side": side, "left": str(self.left or "")}
        command = self._command()
        more: dict[str, Any] = {"environment": environment, "grace_s": _GRACE_S, "mark": "E "}
        return Worker(command, self.folder, self.name, what, load_s=LOAD_S + self.longer_s, **more)

    def _command(self) -> list[str]:
        alone = ("-p", "no:cacheprovider", "-o", "addopts=", "-q", "-W", _EARLY)
        top = self.ini.parent if self.ini else self.rootdir
        place = (f"--rootdir={self.rootdir}", f"--confcutdir={top}", "-c", str(self.ini or os.devnull))
        boot, test = (sys.executable, "-P", "-c", _BOOT, str(HERE)), f"{self.file}::{self.test}"
        return [*boot, *place, *self.options, *alone, test]

    def together(self, seconds: float) -> Contest:
        """Return the contest of both sides of the test, in one process; ``seconds`` are those of a trial."""

        def blocks(rules: Sequence[Rule], seed: int, *, itself: bool) -> Trial | Failure:
            wanted = {"rules": [asdict(rule) for rule in rules], "seed": seed, "seconds": seconds, "itself": itself}
            return self._asked(Trial, "trial", "blocks", seconds + LOAD_S + self.longer_s, wanted)

        return Contest("Together", partial(blocks, itself=False), partial(blocks, itself=True), _no_peaks)

    def visit(self, task: Task) -> Measurement | Failure:
        """Measure the candidate in a fresh process, as a visit of ``profiler run`` measures a case."""
        timeout_s = task.budget.timeout_s + self.longer_s
        return self._asked(Measurement, "measurement", "visit", timeout_s, {"task": asdict(task)})

    def _asked(self, kind: type[T], name: str, what: str, timeout_s: float, details: dict[str, object]) -> T | Failure:
        try:
            with self.worker() as worker:
                return from_json(kind, worker.ask(what, timeout_s, **details)[name])
        except WorkerError as error:
            return error.failure


def _no_peaks(side: str) -> Failure:
    """Refuse: the weights are in memory before the gate first sees them."""
    return Failure("unsupported", f"the memory of the {side} cannot be told from that of its test")


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


def from_json(kind: type[T], sent: object) -> T:
    """Return the dataclass that was sent as plain JSON."""
    return pydantic.TypeAdapter(kind).validate_python(sent)
