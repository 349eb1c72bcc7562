"""``profiler frontier``: which networks are fast and accurate here."""

from __future__ import annotations

import json as jsonlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pandas as pd
from typer import Exit, Option

from profiler.analysis.accuracy import Accuracies, with_accuracy
from profiler.analysis.frame import SECONDS, latency_column, unit_of
from profiler.analysis.frontier import Choice, Front, best_under, cheapest_from, fronts
from profiler.analysis.predict import costs_of
from profiler.analysis.source import chosen_rows, read_table
from profiler.cli.completing import backend_names
from profiler.cli.options import AccuracyFile, Json, PredictAccuracy, Recipe, RunPath, warn
from profiler.errors import UserError
from profiler.report.extra import NO_CHARTS, can_draw, drawing
from profiler.report.frontier import choice_sentence, predicted_sentence, print_front, unmeasured_sentence
from profiler.report.plain import standard_console
from profiler.units import parse_bytes, parse_duration, parse_energy

_BYTES = {"bytes": 1, "MB": 10**6, "MiB": 1024**2}


def frontier_command(
    source: RunPath,
    accuracy: AccuracyFile = None,
    recipe: Recipe = None,
    predict_accuracy: PredictAccuracy = False,
    latency: Annotated[str | None, Option("--latency", metavar="L", help="The best within a latency, as 20ms.")] = None,
    memory: Annotated[str | None, Option("--memory", metavar="M", help="The best within a memory, as 500MiB.")] = None,
    energy: Annotated[str | None, Option("--energy", metavar="E", help="The best within an energy, as 2J.")] = None,
    min_top1: Annotated[
        float | None, Option("--min-top1", metavar="P", help="The cheapest with so many percent.")
    ] = None,
    y: Annotated[
        str | None, Option("--y", metavar="COST", help="latency, memory, energy or a column [latency].")
    ] = None,
    backend: Annotated[
        str | None, Option("--backend", metavar="B", help="Only this backend.", autocompletion=backend_names)
    ] = None,
    where: Annotated[str | None, Option("--where", metavar="K=V,K=V", help="Only rows as batch=8.")] = None,
    chart: Annotated[Path | None, Option("--chart", metavar="FILE", help="Write a chart: .html, .png or .svg.")] = None,
    json: Json = False,
) -> None:
    """Print the front of accuracy against a cost; exits 1 where nothing keeps the limit.

    Raises:
        UserError: Something that was given cannot be used, or no network has both an accuracy and a cost.
    """
    limits = {"latency": latency, "memory": memory, "energy": energy}
    given = {name: text for name, text in limits.items() if text is not None}
    if len(given) + (min_top1 is not None) > 1:
        raise UserError("one limit is possible: --latency 20ms, --memory 500MiB, --energy 2J or --min-top1 78")
    frame = chosen_rows(read_table(source, warn, ("model",)), backend, where)
    column = _column(frame, next(iter(given), None), y)
    limit = _limit(given, column) if given else min_top1
    told = with_accuracy(frame, accuracy, recipe, predict=predict_accuracy)
    found = fronts(told, column)
    choices = [_choice(front, limit, by_top1=min_top1 is not None) for front in found]
    if json:
        print(jsonlib.dumps(_facts(told, found, choices), indent=2, allow_nan=False))
    else:
        said = next(iter(given.values()), None) or (f"{min_top1:g}" if min_top1 is not None else "")
        _print(told, found, choices, said, by_top1=min_top1 is not None)
    if chart is not None:
        _draw(told, column, chart)
    if not any(front.points for front in found):
        raise UserError(f"no network of {source} has both a top-1 under {told.recipe} and a {column} above 0")
    if limit is not None and not any(choices):
        raise Exit(1)


def _column(frame: pd.DataFrame, limited: str | None, asked: str | None) -> str:
    """The column of the cost.

    Raises:
        UserError: There is none, or the limit is about another one.
    """
    name = limited or asked or "latency"
    if limited and asked and asked != limited:
        raise UserError(f"--{limited} limits the {limited} and --y is {asked}: leave --y out")
    if name == "latency":
        return latency_column(frame, None)
    if name not in ("memory", "energy"):
        return latency_column(frame, name)
    costs = [c for c in (*costs_of(frame), "energy_j") if c in frame]
    named = [c for c in costs if (unit_of(c) in _BYTES if name == "memory" else c.endswith("_j"))]
    held = [c for c in named if pd.to_numeric(frame[c], errors="coerce").notna().any()]
    if not held:
        how = "profiler run --memory" if name == "memory" else "a GPU that counts its energy does"
        raise UserError(f"the run has no {name} measured: measure one with it ({how})")
    return held[0]


def _limit(given: dict[str, str], column: str) -> float:
    """A limit in units of its column.

    Raises:
        UserError: It cannot be read, or leaves no room.
    """
    [(name, text)] = given.items()
    if name == "latency":
        value = parse_duration(text) / SECONDS.get(unit_of(column), 1e-3)
    elif name == "memory":
        value = parse_bytes(text) / _BYTES[unit_of(column)]
    else:
        value = parse_energy(text)
    if value <= 0:
        raise UserError(f"--{name} {text} leaves no room: give a limit above 0")
    return value


def _choice(front: Front, limit: float | None, *, by_top1: bool) -> Choice | None:
    if limit is None:
        return None
    if by_top1 and not 0 < limit <= 100:
        raise UserError(f"--min-top1 {limit:g}: expected percent above 0 and up to 100, such as 78")
    return cheapest_from(front, limit) if by_top1 else best_under(front, limit)


def _print(told: Accuracies, found: list[Front], choices: list[Choice | None], said: str, *, by_top1: bool) -> None:
    console = standard_console()
    for front, choice in zip(found, choices, strict=True):
        print_front(front, told, console)
        if said:
            text = choice_sentence(choice, front, said, by_top1=by_top1)
            console.print(text, style="bold", highlight=False, markup=False, soft_wrap=True)
        console.print()
    if told.model is not None:
        console.print(predicted_sentence(told), highlight=False, markup=False, soft_wrap=True)
    if told.unmeasured:
        console.print(unmeasured_sentence(told.unmeasured), highlight=False, markup=False, soft_wrap=True)


def _facts(told: Accuracies, found: list[Front], choices: list[Choice | None]) -> dict[str, object]:
    return {
        "recipe": told.recipe,
        "source": told.source,
        "unmeasured": told.unmeasured,
        "fronts": [
            {
                "label": front.label,
                "group": front.group,
                "column": front.y,
                "points": [
                    {k: v for k, v in asdict(point).items() if k != "freedom"} | {"doubtful": point.doubtful}
                    for point in front.points
                ],
                "without_accuracy": front.without,
                "without_cost": {name: {"top1": top1, "why": why} for name, (top1, why) in front.costless.items()},
                "best": _chosen(choice),
            }
            for front, choice in zip(found, choices, strict=True)
        ],
    }


def _chosen(choice: Choice | None) -> dict[str, object] | None:
    if choice is None:
        return None
    return {
        "network": choice.point.network,
        "probability": choice.probability,
        "keeps_limit": choice.meets,
        "next_cheaper": choice.faster.network if choice.faster else None,
        "loses_points": choice.loss,
        "ratio": choice.ratio.value if choice.ratio else None,
        "ratio_interval": choice.ratio.interval if choice.ratio else None,
    }


def _draw(told: Accuracies, column: str, path: Path) -> None:
    if not can_draw():
        print(NO_CHARTS, file=sys.stderr)
        return
    with drawing(str(path)):
        from profiler.report.charts.frontier import all_fronts
        from profiler.report.render import write_chart

        write_chart(all_fronts(fronts(told, column)), path)
