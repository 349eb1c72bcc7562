"""The front of accuracy against a cost in words and tables of the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from profiler.analysis.accuracy import Accuracies
from profiler.analysis.accuracy_model import left_out
from profiler.analysis.frame import SECONDS, unit_of
from profiler.analysis.frontier import SURE, Choice, Front, Placed
from profiler.records.intervals import Interval
from profiler.report.plain import plain_table, unstable_sentence
from profiler.units import format_bytes, format_duration

#: Networks that are behind the front as measured, and may be on it, in the table.
_MOST_DOUBTFUL = 8
#: Names in a sentence; JSON has them all.
_MOST_NAMES = 6
_BYTES = {"bytes": 1, "MB": 10**6, "MiB": 1024**2}


def amount(value: float, y: str) -> str:
    """A cost as people write it, by the unit of its column."""
    unit = unit_of(y)
    if unit in SECONDS:
        return format_duration(value * SECONDS[unit])
    if unit in _BYTES:
        return format_bytes(value * _BYTES[unit])
    return f"{value:.4g}{' J' if y.endswith('_j') else ''}"


def print_front(front: Front, told: Accuracies, console: Console) -> None:
    """Print the table of a front, and what could not be put on it."""
    console.print(escape(front.label), style="bold", highlight=False, soft_wrap=True)
    console.print(escape(_counted(front, told)), highlight=False, soft_wrap=True)
    if front.points:
        console.print(_table(front))
    for line in _left(front):
        console.print(escape(line), highlight=False, soft_wrap=True)


def _counted(front: Front, told: Accuracies) -> str:
    number = len(front.points)
    if not number:
        return f"No network has both an accuracy under {front.recipe} and a {front.what}."
    known = sum(point.predicted is None for point in front.points)
    foretold = f", {number - known} of them predicted" if known < number else ""
    source = f" ({told.source})" if told.source else ""
    return (
        f"{len(front.members)} of {number} networks are on the front of accuracy against {front.what}; accuracy under "
        f"{front.recipe}{source}{foretold}."
    )


def _table(front: Front) -> Table:
    table = plain_table("network", f"{front.what} [95%]", "top-1", "front")
    table.padding = (0, 1, 0, 0)
    doubtful = sorted((p for p in front.points if p.doubtful and not p.member), key=lambda p: -(p.probability or 0))
    shown = {*front.members, *doubtful[:_MOST_DOUBTFUL]}
    for point in front.points:
        if point in shown:
            table.add_row(*map(escape, _cells(point, front.y)), style="" if point.member else "dim")
    return table


def _cells(point: Placed, y: str) -> tuple[str, str, str, str]:
    cost = amount(point.cost, y) + (f" [{_ends(point.interval, y)}]" if point.interval else "") + "?" * point.unstable
    ends = f" [{point.predicted[0]:.1f}, {point.predicted[1]:.1f}]" if point.predicted else ""
    sure = "" if point.probability is None else f" {point.probability:.0%}{' ~' if point.doubtful else ''}"
    return point.network, cost, f"{point.top1:.2f}{ends}", ("yes" if point.member else "no") + sure


def _ends(interval: Interval, y: str) -> str:
    return ", ".join(amount(end, y).partition(" ")[0] for end in interval)


def _left(front: Front) -> list[str]:
    """What is doubtful, and what has no place on the front, in sentences."""
    unsure = unstable_sentence(sum(point.unstable for point in front.points), len(front.points))
    lines = [f"?: {unsure}"] if unsure else []
    doubtful = [point for point in front.points if point.doubtful]
    if doubtful:
        more = sum(not point.member for point in doubtful) - _MOST_DOUBTFUL
        others = f"; {more} more may be on it" if more > 0 else ""
        lines.append(f"~: the intervals leave open whether it is on the front: less sure than {SURE:.0%}{others}.")
    elif front.points and all(point.probability is None for point in front.points):
        lines.append("The table has no intervals, so that how surely each is on the front is not known.")
    reasons: dict[str, list[str]] = {}
    for network, why in front.without.items():
        reasons.setdefault(why, []).append(network)
    lines += [f"No accuracy, {why}: {_names(networks)}." for why, networks in reasons.items()]
    if front.costless:
        named = [f"{network} {top1:.2f} ({why})" for network, (top1, why) in front.costless.items()]
        lines.append(f"An accuracy and no {front.what}: {_names(named)}.")
    return lines


def _names(names: list[str]) -> str:
    rest = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def unmeasured_sentence(unmeasured: Mapping[str, float]) -> str:
    """Which networks of the user's table were not measured."""
    return f"An accuracy and no row in the run: {_names([f'{name} {top1:.2f}' for name, top1 in unmeasured.items()])}."


def predicted_sentence(told: Accuracies) -> str:
    """What predicted accuracies rest on, and how wrong they are on networks left out."""
    assert told.model is not None, "accuracies were predicted"
    errors = left_out(told.model)
    share = f"{errors.covered:.0%}"
    return (
        f"Predicted from {len(told.model.trained)} networks under {told.recipe}: on one left out the error is "
        f"{errors.mean:.1f} points in the mean, {errors.worst:.1f} at most; the 90% interval holds {share}."
    )


def choice_sentence(choice: Choice | None, front: Front, limit: str, *, by_top1: bool) -> str:
    """The best network under a limit, how surely, and what the next cheaper one loses."""
    what = front.what
    if choice is None:
        verb = "is that accurate" if by_top1 else "costs so little"
        return f"No network {verb}: {_nearest(front, by_top1=by_top1)} (asked for {limit})."
    point = choice.point
    sure = "" if choice.probability is None else f", {choice.probability:.0%} sure"
    role = f"Cheapest with top-1 from {limit}" if by_top1 else f"Most accurate within {limit}"
    text = f"{role}: {point.network}, top-1 {point.top1:.2f}, {what} {_cells(point, front.y)[1]}{sure}."
    if choice.meets is not None and choice.meets < SURE:
        text += f" It keeps the limit itself with {choice.meets:.0%}."
    if choice.faster is None or choice.ratio is None or choice.loss is None:
        return f"{text} None of the front is cheaper."
    ends = choice.ratio.interval
    interval = f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends and all(map(math.isfinite, ends)) else ""
    return (
        f"{text} The next cheaper one, {choice.faster.network}, loses {choice.loss:.2f} points and takes "
        f"{choice.ratio.value:.2f}{interval} of it."
    )


def _nearest(front: Front, *, by_top1: bool) -> str:
    if not front.points:
        return "none has both an accuracy and a cost"
    if by_top1:
        point = max(front.points, key=lambda p: p.top1)
        return f"the most accurate, {point.network}, has {point.top1:.2f}"
    return f"the cheapest, {front.points[0].network}, takes {amount(front.points[0].cost, front.y)}"
