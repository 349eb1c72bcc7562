"""``profiler baseline``: keep a run to compare with, and list what is kept."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer import Argument, Option, Typer

from profiler.cli.options import JournalPath, Json, warn
from profiler.gate.baseline import FILE, entries, update
from profiler.records.reading import read
from profiler.units import format_duration

#: Versions worth a column; the rest is in the file.
_SHOWN = ("torch", "onnxruntime", "onnxruntime-gpu", "openvino")


def _cells(one: Mapping[str, Any]) -> list[str]:
    low, high = one["latency_ci_low_ms"], one["latency_ci_high_ms"]
    ends = f"[{format_duration(low / 1e3)}, {format_duration(high / 1e3)}]" if low is not None else ""
    versions = ", ".join(f"{name} {one['versions'][name]}" for name in _SHOWN if name in one["versions"])
    latency = format_duration(one["latency_ms"] / 1e3)
    return [one["label"], latency, ends, str(one["visits"]), one["started"], one["host"], versions]


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
        UserError: There is no baseline.
    """
    stored = read(file)
    for notice in stored.notices:
        warn(notice)
    told = entries(stored)
    if json:
        print(jsonlib.dumps(told, indent=2, allow_nan=False))
        return
    shown = Table(box=None, pad_edge=False)
    for name in ("case", "latency", "95%", "visits", "when", "host", "versions"):
        shown.add_column(name, overflow="fold", justify="right" if name in ("latency", "95%", "visits") else "left")
    for one in told:
        shown.add_row(*map(escape, _cells(one)))
    console = Console()
    console.print(shown)
    machines = {one["host"]: ", ".join(filter(None, (one["cpu"], one["gpu"]))) for one in told}
    for key, words in machines.items():
        console.print(f"machine {key}: {escape(words)}", highlight=False, soft_wrap=True)
