"""``profiler compare``: the same networks in several runs, side by side."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer import Option

from profiler.analysis.compare import MACHINE, Pair, Side, pairs, read, sides
from profiler.analysis.frame import group_label
from profiler.analysis.regression import Interval
from profiler.cli.options import Json, RunPaths
from profiler.errors import UserError
from profiler.report.console import plain_table


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


def compare_command(
    runs: RunPaths,
    y: Annotated[str | None, Option("--y", metavar="COLUMN", help="What to compare [latency_ms].")] = None,
    json: Json = False,
) -> None:
    """Compare runs; see ``run``."""
    run(runs, y, json)
