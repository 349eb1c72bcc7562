"""The process in which a test is made again, from the side of the test."""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from profiler.backends import base
from profiler.backends.torch_tree import duplicated
from profiler.errors import UserError
from profiler.gate import blocks, worker
from profiler.gate.decision import Rule
from profiler.gate.likeness import EVERY_KIND
from profiler.machine.cache import cache_folder
from profiler.measure.visit import Task, timed_alone
from profiler.records.types import Failure
from profiler.run.child import failure
from profiler.testing.arguments import GateCall, Given, Live
from profiler.testing.rerun import from_json

_OURS = Path(worker.__file__).parents[1]


def _opened(model: Given) -> contextlib.AbstractContextManager[blocks.Ready]:
    """Load a model, live or by name, and run it once."""
    if not isinstance(model, Live):
        return blocks.loaded(model.case, cache_folder())
    built = base.Model(None, lambda: duplicated(model.module))
    return blocks.opened(model.backend, model.placement, lambda: (built, model.inputs))


def _foreign(top: Path) -> str | None:
    """Return the file of a module that was imported from below ``top``, where another version was to be used."""
    for module in list(sys.modules.values()):
        file = vars(module).get("__file__") if isinstance(module, types.ModuleType) else None
        if not file or Path(file).is_relative_to(_OURS):
            continue
        path = Path(file)
        if path.is_relative_to(top) and not path.is_relative_to(sys.prefix) and "site-packages" not in path.parts:
            return str(path)
    return None


class Server:
    """The end of the process in which a test runs again; a plugin of its pytest, and its ``latency_gate``."""

    def __init__(self, read: int, write: int) -> None:
        self._requests, self._tell = worker.opened_pipes(read, write)
        self._reached = False
        self._problem = "the test ended without a call of latency_gate"

    def takes_over(self, benchmark: Any) -> None:
        """Keep pytest-benchmark from warning that its fixture was not used."""
        benchmark._mode = "latency_gate(...)"  # noqa: SLF001 - it has no other way to say so

    def __call__(self, candidate: Any, **asked: Any) -> None:
        """Answer one request about the models of a gate, then leave the test."""
        self._reached = True
        request = next(self._requests, None)
        if request is not None:
            self._answer(request, candidate, asked)
        pytest.skip("served")

    def _answer(self, request: Mapping[str, Any], candidate: Any, asked: Mapping[str, Any]) -> None:
        answers = {"blocks": self._blocks, "load": self._load, "visit": self._visit}
        try:
            answers[request["do"]](request, GateCall.read(candidate, **asked))
        except BrokenPipeError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the verdict must say it
            with contextlib.suppress(OSError):
                self._tell(failure=asdict(failure(error)))

    def _blocks(self, request: Mapping[str, Any], asked: GateCall) -> None:
        old = _present(asked.baseline)
        new, allowed = (_again(old), EVERY_KIND) if request["itself"] else (asked.candidate, asked.allowed)
        rules = [from_json(Rule, rule) for rule in request["rules"]]
        with ExitStack() as stack:
            models = {"baseline": old, "candidate": new}
            sides = {name: stack.enter_context(_opened(model)) for name, model in models.items()}
            trial = blocks.alternate(sides, rules, request["seed"], request["seconds"], allowed)
        self._tell(trial=asdict(trial))

    def _load(self, request: Mapping[str, Any], asked: GateCall) -> None:
        with _opened(_present(getattr(asked, request["side"]))) as ready:
            strange = _foreign(Path(request["left"])) if request["left"] else None
            if strange is not None:
                raise UserError(
                    f"{strange} was imported, which is the current code: its editable install goes round the path; "
                    "install it in the classic way, or move it to the top of the repository or to src"
                )
            self._tell(loaded=True)
            worker.serve(self._requests, self._tell, ready)

    def _visit(self, request: Mapping[str, Any], asked: GateCall) -> None:
        with _opened(asked.candidate) as ready:
            measured = timed_alone(ready.session, from_json(Task, request["task"]))
        self._tell(measurement=asdict(measured))

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
        if self._reached or next(self._requests, None) is None:
            return
        with contextlib.suppress(OSError):
            self._tell(failure=asdict(Failure("error", self._problem)))

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


def _present(model: Given | None) -> Given:
    if model is None:
        raise UserError("the gate of this test has no baseline in its own process; build it from the same arguments")
    return model


def _again(model: Given) -> Given:
    """Return the same model with weights of its own: sharing memory would make it too alike."""
    return replace(model, module=duplicated(model.module)) if isinstance(model, Live) else model
