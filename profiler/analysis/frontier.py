"""The front of accuracy against a cost: networks of which no other is as accurate and as cheap.

A network is dominated where another costs no more and is no less accurate, and is better in one of the two. Costs are
known to an interval, so that membership is told as a probability: in how many of many draws from all intervals a
network is on the front. Draws are of Student's t, with as many degrees of freedom as visits leave, scaled to end where
the 95% interval does on either side; predicted accuracies are drawn too. Intervals are taken to be independent of each
other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pandas as pd

from profiler.analysis.accuracy import Accuracies
from profiler.analysis.frame import (
    SECONDS,
    group_label,
    grouping,
    measured,
    network_names,
    plain,
    prose,
    unit_of,
    unstable,
)
from profiler.analysis.quantity import Quantity
from profiler.analysis.regression import Floats
from profiler.analysis.rows import groups_of
from profiler.analysis.speed import ratio_interval
from profiler.errors import UserError
from profiler.records.columns import interval_columns
from profiler.records.intervals import CONFIDENCE, Interval

Flags: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

_DRAWS = 4000
_SEED = 20210311
#: Membership less sure than this, either way, is doubtful.
SURE = 0.95


@dataclass(frozen=True, slots=True)
class Placed:
    """A network with a cost and an accuracy.

    Attributes:
        network: As people say it.
        model: The network it was scaled from.
        family: Empty where the table tells none.
        scaling: Rule; empty for an unscaled network.
        cost: In units of the front's column.
        interval: 95% of the cost; None where it was not measured.
        freedom: Degrees of freedom of that interval; infinite where the table does not tell.
        top1: In percent.
        predicted: 90% interval of a predicted top-1; None where it is known.
        source: Where the accuracy is from.
        member: Whether it is on the front as measured.
        probability: That it is on the front; None where no interval of a cost is known.
        unstable: Whether the table says so of its cost, a time.
    """

    network: str
    model: str
    family: str
    scaling: str
    cost: float
    interval: Interval | None
    freedom: float
    top1: float
    predicted: Interval | None
    source: str
    member: bool = False
    probability: float | None = None
    unstable: bool = False

    @property
    def doubtful(self) -> bool:
        """Whether the intervals leave open on which side of the front it is."""
        if self.probability is None:
            return False
        return self.probability < SURE if self.member else self.probability > 1 - SURE


@dataclass(frozen=True, slots=True)
class Front:
    """The networks of one group.

    Attributes:
        group: Values of the grouping columns.
        y: Column of the cost.
        recipe: Of all accuracies.
        points: By cost, then by accuracy, the better first.
        costless: Networks with an accuracy and no cost: the accuracy, and why there is none.
        without: Networks with a cost and no accuracy, and why.
    """

    group: dict[str, str]
    y: str
    recipe: str
    points: tuple[Placed, ...]
    costless: dict[str, tuple[float, str]]
    without: dict[str, str]

    @property
    def label(self) -> str:
        """The group as people say it."""
        return group_label(self.group)

    @property
    def what(self) -> str:
        """The cost as people say it."""
        return prose(self.y).removesuffix(" j")

    @property
    def members(self) -> tuple[Placed, ...]:
        """Those on the front, from cheap to accurate."""
        return tuple(point for point in self.points if point.member)


@dataclass(frozen=True, slots=True)
class Choice:
    """The best network under a limit.

    Attributes:
        point: The network.
        probability: That it is the best one under the limit; None where no interval is known.
        meets: That it keeps the limit itself; None likewise.
        faster: The next cheaper one of the front; None where there is none.
        ratio: Cost of that over the cost of this.
    """

    point: Placed
    probability: float | None
    meets: float | None
    faster: Placed | None
    ratio: Quantity | None

    @property
    def loss(self) -> float | None:
        """Points of top-1 that the next cheaper one has less."""
        return None if self.faster is None else self.point.top1 - self.faster.top1


def fronts(told: Accuracies, y: str) -> list[Front]:
    """Return the front of every group of a table.

    Raises:
        UserError: The table has no such column.
    """
    frame = told.frame
    if y not in frame:
        raise UserError(f"no column {y!r}: the table has {', '.join(map(str, frame.columns))}")
    table = frame.assign(**{key: [plain(v) for v in frame[key]] for key in grouping(frame)})
    return [_front(rows, group, y, told) for group, rows in groups_of(table, grouping(frame))]


def _front(rows: pd.DataFrame, group: dict[str, str], y: str, told: Accuracies) -> Front:
    points: dict[Placed, None] = {}
    costless: dict[str, tuple[float, str]] = {}
    without: dict[str, str] = {}
    names, good = network_names(rows), measured(rows).to_numpy(dtype=bool)
    costs, accuracies = _numbers(rows, y), _numbers(rows, "top1")
    texts = {column: _texts(rows, column) for column in ("reason", "status", "top1_why")}
    made = _points(rows, y)
    for at, network in enumerate(names):
        has = good[at] and costs[at] > 0
        if has and accuracies[at] > 0:
            points[made[at]] = None
        elif accuracies[at] > 0:
            status = texts["status"][at].replace("ok", "")
            costless[network] = float(accuracies[at]), texts["reason"][at] or status or f"no number in {y}"
        elif has:
            without[network] = texts["top1_why"][at]
    ranked = sorted(points, key=lambda point: (point.cost, -point.top1, point.network))
    placed = {point.network for point in ranked}
    costless = {network: one for network, one in costless.items() if network not in placed}
    return Front(group, y, told.recipe, _placed(ranked), costless, without)


def _points(rows: pd.DataFrame, y: str) -> list[Placed]:
    """A point for every row, also for those that lack one of the two."""
    low, high = (_numbers(rows, end) for end in interval_columns(y))
    costs, accuracies, visits = _numbers(rows, y), _numbers(rows, "top1"), _numbers(rows, "visits")
    ends = [_numbers(rows, end) for end in ("top1_low", "top1_high")]
    texts = [_texts(rows, column) for column in ("model", "family", "scaling", "top1_source")]
    unsure = (unstable(rows) & (unit_of(y) in SECONDS)).to_numpy(dtype=bool)
    return [
        Placed(
            network,
            texts[0][at],
            texts[1][at],
            texts[2][at],
            float(costs[at]),
            (float(low[at]), float(high[at])) if 0 < low[at] <= costs[at] <= high[at] < math.inf else None,
            float(visits[at]) - 1 if visits[at] > 1 else math.inf,
            float(accuracies[at]),
            (float(ends[0][at]), float(ends[1][at])) if ends[0][at] <= ends[1][at] else None,
            texts[3][at],
            unstable=bool(unsure[at]),
        )
        for at, network in enumerate(network_names(rows))
    ]


def _numbers(rows: pd.DataFrame, column: str) -> Floats:
    """A column as numbers, shape (n,); NaN where it holds none."""
    if column not in rows:
        return np.full(len(rows), np.nan)
    return pd.to_numeric(rows[column], errors="coerce").to_numpy(dtype=np.float64)


def _texts(rows: pd.DataFrame, column: str) -> list[str]:
    return [plain(value) for value in rows[column]] if column in rows else [""] * len(rows)


def _placed(ranked: Sequence[Placed]) -> tuple[Placed, ...]:
    """Say of each point whether it is on the front, and how surely."""
    if not ranked:
        return ()
    costs, top1 = np.array([[p.cost for p in ranked]]), np.array([[p.top1 for p in ranked]])
    member = _on_front(costs, top1)[0]
    drawn = _drawn(ranked)
    shares = None if drawn is None else _on_front(*drawn).mean(axis=0)
    return tuple(
        replace(point, member=bool(member[i]), probability=None if shares is None else float(shares[i]))
        for i, point in enumerate(ranked)
    )


def _on_front(costs: Floats, top1: Floats) -> Flags:
    """Which points no other dominates, draw by draw.

    Args:
        costs: Shape (draws, n).
        top1: Shape (draws, n).

    Returns:
        Shape (draws, n).
    """
    order = np.lexsort((-top1, costs), axis=1)
    cost, accuracy = (np.take_along_axis(each, order, 1) for each in (costs, top1))
    best = np.maximum.accumulate(accuracy, axis=1)
    found = np.ones(cost.shape, dtype=bool)
    for i in range(1, cost.shape[1]):
        twin = (cost[:, i] == cost[:, i - 1]) & (accuracy[:, i] == accuracy[:, i - 1])
        found[:, i] = (accuracy[:, i] > best[:, i - 1]) | (twin & found[:, i - 1])
    made = np.empty_like(found)
    np.put_along_axis(made, order, found, 1)
    return made


def _drawn(points: Sequence[Placed]) -> tuple[Floats, Floats] | None:
    """Draws of costs and accuracies, each of shape (draws, n); None where no cost has an interval.

    A cost without one among costs with one has the median width of those.
    """
    widths = [math.log(p.interval[1] / p.interval[0]) for p in points if p.interval]
    if not widths:
        return None
    typical = math.exp(float(np.median(widths)) / 2)
    made = np.random.default_rng(_SEED)
    costs, accuracies = [], []
    for p in points:
        low, high = p.interval or (p.cost / typical, p.cost * typical)
        steps = _steps(made, p.freedom)
        costs.append(
            p.cost * np.exp(np.where(steps < 0, steps * math.log(p.cost / low), steps * math.log(high / p.cost)))
        )
        steps = made.standard_normal(_DRAWS) / 1.645
        ends = p.predicted or (p.top1, p.top1)
        accuracies.append(p.top1 + np.where(steps < 0, steps * (p.top1 - ends[0]), steps * (ends[1] - p.top1)))
    return np.column_stack(costs), np.column_stack(accuracies)


def _steps(made: np.random.Generator, freedom: float) -> Floats:
    """Draws of Student's t in units of its 97.5% quantile, shape (draws,)."""
    from scipy.special import stdtrit

    if math.isinf(freedom):
        return made.standard_normal(_DRAWS) / 1.959964
    return made.standard_t(freedom, _DRAWS) / float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def best_under(front: Front, limit: float) -> Choice | None:
    """The most accurate network that costs no more than ``limit``; None where none costs so little."""
    met = [point for point in front.points if point.cost <= limit]
    if not met:
        return None
    drawn = _drawn(front.points)
    allowed = drawn and drawn[0] <= limit
    return _choice(front, max(met, key=lambda p: (p.top1, -p.cost)), allowed, drawn and drawn[1])


def cheapest_from(front: Front, top1: float) -> Choice | None:
    """The cheapest network with a top-1 of at least so many percent; None where none has."""
    met = [point for point in front.points if point.top1 >= top1]
    if not met:
        return None
    drawn = _drawn(front.points)
    allowed = drawn and drawn[1] >= top1
    return _choice(front, min(met, key=lambda p: (p.cost, -p.top1)), allowed, drawn and -drawn[0])


def _choice(front: Front, point: Placed, allowed: Flags | None, worth: Floats | None) -> Choice:
    """Put what is chosen beside the next cheaper one, and say how surely it is the best.

    Args:
        front: Where it is from.
        point: The best one as measured.
        allowed: Which points keep the limit, draw by draw, shape (draws, n); None where nothing can be drawn.
        worth: By how much each is to be preferred, shape (draws, n).
    """
    at = front.points.index(point)
    surely = meets = None
    if allowed is not None and worth is not None:
        scores = np.where(allowed, worth, -np.inf)
        surely = float(((scores.argmax(axis=1) == at) & allowed[:, at]).mean())
        meets = float(allowed[:, at].mean())
    cheaper = [each for each in front.members if each.cost < point.cost]
    faster = cheaper[-1] if cheaper else None
    ratio = None
    if faster is not None:
        mine, theirs = (Quantity(each.cost, each.interval) for each in (point, faster))
        ratio = Quantity(theirs.value / mine.value, ratio_interval(theirs, mine))
    return Choice(point, surely, meets, faster, ratio)
