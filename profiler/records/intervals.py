"""Intervals over visits, percentiles over dependent samples.

A new interval of one case, over its visits, goes here; one over networks into ``profiler.analysis.regression``; the
test of two sides is ``profiler.gate.decision``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import fmean, variance
from typing import TYPE_CHECKING, TypeAlias

from profiler.records.spread import Spread, moderated

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


#: Low and high end.
Interval: TypeAlias = tuple[float, float]

# Share of intervals that hold what they are about: a convention. study_intervals counts.
CONFIDENCE = 0.95
# The percentile that stands for the tail.
_TAIL = 0.99


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half of the values; of a value that lies on its edge the part inside counts.

    One in ten or twenty fresh processes goes wild, and then has no weight, or of three a sixth. The same rule holds for
    any number of values: of one it is the value, of two the mean, of four the mean of the middle two.
    """
    count = len(values)
    shares = [max(0.0, min(i + 1, 0.75 * count) - max(i, 0.25 * count)) for i in range(count)]
    return math.fsum(s * x for s, x in zip(shares, sorted(values), strict=True)) / math.fsum(shares)


def _error_of_mean(values: Sequence[float], pilot: int, common: Spread | None) -> Spread:
    """Spread of a mean whose values decided how many there are; of two values on.

    Going on until an interval is narrow stops on values that agree by luck: with 3 to 10 visits Student's interval
    then covers 90% and less. Stein's, from the spread s of the first ``pilot`` values alone, t · s / sqrt(n) with
    pilot - 1 degrees of freedom, covers 95% whatever n they lead to: Stein, "A two-sample test for a linear
    hypothesis whose power is independent of the variance", Annals of Mathematical Statistics 16 (1945). Of it and
    Student's the one with the wider interval is returned: Student's also sees a later value go wild.
    """
    count = len(values)
    seen = [count, pilot] if 2 <= pilot < count else [count]
    own = (Spread(variance(values[:first]), first - 1) for first in seen)
    spreads = (moderated(one, common) for one in own)
    return max((Spread(one.variance / count, one.freedom) for one in spreads), key=_half_width)


def _half_width(mean: Spread) -> float:
    """Half width of the 95% interval by Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(mean.freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(mean.variance)


def interval(values: Sequence[float], pilot: int, common: Spread | None = None) -> tuple[float, float | None]:
    """Interquartile mean and the half width of its 95% interval; None for the latter with a single value.

    Args:
        values: In the order in which they were found.
        pilot: How many of them there were before their spread first decided whether to go on.
        common: What others tell of their spread; None for nothing.
    """
    centre = interquartile_mean(values)
    return centre, _half_width(_error_of_mean(values, pilot, common)) if len(values) > 1 else None


def mean_interval(values: Sequence[float]) -> Interval:
    """The 95% interval of the mean of values by Student's t, of as many as were asked for beforehand; two at least."""
    centre, half = fmean(values), _half_width(Spread(variance(values) / len(values), len(values) - 1))
    return centre - half, centre + half


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


def _supports(effective: float, q: float) -> bool:
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
        return float(np.quantile(samples, q)) if _supports(effective, q) else None

    return at(0.10), at(0.90), at(0.99)


def tail_interval(blocks: Sequence[Sequence[float]], times: int = 1, quantile: float = _TAIL) -> Interval:
    """The 95% interval of a percentile of single calls, the 99th; its upper end is infinite where there are too few.

    Distribution-free: the r-th of n independent calls lies above the q-quantile as surely as a Beta(r, n - r + 1)
    variable above q (David and Nagaraja, "Order Statistics", 2003, section 7.1). Calls of one block are not
    independent, as what disturbs one disturbs its neighbours, so n is the effective number of Korn and Graubard,
    "Confidence intervals for proportions with small expected number of positive counts", Survey Methodology 24 (1998),
    with blocks for clusters. What comes in bursts that are rarer than the blocks is not seen.

    Args:
        blocks: Times of single calls.
        times: Where more than 1: the interval of so many times as many calls like these.
        quantile: The percentile as a share.
    """
    import numpy as np

    alpha, values = (1 - CONFIDENCE) / 2, np.sort(np.concatenate([np.asarray(block) for block in blocks]))
    threshold = float(values[math.ceil(quantile * len(values)) - 1])
    low, high = _tail_shares(_effective_calls(blocks, threshold, times, alpha), alpha, quantile)
    upper = math.inf if high is None else float(values[min(len(values), math.ceil(high * len(values))) - 1])
    return float(values[max(1, math.floor(low * len(values))) - 1]), upper


def calls_to_bound(blocks: Sequence[Sequence[float]]) -> int:
    """About how many calls like these it takes to bound their 99th percentile."""
    times = next(
        times for times in (1 << power for power in itertools.count()) if tail_interval(blocks, times)[1] < math.inf
    )
    return times * sum(map(len, blocks))


def _effective_calls(blocks: Sequence[Sequence[float]], threshold: float, times: int, alpha: float) -> float:
    """Calls over the design effect of their share beyond ``threshold``, less what few blocks leave uncertain of it."""
    import numpy as np
    from scipy.special import stdtrit

    counts = np.array([len(block) for block in blocks], dtype=np.float64)
    beyond = np.array([np.count_nonzero(np.asarray(block) > threshold) for block in blocks], dtype=np.float64)
    total, number = float(counts.sum()), len(blocks)
    share = float(beyond.sum()) / total
    between = number * float(((beyond - share * counts) ** 2).sum()) / max(1, number - 1) / total**2
    design = max(1.0, between * total / (share * (1 - share))) if 0 < share < 1 else 1.0
    clusters = times * number
    ideal, real = (float(stdtrit(max(1, freedom), 1 - alpha)) for freedom in (times * total - 1, clusters - 1))
    return max(1.0, times * total / design * (ideal / real) ** 2)


def _tail_shares(effective: float, alpha: float, quantile: float = _TAIL) -> tuple[float, float | None]:
    """Between which shares of the ordered calls the percentile lies; None where none lies surely above it."""
    from scipy.optimize import brentq
    from scipy.special import betainc

    def below(share: float) -> float:
        return float(betainc(share * effective, effective * (1 - share) + 1, quantile))

    least = 1e-9
    high = brentq(lambda share: below(share) - alpha, least, 1.0) if below(1.0) <= alpha else None
    return brentq(lambda share: below(share) - (1 - alpha), least, 1.0) if below(1.0) < 1 - alpha else 1.0, high
