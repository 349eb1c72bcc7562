"""The estimator as it was before the ablation, in parts that can be taken out, and as it is since.

It works on what was recorded, see :mod:`tests.studies.recorded`: nothing here imports the program, so that what was
deleted from it can still be compared with.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean, median, stdev

from scipy.special import stdtrit

from tests.studies.recorded import Visit

#: (logarithm of a visit's time, whether it was quiet, how slow the reference was: infinite beside a competitor).
Said = tuple[float, bool, float]


@dataclass(frozen=True, slots=True)
class Rule:
    """Every part that the ablation takes out; the defaults are the estimator before it.

    Attributes:
        blocks: Which blocks of a visit count: ``quiet`` ones, else the least disturbed; all that had no competitor
            (``alone``); or ``all``.
        visits: Which visits count: ``weighted``, where few are quiet; ``quiet``, or all where few are; or ``equal``.
        centre: Trimmed mean from six visits on and clipped mean below (``trimmed``), ``clipped`` mean,
            ``interquartile`` mean, ``median`` or ``mean``.
        settled: Leave out first samples as if a model settled for 10 ms on one thread too, however slow it is.
        run_level: Judge by the reference's level in the whole run, not by that of the case's own visits.
    """

    blocks: str = "quiet"
    visits: str = "weighted"
    centre: str = "trimmed"
    run_level: bool = True
    quiet: float = 1.10
    far: float = 1.8
    faster: float = 0.92
    cores: bool = True
    with_cores: bool = True
    cap: bool = True
    normalise: bool = True
    settled: bool = False
    widths: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    least: int = 3
    wild: float = 1.3
    stein: bool = True


BEFORE = Rule()
AFTER = Rule(blocks="alone", visits="quiet", centre="interquartile", run_level=False, faster=0.0)


def level_of(slowness: Sequence[float]) -> float:
    """Return the median of what lies within a tenth of the 10th percentile."""
    slowness = sorted(slowness)
    return median(slowness[: bisect.bisect_right(slowness, 1.1 * slowness[len(slowness) // 10])])


# --- one visit


def said(visit: Visit, level: float, rule: Rule) -> Said:
    """Return what a visit says beside a reference of ``level``."""
    visit = _settled(visit) if rule.settled else visit
    raw = [s for block in visit.samples for s in block]
    if not rule.normalise:
        return math.log(median(raw)), True, 1.0
    pairs = list(itertools.pairwise(visit.reference))
    had = visit.had_cores if rule.cores else [True] * len(pairs)
    beside = [max(pair) if good else math.inf for pair, good in zip(pairs, had, strict=True)]
    if level > rule.far:
        return math.log(median(raw)), False, math.inf
    if rule.blocks == "quiet":
        return _quiet(visit, pairs, beside, level, rule)
    limit = rule.far * level if rule.blocks == "alone" else math.inf
    used = [(block, fmean(pair)) for block, pair, b in zip(visit.samples, pairs, beside, strict=True) if b <= limit]
    if not used:
        return math.log(median(raw)), False, math.inf
    slowness = median(scale for _, scale in used) / level
    return math.log(median(s / scale for block, scale in used for s in block)), slowness <= rule.quiet, slowness


def _settled(visit: Visit) -> Visit:
    """On one thread 2 ms of forwards settled, none of a model slower than 15 ms; two samples of a block are left."""
    forward_ns = median(s for block in visit.samples for s in block)
    had = 0 if forward_ns > 15e6 else max(1, round(2e6 / forward_ns))
    more = math.ceil(10e6 / forward_ns) - had
    return replace(visit, samples=tuple(block[max(0, min(more, len(block) - 2)) :] for block in visit.samples))


def _quiet(visit: Visit, pairs: list[tuple[float, float]], beside: list[float], level: float, rule: Rule) -> Said:
    cap = rule.far * level if rule.cap else math.inf
    blocks = [[s / min(cap, fmean(pair)) for s in b] for b, pair in zip(visit.samples, pairs, strict=True)]

    def at(limit: float) -> list[float]:
        return [s for block, b in zip(blocks, beside, strict=True) if b <= limit for s in block]

    best = min(beside)
    if best <= rule.quiet * level:
        return math.log(median(at(rule.quiet * level))), True, 1.0
    if best <= rule.far * level:
        return math.log(median(at(rule.quiet * best))), False, best / level
    others: list[float] = []
    if rule.with_cores:
        alone = itertools.pairwise(r if r <= rule.far * level else level for r in visit.reference)
        had = [b < math.inf for b in beside]
        others = [s / fmean(p) for b, good, p in zip(visit.samples, had, alone, strict=True) if good for s in b]
    return math.log(median(others or at(math.inf))), False, math.inf


def of_case(visits: Sequence[Visit], run_level: float, rule: Rule) -> list[Said]:
    """Return what each visit of a case says."""
    level = run_level if rule.run_level else level_of([r for visit in visits for r in visit.reference])
    found = [said(visit, level, rule) for visit in visits]
    shift = math.log(run_level) if run_level < rule.faster else 0.0
    return [(log + shift, quiet, slow) for log, quiet, slow in found]


# --- all visits


@cache
def t95(freedom: float) -> float:
    """Return the 97.5th percentile of Student's t."""
    return float(stdtrit(freedom, 0.975))


def headline(visits: Sequence[Said], pilot: int, rule: Rule) -> tuple[float, float | None]:
    """Return the logarithm of the headline and the half width of its 95% interval."""
    usable = [one for one in visits if one[2] < math.inf or rule.far == math.inf]
    quiet = [one for one in usable if one[1]]
    if rule.visits == "weighted" and len(quiet) < rule.least and len(usable) > len(quiet):
        return _weighted([log for log, _, _ in usable], _nearness([slow for _, _, slow in usable], rule), rule)
    if rule.visits == "weighted":
        used = quiet or visits
    elif rule.visits == "quiet" and len(quiet) >= rule.least:
        used = quiet
    else:
        used = usable or visits
    logs = [log for log, _, _ in used]
    centre, half = _centre(logs, rule)
    if half is not None and rule.stein and 2 <= pilot < len(logs):
        half = max(half, t95(pilot - 1) * stdev(logs[:pilot]) / math.sqrt(len(logs)))
    return centre, half


def _centre(logs: list[float], rule: Rule) -> tuple[float, float | None]:
    count, ordered = len(logs), sorted(logs)
    out = max(1, count // 10) if rule.centre == "trimmed" and count >= 6 else 0
    kept = ordered[out : count - out]
    if rule.centre == "interquartile":
        shares = [max(0.0, min(i + 1, 0.75 * count) - max(i, 0.25 * count)) for i in range(count)]
        centre = math.fsum(s * x for s, x in zip(shares, ordered, strict=True)) / math.fsum(shares)
    elif rule.centre == "median":
        centre = median(logs)
    else:
        centre = fmean(kept if out or rule.centre == "mean" else _clipped(kept, [1.0] * count, rule))
    if count < 2:
        return centre, None
    winsorised = [kept[0]] * out + kept + [kept[-1]] * out
    return centre, t95(len(kept) - 1) * stdev(winsorised) / (len(kept) / count * math.sqrt(count))


def _clipped(logs: Sequence[float], weights: Sequence[float], rule: Rule) -> list[float]:
    order = sorted(zip(logs, weights, strict=True))
    up_to = list(itertools.accumulate(w for _, w in order))
    half, least = up_to[-1] / 2, 1e-9 * up_to[-1]
    low, high = bisect.bisect_left(up_to, half - least), bisect.bisect_right(up_to, half + least)
    middle, most = (order[low][0] + order[high][0]) / 2, math.log(rule.wild)
    return [min(max(x, middle - most), middle + most) for x in logs]


def _nearness(slowness: Sequence[float], rule: Rule) -> list[float]:
    for width in (*rule.widths, math.inf):
        weights = [math.exp(-((math.log(min(max(1.0, slow / rule.quiet), 1e9)) / width) ** 2)) for slow in slowness]
        if _number(weights) >= min(rule.least, len(weights)):
            break
    return weights


def _number(weights: Sequence[float]) -> float:
    return math.fsum(weights) ** 2 / math.fsum(w * w for w in weights)


def _weighted(logs: Sequence[float], weights: Sequence[float], rule: Rule) -> tuple[float, float | None]:
    total, n = math.fsum(weights), _number(weights)
    centre = math.fsum(w * x for w, x in zip(weights, _clipped(logs, weights, rule), strict=True)) / total
    if n < 2 - 1e-9:
        return centre, None
    middle = math.fsum(w * x for w, x in zip(weights, logs, strict=True)) / total
    spread = math.fsum(w * (x - middle) ** 2 for w, x in zip(weights, logs, strict=True)) / total
    return centre, t95(round(n - 1, 6)) * math.sqrt(spread / (n - 1))
