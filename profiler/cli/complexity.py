"""``profiler complexity``: what one network, or any model, costs on paper."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from rich import box
from rich.table import Table
from typer import Argument, Exit, Option

from profiler import models
from profiler.cli.completing import model_names
from profiler.cli.models import cases_of, check_scale, facts_of, select, size_words
from profiler.cli.options import Factor, Flops, InputFile, Json, Shape
from profiler.errors import UserError
from profiler.models.arch import Arch
from profiler.models.brought import Network, counts_of
from profiler.models.naming import is_brought
from profiler.report.plain import standard_console
from profiler.units import format_count, format_flops, format_share, parse_flops

if TYPE_CHECKING:
    from profiler.measure.describe import Description
    from profiler.records.types import Case

#: What a model of the user's is counted for.
_COUNTS = ("flops", "params", "acts", "layers")


def complexity_command(
    model: Annotated[
        str,
        Argument(
            metavar="MODEL",
            help="A name that `profiler models` lists, or a model of yours.",
            autocompletion=model_names,
        ),
    ],
    scale: Annotated[str, Option("--scale", metavar="RULE", help="d, w, dwr, dWr, d1_w8_g8_r1, alpha=0.8, ...")] = "",
    factor: Factor = None,
    flops: Flops = None,
    shape: Shape = None,
    input_file: InputFile = None,
    json: Json = False,
) -> None:
    """Print the exact complexity of a network, scaled or not, or of a model of the user's in one or several shapes.

    Raises:
        UserError: The model, rule, factor, target or shape is not valid, or they do not go together.
    """
    target = parse_flops(flops) if flops else None
    check_scale(scale, factor, target)
    if shape or input_file or (is_brought(model) and not scale):
        if not _print_counts(cases_of(model, scale, factor, target, shape or (), input_file or ""), as_json=json):
            raise Exit(1)
        return
    arch = select(model, scale, factor, target)
    facts = facts_of(arch)
    if target:
        facts |= {"target_flops": target, "flops_error": models.flops_error(arch, target)}
    if json:
        print(jsonlib.dumps(facts, indent=2))
        return
    _print_facts(arch)
    if target:
        print(_reached(arch, target))


def _reached(arch: Network, target: int) -> str:
    """Say in one line how near a solved network came to its target."""
    flops, error = counts_of(arch).flops, models.flops_error(arch, target)
    off = "exactly" if error == 0 else format_share(error, signed=True)
    line = f"reached {format_flops(flops)} of {format_flops(target)} ({off}) at factor {arch.factor}"
    if isinstance(arch, Arch) and arch.step:
        on_the_rule = models.resolve(arch.name, arch.scaling, arch.factor)
        line += f" and a step beside the rule: {models.step_words(on_the_rule, arch)}"
    if abs(error) > models.NEAR_TARGET:
        line += f"; the widths, depths and resolutions along {arch.scaling} come no nearer"
    return line


def _print_facts(arch: Network) -> None:
    title = f"{arch.name} {arch.scaling} x{arch.factor} {arch.step}".rstrip() if arch.scaling else arch.name
    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(justify="right")
    if arch.resolution is not None:
        table.add_row("resolution", f"{arch.resolution} px")
    for name, text in size_words(arch).items():
        table.add_row(name, text)
    counted = counts_of(arch)
    table.add_row("flops", f"{counted.flops:,}", format_flops(counted.flops))
    table.add_row("params", f"{counted.params:,}", format_count(counted.params))
    table.add_row("acts", f"{counted.acts:,}", format_count(counted.acts))
    standard_console().print(table)


def _print_counts(cases: Sequence[Case], *, as_json: bool) -> bool:
    """Print a row for each case; return whether something of each could be counted."""
    rows = [_facts(case, found) for case, found in _described(cases)]
    counted = all(row["params"] is not None for row in rows)
    if as_json:
        print(jsonlib.dumps(rows if len(rows) > 1 else rows[0], indent=2))
        return counted
    case = replace(cases[0], shape="", input_file="")
    table = Table("inputs", title=case.network, title_justify="left", box=box.SIMPLE)
    for name in _COUNTS:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(str(row["inputs"]), *("" if row[name] is None else f"{row[name]:,}" for name in _COUNTS))
    console = standard_console()
    console.print(table)
    for why in dict.fromkeys(row["uncounted"] for row in rows if row["uncounted"]):
        console.print(why, highlight=False, markup=False, soft_wrap=True)
    return counted


def _facts(case: Case, found: Description) -> dict[str, str | float | None]:
    """Counts that are lower bounds are none; the number of parameters is known all the same."""
    counted = found.complexity
    whole = counted if counted and not counted.uncounted else None
    return {
        "model": case.model,
        **({"scaling": case.scaling, "factor": case.factor} if case.scaling else {}),
        "inputs": ", ".join(found.inputs.values()),
        "flops": whole.flops if whole else None,
        "params": counted.params if counted else None,
        "acts": whole.acts if whole else None,
        "layers": whole.layers if whole else None,
        "uncounted": (counted.uncounted if counted else found.uncounted) or None,
    }


def _described(cases: Sequence[Case]) -> list[tuple[Case, Description]]:
    from profiler.run.describing import described
    from profiler.run.processes import LocalExecutor

    executor = LocalExecutor()
    try:
        known = described(cases, executor)
    finally:
        executor.close()
    if known.failed:
        raise UserError("; ".join(dict.fromkeys(failure.reason for failure in known.failed.values())))
    return [(case, known.found[case.key]) for case in known.cases]
