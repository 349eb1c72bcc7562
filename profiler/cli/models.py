"""``profiler complexity`` and ``profiler models``: what networks cost on paper."""

from __future__ import annotations

import json as jsonlib
from typing import TypeAlias

from profiler import models
from profiler.errors import UserError
from profiler.models.arch import Arch
from profiler.units import format_count, format_flops, format_share, parse_flops

Facts: TypeAlias = dict[str, str | int | float | list[int]]

# Beyond this from the target, a scaled network is announced as the nearest there is.
TOLERANCE = 0.02


def run(model: str, scale: str, factor: float | None, flops: str | None, json: bool) -> None:
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
        print(reached(arch, target))


def select(model: str, scale: str, factor: float | None, target: int | None) -> Arch:
    """Return the network that the options name.

    Raises:
        UserError: An option is not valid, or one lacks another.
    """
    if factor is not None and target is not None:
        raise UserError("--factor and --flops exclude each other: give the factor, or the target to solve it for.")
    if not scale and (factor is not None or target is not None):
        given = "--factor" if target is None else "--flops"
        raise UserError(f"{given} needs a direction to scale along: add --scale, such as --scale dWr.")
    if target is not None:
        return models.scale_to_flops(models.get(model), scale, target)
    if scale and factor is None:
        raise UserError(f"--scale {scale} needs to know how far: add --factor, such as 4, or --flops, such as 16GF.")
    return models.resolve(model, scale, 1.0 if factor is None else factor)


def describe(arch: Arch) -> Facts:
    """Return the facts of a network, ready for JSON; every number of flops, params and acts is exact."""
    counted = models.complexity(arch)
    return {
        "model": arch.name,
        "scaling": arch.scaling,
        "factor": arch.factor,
        "resolution": arch.resolution,
        "depths": list(arch.depths),
        "widths": list(arch.widths),
        "group_widths": list(arch.group_widths),
        "flops": counted.flops,
        "params": counted.params,
        "acts": counted.acts,
    }


def reached(arch: Arch, target: int) -> str:
    """Say in one line how near a solved network came to its target."""
    flops, error = models.complexity(arch).flops, models.flops_error(arch, target)
    off = "exactly" if error == 0 else format_share(error, signed=True)
    line = f"reached {format_flops(flops)} of {format_flops(target)} ({off}) at factor {arch.factor}"
    if abs(error) > TOLERANCE:
        line += f"; the widths, depths and resolutions along {arch.scaling} come no nearer"
    return line


def list_models(json: bool, pattern: str | None) -> None:
    """Print every network whose name contains ``pattern``, with its exact complexity.

    Raises:
        UserError: No name contains the pattern.
    """
    wanted = (pattern or "").strip().lower()
    archs = [models.get(name) for name in models.names() if wanted in name]
    if not archs:
        raise UserError(
            f"No network has {pattern!r} in its name; `profiler models` without a pattern lists all of them."
        )
    if json:
        print(jsonlib.dumps([describe(arch) for arch in archs], indent=2))
    else:
        _print_models(archs)


def _print_facts(arch: Arch) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"{arch.name} {arch.scaling} x{arch.factor}" if arch.scaling else arch.name
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


def _print_models(archs: list[Arch]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for heading in ("model", "family"):
        table.add_column(heading, no_wrap=True)
    for heading in ("px", "flops", "params", "acts"):
        table.add_column(heading, justify="right", no_wrap=True)
    for arch in archs:
        counted = models.complexity(arch)
        costs = format_flops(counted.flops), format_count(counted.params), format_count(counted.acts)
        table.add_row(arch.name, arch.family, str(arch.resolution), *costs)
    Console().print(table)
