"""From raw samples to the numbers of a row. Pure: same samples, same numbers.

The headline latency has two steps. Within a visit it is the median of sample over neighbouring reference, times the
reference's nominal time, over the blocks between undisturbed references: a slow-down of the whole machine cancels, and
a competitor for a core is left out. Over visits it is a trimmed geometric mean, so that a fresh process that goes wild,
as one in ten or twenty does, has no weight, with an interval that stays honest when narrowness ends the rounds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from profiler.records.disturbance import (
    FAR,
    QUIET,
    kept_cores,
    near,
    quiet_blocks,
    quiet_level,
    reference_slowness,
    slowness_beside,
)
from profiler.records.intervals import (
    effective_number,
    effective_samples,
    percentiles,
    sequential_interval,
    weighted_interval,
)
from profiler.records.types import Conditions, Measurement

# Visits before their spread first decides whether a case is finished, as Budget.min_rounds has it.
PILOT = 5

# So many undisturbed visits carry a headline alone. With fewer, others count too, by how near they come: their weights
# fall off with the logarithm of the slowness of the reference over one of these widths. Of five visits on a machine
# whose neighbours come and go within milliseconds, headlines so spread by 3 to 4%, those of undisturbed visits alone by
# 4 to 8%, plain medians by 13 to 15%. Where three of a case are undisturbed it changes nothing.
LEAST_QUIET = 3
WIDTHS = (0.05, 0.1, 0.2, 0.4)

# From here on a visit counts as disturbed: shares of the wall time of its timed part, and switches in a
# second. Steal and stall count all cores and the whole machine, so that small values are nobody's fault.
STEAL_SHARE = 0.01
STALL_SHARE = 0.10
SWITCHES_PER_S = 20.0
FOREIGN_LOAD = 0.5


@dataclass(frozen=True, slots=True)
class VisitEstimate:
    """Time of one forward in one visit, in nanoseconds.

    Attributes:
        normalised_ns: With the machine's disturbance divided out, over quiet blocks where there are any, else over
            the least disturbed, else over those that had their cores, else over all; the raw median without a
            reference, or where its level is far from its nominal time, see ``FAR``.
        raw_ns: The plain median.
        quiet_samples: Samples behind ``normalised_ns``; 0 when no block was quiet.
        slowness: What the reference took at most beside the least disturbed block, over its level; 1 where a block was
            quiet, infinite where a competitor had the cores all along.
    """

    normalised_ns: float
    raw_ns: float
    quiet_samples: int
    slowness: float


@dataclass(frozen=True, slots=True)
class CaseEstimate:
    """What all visits of a case say. Times are of one forward of the whole batch, in nanoseconds.

    Attributes:
        latency_ns: The headline: trimmed geometric mean of the visits' normalised times.
        ci_low_ns: Lower end of its 95% interval; None with fewer than two visits.
        ci_high_ns: Upper end.
        relative_half_width: Distance to the upper end, the farther one, relative to the headline.
        raw_ns: Median of the visits' raw medians.
        disturbance: Raw over normalised time; 1.0 on a machine as quiet as at its calibration, or in its run where that
            was quieter.
        level: What the reference took in its quiet blocks, over its nominal time; 1.0 without a reference.
        p10_ns: 10th percentile of the normalised samples. None unless ``supports`` it, as the next two.
        p90_ns: 90th percentile.
        p99_ns: 99th percentile.
        visits: Number of visits.
        quiet_visits: Visits with at least one quiet block, see ``quiet_blocks``.
        samples: Number of samples in them.
        effective_samples: Independent samples that would carry as much, see ``effective_samples``.
        steady_visits: Visits whose warm-up ended because nothing drifted any more.
        marked_samples: Samples outside quiet blocks: kept in the record, left out of the headline.
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
    quiet = quiet_blocks(visit, level)
    blocks = normalised_blocks(visit, FAR * level)
    kept = [sample for block, good in zip(blocks, quiet, strict=True) if good for sample in block]
    if kept:
        return VisitEstimate(median(kept), median(raw), len(kept), slowness=1.0)
    if not near(level):
        return VisitEstimate(median(raw), median(raw), 0, slowness=math.inf)
    beside = slowness_beside(visit)
    best = min(beside, default=math.inf)
    if best > FAR * level:
        others = _with_cores(visit, level) or list(itertools.chain.from_iterable(blocks))
        return VisitEstimate(median(others), median(raw), 0, slowness=math.inf)
    least = [block for block, slow in zip(blocks, beside, strict=True) if slow <= QUIET * best]
    return VisitEstimate(median(itertools.chain.from_iterable(least)), median(raw), 0, slowness=best / level)


def _with_cores(visit: Measurement, level: float) -> list[float]:
    """Times per forward of the blocks that had their cores, though the references beside them were disturbed.

    A reference beside a competitor counts as if it were quiet: 28 ms beside references that take twice and eight times
    theirs are still 28 ms.
    """
    if not visit.core_wait_ns:
        return []
    slowness = [slow if slow <= FAR * level else level for slow in reference_slowness(visit)]
    beside = [fmean(pair) for pair in itertools.pairwise(slowness)] or [level] * len(visit.samples_ns)
    return [
        sample / visit.calls_per_sample / slow
        for block, had, slow in zip(visit.samples_ns, kept_cores(visit), beside, strict=True)
        if had
        for sample in block
    ]


def normalised_blocks(visit: Measurement, cap: float = math.inf) -> list[list[float]]:
    """Time per forward of each sample, in nanoseconds, as it would be with the reference at its nominal time.

    A sample is divided by the mean of the medians of the two reference blocks around its own block. Without a
    reference, or without its nominal time, the samples are returned as they are. A reference slower than ``cap`` times
    its nominal time counts as that slow: beside a competitor it can suffer seven times as much as the model.

    Raises:
        ValueError: There is not exactly one reference block more than there are blocks of samples.
    """
    slowness = reference_slowness(visit)
    scales = [1 / min(cap, fmean(pair)) for pair in itertools.pairwise(slowness)] or [1.0] * len(visit.samples_ns)
    return [
        [sample * scale / visit.calls_per_sample for sample in block]
        for block, scale in zip(visit.samples_ns, scales, strict=True)
    ]


def case_estimate(visits: Sequence[Measurement], pilot: int = PILOT, level: float | None = None) -> CaseEstimate:
    """What all visits of one case say. A single visit gives no interval.

    Args:
        visits: In the order in which they were made.
        pilot: How many visits were made before their spread first decided whether to go on, see
            ``sequential_interval``.
        level: What a quiet reference takes, relative to its nominal time; of these visits alone when left out.

    Raises:
        ValueError: There is no visit, or one of them is malformed.
    """
    if not visits:
        raise ValueError("an estimate needs at least one visit")
    level = quiet_level(visits) if level is None else level
    estimates = [visit_estimate(visit, level) for visit in visits]
    centre, half = headline(estimates, pilot)
    samples = [_quiet_samples(visit, level) for visit in visits]
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
        quiet_visits=sum(e.quiet_samples > 0 for e in estimates),
        samples=total,
        effective_samples=effective,
        steady_visits=sum(visit.warmup.steady for visit in visits),
        marked_samples=total - sum(map(len, samples)),
    )


def headline(estimates: Sequence[VisitEstimate], pilot: int = PILOT) -> tuple[float, float | None]:
    """Logarithm of the headline in ns, and the half width of its 95% interval; None for the latter of a single visit.

    Visits in which no block was quiet count only where fewer than ``LEAST_QUIET`` others are left, and then by how
    near they come, see ``nearness``.

    Args:
        estimates: In the order in which the visits were made.
        pilot: As in ``case_estimate``.
    """
    quiet = [e for e in estimates if e.quiet_samples]
    usable = [e for e in estimates if e.slowness < math.inf]
    if len(quiet) >= LEAST_QUIET or len(usable) == len(quiet):
        return sequential_interval([math.log(e.normalised_ns) for e in quiet or estimates], pilot)
    return weighted_interval([math.log(e.normalised_ns) for e in usable], nearness([e.slowness for e in usable]))


def nearness(slowness: Sequence[float]) -> list[float]:
    """Return the weights of visits by how slow the reference beside them was, over its level.

    1 up to ``QUIET``, beyond it a Gaussian of the logarithm, as narrow as leaves ``LEAST_QUIET`` visits in
    effect: neighbours on the other half of a core come and go within milliseconds, and then no block is quiet, but the
    ratio to a reference that was little disturbed is better than any that was much.
    """
    for width in (*WIDTHS, math.inf):
        weights = [math.exp(-((math.log(max(1.0, slow / QUIET)) / width) ** 2)) for slow in slowness]
        if effective_number(weights) >= min(LEAST_QUIET, len(weights)):
            break
    return weights


def _quiet_samples(visit: Measurement, level: float) -> list[float]:
    blocks = zip(normalised_blocks(visit), quiet_blocks(visit, level), strict=True)
    return [sample for block, quiet in blocks if quiet for sample in block]


def disturbed(visit: Measurement) -> str | None:
    """What else the machine did during a visit, in words, where it was enough to matter; else None."""
    signs = list(_signs(visit.conditions, _timed_s(visit)))
    return ", ".join(signs) if signs else None


def _timed_s(visit: Measurement) -> float:
    """Wall time over which the conditions were taken, in seconds."""
    spent = sum(sum(block) for block in (*visit.samples_ns, *visit.reference_ns)) / 1e9
    return max(visit.phases_s.get("timed", 0.0), spent)


def _signs(c: Conditions, wall_s: float) -> Iterator[str]:
    if c.throttled_s:
        yield f"throttled for {c.throttled_s:.3g} s"
    if c.steal_s is not None and c.steal_s > STEAL_SHARE * wall_s:
        yield f"{c.steal_s:.3g} s stolen"
    if c.stall_s is not None and c.stall_s > STALL_SHARE * wall_s:
        yield f"stalled for {c.stall_s:.3g} s"
    if c.involuntary_switches is not None and c.involuntary_switches > SWITCHES_PER_S * wall_s:
        yield f"{c.involuntary_switches} involuntary switches"
    if c.load is not None and c.load > FOREIGN_LOAD:
        yield f"{c.load:.2g} cores busy with other work"
