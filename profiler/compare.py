"""``profiler compare``: devices, backends, precisions and machines side by side, network by network.

A *side* is one run on one machine with one backend in one placement. Two sides are compared over the networks that
both have; sides of unlike machines too, and then the machines are named.
"""

from __future__ import annotations

import itertools
import json as jsonlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from scipy import stats

from profiler.errors import UserError
from profiler.fit import GROUP_KEYS, checked_rows, group_label, latency_column, plain, plain_table
from profiler.regression import CONFIDENCE, Interval
from profiler.table import read_table

#: Facts of a machine, told where two sides differ in them.
MACHINE = ("host", "cpu", "os", "torch_version", "onnxruntime_version")
LEAST_FOR_RANKS = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """What one network costs on one side, with its 95% interval where that was measured."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Side:
    """One run, machine, backend and placement.

    Attributes:
        keys: Values of the grouping columns, and ``run``.
        machine: Facts of the machine that the table has.
        costs: Cost of each network.
    """

    keys: dict[str, str]
    machine: dict[str, str]
    costs: dict[str, Cost]


@dataclass(frozen=True, slots=True)
class Ratio:
    """One network on two sides: the second's cost over the first's, with a 95% interval where both have one."""

    network: str
    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sides, over the networks that both have.

    Attributes:
        first: The side that is divided by.
        second: The side that is divided.
        differs: For each key or machine fact in which they differ, both values.
        ratios: One per common network.
        mean: Geometric mean of the ratios.
        interval: 95% of the geometric mean, Student's t over networks; None below 3.
        spearman: Rank correlation of the networks' costs; None below 4, or where a side is constant.
    """

    first: dict[str, str]
    second: dict[str, str]
    differs: dict[str, tuple[str, str]]
    ratios: tuple[Ratio, ...]
    mean: float
    interval: Interval | None
    spearman: float | None

    @property
    def labels(self) -> tuple[str, str]:
        """Both sides, by the keys in which they differ."""
        keys = [key for key in self.first if self.first.get(key) != self.second.get(key)]
        shown = [key for key in keys if key not in MACHINE] or keys
        first, second = (group_label({key: side.get(key, "") for key in shown}) for side in (self.first, self.second))
        return first, second


def ratio_interval(top: Cost, bottom: Cost) -> Interval | None:
    """95% interval of ``top / bottom`` from the interval of each; None where one has none.

    The method of variance estimates recovery (Zou and Donner 2008) in logarithms: distances to the limits add in
    squares, so that intervals that are not symmetric stay so.
    """
    if top.interval is None or bottom.interval is None:
        return None
    a, b = math.log(top.value), math.log(bottom.value)
    a_low, a_high = (math.log(end) for end in top.interval)
    b_low, b_high = (math.log(end) for end in bottom.interval)
    low = a - b - math.hypot(a - a_low, b_high - b)
    high = a - b + math.hypot(a_high - a, b - b_low)
    return (math.exp(low), math.exp(high))


def sides(frame: pd.DataFrame, y: str = "latency_ms") -> list[Side]:
    """All sides of a table, in its order.

    Args:
        frame: One row per case, as ``profiler run`` writes them; a column ``run`` where runs were joined.
        y: Column to compare.

    Raises:
        UserError: The table cannot be used.
    """
    checked = checked_rows(frame, y)
    table = frame.reset_index(drop=True)
    keys = [key for key in GROUP_KEYS if key in table]
    found: dict[tuple[str, ...], list[int]] = {}
    for row in range(len(table)):
        if checked["why"].iloc[row] == "":
            found.setdefault(tuple(plain(table[key].iloc[row]) for key in keys), []).append(row)
    return [
        Side(
            keys=dict(zip(keys, values, strict=True)),
            machine={c: plain(table[c].iloc[rows[0]]) for c in MACHINE if c in table},
            costs={str(checked["network"].iloc[row]): _cost(table, row, y) for row in rows},
        )
        for values, rows in found.items()
    ]


def _cost(table: pd.DataFrame, row: int, y: str) -> Cost:
    value = float(table[y].iloc[row])
    unit = y.rpartition("_")[2]
    columns = [f"{y.removesuffix(f'_{unit}')}_ci_{end}_{unit}" for end in ("low", "high")]
    if any(column not in table for column in columns):
        return Cost(value, None)
    low, high = (float(pd.to_numeric(table[column].iloc[[row]], errors="coerce").iloc[0]) for column in columns)
    return Cost(value, (low, high) if 0 < low <= value <= high < math.inf else None)


def pairs(found: Sequence[Side]) -> list[Pair]:
    """Pairs of sides that differ in one thing and share networks; all pairs where none differ in just one.

    A machine counts as one thing, with the run made on it and whatever else two runs have no value of in common.
    """
    made = [(_things(a, b, found), _pair(a, b)) for a, b in itertools.combinations(found, 2)]
    shared = [(things, pair) for things, pair in made if pair is not None]
    fewest = min((things for things, _ in shared), default=0)
    return [pair for things, pair in shared if things == fewest]


def _things(a: Side, b: Side, found: Sequence[Side]) -> int:
    """In how many things two sides differ."""
    keys = [key for key in a.keys if a.keys[key] != b.keys[key]]
    machine = {"run", "host"}
    if "run" in keys:
        machine |= {key for key in keys if not _values(found, a, key) & _values(found, b, key)}
    return len(set(keys) - machine) + bool(machine & set(keys))


def _values(found: Sequence[Side], side: Side, key: str) -> set[str]:
    return {each.keys[key] for each in found if each.keys["run"] == side.keys["run"]}


def _pair(a: Side, b: Side) -> Pair | None:
    common = [network for network in a.costs if network in b.costs]
    if not common:
        return None
    ratios = tuple(_ratio(network, b.costs[network], a.costs[network]) for network in common)
    mean, interval = geometric_mean([ratio.value for ratio in ratios])
    ours, theirs = a.keys | a.machine, b.keys | b.machine
    differs = {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key]}
    costs = [[side.costs[network].value for network in common] for side in (a, b)]
    return Pair(a.keys, b.keys, differs, ratios, mean, interval, rank_correlation(*costs))


def _ratio(network: str, top: Cost, bottom: Cost) -> Ratio:
    return Ratio(network, top.value / bottom.value, ratio_interval(top, bottom))


def geometric_mean(ratios: Sequence[float]) -> tuple[float, Interval | None]:
    """Geometric mean, and its 95% interval by Student's t over the logarithms; None below three."""
    logs = np.log(ratios)
    centre = float(logs.mean())
    if len(logs) < 3:
        return math.exp(centre), None
    t = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(logs) - 1))
    half = t * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    return math.exp(centre), (math.exp(centre - half), math.exp(centre + half))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's correlation; None below four networks, or where one side is constant."""
    if len(first) < LEAST_FOR_RANKS or min(np.ptp(first), np.ptp(second)) == 0:
        return None
    return float(stats.spearmanr(first, second).statistic)


def source_names(sources: Sequence[Path]) -> list[str]:
    """A short name for each source; the whole path where short ones coincide."""
    short = [source.resolve().parent.name if source.suffix == ".jsonl" else source.stem for source in sources]
    return short if len(set(short)) == len(short) else [str(source) for source in sources]


def read(sources: Sequence[Path], y: str | None) -> tuple[pd.DataFrame, str]:
    """Join runs into one table with a column ``run``; and the column to compare.

    Raises:
        UserError: A source cannot be read, or lacks the column.
    """
    frames = [read_table(source) for source in sources]
    column = latency_column(frames[0], y)
    for source, frame in zip(sources, frames, strict=True):
        if column not in frame:
            raise UserError(f"{source} has no column {column!r}, which {sources[0]} has: name one of both with --y")
    joined = [f.assign(run=name) for name, f in zip(source_names(sources), frames, strict=True)]
    with_rows = [f.dropna(axis="columns", how="all") for f in joined if len(f)] or joined
    table = pd.concat(with_rows, ignore_index=True)
    return (table if column in table else table.assign(**{column: np.nan})), column


def run(sources: Sequence[Path], y: str | None, json: bool) -> None:
    """Compare runs; ``profiler compare``.

    Raises:
        UserError: A run cannot be used, or no two sides share a network.
    """
    frame, column = read(sources, y)
    found = sides(frame, column)
    made = pairs(found)
    if not made:
        raise UserError(_nothing(found))
    if json:
        print(jsonlib.dumps({"column": column, "pairs": [asdict(p) for p in made]}, indent=2, allow_nan=False))
    else:
        _print(made, column, Console())


def _nothing(found: Sequence[Side]) -> str:
    if len(found) < 2:
        what = "one side" if found else "no measured case"
        return f"{what} to compare: expected two runs, or one run of several backends, devices or precisions"
    networks = [f"{group_label(side.keys)}: {', '.join(list(side.costs)[:3])}" for side in found[:4]]
    return f"no two sides share a network ({'; '.join(networks)}); measure the same networks on both"


def _print(made: Sequence[Pair], column: str, console: Console) -> None:
    for notice in dict.fromkeys(filter(None, map(_unlike, made))):
        console.print(escape(notice), highlight=False, soft_wrap=True)
    everywhere = [side for pair in made for side in (pair.first, pair.second)]
    varying = [key for key in everywhere[0] if len({side[key] for side in everywhere}) > 1]
    table = plain_table(f"ratio of {column}", "networks", "mean [95%]", "rank corr.")
    for pair in made:
        same = {key: pair.first[key] for key in varying if pair.first[key] == pair.second[key] and key not in MACHINE}
        said = f"{_said(pair)} ({group_label(same)})" if same else _said(pair)
        rank = "" if pair.spearman is None else f"{pair.spearman:.3f}"
        mean = f"{pair.mean:.3f} {_ends(pair.interval)}".strip()
        table.add_row(escape(said), str(len(pair.ratios)), escape(mean), rank)
    console.print(table)
    for pair in made:
        if len(made) == 1 or "run" in pair.differs:
            console.print(f"\n{escape(_where(pair))}", highlight=False, soft_wrap=True)
            console.print(_ratios_table(pair))


def _ratios_table(pair: Pair) -> Table:
    table = plain_table("network", "ratio", "95%")
    for ratio in sorted(pair.ratios, key=lambda r: r.value):
        table.add_row(escape(ratio.network), f"{ratio.value:.3f}", escape(_ends(ratio.interval)))
    return table


def _where(pair: Pair) -> str:
    same = {k: v for k, v in pair.first.items() if pair.second.get(k) == v and k not in MACHINE}
    return f"{_said(pair)}, {group_label(same)}" if same else _said(pair)


def _said(pair: Pair) -> str:
    first, second = pair.labels
    return f"{second} / {first}"


def _ends(interval: Interval | None) -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""


def _unlike(pair: Pair) -> str | None:
    """That two sides come from unlike machines or versions, and in what they differ."""
    facts: Mapping[str, tuple[str, str]] = {k: v for k, v in pair.differs.items() if k in MACHINE and all(v)}
    if not facts:
        return None
    first, second = (side.get("run", "") for side in (pair.first, pair.second))
    told = ", ".join(_differences(facts))
    return f"{first} and {second} were not measured on like machines: {told}."


def _differences(facts: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    for name, (first, second) in facts.items():
        yield f"{name.replace('_', ' ')} {first} / {second}"
