"""``profiler rank``: which network of a run is fastest, at one size or budget."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from typing import Annotated

from rich.console import Console
from rich.markup import escape
from typer import Option

from profiler.analysis.ranking import Place, ranked
from profiler.analysis.source import read_table
from profiler.cli.completing import backend_names
from profiler.cli.options import Json, Many, RunPath, warn
from profiler.report.answer import milliseconds
from profiler.report.plain import plain_table, print_sentence, standard_console, unstable_sentence
from profiler.units import format_flops, parse_duration, parse_flops


def rank_command(
    source: RunPath,
    flops: Annotated[
        str | None, Option("--flops", metavar="T", help="Only networks within 10% of T, as 400MF.")
    ] = None,
    latency: Annotated[
        str | None, Option("--latency", metavar="20ms", help="Only those within it, the largest first.")
    ] = None,
    backend: Annotated[
        Many, Option("--backend", metavar="B,B", help="Only these.", autocompletion=backend_names)
    ] = None,
    top: Annotated[int, Option("--top", metavar="N", help="Rows of each setting.", min=1)] = 10,
    json: Json = False,
) -> None:
    """Print the fastest networks of a run at each setting, and how surely each is slower than the first.

    Raises:
        UserError: There is no such run, or nothing in it is of that size or within that budget.
    """
    frame = read_table(source, warn)
    found = ranked(
        frame,
        flops=parse_flops(flops) if flops else None,
        budget_ms=parse_duration(latency) * 1e3 if latency else None,
        backends=backend.split(",") if backend else (),
    )
    if json:
        print(jsonlib.dumps({name: [place.facts() for place in places] for name, places in found.items()}, indent=2))
        return
    console = standard_console()
    for name, places in found.items():
        _print(name, places, top, console)


def _print(name: str, places: Sequence[Place], top: int, console: Console) -> None:
    console.print(escape(name), style="bold", highlight=False)
    backends = ["backend"] if len({place.backend for place in places}) > 1 else []
    table = plain_table("network", *backends, "flops", "latency [95%]", "x first")
    table.padding = (0, 1, 0, 0)
    known = any(place.latency.interval for place in places)
    for place in places[:top]:
        flops = "" if place.flops is None else format_flops(place.flops)
        runtime = [place.backend] if backends else []
        latency = milliseconds(place.latency, place.visits)
        latency = latency if known or place.visits else latency.partition(" [")[0]
        latency += "?" if place.unstable else ""
        cells = (place.network, *runtime, flops, latency, _behind(place, places[0], known=known))
        table.add_row(*map(escape, cells))
    console.print(table)
    if said := unstable_sentence(sum(place.unstable for place in places), len(places)):
        print_sentence(console, f"?: {said}")
    if not known:
        said = "The table has no intervals, so that how surely each is slower than the first is not known."
        print_sentence(console, said)
    elif any(not place.surely for place in places[1:top]):
        console.print("~: may be as fast as the first", style="dim", highlight=False)
    if len(places) > top:
        console.print(f"and {len(places) - top} more (--top {len(places)})", style="dim", highlight=False)


def _behind(place: Place, first: Place, *, known: bool) -> str:
    ratio, unsure = place.behind, "~" if known and not place.surely and place is not first else ""
    ends = "" if ratio.interval is None or place is first else f" [{ratio.interval[0]:.2f}, {ratio.interval[1]:.2f}]"
    return f"{unsure}{ratio.value:.2f}{ends}"
