"""From raw samples to the numbers of a row. Pure: same samples, same numbers.

The headline latency has two steps. Within a visit it is the median of sample over neighbouring reference, times the
reference's nominal time, over the blocks that no competitor for a core disturbed: a slow-down of the whole machine
cancels. Over visits it is the mean of the middle half of their logarithms. See docs/estimator.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, variance

from profiler.records.disturbance import QUIET, quiet_level, scales, undisturbed_blocks
from profiler.records.intervals import effective_samples, interval, percentiles
from profiler.records.spread import Spread
from profiler.records.types import Budget, Measurement

# So many visits with a quiet reference carry a headline without the others: two cores that their host moves apart for a
# minute slow each model in another proportion. Of fewer the spread is larger than what they spare: study_repeatability.
_LEAST_QUIET = 3

# Visits before their spread first decides whether a case is finished, where nobody says.
PILOT = Budget().min_rounds


@dataclass(frozen=True, slots=True)
class VisitEstimate:
    """Time of one forward in one visit, in nanoseconds.

    Attributes:
        normalised_ns: With the machine's disturbance divided out, over the undisturbed blocks; the raw median where
            there is none.
        raw_ns: The plain median.
        samples: Samples behind ``normalised_ns``; 0 when every block was beside a competitor.
        slowness: What the reference took beside them, over its level; 1 without a reference, infinite where every block
            was beside a competitor.
    """

    normalised_ns: float
    raw_ns: float
    samples: int
    slowness: float

    @property
    def quiet(self) -> bool:
        """Whether the reference was as fast as it usually is."""
        return self.slowness <= QUIET


@dataclass(frozen=True, slots=True)
class CaseEstimate:
    """What all visits of a case say. Times are of one forward of the whole batch, in nanoseconds.

    Attributes:
        latency_ns: The headline: mean of the middle half of the logarithms of the visits' normalised times.
        ci_low_ns: Lower end of its 95% interval; None with fewer than two visits.
        ci_high_ns: Upper end.
        relative_half_width: Distance to the upper end, the farther one, relative to the headline.
        raw_ns: Median of the visits' raw medians.
        disturbance: Raw over normalised time; 1.0 on a machine as quiet as at its calibration.
        level: What the reference took in its quiet blocks, over its nominal time; 1.0 without a reference.
        p10_ns: 10th percentile of the normalised samples. None unless ``supports`` it, as the next two.
        p90_ns: 90th percentile.
        p99_ns: 99th percentile.
        visits: Number of visits.
        quiet_visits: Visits whose reference was quiet, see ``VisitEstimate.quiet``.
        samples: Number of samples in them.
        effective_samples: Independent samples that would carry as much, see ``effective_samples``.
        steady_visits: Visits whose warm-up ended because nothing drifted any more.
        marked_samples: Samples beside a competitor for a core: kept in the record, left out of the headline.
    """

    latency_ns: float
    ci_low_ns: float | None
    ci_high_ns: float | None
    relative_half_width: float | None
    raw_ns: float
    disturbance: float
    level: float
    p10_ns: float | None
    p90_ns: float | None
    p99_ns: float | None
    visits: int
    quiet_visits: int
    samples: int
    effective_samples: float
    steady_visits: int
    marked_samples: int


def visit_estimate(visit: Measurement, level: float | None = None) -> VisitEstimate:
    """Time of one forward in one visit.

    Args:
        visit: The raw data.
        level: What a quiet reference takes, relative to its nominal time; of this visit alone when left out.

    Raises:
        ValueError: The visit has no samples, or blocks of samples and reference do not alternate.
    """
    raw = [sample / visit.calls_per_sample for block in visit.samples_ns for sample in block]
    if not raw:
        raise ValueError("a measurement needs at least one sample")
    level = quiet_level([visit]) if level is None else level
    kept = _counted(visit, level)
    if not kept:
        return VisitEstimate(median(raw), median(raw), 0, slowness=math.inf)
    slowness = median(itertools.compress(scales(visit), undisturbed_blocks(visit, level))) / level
    return VisitEstimate(median(kept), median(raw), len(kept), slowness)


def normalised_blocks(visit: Measurement) -> list[list[float]]:
    """Time per forward of each sample, in nanoseconds, as it would be with the reference at its nominal time.

    A sample is divided by the mean of the medians of the two reference blocks around its own block. Without a
    reference, or without its nominal time, the samples are returned as they are.

    Raises:
        ValueError: There is not exactly one reference block more than there are blocks of samples.
    """
    return [
        [sample / scale / visit.calls_per_sample for sample in block]
        for block, scale in zip(visit.samples_ns, scales(visit), strict=True)
    ]


def case_estimate(visits: Sequence[Measurement], pilot: int = PILOT, common: Spread | None = None) -> CaseEstimate:
    """What all visits of one case say. A single visit gives no interval.

    Args:
        visits: In the order in which they were made.
        pilot: How many visits were made before their spread first decided whether to go on, see ``interval``.
        common: What the other cases of the run tell of their spread, see ``spread_of`` and ``shared``.

    Raises:
        ValueError: There is no visit, or one of them is malformed.
    """
    if not visits:
        raise ValueError("an estimate needs at least one visit")
    level = quiet_level(visits)
    estimates = [visit_estimate(visit, level) for visit in visits]
    centre, half = _headline(estimates, pilot, common)
    samples = [_counted(visit, level) for visit in visits]
    effective = math.fsum(effective_samples(part) for part in samples if part)
    single = all(visit.calls_per_sample == 1 for visit in visits)
    p10, p90, p99 = percentiles(list(itertools.chain.from_iterable(samples)), effective if single else 0.0)
    total = sum(len(block) for visit in visits for block in visit.samples_ns)
    return CaseEstimate(
        latency_ns=math.exp(centre),
        ci_low_ns=None if half is None else math.exp(centre - half),
        ci_high_ns=None if half is None else math.exp(centre + half),
        relative_half_width=None if half is None else math.expm1(half),
        raw_ns=median(e.raw_ns for e in estimates),
        disturbance=median(e.raw_ns / e.normalised_ns for e in estimates),
        level=level,
        p10_ns=p10,
        p90_ns=p90,
        p99_ns=p99,
        visits=len(visits),
        quiet_visits=sum(e.quiet for e in estimates),
        samples=total,
        effective_samples=effective,
        steady_visits=sum(visit.warmup.steady for visit in visits),
        marked_samples=total - sum(map(len, samples)),
    )


def relative_half_width(
    visits: Sequence[Measurement], pilot: int = PILOT, common: Spread | None = None
) -> float | None:
    """Return ``CaseEstimate.relative_half_width`` without all the rest; arguments as for ``case_estimate``."""
    level = quiet_level(visits)
    half = _headline([visit_estimate(visit, level) for visit in visits], pilot, common)[1]
    return None if half is None else math.expm1(half)


def spread_of(visits: Sequence[Measurement]) -> Spread | None:
    """Return how the visits of a case scatter that its headline counts; None of fewer than two."""
    level = quiet_level(visits)
    logs = [math.log(e.normalised_ns) for e in counted([visit_estimate(visit, level) for visit in visits])]
    return Spread(variance(logs), len(logs) - 1) if len(logs) > 1 else None


def _headline(estimates: Sequence[VisitEstimate], pilot: int, common: Spread | None) -> tuple[float, float | None]:
    """Logarithm of the headline in ns, and the half width of its 95% interval; None for the latter of a single visit.

    Args:
        estimates: In the order in which the visits were made.
        pilot: As in ``case_estimate``.
        common: As there.
    """
    return interval([math.log(e.normalised_ns) for e in counted(estimates)], pilot, common)


def counted(estimates: Sequence[VisitEstimate]) -> Sequence[VisitEstimate]:
    """Return the visits that a headline is made of: quiet ones, else undisturbed ones, else all."""
    undisturbed = [e for e in estimates if e.samples] or estimates
    quiet = [e for e in undisturbed if e.quiet]
    return quiet if len(quiet) >= _LEAST_QUIET else undisturbed


def kept_blocks(visit: Measurement, level: float) -> list[list[float]]:
    """Return the blocks of ``normalised_blocks`` that no competitor for a core disturbed."""
    return list(itertools.compress(normalised_blocks(visit), undisturbed_blocks(visit, level)))


def _counted(visit: Measurement, level: float) -> list[float]:
    return list(itertools.chain.from_iterable(kept_blocks(visit, level)))
