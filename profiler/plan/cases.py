"""From a plan to its cases."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple, TypeAlias

from profiler import backends, models, units
from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.models import naming
from profiler.models.arch import Arch
from profiler.models.brought import Brought, Wanted
from profiler.models.complexity import Complexity
from profiler.models.naming import is_brought, may_be_family
from profiler.plan.plan import Plan, Sweep
from profiler.records.types import Case


@dataclass(frozen=True, slots=True)
class Site:
    """Where the cases of a label of a fleet are measured.

    Attributes:
        device: Kind of device, as ``cuda``: each of its workers knows which of them is its own.
        cores: That a process may use there.
        host: Key of the machine.
    """

    device: str
    cores: int
    host: str


#: Networks of the user's families, or why a model is none; see ``wanted``.
Families: TypeAlias = Mapping[Wanted, Brought | str]


def wanted(plan: Plan) -> list[Wanted]:
    """Networks of families of the user's that a plan scales: their code, which is not imported here, tells of them."""
    return [
        one
        for sweep in plan.sweeps
        for model in sweep.models
        if sweep.scalings and may_be_family(model)
        for one in (Wanted(model), *(Wanted(model, rule, *step) for rule in sweep.scalings for step in _steps(sweep)))
    ]


#: More cases than a machine measures in weeks are a slip of the hand.
_MOST_CASES = 20_000


def _check_number(plan: Plan) -> None:
    """Raise UserError where a plan has more cases than anybody means, before any network is solved for."""
    number = sum(map(_number, plan.sweeps))
    if number > _MOST_CASES:
        raise UserError(
            f"the plan has up to {number:,} cases; expected at most {_MOST_CASES:,}: leave out values, or split it"
        )


def _number(sweep: Sweep) -> int:
    scaled = len(sweep.scalings) * len(sweep.flops or sweep.factors) or 1
    sizes = (sweep.models, sweep.backends, sweep.devices, sweep.precisions, sweep.threads, sweep.memory_formats)
    more = (sweep.shapes or ("",), sweep.batches, sweep.modes, sweep.gaps or (0.0,))
    return scaled * math.prod(map(len, (*sizes, *more)))


def expand(
    plan: Plan, usable_threads: int, families: Families | None = None, sites: Mapping[str, Site] | None = None
) -> tuple[Case, ...]:
    """All cases of a plan in a stable order, each once.

    Networks that come out the same (every rule at factor 1, a rule that changes nothing, two targets with one
    answer) are measured once, under the first name; ``notes`` says so.

    Args:
        plan: A valid plan.
        usable_threads: Cores that this process may use, put where the plan says 0.
        families: What was found of those that are ``wanted``; models that are not in it stay as they are.
        sites: Of a fleet, by the labels that are the devices of the plan; None for this machine.

    Raises:
        UserError: No network of the zoo has the flops that are asked for, or no model of a sweep can be scaled.
    """
    known = families or {}
    _check_number(plan)
    cases: dict[tuple[object, ...], Case] = {}
    for sweep in plan.sweeps:
        _check_scalable(sweep, known)
        networks = [network for network, _ in _networks(sweep, known) if network is not None]
        for network, backend, (label, placement), shape, batch, mode, gap in itertools.product(
            networks,
            sweep.backends,
            _placements(sweep, usable_threads, sites),
            sweep.shapes or ("",),
            sweep.batches,
            sweep.modes,
            sweep.gaps or (0.0,),
        ):
            if "backends" not in sweep.model_fields_set and not _loads(backend, network.model):
                continue
            where = (label, backend, placement)
            same = (network.model, _structure(network, known), where, shape, sweep.input_file, batch, mode, gap)
            case = replace(
                network,
                backend=backend,
                placement=placement,
                batch=batch or 1,
                batch_asked=None if batch else "max",
                mode=mode,
                shape=shape,
                input_file=sweep.input_file,
                fleet_label=label,
                gap_s=gap,
            )
            cases.setdefault(same, case)
    return tuple(cases.values())


def _loads(backend: str, model: str) -> bool:
    """Whether a backend that nobody asked for by name can load a model of this form."""
    return naming.form(model) != "onnx" or bool(getattr(backends.get(backend), "reads_onnx", True))


class _Note(NamedTuple):
    """What is to be known of a network.

    Attributes:
        text: A sentence; empty where there is nothing.
        kind: What several of a kind have in common, in words; empty where they are said one by one.
        off: Flops over those that were asked for, less 1.
    """

    text: str = ""
    kind: str = ""
    off: float = 0.0


_TWICE, _STEPS = "are asked for under several names, and measured once", "meet their flops by a step beside the rule"
_OFF = "have other flops than were asked for, since widths and depths are whole numbers"


def notes(plan: Plan, families: Families | None = None, *, fleet: bool = False, brief: bool = False) -> list[str]:
    """What a reader of the results should know about networks and devices, one sentence each.

    Args:
        plan: A valid plan.
        families: As for ``expand``.
        fleet: Say nothing of devices.
        brief: Say several of one kind in one sentence.
    """
    found = [note for sweep in plan.sweeps for _, note in _networks(sweep, families or {}) if note.text]
    kinds: dict[str, list[_Note]] = {}
    for note in dict.fromkeys(found):
        kinds.setdefault(note.kind if brief and note.kind else note.text, []).append(note)
    told = [_together(kind, each) if len(each) > 1 else each[0].text for kind, each in kinds.items()]
    return list(dict.fromkeys(told + ([] if fleet else _device_notes(plan))))


def _together(kind: str, found: Sequence[_Note]) -> str:
    low, high = (end(note.off for note in found) for end in (min, max))
    ends = f" ({low:+.1%} to {high:+.1%})" if kind == _OFF else ""
    return f"{len(found)} networks {kind}{ends}; -v lists them"


def _device_notes(plan: Plan) -> list[str]:
    """Accelerators of one host are not independent, even where only one is used at a time."""
    used = dict.fromkeys(device for sweep in plan.sweeps for device in sweep.devices if not device.startswith("cpu"))
    if len(used) < 2:
        return []
    return [f"{', '.join(used)} are visited one at a time; they share this host's power, cooling and PCIe lanes"]


def complexities(cases: Iterable[Case]) -> dict[str, Complexity | None]:
    """Complexity of each case for one image, under its key; None for brought models: not counted here."""
    return {case.key: _complexity(case.model, case.scaling, case.factor, case.step) for case in cases}


def _placements(sweep: Sweep, usable_threads: int, sites: Mapping[str, Site] | None) -> list[tuple[str, Placement]]:
    """Return each placement with its label, which is empty on this machine."""
    return [
        (name if sites else "", Placement(site.device, precision, threads, layout))
        for name in sweep.devices
        for site in [sites[name] if sites else Site(name, usable_threads, "")]
        for precision, threads, layout in itertools.product(
            sweep.precisions, dict.fromkeys(t or site.cores for t in sweep.threads), sweep.memory_formats
        )
    ]


def _network(model: str, scaling: str = "", factor: float = 1.0) -> Case:
    """Return a case of which only the network is decided."""
    return Case(model, scaling, factor, backend="", placement=Placement())


def _check_scalable(sweep: Sweep, known: Families) -> None:
    reasons = {model: _unscalable(model, known) for model in sweep.models}
    if sweep.scalings and all(reasons.values()):
        raise UserError("\n".join(f"{model} cannot be scaled: {why}" for model, why in reasons.items()))


def _unscalable(model: str, known: Families) -> str:
    """Return why a model cannot be scaled; empty where it can."""
    found = known.get(Wanted(model), "only networks that `profiler models` lists and families can")
    return found if is_brought(model) and isinstance(found, str) else ""


def _networks(sweep: Sweep, known: Families) -> Iterator[tuple[Case | None, _Note]]:
    """Yield the networks of a sweep, None for one that repeats an earlier one, each with a note."""
    for model in sweep.models:
        if not sweep.scalings:
            yield _network(model), _Note()
        elif why := _unscalable(model, known):
            yield _network(model), _Note(f"{model} is measured as it is, since it cannot be scaled: {why}")
        else:
            yield from _scaled_networks(model, sweep, known)


def _scaled_networks(model: str, sweep: Sweep, known: Families) -> Iterator[tuple[Case | None, _Note]]:
    seen: dict[object, Case] = {}
    base = _network(model)
    for rule, (factor, target) in itertools.product(sweep.scalings, _steps(sweep)):
        asked = _network(model, rule, factor) if target is None else _solved(model, rule, target, known)
        by_one = factor == 1 and target is None
        same = by_one or _structure(asked, known) == _structure(base, known)
        found = base if same else asked
        repeats = _structure(found, known) in seen
        first = seen.setdefault(_structure(found, known), found)
        yield None if repeats else first, _Note() if by_one else _note(asked, first, known)


def _note(asked: Case, first: Case, known: Families) -> _Note:
    if first is not asked:
        return _Note(f"{_said(asked)} is the same network as {_said(first)}: measured once", _TWICE)
    return _off_target(asked, known)


def _steps(sweep: Sweep) -> list[tuple[float, int | None]]:
    return [(1.0, target) for target in sweep.flops] or [(factor, None) for factor in sweep.factors]


@cache
def _arch(model: str, scaling: str, factor: float, step: str) -> Arch:
    return models.resolve(model, scaling, factor, step)


def _solved(model: str, scaling: str, target: int, known: Families) -> Case:
    own = known.get(Wanted(model, scaling, flops=target))
    factor, step = (own.factor, "") if isinstance(own, Brought) else _solved_in_zoo(model, scaling, target)
    return replace(_network(model, scaling, factor), target_flops=target, step=step)


@cache
def _solved_in_zoo(model: str, scaling: str, target: int) -> tuple[float, str]:
    found = models.scale_to_flops(models.get(model), scaling, target)
    return found.factor, found.step


@cache
def _complexity(model: str, scaling: str, factor: float, step: str = "") -> Complexity | None:
    return None if is_brought(model) else models.complexity(_arch(model, scaling, factor, step))


def _own(network: Case, known: Families) -> Brought | None:
    """Return what is known of a network of a family of the user's."""
    factor = network.factor if network.target_flops is None else 1.0
    found = known.get(Wanted(network.model, network.scaling, factor, network.target_flops))
    return found if isinstance(found, Brought) else None


def _structure(network: Case, known: Families) -> object:
    """What is built, without how the plan arrived there: equal for networks that are the same."""
    if is_brought(network.model):
        own = _own(network, known)
        return own.parameters if own else network.model
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


def _off_target(network: Case, known: Families) -> _Note:
    """Where the flops that a network really has are not those that were asked for, say so."""
    reached, base = _flops(network, known), _flops(_network(network.model), known)
    if not reached or not base:
        return _Note()
    if network.target_flops is not None:
        off = reached / network.target_flops - 1
        if abs(off) <= models.NEAR_TARGET and not network.step:
            return _Note()
        beside = f" by a step beside the rule: {_beside(network)}" if network.step else ""
        kind = _OFF if abs(off) > models.NEAR_TARGET else _STEPS
        return _Note(f"{_said(network)}: reached {_short(reached)} ({off:+.1%}){beside}", kind, off)
    off = reached / (network.factor * base) - 1
    if abs(off) <= _NEAR_FACTOR:
        return _Note()
    return _Note(
        f"{_said(network)}: {_short(reached)}, {off:+.1%} from {network.factor:.4g} times {network.model}; "
        f"--flops {_short(network.factor * base)} solves for the factor",
        _OFF,
        off,
    )


def _flops(network: Case, known: Families) -> int:
    """Return exact flops; 0 where nobody could count them."""
    own = _own(network, known)
    counted = own.counts if own else _complexity(network.model, network.scaling, network.factor, network.step)
    return counted.flops if counted and not counted.uncounted else 0


def _beside(network: Case) -> str:
    """What a step changed, in words."""
    on, off = (_arch(network.model, network.scaling, network.factor, step) for step in ("", network.step))
    return models.step_words(on, off)
