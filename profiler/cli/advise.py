"""``profiler advise``: the scaling that is fastest here at equal flops."""

from __future__ import annotations

import json as jsonlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.markup import escape
from typer import Argument, Exit, Option

from profiler import models
from profiler.analysis.accuracy import PLAIN_RECIPE, foretold_of, published_model
from profiler.analysis.accuracy_model import AccuracyModel, left_out
from profiler.analysis.advise import Advice, advise, advise_own, at_equal_flops
from profiler.analysis.frame import group_label, measured, unit_of, unstable
from profiler.analysis.goal import Candidate, Goal, Kind, prepare
from profiler.analysis.growth import CONTROL
from profiler.analysis.source import chosen_rows, read_table
from profiler.analysis.verify import Check, in_words, verify
from profiler.cli.completing import backend_names, model_names
from profiler.cli.models import size_words, sizes
from profiler.cli.options import Json, RunPath, warn
from profiler.errors import UserError
from profiler.machine import host
from profiler.models.brought import Brought, Network
from profiler.models.naming import is_brought, may_be_family
from profiler.report.plain import plain_table, standard_console, unstable_sentence
from profiler.units import format_flops, format_share, parse_bytes, parse_duration, parse_flops, three_digits

#: Networks of the front in the table, the best one included.
_SHOWN = 8


def _parse_goal(flops: str | None, latency: str | None, memory: str | None) -> tuple[Kind, float, str]:
    """Read the one target that was given: its kind, its value in flops, seconds or bytes, and its text.

    Raises:
        UserError: None or several were given, or the one cannot be read.
    """
    given = {"flops": flops, "latency": latency, "memory": memory}
    said = {kind: text for kind, text in given.items() if text}
    if len(said) != 1:
        have = " and ".join(f"--{kind}" for kind in said) or "none"
        raise UserError(f"one target is needed, and {have} given: --flops 4GF, --latency 20ms or --memory 500MiB")
    if flops:
        return "flops", float(parse_flops(flops)), flops
    value, text = (parse_duration(latency), latency) if latency else (float(parse_bytes(memory or "")), memory)
    kind: Kind = "latency" if latency else "memory"
    if value <= 0:
        raise UserError(f"--{kind} {text} leaves no room: give a limit above 0")
    return kind, value, text or ""


def advise_command(
    base: Annotated[str, Argument(metavar="BASE", help="The network to scale.", autocompletion=model_names)],
    source: RunPath,
    flops: Annotated[str | None, Option("--flops", metavar="T", help="Flops to meet within 2%, as 4GF.")] = None,
    latency: Annotated[str | None, Option("--latency", metavar="L", help="The most latency, as 20ms.")] = None,
    memory: Annotated[str | None, Option("--memory", metavar="M", help="The most memory, as 500MiB.")] = None,
    backend: Annotated[
        str | None, Option("--backend", metavar="B", help="Which backend of the run.", autocompletion=backend_names)
    ] = None,
    where: Annotated[str | None, Option("--where", metavar="K=V,K=V", help="Which rows, as batch=8.")] = None,
    recipe: Annotated[
        str, Option("--recipe", metavar="R", help="Foretell top-1 as trained by this recipe.")
    ] = PLAIN_RECIPE,
    verify: Annotated[
        int, Option("--verify", metavar="K", min=0, help="Measure the best K, and dwr at equal flops.")
    ] = 0,
    out: Annotated[Path | None, Option("--out", metavar="DIR", help="Folder of those measurements.")] = None,
    json: Json = False,
) -> None:
    """Advise how to scale a network; exits 1 where an advised one was not measured to be faster than its control.

    Raises:
        UserError: Something that was given cannot be used.
    """
    arch = None if is_brought(base) else models.get(base)
    kind, value, said = _parse_goal(flops, latency, memory)
    frame = chosen_rows(read_table(source, warn), backend, where)
    goal = prepare(frame, arch.family if arch else base, kind, value, said)
    trained = published_model(recipe)
    advice = advise(arch, goal) if arch else _advised_own(base, goal)
    if not json:
        _print(advice, trained, standard_console())
        if unsure := unstable_sentence(int(unstable(frame).sum()), int(measured(frame).sum())):
            print(unsure)
    checks = _verified(advice, verify, out) if verify else []
    unit = unit_of(goal.latency.y)
    if json:
        print(jsonlib.dumps(_facts(advice, trained, checks), indent=2, allow_nan=False))
    else:
        for check in checks:
            print(check.sentence(unit))
    if not all(check.held for check in checks):
        raise Exit(1)


def _advised_own(base: str, goal: Goal) -> Advice:
    if not may_be_family(base):
        raise UserError(f"{base} cannot be scaled: only networks that `profiler models` lists and families can")
    said = f"networks of {base} are built on paper to count them, which may take minutes"
    standard_console(stderr=True).print(said, style="dim", highlight=False, markup=False, soft_wrap=True)
    return advise_own(base, goal)


def _verified(advice: Advice, count: int, out: Path | None) -> list[Check]:
    folder = out or Path("results") / f"verify-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    console = standard_console(stderr=True)
    theirs = advice.goal.place.get("host")
    if theirs and theirs != host.key():
        console.print(f"the run was made on another machine ({theirs}); this one is {host.key()}", highlight=False)
    checks = verify(advice, count, folder, console=console)
    console.print(f"measurements in {folder}", highlight=False, soft_wrap=True)
    return checks


def _print(advice: Advice, trained: AccuracyModel, console: Console) -> None:
    model = advice.goal.latency
    title = f"{advice.base.name} for --{advice.goal.kind} {advice.goal.said}: {group_label(model.group)}"
    console.print(escape(title), style="bold", highlight=False, soft_wrap=True)
    looked = f"{advice.tried:,} networks tried, {advice.distinct:,} of them distinct"
    console.print(f"{looked}; predicted from {escape(model.basis)}.", highlight=False)
    unit = unit_of(model.y)
    told = [] if isinstance(advice.base, Brought) else ["top-1 [90%]"]
    table = plain_table("rule", "s", "flops", f"{unit} [90%]", *told)
    others = [one for one in reversed(advice.front) if one is not advice.best[0]]
    for one in (advice.best[0], *others[: _SHOWN - 1]):
        table.add_row(*_row(one, trained))
    table.add_section()
    for one in advice.marked:
        table.add_row(*_row(one, trained), style="bold")
    console.print(table)
    console.print(_advice_sentence(advice), highlight=False)
    console.print(escape(_made_of(advice.best[0].arch)), highlight=False)
    console.print(escape(_accuracy_sentence(advice, trained)), highlight=False)
    beyond = model.beyond(advice.best[0].counts)
    if beyond:
        console.print(escape(f"The first one extrapolates: {beyond}."), highlight=False)


def _row(one: Candidate, trained: AccuracyModel) -> list[str]:
    low, high = one.interval
    name = f"{one.mark} ({one.rule})" if one.mark and one.mark != one.rule else one.rule
    return [
        escape(name),
        f"{one.arch.factor:.4g}",
        format_flops(one.counts.flops).replace(" ", ""),
        escape(f"{three_digits(one.latency)} [{three_digits(low)}, {three_digits(high)}]")
        + ("" if one.meets else " *"),
        *([] if isinstance(one.arch, Brought) else [_top1(one, trained)]),
    ]


def _top1(one: Candidate, trained: AccuracyModel) -> str:
    said = foretold_of(one.arch, trained)
    return escape(f"{said.top1:.1f} [{said.interval[0]:.1f}, {said.interval[1]:.1f}]") if said else ""


def _made_of(arch: Network) -> str:
    """What a network is made of, in a sentence."""
    words = size_words(arch)
    words |= {} if isinstance(arch, Brought) else {"resolution": str(arch.resolution)}
    return f"It has {'; '.join(f'{name} {value}' for name, value in words.items() if value)}."


def _advice_sentence(advice: Advice) -> str:
    first = advice.best[0]
    text = f"Best: --scale {first.rule} --factor {first.arch.factor:g}"
    control = next((one for one in advice.marked if one.mark == CONTROL), None)
    if control and advice.goal.kind == "flops":
        ratio = at_equal_flops(first, advice.power) / at_equal_flops(control, advice.power)
        text += f", predicted {in_words(ratio)} than {CONTROL} at equal flops"
        margin = advice.goal.latency.margin
        if first.mark != CONTROL and abs(math.log(ratio)) <= margin:
            text += f", not surely: nine predictions in ten are within {format_share(math.expm1(margin))}"
            text += "; --verify 1 measures both"
    elif control:
        text += f", {first.counts.flops / control.counts.flops - 1:+.0%} flops of the largest {CONTROL} that meets it"
    missed = " * misses the target by more than 2%." if not all(one.meets for one in advice.marked) else ""
    return f"{text}.{missed}"


def _accuracy_sentence(advice: Advice, trained: AccuracyModel) -> str:
    """What predicted accuracies rest on, and whether they extrapolate."""
    if isinstance(advice.base, Brought):
        return "Accuracy is not predicted: dWr is the rule whose accuracy was published, for convolutional networks."
    errors = left_out(trained)
    text = (
        f"Top-1 is foretold from {len(trained.trained)} networks under {trained.recipe} (error on one left out "
        f"{errors.mean:.1f} points, {errors.worst:.1f} at most), of rules that scale all of depth, width and resolution."
    )
    said = (foretold_of(one.arch, trained) for one in advice.marked)
    beyond = next((one.beyond for one in said if one and one.beyond), "")
    return f"{text} It extrapolates: {beyond}, which the interval does not cover." if beyond else text


def _facts(advice: Advice, trained: AccuracyModel, checks: Sequence[Check]) -> dict[str, object]:
    return {
        "base": advice.base.name,
        "goal": {"kind": advice.goal.kind, "limit": advice.goal.limit},
        "where": advice.goal.latency.group,
        "basis": advice.goal.latency.basis,
        "tried": advice.tried,
        "distinct": advice.distinct,
        "front": [_described(one, trained) for one in advice.front],
        "marked": [_described(one, trained) for one in advice.marked],
        "best": _described(advice.best[0], trained),
        "checks": [
            {
                "advised": _described(check.advised, trained),
                "control": {"scaling": CONTROL, "factor": check.control.factor},
                "flops_ratio": check.flops_ratio,
                "ratio": check.ratio,
                "interval": check.interval,
                "expected": check.expected,
                "held": check.held,
                "within_prediction": check.predicted,
            }
            for check in checks
        ],
    }


def _described(one: Candidate, trained: AccuracyModel) -> dict[str, object]:
    arch, said = one.arch, foretold_of(one.arch, trained)
    return {
        "rule": one.rule,
        "mark": one.mark,
        "factor": arch.factor,
        "resolution": arch.resolution,
        **sizes(arch),
        "flops": one.counts.flops,
        "params": one.counts.params,
        "acts": one.counts.acts,
        "latency": one.latency,
        "interval": one.interval,
        "memory": one.memory,
        "top1": said.top1 if said else None,
        "top1_interval": said.interval if said else None,
        "top1_extrapolates": (said.beyond or None) if said else None,
        "meets": one.meets,
    }
