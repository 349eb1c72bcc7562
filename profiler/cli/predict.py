"""``profiler predict``: what a network costs that was not measured."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from typing import Annotated

from rich.markup import escape
from typer import Option

from profiler.analysis.by_layers import layer_by_layer
from profiler.analysis.frame import PROXIES, group_label, measured, prose, unstable
from profiler.analysis.layer_file import read_costs
from profiler.analysis.nonnegative import LEVEL
from profiler.analysis.predict import Prediction, predict
from profiler.analysis.source import chosen_rows, exact_counts, read_table
from profiler.cli.completing import backend_names
from profiler.cli.models import select
from profiler.cli.options import Factor, Flops, InputFile, Json, Model, RunPath, Shape, warn
from profiler.errors import UserError
from profiler.models.brought import Network, counts_of
from profiler.report.plain import print_sentence, standard_console, unstable_sentence
from profiler.units import format_bytes, format_count, parse_flops


def predict_command(
    source: RunPath,
    model: Model,
    scale: Annotated[str, Option("--scale", metavar="RULE", help="As for `profiler complexity`.")] = "",
    factor: Factor = None,
    flops: Flops = None,
    shape: Shape = None,
    input_file: InputFile = None,
    backend: Annotated[
        str | None, Option("--backend", metavar="B", help="Only this backend.", autocompletion=backend_names)
    ] = None,
    where: Annotated[str | None, Option("--where", metavar="K=V,K=V", help="Only rows as batch=8.")] = None,
    json: Json = False,
) -> None:
    """Predict what a network costs from a run, or from what layers cost.

    Raises:
        UserError: The table or the network cannot be used, or no group has enough networks.
    """
    arch = select(model, scale, factor, parse_flops(flops) if flops else None, shape or (), input_file or "")
    frame = exact_counts(chosen_rows(read_table(source, warn), backend, where))
    made, without = predict(frame, arch)
    if not made:
        raise UserError(f"{source} does not suffice for a prediction: {_listed(without)}")
    if source.suffix == ".json":
        made = layer_by_layer(made, read_costs(source), arch, " ".join(shape or ()), input_file or "")
    if json:
        print(jsonlib.dumps(_facts(arch, made, without), indent=2, allow_nan=False))
    else:
        _print(arch, " ".join([*(shape or ()), input_file or ""]).strip(), made, without)
        if said := unstable_sentence(int(unstable(frame).sum()), int(measured(frame).sum())):
            print_sentence(standard_console(), f"?: {said}")


def _listed(without: dict[str, str]) -> str:
    return "; ".join(f"{label}: {why}" for label, why in without.items())


def _facts(arch: Network, made: Sequence[Prediction], without: dict[str, str]) -> dict[str, object]:
    counts = counts_of(arch)
    network = {"model": arch.name, "scaling": arch.scaling, "factor": arch.factor, "resolution": arch.resolution}
    network |= {"step": arch.step} if arch.step else {}
    rows = [
        {
            "label": group_label(one.group),
            **one.group,
            "column": one.y,
            "unit": one.unit,
            "predicted": one.value,
            "low": one.interval[0],
            "high": one.interval[1],
            "extrapolates": one.beyond,
            "basis": one.basis,
            "measured": one.measured,
            "unstable": one.unstable,
        }
        for one in made
    ]
    known = {proxy: getattr(counts, proxy) for proxy in PROXIES}
    return {"level": LEVEL, "network": network | known, "predictions": rows, "without": without}


def _print(arch: Network, fed: str, made: Sequence[Prediction], without: dict[str, str]) -> None:
    console = standard_console()
    counts = counts_of(arch)
    costs = ", ".join(f"{format_count(getattr(counts, proxy))} {proxy}" for proxy in PROXIES)
    name = f"{arch.name} {arch.scaling} x{arch.factor:.4g} {arch.step}".rstrip() if arch.scaling else arch.name
    size = "" if arch.resolution is None else f", {arch.resolution} px"
    console.print(
        escape(f"{name}{' ' if fed else ''}{fed}{size}: {costs}"), style="bold", highlight=False, soft_wrap=True
    )
    for label in dict.fromkeys(group_label(one.group) for one in made):
        console.print(f"\n{escape(label)}", highlight=False, soft_wrap=True)
        for one in (each for each in made if group_label(each.group) == label):
            for line in _lines(one):
                print_sentence(console, line)
    for label, why in without.items():
        print_sentence(console, f"{label}: no prediction: {why}")


def _amount(value: float, unit: str) -> str:
    return format_bytes(value) if unit == "bytes" else f"{value:.4g} {unit}".strip()


def _lines(one: Prediction) -> list[str]:
    value, low, high = (_amount(v, one.unit) for v in (one.value, *one.interval))
    seen = "" if one.measured is None else f"; measured {_amount(one.measured, one.unit)}{'?' * one.unstable}"
    lines = [f"  {prose(one.y)}: {value} [{low}, {high}], 90%{seen}", f"    from {one.basis}"]
    if one.beyond:
        lines.append(f"    extrapolates: {one.beyond}; the interval does not cover that")
    return lines
