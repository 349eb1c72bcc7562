"""``profiler baseline`` and ``profiler gate --against``: a run kept as a file, and a plan measured now against it.

The two runs were made at different times, so nothing cancels as it does in the interleaved blocks of
:mod:`profiler.duel`. What is compared are the visits' normalised latencies: ratios to the reference workload that ran
beside them. They divide out what slows model and reference alike, such as a lower clock; not what slows a model more
than the reference, such as a competitor for a core. Hence a regression does not count while the reference itself takes
another time than it did, it must be seen again in fresh visits, and both runs must come from like machines with the
same runtimes. Where both sides can still be run, ``profiler gate --baseline A --candidate B`` tells smaller changes.

A stored baseline keeps the calibration of its reference, and the new run uses it: a reference that is calibrated anew
would shift every case by the noise of the calibration.
"""

from __future__ import annotations

import json as jsonlib
import math
import os
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends import cache
from backends.base import Placement
from profiler import host, reference, store
from profiler import run as runs
from profiler.decision import ALPHA, Answer, Interval, Rule, weigh
from profiler.errors import UserError
from profiler.estimate import (
    PILOT,
    QUIET,
    case_estimate,
    quiet_level,
    trimmed,
    trimmed_interval,
    visit_estimate,
)
from profiler.records import Case, Failure, Measurement, Record
from profiler.store import Run, Session
from profiler.units import format_duration, format_share

if TYPE_CHECKING:
    from profiler.gate import Status
    from profiler.plan import Plan

FILE = Path("results") / "baseline.jsonl"
#: Visits of a case that each run must have: two give a spread of one degree of freedom, which tells nothing.
LEAST_VISITS = 3
#: Subfolder of a gate's run with the visits that confirm a regression.
AGAIN = "again"
CONFIDENCE = 0.95

#: Measures cases into a subfolder of the run, empty for the run itself, and returns what came out.
Measure = Callable[[Sequence[Case], str], Run]


# --- what two runs say of one case ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Level:
    """Where the logarithms of a case's visits lie: trimmed mean, its standard error, its degrees of freedom."""

    centre: float
    error: float
    freedom: int


@dataclass(frozen=True, slots=True)
class Visits:
    """Visits of one case in one run.

    Attributes:
        measured: The raw data of those that succeeded.
        pilot: Visits before their spread first decided whether to go on.
        started: UTC time of the first one, ISO 8601.
        failure: The last failure among them.
        host: Key of the machine.
        session: What the run knew when it measured the last one; None where no session is known.
    """

    measured: tuple[Measurement, ...] = ()
    pilot: int = PILOT
    started: str = ""
    failure: Failure | None = None
    host: str = ""
    session: Session | None = None

    @property
    def logs(self) -> list[float]:
        """Logarithm of each visit's normalised latency in ns; of quiet visits where there are enough."""
        quiet = quiet_level(self.measured)
        estimates = [visit_estimate(visit, quiet) for visit in self.measured]
        used = [e for e in estimates if e.quiet_samples]
        return [math.log(e.normalised_ns) for e in (used if len(used) >= LEAST_VISITS else estimates)]

    @property
    def level(self) -> Level:
        """Mean and error as in the headline, see :func:`profiler.estimate.sequential_interval`.

        The visits decided themselves how many there are, and stop when they agree by luck: the error is at least that
        of Stein (1945), from the pilot alone and with its degrees of freedom.
        """
        from scipy.special import stdtrit

        logs = self.logs
        count = len(logs)
        freedom = count - 1 - 2 * trimmed(count)
        centre, half = trimmed_interval(logs)
        error = (half or 0.0) / float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
        if not 2 <= self.pilot < count:
            return Level(centre, error, freedom)
        stein = statistics.stdev(logs[: self.pilot]) / math.sqrt(count)
        return Level(centre, max(error, stein), min(freedom, self.pilot - 1))

    @property
    def slowness(self) -> float | None:
        """What the reference took in its quiet blocks, relative to its nominal time; None without a reference."""
        return quiet_level(self.measured) if self.nominal_ns else None

    @property
    def nominal_ns(self) -> float | None:
        """Nominal time of the reference; None where one of the visits had none."""
        nominals = [visit.nominal_ns for visit in self.measured if visit.reference_ns]
        told = [ns for ns in nominals if ns is not None]
        return statistics.median(told) if told and len(told) == len(self.measured) else None


@dataclass(frozen=True, slots=True)
class Contrast:
    """``ln(now / then)`` of one case, by Welch's approximation for two samples of unlike spread.

    B. L. Welch, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika 34 (1947); on trimmed means K. Yuen, "The two-sample trimmed t for unequal population variances",
    Biometrika 61 (1974).

    Attributes:
        centre: The estimate.
        error: Its standard error.
        freedom: Degrees of freedom of Student's t.
        doubt: How far a reference calibrated anew may have shifted it; 0 with the calibration of the stored run.
    """

    centre: float
    error: float
    freedom: float
    doubt: float = 0.0

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Return (lower, upper) one-sided bounds: what lies outside is rejected by the one-sided test at ``alpha``."""
        from scipy import stats

        reach = float(stats.t.isf(alpha, self.freedom)) * self.error + self.doubt
        return self.centre - reach, self.centre + reach

    @property
    def change(self) -> Interval:
        """Now over then minus one, with its 95% interval."""
        low, high = self.bounds((1 - CONFIDENCE) / 2)
        return Interval(math.expm1(self.centre), math.expm1(low), math.expm1(high))


def contrast(then: Visits, now: Visits) -> Contrast:
    """Compare the visits of a case in two runs; each needs two at least."""
    old, new = then.level, now.level
    total = old.error**2 + new.error**2
    shares = old.error**4 / old.freedom + new.error**4 / new.freedom
    # Without any spread the degrees of freedom do not matter.
    freedom = total**2 / shares if shares else float(old.freedom + new.freedom)
    nominals = then.nominal_ns, now.nominal_ns
    doubt = abs(math.log(nominals[1] / nominals[0])) if nominals[0] and nominals[1] else 0.0
    return Contrast(new.centre - old.centre, math.sqrt(total), freedom, doubt)


def visits_of(found: Run) -> dict[Case, Visits]:
    """Return what a run has of each case's latency, cases in the order of their first visit."""
    groups: dict[Case, list[Record]] = {}
    for record in found.records:
        if record.measures == "latency":
            groups.setdefault(record.case, []).append(record)
    return {case: _visits(records, session_of(found, records[-1])) for case, records in groups.items()}


def _visits(records: Sequence[Record], session: Session | None) -> Visits:
    outcomes = [record.outcome for record in records]
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    return Visits(
        measured=tuple(outcome for outcome in outcomes if isinstance(outcome, Measurement)),
        pilot=_pilot(session),
        started=min(record.started for record in records),
        failure=failures[-1] if failures else None,
        host=records[-1].host,
        session=session,
    )


def _pilot(session: Session | None) -> int:
    fewest = _part(session, "budget").get("min_rounds")
    return fewest if isinstance(fewest, int) else PILOT


def _part(session: Session | None, name: str) -> Mapping[str, Any]:
    part = session.facts.get(name) if session else None
    return part if isinstance(part, Mapping) else {}


def session_of(found: Run, record: Record) -> Session | None:
    """Return the session that measured a record: the last one of its machine that had started by then."""
    same = [session for session in found.sessions if session.host.get("key") == record.host]
    earlier = [session for session in same if _started(session) <= record.started]
    return max(earlier, key=_started) if earlier else next(iter(same), None)


def _started(session: Session) -> str:
    return str(session.facts.get("started", ""))


# --- the gate ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one case beside a stored run of it.

    Attributes:
        case: What was compared.
        status: As in :class:`profiler.gate.Verdict`.
        reason: One sentence.
        max_slowdown: The slow-down that must be caught, as a share.
        then: Visits of the stored run; None where there is nothing to compare.
        now: Visits made now.
        again: Fresh visits that confirmed or contradicted a regression.
        detail: Traceback or output of what failed.
    """

    case: Case
    status: Status
    reason: str
    max_slowdown: float
    then: Visits | None = None
    now: Visits | None = None
    again: Visits | None = None
    detail: str = ""

    @property
    def label(self) -> str:
        """The case in one line."""
        return self.case.label

    @property
    def seconds(self) -> float | None:
        """Wall time of the visits; their records have it."""
        return None

    @property
    def change(self) -> Interval | None:
        """Now over then minus one over all visits, with its 95% interval; None where too few were made."""
        then, now = self.then, self._all_now
        if then is None or now is None or min(len(then.measured), len(now.measured)) < 2:
            return None
        return contrast(then, now).change

    @property
    def reference_ratio(self) -> float | None:
        """How many times as long as in the stored run the reference takes; None without one on both sides."""
        then, now = self.then, self._all_now
        return _reference_ratio(then, now) if then and now else None

    def latency_ns(self, side: str) -> float | None:
        """Return the normalised time of a forward of ``baseline`` or ``candidate``, in ns."""
        visits = self.then if side == "baseline" else self._all_now
        return case_estimate(visits.measured, visits.pilot).latency_ns if visits and visits.measured else None

    @property
    def _all_now(self) -> Visits | None:
        if self.now is None or self.again is None:
            return self.now
        return replace(self.now, measured=self.now.measured + self.again.measured)

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as plain types, for JSON; the raw visits are in the run's journal."""
        sides = {f"{side}_ms": _ms(self.latency_ns(side)) for side in ("baseline", "candidate")}
        return {
            "name": self.label,
            "case": self.case.key,
            "status": self.status,
            "reason": self.reason,
            "detail": self.detail,
            "max_slowdown": self.max_slowdown,
            "change": asdict(self.change) if self.change else None,
            "reference_ratio": self.reference_ratio,
            **sides,
        }


def _reference_ratio(then: Visits, now: Visits) -> float | None:
    old, new = then.slowness, now.slowness
    return new / old if old and new else None


def _ms(ns: float | None) -> float | None:
    return None if ns is None else ns / 1e6


def answer(then: Visits, now: Visits, rule: Rule) -> Answer:
    """Say what two runs show of one case, as :func:`profiler.decision.look` does for blocks.

    A regression does not count when the quiet reference takes a time that would mark a block as disturbed.
    """
    if min(len(then.measured), len(now.measured)) < LEAST_VISITS:
        return "inconclusive"
    found = contrast(then, now)
    decided = weigh(found.bounds(rule.alpha)[0], found.bounds(ALPHA)[1], rule)
    if decided == "pass":
        return "pass"
    return "regression" if decided == "regression" and not _disturbed(then, now) else "inconclusive"


def _disturbed(then: Visits, now: Visits) -> bool:
    ratio = _reference_ratio(then, now)
    return ratio is not None and not 1 / QUIET <= ratio <= QUIET


def judge(stored: Run, cases: Sequence[Case], measure: Measure, max_slowdown: float) -> list[Verdict]:
    """Measure the cases that a stored run has, and judge each.

    Args:
        stored: The run to compare with.
        cases: Of the plan, in the order of the verdicts.
        measure: Makes the visits.
        max_slowdown: The slow-down that must be caught, as a share.
    """
    then = visits_of(stored)
    reasons = {case: why_not(stored.path, then, case) for case in cases}
    known = [case for case in cases if reasons[case] is None]
    rule = Rule(max_slowdown).shared(max(1, len(known)))
    now = visits_of(measure(known, "")) if known else {}
    verdicts = {
        case: Verdict(case, "not comparable", reason, max_slowdown)
        if reason is not None
        else _judged(case, then[case], now.get(case, Visits()), rule)
        for case, reason in reasons.items()
    }
    suspects = [case for case, verdict in verdicts.items() if verdict.status == "regression"]
    again = visits_of(measure(suspects, AGAIN)) if suspects else {}
    for case in suspects:
        verdicts[case] = _confirmed(verdicts[case], then[case], now[case], again.get(case, Visits()), rule)
    return list(verdicts.values())


def why_not(path: Path, stored: Mapping[Case, Visits], case: Case) -> str | None:
    """Return why a case cannot be compared with a stored run on this machine, or None when it can.

    Args:
        path: Of the stored run.
        stored: From :func:`visits_of`.
        case: Of the plan.
    """
    # A case of another machine may differ in its threads alone, and the machine is the better reason.
    visits = stored.get(case) or next(iter(stored.values()), Visits(host=host.key()))
    if visits.host != host.key():
        told = host.difference(host.facts(), visits.session.host) if visits.session else None
        return told or f"not the same machine: its key is {host.key()} here and {visits.host} there"
    if case not in stored:
        return f"{path} has no such case; measure it with `profiler run` and add it with `profiler baseline update`"
    if not visits.measured and visits.failure:
        return f"{path} has no latency of it ({visits.failure.status}: {visits.failure.reason})"
    if visits.session is not None and visits.session.facts.get("reference", reference.VERSION) != reference.VERSION:
        return f"{path} was measured beside an older reference workload; measure it again and store it"
    return None


def _judged(case: Case, then: Visits, now: Visits, rule: Rule) -> Verdict:
    limit, failure = rule.max_slowdown, now.failure
    if not now.measured:
        reason = f"{failure.status}: {failure.reason}" if failure else "no visit was made"
        return Verdict(case, "error", reason, limit, then, now, detail=failure.detail if failure else "")
    unlike = _unlike(then, now)
    if unlike:
        reason = f"the visits were not made alike: {unlike}; measure both with the same version of this program"
        return Verdict(case, "not comparable", reason, limit, then, now)
    found = answer(then, now, rule)
    return Verdict(case, found, f"{_said(found, then, now, rule)}; {_when(then, now)}", limit, then, now)


def _unlike(then: Visits, now: Visits) -> str:
    """Say in what the way of measuring differs; empty where it does not."""
    old, new = ("beside a reference" if visits.nominal_ns else "without a reference" for visits in (then, now))
    if old != new:
        return f"now {new}, then {old}"
    old, new = (str(visits.measured[-1].facts.get("heap", "unset")) for visits in (then, now))
    return f"the heap's policy is {new} now and was {old} then" if old != new else ""


def _confirmed(verdict: Verdict, then: Visits, now: Visits, again: Visits, rule: Rule) -> Verdict:
    """Fail a build only on what fresh visits show again."""
    at_first = _said("regression", then, now, rule)
    if not again.measured:
        failed = again.failure or Failure("error", "no visit was made")
        reason = f"{at_first}; the visits that were to confirm it failed: {failed.reason}"
        return replace(verdict, status="error", reason=reason, again=again, detail=failed.detail)
    if answer(then, again, rule) == "regression":
        reason = f"{at_first}; confirmed by fresh visits: {_change(then, again)}; {_when(then, again)}"
        return replace(verdict, reason=reason, again=again)
    reason = (
        f"not confirmed: {_change(then, now)} at first, {_change(then, again)} in fresh visits; {_when(then, again)}; "
        "run it again on a quiet machine"
    )
    return replace(verdict, status="inconclusive", reason=reason, again=again)


def _change(then: Visits, now: Visits) -> str:
    """Say a change, as ``+6.2% [+5.1%, +7.3%] (6 stored and 5 new visits)``."""
    counts = f"({len(then.measured)} stored and {len(now.measured)} new visits)"
    if min(len(then.measured), len(now.measured)) < 2:
        return f"a change of unknown certainty {counts}"
    found = contrast(then, now).change
    low, high = (format_share(end, signed=True) for end in (found.low, found.high))
    return f"{format_share(found.estimate, signed=True)} [{low}, {high}] {counts}"


def _said(found: Answer, then: Visits, now: Visits, rule: Rule) -> str:
    limit, half, change = format_share(rule.max_slowdown), format_share(rule.tolerated), _change(then, now)
    if found == "pass":
        return f"{change}: surely less than {limit}"
    if found == "regression":
        return f"{change}: surely more than {half}, half of the limit"
    if len(then.measured) < LEAST_VISITS:
        return f"{change}: {LEAST_VISITS} at least are needed; store a run with more rounds (--rounds)"
    if len(now.measured) < LEAST_VISITS:
        return f"{change}: {LEAST_VISITS} at least are needed; raise rounds in the plan's [budget]"
    if contrast(then, now).bounds(rule.alpha)[0] > math.log1p(rule.tolerated):
        return f"{change}: slower, but the machine is not as quiet as it was; run it again when it is"
    return (
        f"{change}: neither surely less than {limit} nor surely more than {half}; "
        "raise rounds or visit_s in the plan's [budget], or the limit"
    )


def _when(then: Visits, now: Visits) -> str:
    """Say that the runs lie apart in time, and what the reference makes of it."""
    apart = f"measured {now.started or 'now'}, the baseline {then.started or 'earlier'}, not side by side: "
    ratio = _reference_ratio(then, now)
    if ratio is None:
        return f"{apart}no reference ran beside them, so a slower machine looks like a slower model"
    told = f"{apart}the reference beside each, now {ratio:.2f} times as slow, is divided out"
    doubt = contrast(then, now).doubt if min(len(then.measured), len(now.measured)) >= 2 else 0.0
    if doubt:
        told += (
            f"; it was calibrated anew, which may have shifted the change by {format_share(math.expm1(doubt))}: "
            "`profiler baseline update` keeps the calibration where the baseline was measured"
        )
    return told


class StoredCalibrations(runs.Calibrations):
    """Calibrations of a stored run first, so that the reference and its nominal time are the same in both runs."""

    def __init__(self, known: Mapping[str, reference.Calibration], *given: Any) -> None:
        super().__init__(*given)
        self._stored = known

    def get(self, placement: Placement) -> reference.Calibration | Failure:
        """Return the stored calibration for ``placement``, or this machine's own."""
        return self._stored.get(reference.identity(host.key(), placement)) or super().get(placement)


def calibrations(stored: Run) -> dict[str, reference.Calibration]:
    """Return the calibrations that a stored run kept, under their names; none of those that cannot be read."""
    found: dict[str, reference.Calibration] = {}
    for session in stored.sessions:
        for name, values in _part(session, "calibrations").items():
            with suppress(TypeError):
                found[name] = reference.Calibration(**values)
    return found


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

    The runs are made at different times; see the top of this module for what that costs, and what the reference does
    about it. Cases that the stored run lacks, or has of another machine, are not measured.

    Args:
        stored: A baseline from :func:`update`, or a run's folder or journal.
        plan_source: Name or path of the plan.
        max_slowdown: The slow-down that must be caught, as a share.
        out: Folder of the new run; None for one named after the time.
        flags: Keys of the plan to replace, as for ``profiler run``.
        resume: Continue an interrupted comparison in ``out``.

    Raises:
        UserError: The stored run or the plan cannot be used, or the folder cannot be written.
        KeyboardInterrupt: The user stopped it; what was measured is saved, and how to continue was printed.
    """
    from profiler import plan as plans
    from profiler.executors import LocalExecutor

    if not 0 < max_slowdown < math.inf:
        raise UserError(f"a limit of {max_slowdown:g} cannot be gated; expected a share above 0, as 5%")
    base = store.read(stored)
    for notice in base.notices:
        print(notice, file=sys.stderr)
    plan = plans.override(plans.load(plan_source), **flags or {})
    cases = _with_stored_batches(plans.expand(plan, host.usable_cores()), base)
    folder = out or Path("results") / f"gate-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    how = f"profiler gate {plan_source} --against {stored} --out {folder} --resume"
    cache.prune(runs.cache_folder(), runs.CACHE_BYTES)
    executor = LocalExecutor()
    try:
        limits, known = runs.Options().limits(), calibrations(base)
        lab = runs.Lab(plan.budget, executor, limits, StoredCalibrations(known, executor, runs.cache_folder(), limits))
        bench = _Bench(plan, folder, lab, known, how, resume)
        return judge(base, cases, bench.measure, max_slowdown)
    finally:
        executor.close()


def _with_stored_batches(cases: Sequence[Case], stored: Run) -> list[Case]:
    """Give cases of batch ``max`` the batch that the stored run found: another one would be another case."""
    known = {replace(case, batch=1): case for case in visits_of(stored) if case.batch_asked}
    return [known.get(case, case) if case.batch_asked else case for case in cases]


@dataclass(frozen=True, slots=True)
class _Bench:
    """Measures cases of a plan into a folder, by the machinery of ``profiler run``."""

    plan: Plan
    folder: Path
    lab: runs.Lab
    known: Mapping[str, reference.Calibration]
    how: str
    resume: bool

    def measure(self, cases: Sequence[Case], subfolder: str) -> Run:
        """See :data:`Measure`."""
        from rich.console import Console

        from profiler import table
        from profiler.display import Live

        folder = self.folder / subfolder
        seed = self.plan.seed if self.plan.seed is not None else random.SystemRandom().randrange(2**31)
        kept = {name: asdict(made) for name, made in self.known.items()}
        facts = runs.session_facts(self.plan, cases, seed) | {"calibrations": kept}
        progress = runs.Progress(cases, self.plan.budget, levels=self.lab.levels)
        with store.Journal.open(folder, facts, resume=self.resume) as journal, Live(Console(stderr=True)) as shown:
            for record in journal.earlier.records:
                progress.add(record)
            complete = runs.measure_all(journal, progress, seed, self.lab, shown)
        found = store.read(folder)
        table.write_csv(table.rows(found), folder / "cases.csv")
        if not complete:
            print(f"stopped; continue with: {self.how}", file=sys.stderr)
            raise KeyboardInterrupt
        return found


# --- the file ------------------------------------------------------------


def update(run: Path, file: Path = FILE, *, replace: bool = False) -> None:
    """Store a run's latencies as the baseline, in place of the same cases; ``profiler baseline update``.

    Cases that failed are left out, so that they replace none that were measured. Of the sessions, those stay that the
    visits belong to: they say which machine and versions these are of.

    Args:
        run: The run's folder or its journal.
        file: The baseline; it changes completely or not at all.
        replace: Drop a baseline of another machine instead of refusing.

    Raises:
        UserError: There is no latency in the run, the file holds something else or another machine's baseline, or it
            cannot be written.
    """
    fresh = store.read(run)
    records = _with_latency(fresh.records)
    if not records:
        raise UserError(f"{run} has no latency to store; expected a run with at least one measured case.")
    old = _earlier(file)
    for notice in (*fresh.notices, *old.notices):
        print(notice, file=sys.stderr)
    if old.records and {record.host for record in old.records} != {record.host for record in records}:
        if not replace:
            raise UserError(_other_machine(run, fresh, file, old))
        old = Run(file)
    measured, before = ({record.case for record in some} for some in (records, old.records))
    kept = [record for record in old.records if record.case not in measured]
    _write(file, [*_sessions(old, kept), *_sessions(fresh, records)], [*kept, *records])
    print(f"{file}: {len(measured)} cases stored ({len(measured & before)} replaced), {len(before - measured)} kept")


def _with_latency(records: Iterable[Record]) -> list[Record]:
    """Latency visits of the cases that have a measurement among them, failed visits of those too."""
    timed = [record for record in records if record.measures == "latency"]
    good = {record.case for record in timed if isinstance(record.outcome, Measurement)}
    return [record for record in timed if record.case in good]


def _earlier(file: Path) -> Run:
    if not file.exists():
        return Run(file)
    found = store.read(file)
    if found.notices and not (found.records or found.sessions):
        raise UserError(f"{file} exists and is no baseline; choose another file, or remove it.")
    return found


def _other_machine(run: Path, fresh: Run, file: Path, old: Run) -> str:
    here, there = (session_of(found, found.records[-1]) for found in (fresh, old))
    told = host.difference(here.host, there.host) if here and there else None
    return (
        f"{run} (here) and {file} (there) are not to be mixed: {told or 'not the same machine'}; "
        "choose another file, or drop what it holds with --replace."
    )


def _sessions(found: Run, records: Sequence[Record]) -> list[Session]:
    """Sessions that ``records`` belong to, with the calibrations behind them."""
    owners = [(record, session_of(found, record)) for record in records]
    return [
        _with_calibrations(session, [record for record, owner in owners if owner is session])
        for session in found.sessions
        if any(owner is session for _, owner in owners)
    ]


def _with_calibrations(session: Session, records: Iterable[Record]) -> Session:
    """Add the calibrations in the user's cache that these visits were really measured with."""
    kept = dict(_part(session, "calibrations"))
    for record in records:
        name = reference.identity(record.host, record.case.placement)
        made = reference.stored(runs.cache_folder(), name)
        if made and isinstance(record.outcome, Measurement) and record.outcome.nominal_ns == made.nominal_ns:
            kept.setdefault(name, asdict(made))
    return replace(session, facts={**session.facts, "calibrations": kept})


def _write(file: Path, sessions: Iterable[Session], records: Iterable[Record]) -> None:
    """Write a journal; another process sees the old file or the new one, never half of it."""
    lines = [jsonlib.dumps({"kind": "session", **asdict(session)}, ensure_ascii=False) for session in sessions]
    lines += [f'{{"kind":"visit","record":{store.dump(record)}}}' for record in records]
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            stream.write(("\n".join(lines) + "\n").encode(errors="replace"))
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror}); choose another file.") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def entries(stored: Run) -> list[dict[str, Any]]:
    """Return the measured cases of a stored run in its order, as plain types; times in ms."""
    return [_entry(case, visits) for case, visits in visits_of(stored).items() if visits.measured]


def _entry(case: Case, visits: Visits) -> dict[str, Any]:
    made = case_estimate(visits.measured, visits.pilot)
    machine = _part(visits.session, "host")
    return {
        "case": case.key,
        "label": case.label,
        "latency_ms": _ms(made.latency_ns),
        "latency_ci_low_ms": _ms(made.ci_low_ns),
        "latency_ci_high_ms": _ms(made.ci_high_ns),
        "visits": made.visits,
        "started": visits.started,
        "host": visits.host,
        "cpu": machine.get("cpu"),
        "gpu": machine.get("gpu"),
        "versions": dict(_part(visits.session, "versions")),
    }


def show(file: Path = FILE, json: bool = False) -> None:
    """Print what a baseline holds; ``profiler baseline show``.

    Raises:
        UserError: There is no baseline.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    stored = store.read(file)
    for notice in stored.notices:
        print(notice, file=sys.stderr)
    told = entries(stored)
    if json:
        print(jsonlib.dumps(told, indent=2, allow_nan=False))
        return
    shown = Table(box=None, pad_edge=False)
    for name in ("case", "latency", "95%", "visits", "when", "host", "versions"):
        shown.add_column(name, overflow="fold", justify="right" if name in ("latency", "95%", "visits") else "left")
    for one in told:
        shown.add_row(*map(escape, _cells(one)))
    console = Console()
    console.print(shown)
    machines = {one["host"]: ", ".join(filter(None, (one["cpu"], one["gpu"]))) for one in told}
    for key, words in machines.items():
        console.print(f"machine {key}: {escape(words)}", highlight=False, soft_wrap=True)


#: Versions worth a column; the rest is in the file.
_SHOWN = ("torch", "onnxruntime", "onnxruntime-gpu", "openvino")


def _cells(one: Mapping[str, Any]) -> list[str]:
    low, high = one["latency_ci_low_ms"], one["latency_ci_high_ms"]
    ends = f"[{format_duration(low / 1e3)}, {format_duration(high / 1e3)}]" if low is not None else ""
    versions = ", ".join(f"{name} {one['versions'][name]}" for name in _SHOWN if name in one["versions"])
    latency = format_duration(one["latency_ms"] / 1e3)
    return [one["label"], latency, ends, str(one["visits"]), one["started"], one["host"], versions]
