"""``profiler models``: the networks there are, and the one that options name."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias

from rich import box
from rich.table import Table
from typer import Argument

from profiler import models
from profiler.cli.options import Json
from profiler.errors import UserError
from profiler.models.arch import Arch
from profiler.models.brought import Brought, Network, Wanted, counts_of
from profiler.models.naming import is_brought
from profiler.models.shapes import each
from profiler.models.zoo import arch_of
from profiler.report.plain import standard_console
from profiler.units import format_count, format_flops

if TYPE_CHECKING:
    from profiler.records.types import Case

_Facts: TypeAlias = dict[str, object]


def select(
    model: str,
    scale: str,
    factor: float | None,
    target: int | None,
    shapes: Sequence[str] = (),
    input_file: str = "",
) -> Network:
    """Return the network that the options name.

    Raises:
        UserError: An option is not valid, or one lacks another, or a model of the user's own cannot be had.
    """
    check_scale(scale, factor, target)
    if shapes or input_file:
        found = cases_of(model, scale, factor, target, shapes, input_file)
        if len(found) > 1:
            raise UserError(f"--shape {' '.join(shapes)} is {len(found)} shapes; expected one here")
        return _fed(found[0])
    if is_brought(model):
        from profiler.run.families import brought  # processes

        return brought(Wanted(model, scale, 1.0 if factor is None else factor, target))
    if target is not None:
        return models.scale_to_flops(models.get(model), scale, target)
    return models.resolve(model, scale, 1.0 if factor is None else factor)


def check_scale(scale: str, factor: float | None, target: int | None) -> None:
    """Raise UserError where a rule, a factor and a target do not go together."""
    if factor is not None and target is not None:
        raise UserError("--factor and --flops exclude each other: give the factor, or the target to solve it for.")
    if not scale and (factor is not None or target is not None):
        given = "--factor" if target is None else "--flops"
        raise UserError(f"{given} needs a direction to scale along: add --scale, such as --scale dWr.")
    if scale and factor is None and target is None:
        raise UserError(f"--scale {scale} needs to know how far: add --factor, such as 4, or --flops, such as 16GF.")


def cases_of(
    model: str, scale: str, factor: float | None, target: int | None, shapes: Sequence[str], input_file: str
) -> list[Case]:
    """Return a case for each shape; raises UserError where the shapes are none, or a target is given beside them."""
    from profiler.backends.base import Placement
    from profiler.records.types import Case

    if target is not None:
        raise UserError("--flops is solved for inputs of the network's own size: leave out --shape, or give --factor.")
    step = 1.0 if factor is None else factor
    return [
        Case(model, scale, step, "eager", Placement(), shape=one, input_file=input_file) for one in each(shapes) or [""]
    ]


def _fed(case: Case) -> Network:
    if not is_brought(case.model):
        return arch_of(case.asked())
    from profiler.run.families import family_of_case  # processes

    return family_of_case(case)


def facts_of(network: Network) -> _Facts:
    """Return the facts of a network, ready for JSON; every number of flops, params and acts is exact."""
    counted = counts_of(network)
    return {
        "model": network.name,
        "scaling": network.scaling,
        "factor": network.factor,
        **({"step": network.step} if network.step else {}),
        "resolution": network.resolution,
        **sizes(network),
        "flops": counted.flops,
        "params": counted.params,
        "acts": counted.acts,
    }


def sizes(network: Network) -> dict[str, object]:
    """Return what a network is made of beside its resolution, ready for JSON."""
    if isinstance(network, Brought):
        return {"parameters": dict(network.parameters)} if network.parameters else {}
    return {"depths": network.depths, "widths": network.widths, "group_widths": network.group_widths}


def size_words(network: Network) -> dict[str, str]:
    """Return the same as people read it."""
    parts = network.parameters if isinstance(network, Brought) else sizes(network).items()
    return {name.replace("_", " "): _word(value) for name, value in parts}


def _word(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def models_command(
    pattern: Annotated[str | None, Argument(metavar="[PATTERN]", help="Part of a name.")] = None,
    json: Json = False,
) -> None:
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
        print(jsonlib.dumps([facts_of(arch) for arch in archs], indent=2))
    else:
        _print_models(archs)


def _print_models(archs: list[Arch]) -> None:
    table = Table(box=box.SIMPLE)
    for heading in ("model", "family"):
        table.add_column(heading, no_wrap=True)
    for heading in ("px", "flops", "params", "acts"):
        table.add_column(heading, justify="right", no_wrap=True)
    for arch in archs:
        counted = models.complexity(arch)
        costs = format_flops(counted.flops), format_count(counted.params), format_count(counted.acts)
        table.add_row(arch.name, arch.family, str(arch.resolution), *costs)
    standard_console().print(table)
