"""The statistics of a stored run: visits of now against visits of then, the slow-down and its interval.

Interleaved blocks are tested in ``profiler.gate.decision``.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from profiler.gate.decision import Change
from profiler.records.disturbance import quiet_level
from profiler.records.estimate import PILOT, counted, visit_estimate
from profiler.records.intervals import CONFIDENCE, Interval, interquartile_mean
from profiler.records.lines import RunSession
from profiler.records.reading import Run
from profiler.records.types import Case, Failure, Measurement, Record

#: Visits of a case that each run must have: two give a spread of one degree of freedom, which tells nothing.
LEAST_VISITS = 3


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
    session: RunSession | None = None

    @property
    def logs(self) -> list[float]:
        """Logarithm of visits' normalised latencies in ns: of those that make the headline, where there are enough."""
        quiet = quiet_level(self.measured)
        estimates = [visit_estimate(visit, quiet) for visit in self.measured]
        used = counted(estimates)
        return [math.log(e.normalised_ns) for e in (used if len(used) >= LEAST_VISITS else estimates)]

    @property
    def level(self) -> tuple[float, float, int]:
        """Mean of the middle half of the logarithms, its standard error, its degrees of freedom.

        Mean and error are as in the headline, see ``profiler.records.intervals.interval``.

        The visits decided themselves how many there are, and stop when they agree by luck: the error is at least that
        of Stein (1945), from the pilot alone and with its degrees of freedom.
        """
        logs = self.logs
        count, centre = len(logs), interquartile_mean(logs)
        error = statistics.stdev(logs) / math.sqrt(count)
        if not 2 <= self.pilot < count:
            return centre, error, count - 1
        stein = statistics.stdev(logs[: self.pilot]) / math.sqrt(count)
        return centre, max(error, stein), self.pilot - 1

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
class _Contrast:
    """``ln(now / then)`` of one case, by Welch's approximation for two samples of unlike spread.

    B. L. Welch, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika 34 (1947).

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

    def bounds(self, alpha: float) -> Interval:
        """Return (lower, upper) one-sided bounds: what lies outside is rejected by the one-sided test at ``alpha``."""
        from scipy import stats

        reach = float(stats.t.isf(alpha, self.freedom)) * self.error + self.doubt
        return self.centre - reach, self.centre + reach

    @property
    def change(self) -> Change:
        """Now over then minus one, with its 95% interval."""
        low, high = self.bounds((1 - CONFIDENCE) / 2)
        return math.expm1(self.centre), (math.expm1(low), math.expm1(high))


def contrast(then: Visits, now: Visits) -> _Contrast:
    """Compare the visits of a case in two runs; each needs two at least."""
    (old, old_error, old_freedom), (new, new_error, new_freedom) = then.level, now.level
    total = old_error**2 + new_error**2
    shares = old_error**4 / old_freedom + new_error**4 / new_freedom
    # Without any spread the degrees of freedom do not matter.
    freedom = total**2 / shares if shares else float(old_freedom + new_freedom)
    nominals = then.nominal_ns, now.nominal_ns
    doubt = abs(math.log(nominals[1] / nominals[0])) if nominals[0] and nominals[1] else 0.0
    return _Contrast(new - old, math.sqrt(total), freedom, doubt)


def visits_of(found: Run) -> dict[Case, Visits]:
    """Return what a run has of each case's latency, cases in the order of their first visit."""
    groups: dict[Case, list[Record]] = {}
    for record in found.records:
        if record.measures == "latency":
            groups.setdefault(record.case, []).append(record)
    return {case: _visits(records, session_of(found, records[-1])) for case, records in groups.items()}


def _visits(records: Sequence[Record], session: RunSession | None) -> Visits:
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


def _pilot(session: RunSession | None) -> int:
    return session.budget.min_rounds if session else PILOT


def session_of(found: Run, record: Record) -> RunSession | None:
    """Return the session that measured a record: the last one of its machine that had started by then."""
    same = [session for session in found.sessions if session.host.get("key") == record.host]
    earlier = [session for session in same if session.started <= record.started]
    return max(earlier, key=lambda session: session.started) if earlier else next(iter(same), None)


def reference_ratio(then: Visits, now: Visits) -> float | None:
    """Return how many times as long as then the reference takes now; None without one on both sides."""
    old, new = then.slowness, now.slowness
    return new / old if old and new else None
