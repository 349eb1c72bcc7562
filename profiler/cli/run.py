"""``profiler run``: measure a plan into a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import StoppedError, UserError
from profiler.machine import host
from profiler.records.types import Case
from profiler.report.summary import finish
from profiler.run.batch import with_batches
from profiler.run.child import Limits, LimitsFor
from profiler.run.experiment import measure_into, opened_lab
from profiler.run.processes import Isolation
from profiler.units import parse_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from profiler.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a plan; what to run is the plan's.

    Attributes:
        out: Folder of the run, or None for one named after the plan and the time.
        resume: Continue an interrupted run.
        dry_run: Only say what would be measured.
        isolation: ``forkserver`` or ``spawn``; None for the best this system has.
        pin: Pin each visit to as many cores as it has threads.
        memory_limit: Private memory a visit may take, as ``4GiB``; None for no limit.
    """

    out: Path | None = None
    resume: bool = False
    dry_run: bool = False
    isolation: str | None = None
    pin: bool = False
    memory_limit: str | None = None

    def limits(self) -> LimitsFor:
        """Return the limits of a visit's process by its placement."""
        memory = parse_bytes(self.memory_limit) if self.memory_limit else None
        cores = sorted(os.sched_getaffinity(0)) if self.pin and hasattr(os, "sched_getaffinity") else []
        return lambda placement: Limits(tuple(cores[: placement.threads]), memory)


def command(source: str | None, flags: Mapping[str, object], options: Options) -> int:
    """Measure the plan ``source``, changed by ``flags``, and return the exit code.

    0 when every case has a latency, 1 when at least one has none, 130 when the user stopped the run.
    """
    from rich.console import Console

    from profiler.plan.cases import expand, notes
    from profiler.plan.read import BUILT_IN, from_flags, load, override

    if not source and not flags.get("models"):
        raise UserError(
            f"nothing to measure: name a plan ({', '.join(BUILT_IN)} or a TOML file), or networks with --model; "
            "`profiler models` lists them"
        )
    plan = override(load(source), **flags) if source else from_flags(**flags)
    cases = expand(plan, host.usable_cores())
    console = Console(stderr=True)
    for note in notes(plan):
        console.print(note, style="dim", highlight=False, markup=False)
    if options.dry_run:
        return _show_plan(plan, cases, console)
    return _measured(plan, cases, options, console)


def _measured(plan: Plan, cases: Sequence[Case], options: Options, console: Console) -> int:
    from rich.console import Console

    folder, begin = _folder(plan, options), time.monotonic()
    go_on = f"profiler run {plan.name} --out {folder} --resume"
    with opened_lab(plan, isolation=_isolation(options.isolation), limits=options.limits(), corrected=True) as lab:
        cases = with_batches(cases, folder, lab, lambda text: console.print(text, highlight=False), options.resume)
        try:
            progress = measure_into(folder, plan, cases, lab, resume=options.resume, go_on=go_on, console=console)
        except StoppedError:
            finish(folder, time.monotonic() - begin, Console())
            raise
    finish(folder, time.monotonic() - begin, Console())
    return 0 if all(progress.good(case) for case in cases) else 1


def _isolation(name: str | None) -> Isolation | None:
    if name in (None, "forkserver", "spawn"):
        return name  # type: ignore[return-value]  # narrowed by the line above
    raise UserError(f"--isolation {name!r}: expected forkserver or spawn")


def _folder(plan: Plan, options: Options) -> Path:
    """Return the folder to write: the one asked for, the newest of this plan to resume, or a new one."""
    if options.out is not None:
        return options.out
    if options.resume:
        from profiler.records.reading import NAME

        earlier = sorted(Path("results").glob(f"{plan.name}-*/{NAME}"), key=lambda path: path.stat().st_mtime)
        if not earlier:
            raise UserError(f"--resume: results/ holds no run of plan {plan.name!r}; name its folder with --out")
        return earlier[-1].parent
    return Path("results") / f"{plan.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _show_plan(plan: Plan, cases: Sequence[Case], console: Console) -> int:
    from profiler.plan.cases import complexities
    from profiler.plan.duration import estimate_seconds
    from profiler.units import format_duration

    for case in cases:
        print(case.label)
    seconds = estimate_seconds(cases, complexities(cases), plan.budget)
    networks = len({case.network for case in cases})
    console.print(
        f"{len(cases)} cases of {networks} networks; about {format_duration(seconds)}, estimated from flops before "
        "anything was measured",
        highlight=False,
    )
    return 0
