"""Devices, backends, precisions and machines side by side, network by network.

A *setting* is one run on one machine with one backend in one placement. Two are compared over the networks that both
have; those of unlike machines too, and then the machines are named.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from profiler.analysis.frame import GROUP_KEYS, PROXIES, group_label, latency_column, plain
from profiler.analysis.one_nominal import Nominal, nominal_of, over
from profiler.analysis.quantity import Quantity
from profiler.analysis.regression import geometric_mean, rank_correlation
from profiler.analysis.rows import checked_rows, uncounted
from profiler.analysis.source import in_one, read_table, source_names
from profiler.analysis.speed import ratio_interval
from profiler.errors import UserError
from profiler.records.columns import interval_columns
from profiler.records.intervals import Interval
from profiler.records.spread import FEWEST

#: Facts of a machine, told where two sides differ in them.
MACHINE = ("host", "cpu", "os", "torch_version", "onnxruntime_version")


#: Quantiles of the normal distribution: of a 95% interval's half width, and of the median deviation.
_QUANTILE_975, _QUANTILE_75 = 1.959964, 0.674490

#: Facts of a model; two that differ in one of them are two models.
MODEL = ("content", "inputs")
#: Networks of a run that a sentence names.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Setting:
    """One run, machine, backend and placement.

    Attributes:
        keys: Values of the grouping columns, and ``run``.
        machine: Facts of the machine that the table has.
        costs: Cost of each network, with its interval where that was measured.
        models: What each network was: its content and its inputs, as far as the table says.
        nominal: What the costs are multiples of; None where they are of nothing, or of several.
    """

    keys: dict[str, str]
    machine: dict[str, str]
    costs: dict[str, Quantity]
    models: dict[str, dict[str, str]]
    nominal: Nominal | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two settings, over the networks that both have.

    Attributes:
        first: Keys of the setting that is divided by.
        second: Keys of the setting that is divided.
        differs: For each key or machine fact in which they differ, both values.
        ratios: The second's cost of each common network over the first's, with an interval where both have one.
        mean: Geometric mean of the ratios.
        interval: 95% of the geometric mean, Student's t over networks; None below 3.
        spearman: Rank correlation of the networks' costs; None below 4, or where a setting is constant.
        unlike: Networks left out because the same name is of unlike models, and in what they differ.
        rescaled: By what the second's costs were multiplied, so that both are by the first's calibration.
        references: Versions of the reference, where costs of both are multiples of its nominal time on one machine.
        scatter: By what the intervals of ``ratios`` are widened, see ``_scatter``; 1.0 where they are as they were.
    """

    first: dict[str, str]
    second: dict[str, str]
    differs: dict[str, tuple[str, str]]
    ratios: dict[str, Quantity]
    mean: float
    interval: Interval | None
    spearman: float | None
    unlike: dict[str, str] = field(default_factory=dict)
    scatter: float = 1.0
    rescaled: float = 1.0
    references: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs of both; twice the same, or nothing, where the settings are of one."""
        return tuple(keys.get("run", "") for keys in (self.first, self.second))

    @property
    def labels(self) -> tuple[str, str]:
        """Both settings, by the keys in which they differ."""
        keys = [key for key in self.first if self.first.get(key) != self.second.get(key)]
        shown = [key for key in keys if key not in MACHINE] or keys
        none = {"gap_ms": "0"}
        values = [{key: keys.get(key) or none.get(key, "") for key in shown} for keys in (self.first, self.second)]
        first, second = map(group_label, values)
        return first, second


def settings_of(frame: pd.DataFrame, y: str = "latency_ms") -> list[Setting]:
    """All settings of a table, in its order.

    Args:
        frame: One row per case, as ``profiler run`` writes them; a column ``run`` where runs were joined.
        y: Column to compare.

    Raises:
        UserError: The table cannot be used.
    """
    checked = checked_rows(frame, y)
    table = frame.reset_index(drop=True)
    keys = [key for key in GROUP_KEYS if key in table]
    # Times can be compared of what nothing counts.
    usable = (checked["why"] == "") | uncounted(checked, y)
    found: dict[tuple[str, ...], list[int]] = {}
    for row in range(len(table)):
        if usable.iloc[row]:
            found.setdefault(tuple(plain(table[key].iloc[row]) for key in keys), []).append(row)
    return [
        Setting(
            keys=dict(zip(keys, values, strict=True)),
            machine={c: plain(table[c].iloc[rows[0]]) for c in MACHINE if c in table},
            costs={str(checked["network"].iloc[row]): _cost(table, row, y) for row in rows},
            models={
                str(checked["network"].iloc[row]): {c: plain(table[c].iloc[row]) for c in MODEL if c in table}
                for row in rows
            },
            nominal=_nominal(table.iloc[rows], y),
        )
        for values, rows in found.items()
    ]


def _nominal(rows: pd.DataFrame, y: str) -> Nominal | None:
    found = {nominal_of({str(name): value for name, value in row.items()}, y) for row in rows.to_dict("records")}
    return found.pop() if len(found) == 1 else None


def _cost(table: pd.DataFrame, row: int, y: str) -> Quantity:
    value, columns = float(table[y].iloc[row]), interval_columns(y)
    if any(column not in table for column in columns):
        return Quantity(value)
    low, high = (float(pd.to_numeric(table[column].iloc[[row]], errors="coerce").iloc[0]) for column in columns)
    return Quantity(value, (low, high) if 0 < low <= value <= high < math.inf else None)


def comparisons(found: Sequence[Setting]) -> list[Comparison]:
    """Settings that differ in one thing and share networks, two by two; those that differ in the fewest where none do.

    So it is of two runs as of one, however near to each other the settings of one of them are. A machine counts as one
    thing, with the run made on it and whatever else two runs have no value of in common.
    """
    made = [(_things(a, b, found), _compared(a, b)) for a, b in itertools.combinations(found, 2)]
    shared = [(things, one) for things, one in made if one is not None]
    fewest: dict[tuple[str, ...], int] = {}
    for things, one in shared:
        fewest[one.runs] = min(things, fewest.get(one.runs, things))
    return [one for things, one in shared if things == fewest[one.runs]]


def unpaired(made: Sequence[Comparison], runs: Sequence[str]) -> list[str]:
    """The runs that no comparison puts beside another one."""
    beside = {run for one in made if len(set(one.runs)) > 1 for run in one.runs}
    return [run for run in runs if run not in beside] if len(runs) > 1 else []


def contents(found: Sequence[Setting], frame: pd.DataFrame, run: str, y: str) -> str:
    """What a run of a joined table has to compare, in words."""
    networks = [*dict.fromkeys(network for each in found if each.keys["run"] == run for network in each.costs)]
    if networks:
        rest = f" and {len(networks) - _NAMED} more" if len(networks) > _NAMED else ""
        return f"{run} has {', '.join(networks[:_NAMED])}{rest}"
    rows = int((frame["run"] == run).sum())
    return f"none of the {rows} rows of {run} has a {y} that counts" if rows else f"{run} has no rows"


def comparable_rows(frame: pd.DataFrame, y: str) -> dict[str, int]:
    """How many rows of each setting of a table can be compared, by that in words; with a reason where it is none.

    Raises:
        UserError: The table cannot be used.
    """
    checked, keys = checked_rows(frame, y), [key for key in GROUP_KEYS if key in frame and key not in MACHINE]
    cells = pd.DataFrame({key: [plain(value) for value in frame[key]] for key in keys}, index=checked.index)
    varying = [key for key in keys if cells[key].nunique() > 1]
    whys = checked["why"].mask(uncounted(checked, y), "")
    found: dict[str, list[int]] = {}
    for row, values in enumerate(cells[varying].itertuples(index=False)):
        found.setdefault(group_label(dict(zip(varying, values, strict=True))), []).append(row)
    told = {}
    for side, rows in found.items():
        count = sum(not why for why in whys.iloc[rows])
        first = "" if count else f" ({checked['network'].iloc[rows[0]]}: {whys.iloc[rows[0]]})"
        told[f"{side}: {count} of {len(rows)} rows count{first}"] = count
    return told


def _things(a: Setting, b: Setting, found: Sequence[Setting]) -> int:
    """In how many things two settings differ."""
    keys = [key for key in a.keys if a.keys[key] != b.keys[key]]
    machine = {"run", "host", "fleet_label"}
    if "fleet_label" in keys:
        machine.add("device")
    if "run" in keys:
        machine |= {key for key in keys if not _values(found, a, key) & _values(found, b, key)}
    return len(set(keys) - machine) + bool(machine & set(keys))


def _values(found: Sequence[Setting], of: Setting, key: str) -> set[str]:
    return {each.keys[key] for each in found if each.keys["run"] == of.keys["run"]}


def _compared(a: Setting, b: Setting) -> Comparison | None:
    shared = [network for network in a.costs if network in b.costs]
    facts = MODEL if a.keys.get("batch") == b.keys.get("batch") else ("content",)
    unlike = {network: why for network in shared if (why := _unlike(a.models[network], b.models[network], facts))}
    common = [network for network in shared if network not in unlike]
    if not shared:
        return None
    if not common:
        said = "; ".join(f"{network}: {why}" for network, why in unlike.items())
        raise UserError(f"these runs measured unlike models under one name ({said}): measure one of them again")
    rescaled = over(a.nominal, b.nominal)
    ratios = {network: _ratio(_times(b.costs[network], rescaled), a.costs[network]) for network in common}
    mean, interval = geometric_mean([ratio.value for ratio in ratios.values()])
    ours, theirs = a.keys | a.machine, b.keys | b.machine
    differs = {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key]}
    costs = [[each.costs[network].value for network in common] for each in (a, b)]
    scatter = _scatter([*ratios.values()]) if {*differs} == {"run"} else 1.0
    ratios = {network: _widened(ratio, scatter) for network, ratio in ratios.items()}
    return Comparison(
        a.keys,
        b.keys,
        differs,
        ratios,
        mean,
        interval,
        rank_correlation(*costs),
        unlike,
        scatter,
        rescaled,
        _references(a, b),
    )


def _scatter(ratios: Sequence[Quantity]) -> float:
    """How many times as widely two runs of the same things differ from network to network as their intervals say.

    At least 1; 1 of fewer than ``FEWEST`` ratios with intervals. An interval is over the visits of one run, and another
    hour's run differs by more. The scale factor by which the Particle Data Group widens errors of measurements that
    disagree (Review of Particle Physics, 5.2.2), with the median of the deviations for the root of their mean square:
    a few networks that really changed do not count as scatter.
    """
    known = [(math.log(one.value), one.interval) for one in ratios if one.interval is not None]
    if len(known) < FEWEST:
        return 1.0
    centre = float(np.median([value for value, _ in known]))
    off = [abs(value - centre) / (math.log(high / low) / 2) for value, (low, high) in known if high > low]
    return max(1.0, float(np.median(off)) * _QUANTILE_975 / _QUANTILE_75) if off else 1.0


def _references(a: Setting, b: Setting) -> tuple[str, ...]:
    if a.nominal is None or b.nominal is None or a.nominal.where != b.nominal.where:
        return ()
    return a.nominal.version, b.nominal.version


def _times(cost: Quantity, by: float) -> Quantity:
    ends = None if cost.interval is None else (cost.interval[0] * by, cost.interval[1] * by)
    return Quantity(cost.value * by, ends)


def _widened(ratio: Quantity, by: float) -> Quantity:
    if ratio.interval is None or by == 1.0:
        return ratio
    low, high = (ratio.value * (end / ratio.value) ** by for end in ratio.interval)
    return ratio._replace(interval=(low, high))


def _unlike(one: Mapping[str, str], other: Mapping[str, str], facts: Sequence[str]) -> str:
    """Say in what two models of one name differ; nothing where they do not, or where one table does not tell."""
    differs = [name for name in facts if one.get(name) and other.get(name) and other[name] != one[name]]
    return "; ".join(f"{name} {one[name]} and {other[name]}" for name in differs)


def _ratio(top: Quantity, bottom: Quantity) -> Quantity:
    return Quantity(top.value / bottom.value, ratio_interval(top, bottom))


def joined_runs(
    sources: Sequence[Path], y: str | None, say: Callable[[str], None] = lambda _: None
) -> tuple[pd.DataFrame, str, list[str]]:
    """Join runs into one table with a column ``run``; the column to compare; and the runs, also those without rows.

    Args:
        sources: Run folders, journals or tables.
        y: The column, or None for the latency.
        say: As for ``read_table``.

    Raises:
        UserError: A source cannot be read, or lacks the column.
    """
    frames = [read_table(source, say) for source in sources]
    column = latency_column(frames[0], y)
    for source, frame in zip(sources, frames, strict=True):
        if column not in frame:
            raise UserError(f"{source} has no column {column!r}, which {sources[0]} has: name one of both with --y")
    joined = in_one(sources, frames)
    runs = [run for name, f in zip(source_names(sources), joined, strict=True) for run in ([*f["run"]] or [name])]
    with_rows = [f.dropna(axis="columns", how="all") for f in joined if len(f)] or joined
    table = pd.concat(with_rows, ignore_index=True)
    lost = [name for name in (column, *PROXIES) if name not in table]
    return table.assign(**dict.fromkeys(lost, np.nan)), column, [*dict.fromkeys(runs)]
