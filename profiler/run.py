"""``profiler run``: rounds over the cases of a plan, a fresh process per visit, every visit kept.

Each round visits every unfinished case once, in random order, so that a drift of the machine spreads over all cases
instead of falling on the last ones. A case is finished when the interval over its visits is narrow enough.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import platformdirs

from backends import cache
from backends.base import Placement
from profiler import __version__, host, reference
from profiler.display import Display, Live
from profiler.errors import UserError
from profiler.estimate import FASTER, Levels, case_estimate
from profiler.executors import Executor, Isolation, LocalExecutor
from profiler.records import Budget, Case, Failure, Measurement, Pass, Record
from profiler.store import Journal
from profiler.summary import finish
from profiler.training import Feed
from profiler.units import parse_bytes
from profiler.worker import CalibrationTask, Limits, Reply, Task, calibrate, visit

if TYPE_CHECKING:
    from rich.console import Console

    from profiler.plan import Plan

LimitsFor = Callable[[Placement], Limits]

#: Exports and compiled forms kept from earlier runs; a form can be as large as its network's weights.
CACHE_BYTES = 10 << 30
#: Forwards timed by a visit that looks for the largest batch, at least: what forwards free is kept, in pieces, and the
#: next ones may need more. After one, every fourth to tenth batch that had just fitted did not fit its visit.
PROBED = 8
#: Fresh processes that measure the nominal time of a reference, and seconds each.
CALIBRATION_VISITS = 5
CALIBRATION_S = 0.5


def cache_folder() -> Path:
    """Return where exports, eager outputs and calibrations are kept between runs."""
    return Path(platformdirs.user_cache_dir("latency-profiler", appauthor=False))


class Interrupt:
    """Ctrl-C once finishes the visit that runs and saves; twice stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print(
            "\nfinishing the visit that runs, then saving; Ctrl-C again stops now",
            file=sys.stderr,
            flush=True,
        )

    @contextmanager
    def watch(self) -> Iterator[Interrupt]:
        """Take over SIGINT for the duration of the context."""
        before = signal.signal(signal.SIGINT, self._handle)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, before)


@dataclass
class Progress:
    """What is known of each case so far: the state that decides what is visited next."""

    cases: Sequence[Case]
    budget: Budget
    visits: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    levels: Levels = field(default_factory=Levels)
    passes: set[tuple[str, Pass]] = field(default_factory=set)
    _finished: set[str] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Count one visit; only those for latency count as rounds."""
        if record.measures == "latency":
            self.visits[record.case.key].append(record)
            # Decided once per visit: asking again for every case before every visit would keep a core busy.
            if self._enough(record.case):
                self._finished.add(record.case.key)
        else:
            self.passes.add((record.case.key, record.measures))

    def missing(self, passes: Sequence[Pass]) -> list[tuple[Case, Pass]]:
        """Return the visits for ``passes`` that are still to be made: one for each case that has a latency."""
        return [
            (case, measures)
            for measures in passes
            for case in self.cases
            if self.good(case)
            and (case.key, measures) not in self.passes
            and (case.mode == "train" or measures != "epoch")
        ]

    def good(self, case: Case) -> list[Measurement]:
        """Return the measurements of ``case``."""
        outcomes = [record.outcome for record in self.visits[case.key]]
        return [outcome for outcome in outcomes if isinstance(outcome, Measurement)]

    def finished(self, case: Case) -> bool:
        """Whether ``case`` needs no further visit."""
        return case.key in self._finished

    def _enough(self, case: Case) -> bool:
        """Whether the visits of ``case`` so far are enough.

        Its rounds are used up, its interval is within the precision asked for, or it has failed: a failure is
        repeated only where earlier visits of the same case succeeded.
        """
        done, good = self.visits[case.key], self.good(case)
        if len(done) >= self.budget.rounds:
            return True
        if done and not good:
            return True
        # A visit in which the GPU slowed itself down is kept and marked, and another one is tried in a later round.
        if sum(not measured.conditions.gpu_slowdown for measured in good) < self.budget.min_rounds:
            return False
        level = self.levels.of(case.placement, good)
        width = case_estimate(good, self.budget.min_rounds, level).relative_half_width
        return width is not None and width <= self.budget.precision

    def round_order(self, number: int, seed: int) -> list[Case]:
        """Return the unfinished cases that round ``number`` has not visited, in its random order."""
        order = list(self.cases)
        random.Random(f"{seed}:{number}").shuffle(order)  # noqa: S311 - an order, not a secret
        return [case for case in order if not self.finished(case) and len(self.visits[case.key]) <= number]


def reference_visits(
    placement: Placement, executor: Executor, count: int, seconds: float, limits: Limits | None = None
) -> tuple[int, list[reference.Calls]] | Failure:
    """Return (units per call, calls of the reference in each of ``count`` fresh processes), or the first failure."""
    repeats: int | None = None
    visits: list[reference.Calls] = []
    for _ in range(count):
        task = CalibrationTask(placement, repeats, seconds)
        answer = executor.call(calibrate, task, 120.0, limits or Limits())
        if isinstance(answer, Failure):
            return answer
        repeats, calls = answer
        visits.append(calls)
    return repeats or 1, visits


class Calibrations:
    """Nominal times of the reference, measured when first needed and kept in the user's cache.

    On two threads beside a process that keeps a core busy the reference once took 23 to 100 times its time. Where its
    threads waited for a core in every block of every process there is no calibration, but a failure that says so.

    Args:
        executor: Where calibrations are measured.
        folder: Where they are kept.
        limits: Of the processes that measure them.
        redo: Measure them even where they are kept.
        corrected: They are corrected by what visits find, as a run's table does: one is made beside a busy core too,
            but not kept.
    """

    def __init__(
        self, executor: Executor, folder: Path, limits: LimitsFor, *, redo: bool = False, corrected: bool = False
    ) -> None:
        self._executor, self._folder, self._limits = executor, folder, limits
        self._redo, self._corrected = redo, corrected
        self._known: dict[str, reference.Calibration | Failure] = {}

    def get(self, placement: Placement) -> reference.Calibration | Failure:
        """Return the calibration for the device, precision and threads of ``placement``."""
        name = reference.identity(host.key(), placement)
        if name not in self._known:
            kept = None if self._redo else reference.stored(self._folder, name)
            self._known[name] = kept or self._measure(placement, name)
        return self._known[name]

    def _measure(self, placement: Placement, name: str) -> reference.Calibration | Failure:
        limits = self._limits(placement)
        answer = reference_visits(placement, self._executor, CALIBRATION_VISITS, CALIBRATION_S, limits)
        if isinstance(answer, Failure):
            return answer
        repeats, visits = answer
        centre, spread = reference.nominal(visits)
        made = reference.Calibration(repeats, centre, spread, len(visits), now())
        if not all(calls.crowded for calls in visits):
            self._keep(name, made)
            return made
        busy = (
            f"with threads={placement.threads} on {placement.device} the reference always waited for a core while it "
            "was calibrated: something else keeps cores busy; stop it, or use fewer threads"
        )
        if not self._redo:
            then = "this calibration is not kept" if self._corrected else "measuring without the reference"
            print(f"{busy}; {then}", file=sys.stderr)
        return made if self._corrected else Failure("error", busy)

    def correct(self, placement: Placement, levels: Levels) -> None:
        """Keep a shorter nominal time where visits found the reference faster than its calibration did."""
        name = reference.identity(host.key(), placement)
        made = self._known.get(name)
        if not isinstance(made, reference.Calibration):
            return
        level = levels.overall(placement, made.nominal_ns)
        if level is not None and level < FASTER:
            self._keep(name, replace(made, nominal_ns=made.nominal_ns * level, created=now()))

    def _keep(self, name: str, made: reference.Calibration) -> None:
        try:
            reference.store(self._folder, name, made)
        except OSError as error:
            print(
                f"the calibration could not be kept ({error}); it is measured again next time",
                file=sys.stderr,
            )


@dataclass(frozen=True, slots=True)
class Lab:
    """What every visit of a run shares."""

    budget: Budget
    executor: Executor
    limits: LimitsFor
    calibrations: Calibrations
    feed: Feed = field(default_factory=Feed)
    levels: Levels = field(default_factory=Levels)


def now() -> str:
    """Return the UTC time to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def session_facts(plan: Plan, cases: Sequence[Case], seed: int) -> dict[str, object]:
    """Return what the journal says of one session: machine, versions, command, plan, order."""
    from profiler.plan import digest, to_toml

    return {
        "host": {"key": host.key(), **host.facts()},
        "versions": {"latency-profiler": __version__, **host.versions()},
        "argv": sys.argv[1:],
        "reference": reference.VERSION,
        "seed": seed,
        "plan": to_toml(plan),
        "digest": digest(plan),
        "started": now(),
        "cases": list(cases),
        "budget": plan.budget,
    }


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


def one_visit(case: Case, number: int, lab: Lab, measures: Pass = "latency") -> Record:
    """Visit ``case`` once and return its record, whatever happens."""
    started, begin = now(), time.monotonic()
    simulated = case.backend.partition(":")[0] == "fake"
    timed = measures == "latency" and not simulated
    calibration = lab.calibrations.get(case.placement) if timed else None
    # Where the reference cannot run the backend cannot either, and its own sentence is the better one.
    calibration = None if isinstance(calibration, Failure) else calibration
    level = lab.levels.latest(case.placement, calibration.nominal_ns if calibration else None)
    task = Task(case, lab.budget, calibration, cache_folder(), measures, lab.feed, level, energy=number == 0)
    answer = lab.executor.call(visit, task, lab.budget.timeout_s, lab.limits(case.placement))
    reply = Reply(answer) if isinstance(answer, Failure) else answer
    return Record(
        case=case,
        complexity=reply.complexity,
        resolution=reply.resolution,
        host=host.key(),
        round=number,
        started=started,
        wall_s=round(time.monotonic() - begin, 6),
        outcome=reply.outcome,
        measures=measures,
    )


def measure_all(
    journal: Journal, progress: Progress, seed: int, lab: Lab, shown: Display, passes: Sequence[Pass] = ()
) -> bool:
    """Visit until every case is finished, then make the visits of ``passes``; return False when the user stopped it."""

    def note(record: Record) -> None:
        journal.append(record)
        progress.add(record)
        lab.levels.add(record.case.placement, record.outcome)
        shown.after(record, progress)

    with Interrupt().watch() as interrupt:
        for number in range(progress.budget.rounds):
            for case in progress.round_order(number, seed):
                if interrupt.asked:
                    return False
                shown.before(case, number, progress)
                note(one_visit(case, number, lab))
        for case, measures in progress.missing(passes):
            if interrupt.asked:
                return False
            shown.before(case, 0, progress)
            note(one_visit(case, 0, lab, measures))
    return True


def command(source: str | None, flags: Mapping[str, object], options: Options) -> int:
    """Measure the plan ``source``, changed by ``flags``, and return the exit code.

    0 when every case has a latency, 1 when at least one has none, 130 when the user stopped the run.
    """
    from rich.console import Console

    from profiler import plan as plans

    if not source and not flags.get("models"):
        raise UserError(
            f"nothing to measure: name a plan ({', '.join(plans.BUILT_IN)} or a TOML file), or networks with --model; "
            "`profiler models` lists them"
        )
    plan = plans.override(plans.load(source), **flags) if source else plans.from_flags(**flags)
    cases = plans.expand(plan, host.usable_cores())
    console = Console(stderr=True)
    for note in plans.notes(plan):
        console.print(note, style="dim", highlight=False, markup=False)
    if options.dry_run:
        return _show_plan(plan, cases, console)
    folder = _folder(plan, options)
    seed = plan.seed if plan.seed is not None else random.SystemRandom().randrange(2**31)
    return _measured(plan, cases, folder, seed, options, console)


def _measured(plan: Plan, cases: Sequence[Case], folder: Path, seed: int, options: Options, console: Console) -> int:
    from rich.console import Console

    cache.prune(cache_folder(), CACHE_BYTES)
    executor = LocalExecutor(_isolation(options.isolation))
    begin = time.monotonic()
    try:
        limits = options.limits()
        calibrations = Calibrations(executor, cache_folder(), limits, corrected=True)
        lab = Lab(plan.budget, executor, limits, calibrations, plan.feed)
        cases = _with_batches(cases, folder, lab, options, console)
        with Journal.open(folder, session_facts(plan, cases, seed), resume=options.resume) as journal:
            for notice in journal.earlier.notices:
                console.print(notice, markup=False)
            progress = Progress(cases, plan.budget, levels=lab.levels)
            for record in journal.earlier.records:
                lab.levels.add(record.case.placement, record.outcome)
                progress.add(record)
            with Live(console) as shown:
                complete = measure_all(journal, progress, _order_seed(journal, seed), lab, shown, plan.passes)
            for placement in {case.placement for case in cases}:
                lab.calibrations.correct(placement, lab.levels)
    finally:
        executor.close()
    finish(folder, time.monotonic() - begin, Console())
    if not complete:
        print(f"stopped; continue with: profiler run {plan.name} --out {folder} --resume", file=sys.stderr)
        return 130
    return 0 if all(progress.good(case) for case in cases) else 1


def _with_batches(cases: Sequence[Case], folder: Path, lab: Lab, options: Options, console: Console) -> Sequence[Case]:
    """Return ``cases`` with the largest batch that fits where the plan says ``max``."""
    from profiler import batch
    from profiler.store import NAME, read

    if not any(case.batch_asked for case in cases):
        return cases
    earlier = read(folder).planned if options.resume and (folder / NAME).is_file() else ()
    limit = parse_bytes(options.memory_limit) if options.memory_limit else None

    # A visit for latency, as short as it can be: it keeps what forwards free, and so takes more than one for memory.
    samples = max(PROBED, lab.budget.min_samples)
    brief = replace(lab, budget=replace(lab.budget, visit_s=1e-3, min_samples=samples, warmup_s=1e-3))

    def probe(case: Case) -> Failure | None:
        outcome = one_visit(case, 0, brief).outcome
        return outcome if isinstance(outcome, Failure) else None

    return batch.resolve(cases, probe, earlier, lambda text: console.print(text, highlight=False), limit)


def _isolation(name: str | None) -> Isolation | None:
    if name in (None, "forkserver", "spawn"):
        return name  # type: ignore[return-value]  # narrowed by the line above
    raise UserError(f"--isolation {name!r}: expected forkserver or spawn")


def _order_seed(journal: Journal, seed: int) -> int:
    """Return the seed of the run's first session: a resumed run goes on in the same order."""
    sessions = journal.earlier.sessions
    return int(sessions[0].facts.get("seed", seed)) if sessions else seed


def _folder(plan: Plan, options: Options) -> Path:
    """Return the folder to write: the one asked for, the newest of this plan to resume, or a new one."""
    if options.out is not None:
        return options.out
    if options.resume:
        from profiler.store import NAME

        earlier = sorted(Path("results").glob(f"{plan.name}-*/{NAME}"), key=lambda path: path.stat().st_mtime)
        if not earlier:
            raise UserError(f"--resume: results/ holds no run of plan {plan.name!r}; name its folder with --out")
        return earlier[-1].parent
    return Path("results") / f"{plan.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _show_plan(plan: Plan, cases: Sequence[Case], console: Console) -> int:
    from profiler import plan as plans
    from profiler.units import format_duration

    for case in cases:
        print(case.label)
    seconds = plans.estimate_seconds(cases, plans.complexities(cases), plan.budget)
    networks = len({case.network for case in cases})
    console.print(
        f"{len(cases)} cases of {networks} networks; about {format_duration(seconds)}, estimated from flops before "
        "anything was measured",
        highlight=False,
    )
    return 0
