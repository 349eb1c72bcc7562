"""Two sides made ready to be timed against each other."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from profiler.errors import UserError
from profiler.gate import blocks
from profiler.gate.blocks import Trial
from profiler.gate.checkout import checked_out
from profiler.gate.decision import Rule
from profiler.gate.likeness import EVERY_KIND, Kind
from profiler.gate.side import SIDES, Pair, Side
from profiler.gate.worker import LOAD_S, Worker, WorkerError, alternate_workers, of_case, peaks_of_visit
from profiler.machine.cache import cache_folder
from profiler.measure.visit import Task, visit
from profiler.models import naming
from profiler.records.types import Budget, Case, Failure
from profiler.run.child import Limits
from profiler.run.preparing import ahead_s
from profiler.run.processes import Executor

#: A trial begins no further look that would end after this, in seconds.
SECONDS = 300.0

_Trials = Callable[[Sequence[Rule], int], Trial | Failure]


@dataclass(frozen=True, slots=True)
class Contest:
    """Two sides that can be timed against each other, every time in fresh processes.

    Attributes:
        kind: Both sides in one process, or each in a process of its own.
        trial: Returns the blocks of one trial, by the rules and the seed of the order within blocks; without a rule it
            only compares what the sides compute.
        itself: The same with the baseline on both sides.
        peaks: Returns the peaks of memory of ``baseline`` or ``candidate`` by source, in bytes.
    """

    kind: Literal["Together", "Apart"]
    trial: _Trials
    itself: _Trials
    peaks: Callable[[str], dict[str, int] | Failure]


def together(pair: Pair, executor: Executor, seconds: float = SECONDS) -> Contest:
    """Return the contest of two cases in one process."""
    old, new, cache = pair.baseline.case, pair.candidate.case, cache_folder()

    def trial(candidate: Case, allowed: Sequence[Kind], rules: Sequence[Rule], seed: int) -> Trial | Failure:
        call = partial(blocks.of_cases, old, candidate, rules, seed, seconds, allowed=allowed)
        loading = LOAD_S + ahead_s(old) + ahead_s(candidate)
        return executor.call(call, cache, seconds + loading, Limits())

    def peaks(name: str) -> dict[str, int] | Failure:
        case = {"baseline": old, "candidate": new}[name]
        task = Task(case, Budget(), None, cache, "memory")
        return peaks_of_visit(executor.call(visit, task, LOAD_S + ahead_s(case), Limits()))

    return Contest("Together", partial(trial, new, pair.allowed), partial(trial, old, EVERY_KIND), peaks)


def apart(
    starts: Mapping[str, Callable[[], Worker]],
    seconds: float = SECONDS,
    allowed: Sequence[Kind] = (),
    load: Callable[[str, Worker], None] = lambda _, worker: worker.load(),
) -> Contest:
    """Return the contest of two sides that each have a process of their own.

    Args:
        starts: Starts the process of ``baseline`` and of ``candidate``.
        seconds: A trial begins no further look that would end after this.
        allowed: In what the sides may differ.
        load: Has a started process of ``baseline`` or ``candidate`` load what it serves.
    """

    def trial(candidate: str, allowed: Sequence[Kind], rules: Sequence[Rule], seed: int) -> Trial | Failure:
        try:
            with ExitStack() as stack:
                # Started together: they import at the same time, and nothing is timed yet.
                given = dict(zip(SIDES, ("baseline", candidate), strict=True))
                workers = {name: stack.enter_context(starts[which]()) for name, which in given.items()}
                for name, worker in workers.items():
                    load(given[name], worker)
                return alternate_workers(workers, rules, seed, seconds, allowed)
        except WorkerError as error:
            return error.failure

    def peaks(name: str) -> dict[str, int] | Failure:
        try:
            with starts[name]() as worker:
                return worker.peaks()
        except WorkerError as error:
            return error.failure

    return Contest("Apart", partial(trial, "candidate", allowed), partial(trial, "baseline", EVERY_KIND), peaks)


@contextlib.contextmanager
def opened_contest(
    pair: Pair, executor: Executor, seconds: float = SECONDS, baseline_python: str | None = None
) -> Iterator[Contest]:
    """Make both sides ready; those of a git revision are checked out for as long as it is open.

    Args:
        pair: What to compare.
        executor: Where sides run that share a process.
        seconds: A trial begins no look that would end after this.
        baseline_python: Interpreter of a ``git:`` baseline; None for this one.
    """
    if _share_a_process(pair):
        yield together(pair, executor, seconds)
        return
    with ExitStack() as stack:
        starts = {}
        for name in SIDES:
            one, python = getattr(pair, name), baseline_python if name == "baseline" else None
            starts[name] = stack.enter_context(opened_side(one, python or sys.executable))
        yield apart(starts, seconds, pair.allowed)


def _share_a_process(pair: Pair) -> bool:
    """Whether one process can hold both sides: the same code, and modules beside it that mean the same."""
    sides = (pair.baseline, pair.candidate)
    files = {side.case.model: naming.file_of(side.case.model) for side in sides}
    folders = {Path(file).resolve().parent for model, file in files.items() if file not in (None, model)}
    return all(side.revision is None for side in sides) and len(folders) < 2


@contextlib.contextmanager
def opened_side(one: Side, python: str = sys.executable) -> Iterator[Callable[[], Worker]]:
    """Return what starts the process of a side, under the code of its revision where it names one."""
    here, cache = Path.cwd(), cache_folder()
    if one.revision is None:
        yield partial(of_case, here, one.case, cache)
        return
    with checked_out(one.revision, here) as folder:
        missing = one.missing_in(folder)
        if missing is not None:
            raise UserError(f"git:{one.revision}: {missing}; a revision holds what is committed")
        yield partial(of_case, folder, one.case, cache, python, f"git:{one.revision}")
