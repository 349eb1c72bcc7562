"""Measures a plan now, and has it judged beside a stored run."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from profiler.errors import UserError
from profiler.gate.baseline import calibrations
from profiler.gate.contrast import visits_of
from profiler.gate.stored import judge_stored
from profiler.gate.verdict import Verdict
from profiler.machine import host
from profiler.plan.cases import expand, wanted
from profiler.plan.read import load, override
from profiler.records.crowding import crowds
from profiler.records.reading import Run, read
from profiler.records.types import Case
from profiler.run.describing import described
from profiler.run.experiment import measure_into, opened_lab
from profiler.run.families import families
from profiler.run.going_on import again


def against(
    stored: Path,
    plan_source: str,
    max_slowdown: float,
    out: Path | None = None,
    *,
    flags: Mapping[str, object] | None = None,
    resume: bool = False,
) -> list[Verdict]:
    """Measure a plan now and compare each of its cases with the same case of a stored run.

    The runs are made at different times; ``profiler.gate.stored`` says what that costs, and what the reference does
    about it. Cases that the stored run lacks, or has of another machine, are not measured.

    Args:
        stored: A baseline from ``profiler.gate.baseline.update``, or a run's folder or journal.
        plan_source: Name or path of the plan.
        max_slowdown: The slow-down that must be caught, as a share.
        out: Folder of the new run; None for one named after the time.
        flags: Keys of the plan to replace, as for ``profiler run``.
        resume: Continue an interrupted comparison in ``out``.

    Raises:
        UserError: The stored run or the plan cannot be used, or the folder cannot be written.
        StoppedError: The user stopped it; what was measured is saved.
    """
    if not 0 < max_slowdown < math.inf:
        raise UserError(f"a limit of {max_slowdown:g} cannot be gated; expected a share above 0, as 5%")
    base = read(stored)
    if not (base.sessions or base.records):
        raise UserError(
            f"{stored} holds no line of a run; expected a run folder, its journal, or what `profiler baseline` keeps"
        )
    for notice in base.notices:
        print(notice, file=sys.stderr)
    plan = override(load(plan_source), **flags or {})
    asked = _with_stored_batches(expand(plan, host.usable_cores(), families(wanted(plan))), base)
    for crowd in crowds(asked, host.usable_cores()):
        print(crowd, file=sys.stderr)
    folder = out or Path("results") / f"gate-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    known = calibrations(base)
    facts = {"calibrations": {name: asdict(made) for name, made in known.items()}}
    with opened_lab(plan, known=known) as lab:
        cases = described(asked, lab.executor).cases

        def measured(some: Sequence[Case], subfolder: str) -> Run:
            place, console = folder / subfolder, Console(stderr=True)
            measure_into(place, plan, some, lab, resume=resume, go_on=again(folder), facts=facts, console=console)
            return read(place)

        return judge_stored(base, cases, measured, max_slowdown)


def _with_stored_batches(cases: Sequence[Case], stored: Run) -> list[Case]:
    """Give cases of batch ``max`` the batch that the stored run found: another one would be another case."""
    found = [replace(case, content="") for case in visits_of(stored) if case.batch_asked]
    known = {replace(case, batch=1): case for case in found}
    return [known.get(case, case) if case.batch_asked else case for case in cases]
