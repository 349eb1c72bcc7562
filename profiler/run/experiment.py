"""Measure cases into a folder: the one way, whoever asks.

A run, a comparison with a stored baseline and the check of an advice all end in a folder with a journal and its table,
can be stopped at any time and lose nothing.
"""

from __future__ import annotations

import random
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from profiler import __version__
from profiler.backends import cache
from profiler.errors import StoppedError, UserError
from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.measure.calibration import VERSION
from profiler.plan.plan import Plan
from profiler.plan.read import digest, to_toml
from profiler.records.columns import write_csv
from profiler.records.journal import Journal
from profiler.records.nominal import Calibration
from profiler.records.reading import NAME, read, visits_at
from profiler.records.table import each_row
from profiler.records.types import Case, Pass, Record, now
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits, LimitsFor
from profiler.run.describing import Described, described
from profiler.run.display import Display, Watcher
from profiler.run.lab import Lab, record
from profiler.run.preparing import prepare_exports
from profiler.run.processes import Isolation, LocalExecutor
from profiler.run.rounds import Measuring, measure_all, measure_within
from profiler.run.schedule import Progress


def here(measuring: Measuring, passes: Sequence[Pass], seconds: float | None) -> str:
    """Make exports, then visits, on this machine; return why that stopped, "" where all are made."""
    lab = measuring.lab
    if lab.another is not None:
        cases = [case for case in measuring.progress.cases if not measuring.progress.finished(case)]
        prepare_exports(cases, cache_folder(), lab.budget, lab.limits, lab.another, measuring.shown.preparing)
    made = measure_all(measuring, passes) if seconds is None else measure_within(measuring, seconds, passes)
    return "" if made else "stopped"


@contextmanager
def opened_lab(
    plan: Plan,
    *,
    isolation: Isolation | None = None,
    limits: LimitsFor = lambda _: Limits(),
    known: Mapping[str, Calibration] | None = None,
    calibrate: bool = True,
) -> Iterator[Lab]:
    """Make ready what the visits of ``plan`` share, and end what still runs afterwards.

    Args:
        plan: Its budget and feed.
        isolation: How processes start; None for the best this system has.
        limits: Of a visit's process, by its placement.
        known: Calibrations of an earlier run, see ``Calibrations``.
        calibrate: Measure the reference where no calibration is kept.
    """
    cache.prune(cache_folder(), cache.KEPT_BYTES)
    executor = LocalExecutor(isolation)
    try:
        executor.wait()  # or the first visit would seem to last longer
        calibrations = Calibrations(executor, cache_folder(), limits, known=known, measure=calibrate)
        yield Lab(plan.budget, executor, limits, calibrations, plan.feed, another=partial(LocalExecutor, isolation))
    finally:
        executor.close()


def measure_into(
    folder: Path,
    plan: Plan,
    cases: Sequence[Case],
    lab: Lab,
    *,
    resume: bool = False,
    go_on: str = "",
    passes: Sequence[Pass] = (),
    facts: Mapping[str, Any] | None = None,
    console: Console | None = None,
    watcher: Watcher | None = None,
    measure: Callable[[Measuring, Sequence[Pass], float | None], str] = here,
) -> Progress:
    """Visit ``cases`` until each is finished, and write the table; what earlier sessions left counts.

    Args:
        folder: Of the journal and ``cases.csv``; made where it does not exist.
        plan: Whence the cases are; its seed orders the visits.
        cases: What to measure.
        lab: What the visits share.
        resume: Continue what the folder holds, in the order of its first session.
        go_on: Command with which the user continues after stopping; "" where there is none.
        passes: What further visits to make of each case that has a latency, after all others.
        facts: Further facts for the session's line.
        console: Where to show what happens; None for nowhere.
        watcher: Is told of visits in place of what is shown on the console.
        measure: Makes the visits; returns why it stopped, "" where all are made.

    Raises:
        UserError: The folder cannot be written, holds a run already, or one of another plan or machine.
        StoppedError: The user stopped it, or a fleet was lost.
    """
    seed = plan.seed if plan.seed is not None else random.SystemRandom().randrange(2**31)
    known = described(cases, lab.executor)
    cases, lab = known.cases, replace(lab, described=known.found)
    progress, earlier = Progress(cases, lab.budget, partial(visits_at, folder / NAME)), _Earlier(cases)

    def heard(made: Record, at: int) -> None:
        progress.add(made, at)
        earlier.add(made.case)

    session = _session_facts(plan, cases, seed) | dict(facts or {})
    with Journal.open(folder, session, resume=resume, heard=heard) as journal:
        if console:
            for notice in (*journal.earlier.notices, *earlier.changed_models()):
                console.print(notice, markup=False)
        for failed in _undescribed(cases, known, progress, lab):
            progress.add(failed, journal.append(failed))
        for first in journal.earlier.sessions[:1]:
            seed = first.facts.get("seed", seed)
        with Display(None if watcher else console, plan.time) as shown:
            stopped = measure(Measuring(journal, progress, lab, watcher or shown, seed), passes, plan.time)
    _write_table(folder, go_on)
    if stopped:
        raise StoppedError(
            f"{stopped}; continue with: {go_on}" if go_on else f"{stopped}; what was measured is in {folder}"
        )
    return progress


def _write_table(folder: Path, go_on: str) -> None:
    """Write ``cases.csv``; where that cannot be, say what is kept all the same, unless the folder is a passing one."""
    try:
        write_csv(each_row(read(folder)), folder / "cases.csv")
    except UserError as error:
        if not go_on:
            raise
        kept = f"every visit is kept: profiler export {shlex.quote(str(folder))} --to FILE.csv"
        raise UserError(f"{str(error).partition(';')[0]}; {kept} writes the table elsewhere") from error


def _undescribed(cases: Sequence[Case], known: Described, progress: Progress, lab: Lab) -> list[Record]:
    """Return the records of cases whose model cannot be had, and of which nothing is known from before."""
    new = [case for case in cases if case.key in known.failed and not progress.made(case)]
    return [record(case, known.failed[case.key], lab) for case in new]


class _Earlier:
    """Cases that were visited before, of which the models may have changed: those begin anew."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._cases, self._keys = cases, {case.key for case in cases}
        self._others: set[Case] = set()

    def add(self, case: Case) -> None:
        """Hear of a visit."""
        if case.key not in self._keys:
            self._others.add(case)

    def changed_models(self) -> list[str]:
        """Say which models have changed since they were visited."""
        now = {replace(case, content=""): case for case in self._cases} if self._others else {}
        pairs = [(now.get(replace(old, content="")), old) for old in self._others]
        changed = {case.model: (old.content, case.content) for case, old in pairs if case and case.another_content(old)}
        return [
            f"{model} has changed since it was measured (content {old} then, {new} now): its cases begin anew, and the "
            "earlier visits stay in the journal alone"
            for model, (old, new) in changed.items()
        ]


def _session_facts(plan: Plan, cases: Sequence[Case], seed: int) -> dict[str, object]:
    """Return what the journal says of one session: machine, versions, command, plan, order."""
    return {
        "host": {"key": host.key(), **host.facts()},
        "versions": {"latency-profiler": __version__, **host.versions()},
        "argv": sys.argv[1:],
        "reference": VERSION,
        "seed": seed,
        "plan": to_toml(plan),
        "digest": digest(plan),
        "started": now(),
        "cases": list(cases),
        "budget": plan.budget,
    }
