"""From a plan to its cases."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache

from profiler import models, units
from profiler.backends.base import Placement
from profiler.models.arch import Arch
from profiler.models.complexity import Complexity
from profiler.models.families import is_brought
from profiler.plan.plan import Plan, Sweep
from profiler.records.types import Case


def expand(plan: Plan, usable_threads: int) -> tuple[Case, ...]:
    """All cases of a plan in a stable order, each once.

    Networks that come out the same (every rule at factor 1, a rule that changes nothing, two targets with one
    answer) are measured once, under the first name; ``notes`` says so.

    Args:
        plan: A valid plan.
        usable_threads: Cores that this process may use, put where the plan says 0.
    """
    cases: dict[tuple[object, ...], Case] = {}
    for sweep in plan.sweeps:
        networks = [network for network, _ in _networks(sweep) if network is not None]
        for network, backend, placement, batch, mode in itertools.product(
            networks, sweep.backends, _placements(sweep, usable_threads), sweep.batches, sweep.modes
        ):
            same = (network.model, _structure(network), backend, placement, batch, mode)
            case = replace(
                network,
                backend=backend,
                placement=placement,
                batch=batch or 1,
                batch_asked=None if batch else "max",
                mode=mode,
            )
            cases.setdefault(same, case)
    return tuple(cases.values())


def notes(plan: Plan) -> list[str]:
    """What a reader of the results should know about networks and devices, one sentence each."""
    networks = [note for sweep in plan.sweeps for _, note in _networks(sweep) if note]
    return list(dict.fromkeys(networks + _device_notes(plan)))


def _device_notes(plan: Plan) -> list[str]:
    """Accelerators of one host are not independent, even where only one is used at a time."""
    used = dict.fromkeys(device for sweep in plan.sweeps for device in sweep.devices if not device.startswith("cpu"))
    if len(used) < 2:
        return []
    return [f"{', '.join(used)} are visited one at a time; they share this host's power, cooling and PCIe lanes"]


def complexities(cases: Iterable[Case]) -> dict[str, Complexity | None]:
    """Complexity of each case for one image, under its key; None for brought models: not counted here."""
    return {case.key: _complexity(case.model, case.scaling, case.factor, case.step) for case in cases}


def _placements(sweep: Sweep, usable_threads: int) -> list[Placement]:
    threads = dict.fromkeys(t or usable_threads for t in sweep.threads)
    grid = itertools.product(sweep.devices, sweep.precisions, threads, sweep.memory_formats)
    return [Placement(device, precision, t, layout) for device, precision, t, layout in grid]


def _network(model: str, scaling: str = "", factor: float = 1.0) -> Case:
    """Return a case of which only the network is decided."""
    return Case(model, scaling, factor, backend="", placement=Placement())


def _networks(sweep: Sweep) -> Iterator[tuple[Case | None, str]]:
    """Yield the networks of a sweep, None for one that repeats an earlier one, each with a note or an empty text."""
    for model in sweep.models:
        if is_brought(model):
            note = f"{model} is a model of your own and cannot be scaled: measured as it is" if sweep.scalings else ""
            yield _network(model), note
        elif sweep.scalings:
            yield from _scaled_networks(model, sweep)
        else:
            yield _network(model), ""


def _scaled_networks(model: str, sweep: Sweep) -> Iterator[tuple[Case | None, str]]:
    seen: dict[object, Case] = {}
    base = _network(model)
    for rule, (factor, target) in itertools.product(sweep.scalings, _steps(sweep)):
        asked = _network(model, rule, factor) if target is None else _solved(model, rule, target)
        by_one = factor == 1 and target is None
        found = base if by_one or _structure(asked) == _structure(base) else asked
        repeats = _structure(found) in seen
        first = seen.setdefault(_structure(found), found)
        yield None if repeats else first, "" if by_one else _note(asked, first)


def _note(asked: Case, first: Case) -> str:
    if first is not asked:
        return f"{_said(asked)} is the same network as {_said(first)}: measured once"
    return _off_target(asked)


def _steps(sweep: Sweep) -> list[tuple[float, int | None]]:
    return [(1.0, target) for target in sweep.flops] or [(factor, None) for factor in sweep.factors]


@cache
def _arch(model: str, scaling: str, factor: float, step: str) -> Arch:
    return models.resolve(model, scaling, factor, step)


@cache
def _solved(model: str, scaling: str, target: int) -> Case:
    found = models.scale_to_flops(models.get(model), scaling, target)
    return replace(_network(model, scaling, found.factor), target_flops=target, step=found.step)


@cache
def _complexity(model: str, scaling: str, factor: float, step: str = "") -> Complexity | None:
    return None if is_brought(model) else models.complexity(_arch(model, scaling, factor, step))


def _structure(network: Case) -> object:
    """What is built, without how the plan arrived there: equal for networks that are the same."""
    if is_brought(network.model):
        return network.model
    arch = _arch(network.model, network.scaling, network.factor, network.step)
    return replace(arch, scaling="", factor=1.0, step="")


def _said(network: Case) -> str:
    if not network.scaling:
        return network.model
    target = network.target_flops
    step = f"x{network.factor:.4g}" if target is None else _short(target)
    return f"{network.model} {network.scaling} {step}"


def _short(flops: float) -> str:
    """Flops without a blank, as a flag takes them."""
    return units.format_flops(flops).replace(" ", "")


# Rounding to usable widths moves flops away from what was asked; a plain factor promises nothing, so only what would
# surprise is worth a sentence.
_NEAR_FACTOR = 0.20


def _off_target(network: Case) -> str:
    """Where the flops that a network really has are not those that were asked for, say so."""
    reached, base = _flops(network), _flops(_network(network.model))
    if network.target_flops is not None:
        off = reached / network.target_flops - 1
        if abs(off) <= models.NEAR_TARGET and not network.step:
            return ""
        beside = f" by a step beside the rule: {_beside(network)}" if network.step else ""
        return f"{_said(network)}: reached {_short(reached)} ({off:+.1%}){beside}"
    off = reached / (network.factor * base) - 1
    if abs(off) <= _NEAR_FACTOR:
        return ""
    return (
        f"{_said(network)}: {_short(reached)}, {off:+.1%} from {network.factor:.4g} times {network.model}; "
        f"--flops {_short(network.factor * base)} solves for the factor"
    )


def _flops(network: Case) -> int:
    counted = _complexity(network.model, network.scaling, network.factor, network.step)
    return counted.flops if counted else 0


def _beside(network: Case) -> str:
    """What a step changed, in words."""
    on, off = (_arch(network.model, network.scaling, network.factor, step) for step in ("", network.step))
    return models.step_words(on, off)
