"""``profiler history``: the runs of a folder over time."""

from __future__ import annotations

import itertools
import json as jsonlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.markup import escape
from typer import Argument, Option

from profiler.analysis.history import History, Point, histories
from profiler.cli.options import Json, warn
from profiler.errors import UserError
from profiler.report.plain import minute, plain_table, print_sentence, standard_console, unstable_sentence
from profiler.units import format_share

#: Of no more cases of a machine every run is printed.
_WHOLE = 4


def history_command(
    folder: Annotated[Path, Argument(metavar="DIR", help="Where the runs are.")],
    y: Annotated[str | None, Option("--y", metavar="COLUMN", help="What to follow [latency_ms].")] = None,
    verbose: Annotated[bool, Option("--verbose", "-v", help="Print every run of every case.")] = False,
    json: Json = False,
) -> None:
    """Print the history of every case under a folder: of many, whole histories of those that changed alone.

    Raises:
        UserError: There is no run, or no such column.
    """
    column = y or "latency_ms"
    found, notices = histories(folder, column)
    for notice in notices:
        warn(notice)
    if not any(history.measured for history in found):
        raise UserError(f"no run under {folder} has a number in {column!r}; name another column with --y.")
    if json:
        print(jsonlib.dumps({"column": column, "cases": [_as_dict(one) for one in found]}, indent=2, allow_nan=False))
        return
    console = standard_console()
    for _, group in itertools.groupby(found, key=lambda history: history.host):
        _print_machine(list(group), column, console, whole=verbose)


def _as_dict(history: History) -> dict[str, Any]:
    measured = history.measured
    changes = [
        {"index": at, "change": change, "p": p, "run": measured[at].run, "started": measured[at].started}
        for at, change, p in history.changes
    ]
    return {**asdict(history), "changes": changes}


def _print_machine(found: Sequence[History], y: str, console: Console, *, whole: bool) -> None:
    machine = escape(f"machine {found[0].host}: {found[0].machine}")
    console.print(machine, style="bold", highlight=False, soft_wrap=True)
    whole = whole or len(found) <= _WHOLE
    changed = [_print_case(history, y, console) if whole or history.changes else set() for history in found]
    settings: dict[str, list[History]] = {}
    for history in found:
        if not whole and not history.changes:
            settings.setdefault(history.label.partition(" · ")[2], []).append(history)
    for setting, members in settings.items():
        _print_unchanged(setting, members, y, console)
    measured = [point for history in found for point in history.measured]
    if said := unstable_sentence(sum(point.status != "ok" for point in measured), len(measured)):
        print_sentence(console, f"?: {said}")
    if settings:
        console.print("-v prints every run of these.", highlight=False)
    everywhere = set.intersection(*changed) if len(changed) > 1 else set()
    for run in sorted(everywhere):
        console.print(
            f"every case changed at {escape(run)}: look at the machine and its calibration first",
            highlight=False,
            soft_wrap=True,
        )


def _print_unchanged(setting: str, members: Sequence[History], y: str, console: Console) -> None:
    """Print the latest run of each case of a setting, which are not known to have changed."""
    console.print(f"no change seen: {setting}", highlight=False, markup=False, soft_wrap=True)
    table = plain_table("network", "runs", f"latest {y} [95%]", "when (UTC)")
    for one in members:
        when, _, value, _ = _cells(one.points[-1], "")
        table.add_row(*map(escape, (one.label.partition(" · ")[0], str(len(one.points)), value, when)))
    console.print(table)


def _print_case(history: History, y: str, console: Console) -> set[str]:
    """Print one case and return the runs at which it changed."""
    notes = {
        history.measured[at].run: f"{format_share(change, signed=True)} from here, p = {p:.2g}"
        for at, change, p in history.changes
    }
    console.print(history.label, highlight=False, markup=False, soft_wrap=True)
    shown = plain_table("when (UTC)")
    shown.columns[0].no_wrap = True
    shown.add_column("run", overflow="fold")
    shown.add_column(f"{y} [95%]", justify="right", overflow="fold")
    shown.add_column("change", overflow="fold")
    for point in history.points:
        shown.add_row(*map(escape, _cells(point, notes.get(point.run, ""))))
    console.print(shown)
    return set(notes)


def _cells(point: Point, note: str) -> list[str]:
    value = point.status if point.value is None else f"{point.value:.4g}"
    ends = f" [{point.low:.4g}, {point.high:.4g}]" if point.low is not None and point.high is not None else ""
    doubt = "?" if point.value is not None and point.status != "ok" else ""
    return [minute(point.started), point.run, value + ends + doubt, note]
