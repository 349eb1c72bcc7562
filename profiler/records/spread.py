"""What the spread of a run's other cases tells of the spread of one's own visits.

Two or three visits say little of how much visits scatter, so that Student's interval over them is four to thirteen
standard deviations wide. The cases of a run met the same machine: their variances follow one scaled F distribution, and
a case's own is drawn towards what is common by as much as they are alike. Smyth, "Linear models and empirical Bayes
methods for assessing differential expression in microarray experiments", Statistical Applications in Genetics and
Molecular Biology 3 (2004), section 6. docs/estimator.md tells how many intervals hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from profiler.records.types import Case

#: Cases whose spreads say something of each other. Of fewer, too few intervals hold: study_shared counts those of 6.
FEWEST = 12
#: Cases of one pool that are looked at, spread evenly over it: more change nothing that is seen.
LOOKED_AT = 300


class Spread(NamedTuple):
    """How logarithms of times scatter from visit to visit.

    Attributes:
        variance: Of one visit.
        freedom: Degrees of freedom behind it.
    """

    variance: float
    freedom: float


#: Cases whose spreads are alike as far as anybody knows: of one machine, device, number of threads and kind of work.
Pool = tuple[str, str, int, str]


def pool_of(case: Case) -> Pool:
    """Return which spreads are shared with that of ``case``; its model, runtime and batch do not matter."""
    return case.fleet_label, case.placement.device, case.placement.threads, case.mode


def shared(own: Iterable[Spread]) -> Spread | None:
    """Return what is common to the spreads of several cases; None where there are too few.

    By moments of the logarithms of their variances, as Smyth; freedom is at most that of all of them together.
    """
    import numpy as np
    from scipy.special import digamma, polygamma

    known = [one for one in own if one.variance > 0 and one.freedom > 0]
    if len(known) < FEWEST:
        return None
    half = np.array([one.freedom / 2 for one in known])
    logs = np.log([one.variance for one in known]) - digamma(half) + np.log(half)
    excess, most = float(np.var(logs, ddof=1) - np.mean(polygamma(1, half))), 2 * float(half.sum())
    freedom = min(most, 2 * _inverse_trigamma(excess)) if excess > 0 else most
    return Spread(math.exp(np.mean(logs) + digamma(freedom / 2) - math.log(freedom / 2)), freedom)


def _inverse_trigamma(value: float) -> float:
    """Return the x > 0 whose trigamma is ``value``; it falls from infinity to 0."""
    from scipy.optimize import brentq
    from scipy.special import polygamma

    return float(brentq(lambda x: float(polygamma(1, x)) - value, 1e-6, 1e9))


def moderated(own: Spread, common: Spread | None) -> Spread:
    """Return the spread of a case where ``common`` is what others tell: the mean of both by their freedom.

    Its freedom is that of both together.
    """
    if common is None:
        return own
    freedom = own.freedom + common.freedom
    return Spread((own.freedom * own.variance + common.freedom * common.variance) / freedom, freedom)


def looked_at(cases: Iterable[Case]) -> Mapping[Pool, list[Case]]:
    """Return the cases of each pool whose spreads are worth reading: all, or ``LOOKED_AT`` of many."""
    pools: dict[Pool, list[Case]] = {}
    for case in cases:
        pools.setdefault(pool_of(case), []).append(case)
    return {pool: found[:: math.ceil(len(found) / LOOKED_AT)] for pool, found in pools.items()}
