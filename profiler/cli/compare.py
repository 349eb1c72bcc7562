"""``profiler compare``: the same networks in several runs, side by side."""

from __future__ import annotations

import itertools
import json as jsonlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from string import ascii_uppercase
from typing import Annotated

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer import Option

from profiler.analysis.compare import (
    MACHINE,
    Comparison,
    Setting,
    comparable_rows,
    comparisons,
    contents,
    joined_runs,
    settings_of,
    unpaired,
)
from profiler.analysis.fit import Fit, fit
from profiler.analysis.frame import PROXIES, group_label, prose
from profiler.cli.options import Json, RunPaths, warn
from profiler.errors import UserError
from profiler.records.intervals import Interval
from profiler.report.closing import predictors_table
from profiler.report.console import fitting_table
from profiler.report.plain import plain_table, standard_console

#: Characters of a run's name beside which a table still fits a terminal.
_LONG = 4
#: Sides that a sentence names.
_NAMED = 4

#: Said above ratios of two runs that differ in nothing but when they were made.
_SCATTER = (
    "These runs were made at different times, and their ratios scatter {:.1f} times as widely as the intervals of each run "
    "say: the intervals below are widened by that."
)


def compare_command(
    runs: RunPaths,
    y: Annotated[str | None, Option("--y", metavar="COLUMN", help="What to compare [latency_ms].")] = None,
    json: Json = False,
) -> None:
    """Compare runs.

    Raises:
        UserError: A run cannot be used, or no two sides share a network.
    """
    frame, column, names = joined_runs(runs, y, warn)
    found = settings_of(frame, column)
    made = comparisons(found)
    left = unpaired(made, names)
    has = {name: contents(found, frame, name, column) for name in left or names}
    apart = comparable_rows(frame, column)
    if not made or len(left) == len(names):
        raise UserError(_nothing(found, has, list(apart)))
    for said in (said for said, count in apart.items() if not count):
        warn(f"left out: {said}")
    for name in left:
        warn(f"left out: {has[name]}, and shares no network with another run")
    if not json:
        frame = _lettered(frame, standard_console())
        made = comparisons(settings_of(frame, column))
    fits = [one for one in fit(frame, column) if one.family is None and one.lines]
    if json:
        pairs, predictors = [_facts(one) for one in made], [_predictors(one) for one in fits]
        told = {"column": column, "pairs": pairs, "predictors": predictors}
        print(jsonlib.dumps(told, indent=2, allow_nan=False))
    else:
        _print(made, column, standard_console())
        _print_predictors(fits, column, standard_console())


def _lettered(frame: pd.DataFrame, console: Console) -> pd.DataFrame:
    """The table; runs with names too long for a terminal are A, B and so on there, and it is said which is which."""
    names = [*dict.fromkeys(map(str, frame["run"]))]
    if max(map(len, names), default=0) <= _LONG or not 1 < len(names) <= len(ascii_uppercase):
        return frame
    letters = dict(zip(names, ascii_uppercase, strict=False))
    for name, letter in letters.items():
        console.print(f"{letter}: {name}", markup=False, highlight=False, soft_wrap=True)
    return frame.assign(run=[letters[str(name)] for name in frame["run"]])


def _facts(one: Comparison) -> dict[str, object]:
    ratios = [{"network": name, "value": each.value, "interval": each.interval} for name, each in one.ratios.items()]
    return asdict(replace(one, ratios={})) | {"ratios": ratios}


def _predictors(one: Fit) -> dict[str, object]:
    r = {line.proxy: {"value": line.r, "interval": line.r_interval} for line in one.lines}
    return {"group": one.group, "r": r, "winner": one.winner, "probability": one.winner_probability, "n": one.n}


def _print_predictors(fits: Sequence[Fit], column: str, console: Console) -> None:
    """Say which complexity predicts the cost where; of one setting alone `profiler fit` says more."""
    table = predictors_table(fits) if len(fits) > 1 else None
    if table is None:
        return
    console.print()
    console.print(fitting_table(table))
    same = [key for key in fits[0].group if len({one.group.get(key) for one in fits}) == 1]
    same += ["host"] if any(one.group.get("fleet_label") for one in fits) else []  # the label names it
    for one in fits:
        if one.winner is not None:
            where = group_label({key: value for key, value in one.group.items() if key not in same})
            sure = "" if one.winner_probability is None else f", in {one.winner_probability:.0%} of resamples"
            said = f"{where}: {PROXIES[one.winner].name} predict {prose(column)} best{sure}"
            console.print(escape(said), highlight=False, soft_wrap=True)


def _nothing(found: Sequence[Setting], has: Mapping[str, str], apart: Sequence[str]) -> str:
    told = "; ".join(has.values())
    if len(has) > 1 and len(found) > 1:
        return f"no two runs share a network: {told}; measure the same networks in both"
    if len(found) > 1:
        networks = [f"{group_label(each.keys)}: {', '.join(list(each.costs)[:3])}" for each in found[:_NAMED]]
        return f"no two sides share a network ({'; '.join(networks)}); measure the same networks on both"
    what = "one side" if found else "no measured case"
    if len(has) == 1 and len(apart) > 1:
        rest = "; and others" if len(apart) > _NAMED else ""
        return (
            f"{what} to compare ({'; '.join(apart[:_NAMED])}{rest}): expected two whose rows count; where an interval is "
            "too wide, go on with that run: profiler run ... --resume --time 10min"
        )
    return f"{what} to compare ({told}): expected two runs, or one run of several backends, devices or precisions"


def _print(made: Sequence[Comparison], column: str, console: Console) -> None:
    notices = itertools.chain.from_iterable((_unlike(one), _calibrated(one)) for one in made)
    for notice in dict.fromkeys(filter(None, notices)):
        console.print(escape(notice), highlight=False, soft_wrap=True)
    for network, why in dict(item for one in made for item in one.unlike.items()).items():
        console.print(escape(f"left out: {network} is of unlike models ({why})"), highlight=False, soft_wrap=True)
    everywhere = [keys for one in made for keys in (one.first, one.second)]
    varying = [key for key in everywhere[0] if len({keys[key] for keys in everywhere}) > 1]
    table = plain_table(f"ratio of {column}", "networks", "mean [95%]", "rank corr.")
    for one in made:
        same = {key: one.first[key] for key in varying if one.first[key] == one.second[key] and key not in MACHINE}
        said = f"{_said(one)} ({group_label(same)})" if same else _said(one)
        rank = "" if one.spearman is None else f"{one.spearman:.3f}"
        mean = f"{one.mean:.3f} {_ends(one.interval)}".strip()
        table.add_row(escape(said), str(len(one.ratios)), escape(mean), rank)
    console.print(table)
    for one in made:
        if len(made) == 1 or "run" in one.differs:
            console.print(f"\n{escape(_where(one))}", highlight=False, soft_wrap=True)
            if one.scatter > 1:
                console.print(_SCATTER.format(one.scatter), highlight=False, soft_wrap=True)
            console.print(_ratios_table(one))


def _ratios_table(one: Comparison) -> Table:
    table = plain_table("network", "ratio", "95%")
    for network, ratio in sorted(one.ratios.items(), key=lambda each: each[1].value):
        table.add_row(escape(network), f"{ratio.value:.3f}", escape(_ends(ratio.interval)))
    return table


def _where(one: Comparison) -> str:
    same = {k: v for k, v in one.first.items() if one.second.get(k) == v and k not in MACHINE}
    return f"{_said(one)}, {group_label(same)}" if same else _said(one)


def _said(one: Comparison) -> str:
    first, second = one.labels
    return f"{second} / {first}"


def _ends(interval: Interval | None) -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""


def _names(one: Comparison) -> tuple[str, str]:
    """What two sides are called in a sentence: their runs, and in one run their labels or what else differs."""
    first, second = (keys.get("run", "") for keys in (one.first, one.second))
    return one.labels if first == second else (first, second)


def _unlike(one: Comparison) -> str | None:
    """That two sides come from unlike machines or versions, and in what they differ."""
    facts: Mapping[str, tuple[str, str]] = {k: v for k, v in one.differs.items() if k in MACHINE and all(v)}
    if not facts:
        return None
    first, second = _names(one)
    told = ", ".join(_differences(facts))
    return f"{first} and {second} were not measured on like machines: {told}."


def _calibrated(one: Comparison) -> str | None:
    """That two sides were calibrated apart, and what was done about it."""
    first, second = _names(one)
    if one.rescaled != 1:
        return (
            f"{first} and {second} were calibrated apart: times of {second} are multiplied by {one.rescaled:.3f}, "
            "so that both are by one nominal time of the reference."
        )
    if len(set(one.references)) > 1:
        return (
            f"{first} and {second} were measured beside unlike versions of the reference ({' and '.join(one.references)}): "
            "their times differ by their calibrations too, which is some percent. Measure one of them again."
        )
    return None


def _differences(facts: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    for name, (first, second) in facts.items():
        yield f"{name.replace('_', ' ')} {first} / {second}"
