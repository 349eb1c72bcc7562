"""``profiler run``: measure a plan into a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Argument, Exit, Option

from profiler.cli.completing import backend_names, model_names, plan_names
from profiler.cli.dry_run import say_notes, show_plan, too_long
from profiler.cli.options import (
    Gap,
    InputFile,
    LockClocks,
    Many,
    MemoryFormat,
    Scheduler,
    SchedulerFile,
    Shape,
    Tls,
    meeting_of,
)
from profiler.errors import StoppedError, UserError
from profiler.machine import host
from profiler.plan.cases import expand, notes, wanted
from profiler.plan.plan import Plan
from profiler.plan.read import BUILT_IN, from_flags, load, override
from profiler.records.crowding import crowds
from profiler.records.reading import NAME
from profiler.records.types import Case
from profiler.report.plain import standard_console
from profiler.report.summary import Detail, finish
from profiler.run.batch import with_batches
from profiler.run.child import Limits, LimitsFor
from profiler.run.clocks import checked_clock, held_clocks
from profiler.run.experiment import measure_into, opened_lab
from profiler.run.families import families
from profiler.run.going_on import again
from profiler.run.meeting import Meeting
from profiler.run.processes import Isolation
from profiler.run.schedule import Progress
from profiler.units import parse_bytes

#: Bytes that a limit of the system cannot count.
_MEMORY_END = 1 << 63


@dataclass(frozen=True, slots=True)
class How:
    """How to run a plan; what to run is the plan's.

    Attributes:
        out: Folder of the run, or None for one named after the plan and the time.
        resume: Continue an interrupted run.
        dry_run: Only say what would be measured.
        isolation: ``forkserver`` or ``spawn``; None for the best this system has.
        pin: Pin each visit to as many cores as it has threads.
        memory_limit: Private memory a visit may take, as ``4GiB``; None for no limit.
        detail: How much is printed at the end.
        report: Write the page at the end.
        meeting: Of the fleet that measures; None for this machine.
        patience: How long a label of it may be without a worker, in words.
        lock_clocks: Clock in MHz at which GPUs are held meanwhile; None leaves them alone.
    """

    out: Path | None = None
    resume: bool = False
    dry_run: bool = False
    isolation: str | None = None
    pin: bool = False
    memory_limit: str | None = None
    detail: Detail = "brief"
    report: bool = False
    meeting: Meeting | None = None
    patience: str = "60s"
    lock_clocks: int | None = None

    def limits(self) -> LimitsFor:
        """Return the limits of a visit's process by its placement; raises UserError for what is no size of memory."""
        memory = _memory(self.memory_limit) if self.memory_limit is not None else None
        cores = sorted(os.sched_getaffinity(0)) if self.pin and hasattr(os, "sched_getaffinity") else []
        return lambda placement: Limits(tuple(cores[: placement.threads]), memory)


def _memory(text: str) -> int:
    try:
        size = parse_bytes(text)
    except UserError as error:
        raise UserError(f"--memory-limit: {error}") from error
    if not 0 < size < _MEMORY_END:
        raise UserError(f"--memory-limit {text!r}: expected a size above 0 and below 8 EiB, as 4GiB")
    return size


def _run(source: str | None, flags: Mapping[str, object], how: How) -> int:
    """Measure the plan ``source``, changed by ``flags``, and return the exit code.

    0 when every case has a latency, 1 when at least one has none, 130 when the user stopped the run.
    """
    if not source and not flags.get("models"):
        raise UserError(
            f"nothing to measure: name a plan ({', '.join(BUILT_IN)} or a TOML file), or networks with --model; "
            "`profiler models` lists them"
        )
    isolation, limits = _isolation(how.isolation), how.limits()
    console = standard_console(stderr=True)
    if how.meeting is not None:
        if how.lock_clocks is not None:
            raise UserError("--lock-clocks holds the GPUs of this machine alone: set those of a fleet where they are")
        from profiler.cli.fleet_run import run_on_fleet

        return run_on_fleet(source, flags, how, isolation, console)
    plan = override(load(source), **flags) if source else from_flags(**flags)
    own = families(wanted(plan))
    cases = expand(plan, host.usable_cores(), own)
    say_notes((*notes(plan, own, brief=how.detail != "full"), *crowds(cases, host.usable_cores())), console)
    if how.dry_run:
        return show_plan(plan, cases, console, each=how.detail == "full")
    if not how.resume and (long := too_long(plan, cases)):
        console.print(long, highlight=False, markup=False, soft_wrap=True)
    return _measured(plan, cases, how, isolation, limits, console)


def _measured(
    plan: Plan, cases: Sequence[Case], how: How, isolation: Isolation | None, limits: LimitsFor, console: Console
) -> int:
    folder = folder_of(plan, how)

    def measure() -> Progress:
        with (
            opened_lab(plan, isolation=isolation, limits=limits) as lab,
            held_clocks(how.lock_clocks, plan.devices, partial(console.print, highlight=False, markup=False)),
        ):
            found = with_batches(cases, folder, lab, lambda text: console.print(text, highlight=False), how.resume)
            go_on = again(folder)
            return measure_into(
                folder, plan, found, lab, resume=how.resume, go_on=go_on, passes=plan.passes, console=console
            )

    return finished(measure, folder, how)


def finished(measure: Callable[[], Progress], folder: Path, how: How) -> int:
    """Measure into ``folder``, say what came of it, also where it was stopped, and return the exit code."""
    begin = time.monotonic()
    try:
        progress = measure()
    except StoppedError as stopped:
        try:
            finish(folder, time.monotonic() - begin, standard_console(), detail=how.detail)
        finally:
            # Whatever becomes of the pictures, the user must read how to go on.
            raise stopped
    except KeyboardInterrupt:
        raise StoppedError(f"stopped at once; continue with: {again(folder)}") from None
    finish(folder, time.monotonic() - begin, standard_console(), detail=how.detail, report=how.report)
    return 0 if all(progress.measured(case) for case in progress.cases) else 1


def _isolation(name: str | None) -> Isolation | None:
    if name in (None, "forkserver", "spawn"):
        return name  # type: ignore[return-value]  # narrowed by the line above
    raise UserError(f"--isolation {name!r}: expected forkserver or spawn")


def folder_of(plan: Plan, how: How) -> Path:
    """Return the folder to write: the one asked for, the newest of this plan to resume, or a new one."""
    if how.out is not None:
        return how.out
    if how.resume:
        earlier = sorted(Path("results").glob(f"{plan.name}-*/{NAME}"), key=lambda path: path.stat().st_mtime)
        if not earlier:
            raise UserError(f"--resume: results/ holds no run of plan {plan.name!r}; name its folder with --out")
        return earlier[-1].parent
    return Path("results") / f"{plan.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


_Precision = Annotated[
    Many,
    Option(
        "--precision",
        metavar="P,P",
        help="Of numbers: fp32, tf32, fp16, bf16; of the result: a case is finished when its 95% interval is within this, as 1%.",
    ),
]
_Batch = Annotated[Many, Option("--batch", metavar="N,N", help="Images per forward; max finds the largest that fits.")]
_Epoch = Annotated[bool, Option("--epoch", help="For mode train: an epoch's time, with a loader over image files.")]
_ImagesFrom = Annotated[
    str | None, Option("--images-from", metavar="DIR", help="Images to load [a small set is made once].")
]
_Workers = Annotated[
    int | None, Option("--workers", metavar="N", help="Processes that load [cores that training leaves].")
]
_Images = Annotated[int | None, Option("--images", metavar="N", help="Images of an epoch [1281167, ImageNet's].")]
_Patience = Annotated[
    str, Option("--patience", metavar="60s", help="How long a label of a fleet may be without a worker.")
]
_Isolation = Annotated[str | None, Option("--isolation", metavar="HOW", help="forkserver or spawn.")]

_Model = Annotated[
    Many,
    Option(
        "--model",
        metavar="A,B",
        help="Networks, package.module:function, path/file.py:function, or files.",
        autocompletion=model_names,
    ),
]
_Time = Annotated[
    str | None, Option("--time", metavar="3min", help="How long to measure; what is left narrows intervals.")
]
_MemoryLimit = Annotated[str | None, Option("--memory-limit", metavar="4GiB", help="Memory a visit may take.")]
_Report = Annotated[bool, Option("--report", help="Write report.html at the end, as `profiler report` does.")]
_Verbose = Annotated[bool, Option("--verbose", "-v", help="Print every case, note and fit.")]
_Quiet = Annotated[bool, Option("--quiet", "-q", help="Print the files alone.")]


def run_command(
    plan: Annotated[
        str | None,
        Argument(metavar="[PLAN]", help="quick, fast-and-accurate, or a TOML file.", autocompletion=plan_names),
    ] = None,
    model: _Model = None,
    scale: Annotated[Many, Option("--scale", metavar="R,R", help="Scaling rules.")] = None,
    factor: Annotated[Many, Option("--factor", metavar="S,S", help="Scaling factors.")] = None,
    flops: Annotated[Many, Option("--flops", metavar="T,T", help="Target flops instead of factors.")] = None,
    backend: Annotated[
        Many,
        Option("--backend", metavar="B,B", help="eager, torchscript, onnxruntime, ...", autocompletion=backend_names),
    ] = None,
    device: Annotated[Many, Option("--device", "--devices", metavar="D,D", help="cpu, cuda:0, ...")] = None,
    precision: _Precision = None,
    threads: Annotated[Many, Option("--threads", metavar="N,N", help="Threads; 0 is every usable core.")] = None,
    batch: _Batch = None,
    mode: Annotated[Many, Option("--mode", metavar="M,M", help="infer, train.")] = None,
    memory: Annotated[bool, Option("--memory", help="Peak memory too, in a visit of its own.")] = False,
    epoch: _Epoch = False,
    images: _Images = None,
    images_from: _ImagesFrom = None,
    workers: _Workers = None,
    memory_format: MemoryFormat = None,
    shape: Shape = None,
    input_file: InputFile = None,
    gap: Gap = None,
    time: _Time = None,
    rounds: Annotated[int | None, Option("--rounds", metavar="N", help="The most visits a case gets.")] = None,
    visit: Annotated[str | None, Option("--visit", metavar="1s", help="Timed part of one visit.")] = None,
    timeout: Annotated[str | None, Option("--timeout", metavar="300s", help="A visit is stopped after this.")] = None,
    seed: Annotated[int | None, Option("--seed", metavar="N", help="Seed of the random order.")] = None,
    out: Annotated[Path | None, Option("--out", metavar="DIR", help="Folder of the run [results/PLAN-DATE].")] = None,
    resume: Annotated[bool, Option("--resume", help="Continue an interrupted run; measures nothing twice.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would be measured, and how long it takes.")] = False,
    isolation: _Isolation = None,
    pin: Annotated[bool, Option("--pin", help="Pin each visit to as many cores as it has threads.")] = False,
    memory_limit: _MemoryLimit = None,
    lock_clocks: LockClocks = None,
    report: _Report = False,
    verbose: Annotated[bool, Option("--verbose", "-v", help="Print every case, note and fit.")] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Print the files alone.")] = False,
    scheduler: Scheduler = None,
    scheduler_file: SchedulerFile = None,
    tls: Tls = None,
    patience: _Patience = "60s",
) -> None:
    """Measure a plan, as its file or these options say it."""
    numbers, interval = _precisions(precision)
    detail: Detail = "quiet" if quiet else "full" if verbose else "brief"
    networks = {"models": model, "scalings": scale, "factors": factor, "flops": flops}
    where = {"backends": backend, "devices": device, "precisions": numbers, "threads": threads, "batches": batch}
    inputs = {"shapes": shape, "input_file": input_file, "gaps": gap}
    what = {"modes": mode, "memory_formats": memory_format, "memory": memory or None, "epoch": epoch or None}
    load = {"images": images, "images_from": images_from, "workers": workers}
    budget = {"time": time, "seed": seed, "precision": interval, "rounds": rounds, "visit_s": visit}
    flags = {**networks, **where, **inputs, **what, **load, **budget, "timeout_s": timeout}
    meeting = meeting_of(scheduler, scheduler_file, tls) if scheduler or scheduler_file or tls else None
    how = How(out, resume, dry_run, isolation, pin, memory_limit, detail, report, meeting, patience)
    raise Exit(_run(plan, flags, replace(how, lock_clocks=checked_clock(lock_clocks))))


def _precisions(text: str | None) -> tuple[str | None, str | None]:
    """Tell the precision of numbers (``fp32,bf16``) from that of the result (``1%``): one flag takes both."""
    words = [word.strip() for word in text.split(",")] if text else []
    results = [word for word in words if word[:1].isdigit() or word[:1] == "."]
    numbers = [word for word in words if word not in results]
    return ",".join(numbers) or None, results[-1] if results else None
