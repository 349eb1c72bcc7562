"""``profiler baseline``: keep a run to compare with, and list what is kept."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.markup import escape
from typer import Argument, Option, Typer

from profiler.analysis.quantity import Quantity
from profiler.cli.options import JournalPath, Json, warn
from profiler.errors import UserError
from profiler.gate.baseline import FILE, entries, update
from profiler.records.reading import read
from profiler.report.answer import milliseconds
from profiler.report.plain import minute, plain_table, standard_console

#: Versions worth a word; the rest is in the file.
_SHOWN = ("torch", "onnxruntime", "onnxruntime-gpu", "openvino")

baseline_command = Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
_Stored = Annotated[Path, Argument(metavar="[FILE]", help="The baseline.")]


@baseline_command.command("update", help="Store a run's latencies, in place of the same cases.")
def _update(
    run: JournalPath,
    file: _Stored = FILE,
    replace: Annotated[bool, Option("--replace", help="Drop a baseline of another machine.")] = False,
) -> None:
    update(run, file, replace=replace)


@baseline_command.command(help="List what a baseline holds.")
def show(file: _Stored = FILE, json: Json = False) -> None:
    """Print what a baseline holds.

    Raises:
        UserError: There is no baseline, or it holds nothing.
    """
    if not file.exists():
        raise UserError(f"{file} does not exist: make a baseline of a run with `profiler baseline update RUN {file}`")
    stored = read(file)
    told = entries(stored)
    if not told:
        raise UserError(
            f"{file} holds no case: expected a baseline, as `profiler baseline update RUN {FILE}` writes one"
        )
    for notice in stored.notices:
        warn(notice)
    if json:
        print(jsonlib.dumps(told, indent=2, allow_nan=False))
        return
    console = standard_console()
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in told:
        groups.setdefault((one["label"].partition(" · ")[2], _machine(one)), []).append(one)
    for (setting, _), members in groups.items():
        _print_cases(setting, members, console)
    for machine in dict.fromkeys(machine for _, machine in groups):
        console.print(machine, highlight=False, markup=False, soft_wrap=True)


def _print_cases(setting: str, members: Sequence[Mapping[str, Any]], console: Console) -> None:
    console.print(setting, style="bold", highlight=False, markup=False, soft_wrap=True)
    table = plain_table("network", "latency [95%]", "visits", "when (UTC)")
    for one in members:
        low, high = one["latency_ci_low_ms"], one["latency_ci_high_ms"]
        latency = milliseconds(Quantity(one["latency_ms"], None if low is None else (low, high)), one["visits"])
        cells = (one["label"].partition(" · ")[0], latency, str(one["visits"]), minute(one["started"]))
        table.add_row(*map(escape, cells))
    console.print(table)


def _machine(one: Mapping[str, Any]) -> str:
    """The machine of a case, and the versions it was measured with."""
    versions = ", ".join(f"{name} {one['versions'][name]}" for name in _SHOWN if name in one["versions"])
    return f"machine {one['host']}: {', '.join(filter(None, (one['cpu'], one['gpu'], versions)))}"
