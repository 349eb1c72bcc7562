"""Intervals over visits, percentiles over dependent samples.

A new interval of one case, over its visits, goes here; one over networks into ``profiler.analysis.regression``; the
test of two sides is ``profiler.gate.decision``.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


#: Low and high end.
Interval: TypeAlias = tuple[float, float]

CONFIDENCE = 0.95

# Share of the visits trimmed on each side, one at least, from so many visits on: with five, a trimmed interval that
# claims 95% covers 92.7%. With a fifth, so did intervals over twelve visits of a drifting machine.
TRIM = 0.1
TRIM_FROM = 6

# Fewer visits, or weighted ones, count as no further from their median than by this factor: one that takes several
# times as long as the others would carry off a mean of three. Of visits that differ as usual it moves none; clipped at
# less than 1.15 headlines repeat less well.
WILD = 1.3


def effective_number(weights: Sequence[float]) -> float:
    """How many values of equal weight tell a mean as well as these: Kish, "Survey Sampling" (1965), section 11.7."""
    return math.fsum(weights) ** 2 / math.fsum(w * w for w in weights)


def weighted_interval(values: Sequence[float], weights: Sequence[float]) -> tuple[float, float | None]:
    """Weighted mean of ``clipped`` values and the half width of its 95% interval.

    None for the latter with less than two values in effect. It is Student's, with ``effective_number`` for the
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
    """Logarithms of times, none further from their weighted median than ``WILD`` has it."""
    order = sorted(zip(values, weights, strict=True))
    up_to = list(itertools.accumulate(weight for _, weight in order))
    half, least = up_to[-1] / 2, 1e-9 * up_to[-1]
    low, high = bisect.bisect_left(up_to, half - least), bisect.bisect_right(up_to, half + least)
    middle, most = (order[low][0] + order[high][0]) / 2, math.log(WILD)
    return [min(max(x, middle - most), middle + most) for x in values]


def sequential_interval(values: Sequence[float], pilot: int) -> tuple[float, float | None]:
    """Trimmed mean and the half width of its 95% interval when the values themselves decided how many there are.

    Going on until an interval is narrow stops on values that agree by luck: with 3 to 10 visits Student's interval
    then covers 90% and less. Stein's, from the spread s of the first ``pilot`` values alone, t · s / sqrt(n) with
    pilot - 1 degrees of freedom, covers 95% whatever n they lead to: Stein, "A two-sample test for a linear
    hypothesis whose power is independent of the variance", Annals of Mathematical Statistics 16 (1945). The wider of
    it and ``trimmed_interval`` is returned, which also sees a later value go wild.
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

    With n values and g = ``trimmed`` of them left out on each side, the half width is t · s_w / ((1 - 2g/n) ·
    sqrt(n)), where s_w is the standard deviation after the trimmed values were replaced by the nearest kept
    ones, and t has n - 2g - 1 degrees of freedom: Tukey and McLaughlin, "Less vulnerable confidence and
    significance procedures for location based on a single sample", Sankhya A 25 (1963). Where none are
    trimmed the centre is the mean of ``clipped`` values, and the half width Student's of the values as they are.
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
