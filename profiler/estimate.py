"""From raw samples to the numbers of a row. Pure: same samples, same numbers.

The headline latency has two steps. Within a visit it is the median of sample over neighbouring reference, times the
reference's nominal time, over the blocks between undisturbed references: a slow-down of the whole machine cancels, and
a competitor for a core is left out. Over visits it is a trimmed geometric mean, so that a fresh process that goes wild,
as one in ten or twenty does, has no weight, with an interval that stays honest when narrowness ends the rounds.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING

from profiler.records import Conditions, Measurement, Outcome

if TYPE_CHECKING:
    import numpy as np

    from backends.base import Placement

    Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

CONFIDENCE = 0.95

# Visits before their spread first decides whether a case is finished, as Budget.min_rounds has it.
PILOT = 5

# Share of the visits trimmed on each side, one at least, from so many visits on: with five, a trimmed interval that
# claims 95% covers 92.7%. With a fifth, so did intervals over twelve visits of a drifting machine.
TRIM = 0.1
TRIM_FROM = 6

# Fewer visits, or weighted ones, count as no further from their median than by this factor: one that takes several
# times as long as the others would carry off a mean of three. Of visits that differ as usual it moves none; clipped at
# less than 1.15 headlines repeat less well.
WILD = 1.3

# A block of the reference slower than this, relative to quiet ones, says that its neighbours are disturbed.
QUIET = 1.10

# Share of a block's time that its threads may wait for a core, all together. On two cores that nothing else wanted it
# was below 0.03 in nine of ten blocks and 0.06 in 99 of 100; beside a competitor, 0.4 and more.
CROWDED = 0.05

# A reference this many times slower than its level has a competitor for its cores, which doubles its time at least.
# Cores that the host moved apart slow it by 1.25, neighbours on the other halves of both cores by 1.65 at most. Where
# quiet blocks of the reference take so many times their nominal time no block counts as quiet: with both cores taken
# all along, a model of 6 ms has read 0.3 ms beside a reference that suffered more.
FAR = 1.8

# So many undisturbed visits carry a headline alone. With fewer, others count too, by how near they come: their weights
# fall off with the logarithm of the slowness of the reference over one of these widths. Of five visits on a machine
# whose neighbours come and go within milliseconds, headlines so spread by 3 to 4%, those of undisturbed visits alone by
# 4 to 8%, plain medians by 13 to 15%. Where three of a case are undisturbed it changes nothing.
LEAST_QUIET = 3
WIDTHS = (0.05, 0.1, 0.2, 0.4)

# A reference that is faster than its nominal time by more than chance was calibrated on a disturbed machine.
FASTER = 0.92

# Blocks of the reference that say what it takes on the machine as it is now, and that say it of a whole run.
LATEST = 120
ENOUGH = 30

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
            reference, or where its level is far from its nominal time, see :data:`FAR`.
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
        p10_ns: 10th percentile of the normalised samples. None unless :func:`supports` it, as the next two.
        p90_ns: 90th percentile.
        p99_ns: 99th percentile.
        visits: Number of visits.
        quiet_visits: Visits with at least one quiet block, see :func:`quiet_blocks`.
        samples: Number of samples in them.
        effective_samples: Independent samples that would carry as much, see :func:`effective_samples`.
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
    beside = _beside(visit)
    best = min(beside, default=math.inf)
    if best > FAR * level:
        others = _with_cores(visit, level) or list(itertools.chain.from_iterable(blocks))
        return VisitEstimate(median(others), median(raw), 0, slowness=math.inf)
    least = [block for block, slow in zip(blocks, beside, strict=True) if slow <= QUIET * best]
    return VisitEstimate(median(itertools.chain.from_iterable(least)), median(raw), 0, slowness=best / level)


def _beside(visit: Measurement) -> list[float]:
    """How slow the slower of the references around each block was, over its nominal time; infinite without cores."""
    pairs = itertools.pairwise(reference_slowness(visit))
    return [max(pair) if had else math.inf for had, pair in zip(_had_cores(visit), pairs, strict=False)]


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
        for block, had, slow in zip(visit.samples_ns, _had_cores(visit), beside, strict=True)
        if had
        for sample in block
    ]


def _had_cores(visit: Measurement) -> list[bool]:
    """Whether the threads of each block had their cores; taken for granted where the system does not tell."""
    if not visit.core_wait_ns:
        return [True] * len(visit.samples_ns)
    return [not crowded(*block) for block in zip(visit.core_wait_ns, visit.samples_ns, strict=True)]


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


def reference_slowness(visit: Measurement) -> list[float]:
    """Median time of each block of the reference over its nominal time; empty without a reference.

    Raises:
        ValueError: There is not exactly one reference block more than there are blocks of samples.
    """
    if not visit.reference_ns or visit.nominal_ns is None:
        return []
    if len(visit.reference_ns) != len(visit.samples_ns) + 1:
        raise ValueError(
            f"{len(visit.samples_ns)} blocks of samples need {len(visit.samples_ns) + 1} of the reference, "
            f"not {len(visit.reference_ns)}"
        )
    return [median(block) / visit.nominal_ns for block in visit.reference_ns]


def quiet_level(visits: Sequence[Measurement]) -> float:
    """What the reference takes while nothing disturbs it, relative to its nominal time.

    The median of its blocks that are within :data:`QUIET` of their 10th percentile: at least a tenth of all blocks are
    quiet, or the machine is evenly slow, which the ratio to the reference divides out.
    """
    return level_of(sorted(slow for visit in visits for slow in reference_slowness(visit)))


def level_of(slowness: Sequence[float]) -> float:
    """:func:`quiet_level` of ascending times of the reference, in any unit; 1.0 of none."""
    if not slowness:
        return 1.0
    quiet = bisect.bisect_right(slowness, QUIET * slowness[len(slowness) // 10])
    return median(slowness[:quiet])


def near(level: float) -> bool:
    """Whether a level of the reference is near enough to its nominal time for a ratio to mean anything."""
    return level <= FAR


class Levels:
    """What the reference takes while nothing disturbs it, over its nominal time, as the visits of a run show it.

    Beside one case it tells of the machine for all others: a case that was always visited while the machine was slow
    is known by that.
    """

    def __init__(self) -> None:
        self._all: dict[tuple[object, ...], list[float]] = {}
        self._latest: dict[tuple[object, ...], deque[float]] = {}

    def add(self, placement: Placement, visit: Outcome) -> None:
        """Take note of a visit; one that timed nothing says nothing."""
        if not isinstance(visit, Measurement):
            return
        key = _level_key(placement, visit.nominal_ns)
        slowness = reference_slowness(visit)
        known, latest = self._all.setdefault(key, []), self._latest.setdefault(key, deque(maxlen=LATEST))
        latest.extend(slowness)
        for slow in slowness:
            bisect.insort(known, slow)

    def latest(self, placement: Placement, nominal_ns: float | None) -> float:
        """Return the level of the latest :data:`LATEST` blocks of the reference; 1.0 where there are none."""
        return level_of(sorted(self._latest.get(_level_key(placement, nominal_ns), ())))

    def overall(self, placement: Placement, nominal_ns: float | None) -> float | None:
        """Return the level over all visits; None below :data:`ENOUGH` blocks of the reference."""
        known = self._all.get(_level_key(placement, nominal_ns), [])
        return level_of(known) if len(known) >= ENOUGH else None

    def of(self, placement: Placement, visits: Sequence[Measurement]) -> float | None:
        """Return the level by which ``visits`` are judged; None where they are not of one calibration, or too few."""
        nominals = {visit.nominal_ns for visit in visits}
        return self.overall(placement, nominals.pop()) if len(nominals) == 1 else None


def recalibrated(visits: list[Measurement], level: float | None) -> tuple[list[Measurement], float | None]:
    """Visits of one calibration, and their level, over the nominal time that their run found where that is shorter.

    Beside a competitor a reference on two threads was once calibrated at 23 times its time, and every headline was 23
    times what a clock shows. Only the level of a whole run tells that well enough, see :meth:`Levels.of`: two sets of a
    few visits would be told apart by it.
    """
    if level is None or level >= FASTER:
        return visits, level
    return [replace(v, nominal_ns=v.nominal_ns and level * v.nominal_ns) for v in visits], 1.0


def _level_key(placement: Placement, nominal_ns: float | None) -> tuple[object, ...]:
    return placement.device, placement.precision, placement.threads, nominal_ns


def crowded(core_wait_ns: int, samples_ns: Sequence[int]) -> bool:
    """Whether threads waited for a core for more than :data:`CROWDED` of the time of a block of samples."""
    return core_wait_ns > CROWDED * sum(samples_ns)


def quiet_blocks(visit: Measurement, level: float) -> list[bool]:
    """Whether each block of samples had its cores, and lies between two reference blocks that were not disturbed.

    Reference and scheduler decide, never the samples themselves, so that a slow model is not mistaken for a slow
    machine. The ratio divides out what slows model and reference alike; a competitor for a core slows a model that
    waits for its slowest thread at every layer far more than it slows the reference, and no ratio mends that. It can
    come and go between two blocks of the reference: a forward of 36 ms on two threads then takes half a second, all of
    it beside half a second of a competitor. Where even the level lies far from the nominal time no block is quiet, see
    :data:`FAR`.
    """
    had_cores = _had_cores(visit)
    if not reference_slowness(visit):
        return had_cores
    return [near(level) and slow <= QUIET * level for slow in _beside(visit)]


def case_estimate(visits: Sequence[Measurement], pilot: int = PILOT, level: float | None = None) -> CaseEstimate:
    """What all visits of one case say. A single visit gives no interval.

    Args:
        visits: In the order in which they were made.
        pilot: How many visits were made before their spread first decided whether to go on, see
            :func:`sequential_interval`.
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

    Visits in which no block was quiet count only where fewer than :data:`LEAST_QUIET` others are left, and then by how
    near they come, see :func:`nearness`.

    Args:
        estimates: In the order in which the visits were made.
        pilot: As in :func:`case_estimate`.
    """
    quiet = [e for e in estimates if e.quiet_samples]
    usable = [e for e in estimates if e.slowness < math.inf]
    if len(quiet) >= LEAST_QUIET or len(usable) == len(quiet):
        return sequential_interval([math.log(e.normalised_ns) for e in quiet or estimates], pilot)
    return weighted_interval([math.log(e.normalised_ns) for e in usable], nearness([e.slowness for e in usable]))


def nearness(slowness: Sequence[float]) -> list[float]:
    """Return the weights of visits by how slow the reference beside them was, over its level.

    1 up to :data:`QUIET`, beyond it a Gaussian of the logarithm, as narrow as leaves :data:`LEAST_QUIET` visits in
    effect: neighbours on the other half of a core come and go within milliseconds, and then no block is quiet, but the
    ratio to a reference that was little disturbed is better than any that was much.
    """
    for width in (*WIDTHS, math.inf):
        weights = [math.exp(-((math.log(max(1.0, slow / QUIET)) / width) ** 2)) for slow in slowness]
        if effective_number(weights) >= min(LEAST_QUIET, len(weights)):
            break
    return weights


def effective_number(weights: Sequence[float]) -> float:
    """How many values of equal weight tell a mean as well as these: Kish, "Survey Sampling" (1965), section 11.7."""
    return math.fsum(weights) ** 2 / math.fsum(w * w for w in weights)


def weighted_interval(values: Sequence[float], weights: Sequence[float]) -> tuple[float, float | None]:
    """Weighted mean of :func:`clipped` values and the half width of its 95% interval.

    None for the latter with less than two values in effect. It is Student's, with :func:`effective_number` for the
    number of values, which count as they are.
    """
    from scipy.special import stdtrit

    total, n = math.fsum(weights), effective_number(weights)

    def mean(of: Sequence[float]) -> float:
        return math.fsum(w * x for w, x in zip(weights, of, strict=True)) / total

    centre = mean(clipped(values, weights))
    if n < 2 - 1e-9:
        return centre, None
    middle = mean(values)
    variance = mean([(x - middle) ** 2 for x in values]) * n / (n - 1)
    return centre, float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * math.sqrt(variance / n)


def clipped(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Logarithms of times, none further from their weighted median than :data:`WILD` has it."""
    order = sorted(zip(values, weights, strict=True))
    up_to = list(itertools.accumulate(weight for _, weight in order))
    half, least = up_to[-1] / 2, 1e-9 * up_to[-1]
    low, high = bisect.bisect_left(up_to, half - least), bisect.bisect_right(up_to, half + least)
    middle, most = (order[low][0] + order[high][0]) / 2, math.log(WILD)
    return [min(max(x, middle - most), middle + most) for x in values]


def _quiet_samples(visit: Measurement, level: float) -> list[float]:
    blocks = zip(normalised_blocks(visit), quiet_blocks(visit, level), strict=True)
    return [sample for block, quiet in blocks if quiet for sample in block]


def sequential_interval(values: Sequence[float], pilot: int) -> tuple[float, float | None]:
    """Trimmed mean and the half width of its 95% interval when the values themselves decided how many there are.

    Going on until an interval is narrow stops on values that agree by luck: with 3 to 10 visits Student's interval
    then covers 90% and less. Stein's, from the spread s of the first ``pilot`` values alone, t · s / sqrt(n) with
    pilot - 1 degrees of freedom, covers 95% whatever n they lead to: Stein, "A two-sample test for a linear
    hypothesis whose power is independent of the variance", Annals of Mathematical Statistics 16 (1945). The wider of
    it and :func:`trimmed_interval` is returned, which also sees a later value go wild.
    """
    from scipy.special import stdtrit

    centre, half = trimmed_interval(values)
    if half is None or pilot < 2 or len(values) <= pilot:
        return centre, half
    t = float(stdtrit(pilot - 1, (1 + CONFIDENCE) / 2))
    return centre, max(half, t * stdev(values[:pilot]) / math.sqrt(len(values)))


def trimmed(count: int) -> int:
    """How many of so many visits are trimmed on each side."""
    return max(1, math.floor(TRIM * count)) if count >= TRIM_FROM else 0


def trimmed_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Trimmed mean and the half width of its 95% interval; None for the latter with a single value.

    With n values and g = :func:`trimmed` of them left out on each side, the half width is t · s_w / ((1 - 2g/n) ·
    sqrt(n)), where s_w is the standard deviation after the trimmed values were replaced by the nearest kept
    ones, and t has n - 2g - 1 degrees of freedom: Tukey and McLaughlin, "Less vulnerable confidence and
    significance procedures for location based on a single sample", Sankhya A 25 (1963). Where none are
    trimmed the centre is the mean of :func:`clipped` values, and the half width Student's of the values as they are.
    """
    from scipy.special import stdtrit

    n = len(values)
    out = trimmed(n)
    kept = sorted(values)[out : n - out]
    centre = fmean(kept if out else clipped(kept, [1.0] * n))
    if n < 2:
        return centre, None
    winsorised = [kept[0]] * out + kept + [kept[-1]] * out
    middle = fmean(winsorised)
    spread = math.sqrt(math.fsum((x - middle) ** 2 for x in winsorised) / (n - 1))
    t = float(stdtrit(len(kept) - 1, (1 + CONFIDENCE) / 2))
    return centre, t * spread / (len(kept) / n * math.sqrt(n))


def effective_samples(values: Sequence[float]) -> float:
    """How many independent samples would tell the mean as well as these; between 1 and their number.

    n / (1 + 2 · sum of autocorrelations), summed over Geyer's initial positive sequence: pairs of
    neighbouring lags as long as they are positive. Geyer, "Practical Markov chain Monte Carlo", Statistical
    Science 7 (1992), section 3.3.
    """
    import numpy as np

    n = len(values)
    centred = np.asarray(values, dtype=np.float64) - fmean(values)
    # A constant series has no autocorrelation; what rounding leaves of it is noise.
    if n < 4 or float(np.ptp(centred)) <= 1e-12 * abs(fmean(values)):
        return float(n)
    pairs = _autocorrelation(centred)[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    positive = pairs[: negative[0]] if negative.size else pairs
    return min(float(n), max(1.0, n / max(2 * float(positive.sum()) - 1, 1.0)))


def _autocorrelation(centred: Floats) -> Floats:
    """Autocorrelation at lags 0 to n - 1, by FFT with zeros so that the ends do not meet; shape (n,)."""
    import numpy as np

    n = len(centred)
    power = np.abs(np.fft.rfft(centred, 2 * n)) ** 2
    covariance = np.fft.irfft(power, 2 * n)[:n]
    normed: Floats = covariance / covariance[0]
    return normed


def supports(effective: float, q: float) -> bool:
    """Whether so many effective samples bracket the q-quantile between their extremes with 95% confidence.

    That is q^n + (1 - q)^n <= 0.05, the least for which an interval from order statistics exists: 29 for p10
    and p90, 299 for p99. Wilks, "Determination of sample sizes for setting tolerance limits", Annals of
    Mathematical Statistics 12 (1941).
    """
    missed: float = q**effective + (1 - q) ** effective
    return missed <= 1 - CONFIDENCE


def percentiles(samples: Sequence[float], effective: float) -> tuple[float | None, float | None, float | None]:
    """The 10th, 90th and 99th percentile, each None unless ``effective`` samples support it.

    They describe single forwards: where a sample is the mean of several, which hides its tails, pass 0.
    """
    import numpy as np

    def at(q: float) -> float | None:
        return float(np.quantile(samples, q)) if supports(effective, q) else None

    return at(0.10), at(0.90), at(0.99)


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
