"""``profiler complexity``: what one network costs on paper."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated

from rich import box
from rich.console import Console
from rich.table import Table
from typer import Option

from profiler import models
from profiler.cli.models import describe, select
from profiler.cli.options import Factor, Flops, Json, Model
from profiler.models.arch import Arch
from profiler.units import format_count, format_flops, format_share, parse_flops


def complexity_command(
    model: Model,
    scale: Annotated[str, Option("--scale", metavar="RULE", help="d, w, dwr, dWr, d1_w8_g8_r1, alpha=0.8, ...")] = "",
    factor: Factor = None,
    flops: Flops = None,
    json: Json = False,
) -> None:
    """Print the exact complexity of a network, scaled by a factor or to a target or not at all.

    Raises:
        UserError: The model, rule, factor or target is not valid, or they do not go together.
    """
    target = parse_flops(flops) if flops else None
    arch = select(model, scale, factor, target)
    facts = describe(arch)
    if target:
        facts |= {"target_flops": target, "flops_error": models.flops_error(arch, target)}
    if json:
        print(jsonlib.dumps(facts, indent=2))
        return
    _print_facts(arch)
    if target:
        print(_reached(arch, target))


def _reached(arch: Arch, target: int) -> str:
    """Say in one line how near a solved network came to its target."""
    flops, error = models.complexity(arch).flops, models.flops_error(arch, target)
    off = "exactly" if error == 0 else format_share(error, signed=True)
    line = f"reached {format_flops(flops)} of {format_flops(target)} ({off}) at factor {arch.factor}"
    if arch.step:
        on_the_rule = models.resolve(arch.name, arch.scaling, arch.factor)
        line += f" and a step beside the rule: {models.step_words(on_the_rule, arch)}"
    if abs(error) > models.NEAR_TARGET:
        line += f"; the widths, depths and resolutions along {arch.scaling} come no nearer"
    return line


def _print_facts(arch: Arch) -> None:
    title = f"{arch.name} {arch.scaling} x{arch.factor} {arch.step}".rstrip() if arch.scaling else arch.name
    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_row("resolution", f"{arch.resolution} px")
    for name, values in (
        ("depths", arch.depths),
        ("widths", arch.widths),
        ("group widths", arch.group_widths),
    ):
        table.add_row(name, " ".join(map(str, values)))
    counted = models.complexity(arch)
    table.add_row("flops", f"{counted.flops:,}", format_flops(counted.flops))
    table.add_row("params", f"{counted.params:,}", format_count(counted.params))
    table.add_row("acts", f"{counted.acts:,}", format_count(counted.acts))
    Console().print(table)
