"""A plan says what to measure; :func:`expand` turns it into cases. Pure: nothing is built, run or timed here.

A plan is a TOML file, or the same keys as flags. Keys at the top hold for every ``[[sweep]]``, and a sweep
may replace them::

    backends = ["eager", "onnxruntime"]
    scalings = ["w", "dwr", "dWr"]

    [[sweep]]
    models = "efficientnet_b0"
    factors = [1, 2, 4]

    [[sweep]]
    models = "regnety_4.0gf"
    flops = ["8GF", "16GF"]
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import ErrorDetails

import backends as runtimes
from backends.base import BackendError, MemoryFormat, Placement, Precision
from profiler import models as zoo
from profiler import units
from profiler.errors import UserError
from profiler.models.arch import Arch
from profiler.models.complexity import Complexity
from profiler.records import Budget, Case, Mode, Pass
from profiler.training import IMAGENET, Feed

FOLDER = Path(__file__).parent / "plans"
BUILT_IN = ("quick", "paper")

# Each key of a plan, and the flag that says the same.
FLAGS: Mapping[str, str] = {
    "models": "--model",
    "scalings": "--scale",
    "factors": "--factor",
    "flops": "--flops",
    "backends": "--backend",
    "devices": "--device",
    "precisions": "--precision",
    "threads": "--threads",
    "batches": "--batch",
    "modes": "--mode",
    "memory_formats": "--memory-format",
    "seed": "--seed",
    "memory": "--memory",
    "epoch": "--epoch",
    "images": "--images",
    "images_from": "--images-from",
    "workers": "--workers",
    "budget.precision": "--precision",
    "budget.rounds": "--rounds",
    "budget.visit_s": "--visit",
    "budget.timeout_s": "--timeout",
}

_DEVICE = re.compile(r"cpu|mps|(cuda|xpu)(:\d+)?")
_FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
# A comma separates two names unless the next word is a setting: "fake:duration_ms=1,sigma=0.1,eager" is two
# backends.
_COMMA = re.compile(r",(?!\s*\w+=)")


# --- values ------------------------------------------------------------


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def _some(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("the list is empty; expected at least one value")
    return values


def _closest(name: str, known: Iterable[str], number: int = 3) -> str:
    near = difflib.get_close_matches(name, list(known), n=number, cutoff=0.5)
    return f"; closest: {', '.join(near)}" if near else ""


def is_brought(model: str) -> bool:
    """Whether a model is the user's own, ``package.module:factory`` or ``.onnx`` file: never scaled."""
    return model.endswith(".onnx") or ":" in model


def _model(name: str) -> str:
    if name.endswith(".onnx") or _FACTORY.fullmatch(name) or name in zoo.names():
        return name
    raise ValueError(
        f"unknown model {name!r}{_closest(name, zoo.names())}; expected a name that `profiler models` lists, "
        "package.module:factory, or a path ending in .onnx"
    )


def _rule(text: str) -> str:
    try:
        return zoo.parse_rule(text).text
    except UserError as error:
        raise ValueError(str(error)) from error


def _backend(spec: str) -> str:
    try:
        runtimes.get(spec)
    except BackendError as error:
        raise ValueError(f"{error}{_closest(spec.partition(':')[0], runtimes.available())}") from error
    return spec


def _device(name: str) -> str:
    if _DEVICE.fullmatch(name):
        return name
    raise ValueError(f"unknown device {name!r}; expected cpu, cuda, cuda:N, xpu, xpu:N or mps")


def _batch(value: object, check: ValidatorFunctionWrapHandler) -> int:
    return 0 if value == "max" else int(check(value))


def _parsed(parse: Callable[[str], float]) -> BeforeValidator:
    """Text goes through ``parse``; numbers are already in the unit."""

    def read(value: object) -> object:
        try:
            return parse(value) if isinstance(value, str) else value
        except UserError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(read)


_LIST = (BeforeValidator(_listed), AfterValidator(_distinct))
_FULL = (*_LIST, AfterValidator(_some))
ModelName = Annotated[str, AfterValidator(_model)]
RuleName = Annotated[str, AfterValidator(_rule)]
BackendSpec = Annotated[str, AfterValidator(_backend)]
DeviceName = Annotated[str, AfterValidator(_device)]
Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Flops = Annotated[int, Field(gt=0), _parsed(units.parse_flops)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), _parsed(units.parse_duration)]
Share = Annotated[float, Field(gt=0, lt=1), _parsed(units.parse_share)]
Count = Annotated[int, Field(ge=1)]
#: Images per forward; ``max``, the largest batch that fits, is 0.
Batch = Annotated[int, Field(ge=1), WrapValidator(_batch), PlainSerializer(lambda batch: batch or "max")]

_STRICT_KEYS = ConfigDict(extra="forbid", frozen=True)


_BUDGET = Budget()


class BudgetKeys(BaseModel):
    """The table ``[budget]``, as :class:`~profiler.records.Budget`; durations and shares may be text."""

    model_config = _STRICT_KEYS

    visit_s: Seconds = _BUDGET.visit_s
    min_samples: Count = _BUDGET.min_samples
    warmup_s: Seconds = _BUDGET.warmup_s
    rounds: Count = _BUDGET.rounds
    min_rounds: Count = _BUDGET.min_rounds
    precision: Share = _BUDGET.precision
    timeout_s: Seconds = _BUDGET.timeout_s


class Sweep(BaseModel):
    """A product of cases; ``factors`` and ``flops`` exclude each other; 0 threads are all usable cores."""

    model_config = _STRICT_KEYS

    models: Annotated[tuple[ModelName, ...], *_FULL] = ()
    scalings: Annotated[tuple[RuleName, ...], *_LIST] = ()
    factors: Annotated[tuple[Factor, ...], *_LIST] = ()
    flops: Annotated[tuple[Flops, ...], *_LIST] = ()
    backends: Annotated[tuple[BackendSpec, ...], *_FULL] = ("eager", "torchscript", "onnxruntime")
    devices: Annotated[tuple[DeviceName, ...], *_FULL] = ("cpu",)
    precisions: Annotated[tuple[Precision, ...], *_FULL] = ("fp32",)
    threads: Annotated[tuple[Annotated[int, Field(ge=0)], ...], *_FULL] = (0,)
    batches: Annotated[tuple[Batch, ...], *_FULL] = (1,)
    modes: Annotated[tuple[Mode, ...], *_FULL] = ("infer",)
    memory_formats: Annotated[tuple[MemoryFormat, ...], *_FULL] = ("contiguous",)


class Plan(Sweep):
    """What to measure and how well.

    The keys inherited from :class:`Sweep` are defaults for every sweep, or the only sweep where there is
    none.
    """

    name: str = ""
    description: str = ""
    seed: Annotated[int, Field(ge=0)] | None = None
    memory: bool = False
    epoch: bool = False
    images: Count = IMAGENET
    images_from: str | None = None
    workers: Annotated[int, Field(ge=0)] | None = None
    budget_keys: BudgetKeys = Field(default=BudgetKeys(), alias="budget")
    sweep: tuple[Sweep, ...] = ()

    @property
    def budget(self) -> Budget:
        """The budget as the rest of the program takes it; no case needs more rounds than it may have."""
        keys = self.budget_keys.model_dump()
        return Budget(**keys | {"min_rounds": min(keys["min_rounds"], keys["rounds"])})

    @property
    def passes(self) -> tuple[Pass, ...]:
        """What is measured beside latency, each in visits of its own. They may be added when a run is resumed."""
        asked: dict[Pass, bool] = {"memory": self.memory, "epoch": self.epoch}
        return tuple(name for name, wanted in asked.items() if wanted)

    @property
    def feed(self) -> Feed:
        """The epoch asked about, and where its images come from."""
        return Feed(self.images, self.images_from, self.workers)

    @property
    def sweeps(self) -> tuple[Sweep, ...]:
        """The sweeps with the plan's defaults filled in."""
        shared = _given(self, Sweep.model_fields)
        # Values are validated already; construct keeps them as they are.
        return tuple(
            Sweep.model_construct(**_merged(shared, _given(sweep, Sweep.model_fields)))
            for sweep in self.sweep or (Sweep.model_construct(),)
        )


def _given(keys: BaseModel, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(keys, name) for name in names if name in keys.model_fields_set}


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a sweep over those it inherits; saying factors withdraws inherited flops, and the reverse."""
    withdrawn = {"factors": "flops", "flops": "factors"}
    dropped = {withdrawn[key] for key in own if key in withdrawn}
    return {key: value for key, value in shared.items() if key not in dropped} | dict(own)


# --- reading ------------------------------------------------------------


def load(source: str | Path) -> Plan:
    """Read a built-in plan by its name, or a TOML file by its path.

    Raises:
        UserError: There is no such plan, it is no TOML, or some of its keys are wrong: one line for each.
    """
    path = FOLDER / f"{source}.toml" if source in BUILT_IN else Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(
            f"no plan {str(source)!r} ({reason}); expected one of {', '.join(BUILT_IN)}, "
            f"or the path of a TOML file{_closest(str(source), BUILT_IN, 1)}."
        ) from error
    plan = loads(text, str(source) if path.parent != FOLDER else path.name)
    return plan if plan.name else plan.model_copy(update={"name": path.stem})


def loads(text: str, source: str = "plan") -> Plan:
    """Read a plan from TOML text; ``source`` names it in errors.

    Raises:
        UserError: As :func:`load`.
    """
    try:
        keys = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{source}: not valid TOML: {error}.") from error
    return _validated(keys, lambda key: f"{source}: {key}")


def from_flags(**flags: object) -> Plan:
    """Make a plan from flags alone, see :func:`override`.

    Raises:
        UserError: A value is wrong, or no model was named.
    """
    return override(Plan.model_construct(name="flags"), **flags)


def override(plan: Plan, **flags: object) -> Plan:
    """Replace keys of a plan, in all of its sweeps.

    Args:
        plan: The plan to start from; it stays as it is.
        **flags: Keys of a plan. A list may be text with commas (``"1,2,4"``) or hold such texts; ``None`` and
            empty lists mean "not given". Fields of the budget are named as they are: ``rounds=5``.

    Raises:
        UserError: A value is wrong; the message names the flag.
    """
    given = {key: _split(key, value) for key, value in flags.items() if value is not None and value not in ([], ())}
    keys = plan.model_dump(exclude_unset=True, by_alias=True)
    budget = {key: given.pop(key) for key in BudgetKeys.model_fields if key in given}
    keys["budget"] = keys.get("budget", {}) | budget
    withdrawn = {"factors", "flops"} if given.keys() & {"factors", "flops"} else set()
    keys["sweep"] = [{k: v for k, v in s.items() if k not in given.keys() | withdrawn} for s in keys.get("sweep", ())]
    said = given | {f"budget.{key}": value for key, value in budget.items()}
    return _validated(_merged(keys, given), lambda key: _flag(key, said) or f"{plan.name or 'plan'}: {key}")


def _split(key: str, value: object) -> Any:
    if key not in Sweep.model_fields:
        return value
    parts = value if isinstance(value, list | tuple) else (value,)
    texts = itertools.chain.from_iterable(_COMMA.split(p) if isinstance(p, str) else (p,) for p in parts)
    return [t.strip() if isinstance(t, str) else t for t in texts]


def _flag(key: str, given: Iterable[str]) -> str:
    """The flag that set a key such as ``models[1]`` or ``budget.visit_s``; empty where no flag did."""
    name = key.partition("[")[0]
    return FLAGS.get(name, key) if name in given else ""


def _validated(keys: Mapping[str, Any], place: Callable[[str], str]) -> Plan:
    """Check every key, then what they mean together. ``place`` says where a key stands."""
    try:
        plan = Plan.model_validate(keys)
    except ValidationError as error:
        raise UserError("\n".join(sentences(error, place, _known_keys))) from error
    contradictions = list(_contradictions(plan))
    if contradictions:
        raise UserError("\n".join(f"{place(key)}: {sentence}" for key, sentence in contradictions))
    return plan


def _contradictions(plan: Plan) -> Iterator[tuple[str, str]]:
    """Keys that are right by themselves and wrong together."""
    if plan.epoch and not any("train" in sweep.modes for sweep in plan.sweeps):
        yield "epoch", "an epoch is made of training steps; add the mode train, as --mode train"
    for i, sweep in enumerate(plan.sweeps):
        at = f"sweep[{i}]." if plan.sweep else ""
        own = plan.sweep[i] if plan.sweep else plan
        if not sweep.models:
            yield f"{at}models", "no model is named; `profiler models` lists them"
        if {"factors", "flops"} <= own.model_fields_set:
            yield f"{at}flops", "factors and flops exclude each other: flops solves for the factor"
        elif sweep.scalings and not (sweep.factors or sweep.flops):
            yield (
                f"{at}scalings",
                "a scaling needs factors (such as [1, 2, 4]) or flops (such as ['4GF', '8GF'])",
            )
        elif not sweep.scalings and (sweep.flops or any(f != 1 for f in sweep.factors)):
            key = "flops" if sweep.flops else "factors"
            yield f"{at}{key}", "scaling needs a rule: give scalings, such as 'dwr' or 'dWr'"
        if sweep.scalings and sweep.models and all(map(is_brought, sweep.models)):
            brought = ", ".join(sweep.models)
            yield (
                f"{at}scalings",
                f"{brought} cannot be scaled: only networks that `profiler models` lists can",
            )


KnownKeys = Callable[[Sequence[int | str]], list[str]]


def sentences(error: ValidationError, place: Callable[[str], str], known: KnownKeys) -> list[str]:
    """Return one line for each wrong key, in the order of the file.

    Args:
        error: What pydantic found.
        place: Says where a key such as ``sweep[0].models[1]`` stands.
        known: Returns the keys that may stand at a location.
    """
    return list(dict.fromkeys(f"{place(_key(e['loc']))}: {_problem(e, known)}" for e in error.errors()))


def _key(loc: Sequence[int | str]) -> str:
    """A place as TOML would say it: ``sweep[0].models[1]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _problem(error: ErrorDetails, known: KnownKeys) -> str:
    kind, got, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        keys = known(error["loc"])
        return f"unknown key{_closest(str(error['loc'][-1]), keys, 1)}; expected one of {', '.join(keys)}"
    if kind == "literal_error":
        return f"{got!r} is not known; expected {context['expected']}"
    return f"{got!r} is wrong; {error['msg'][:1].lower()}{error['msg'][1:]}"


def _known_keys(loc: Sequence[int | str]) -> list[str]:
    if loc[0] == "budget":
        return list(BudgetKeys.model_fields)
    if loc[0] == "sweep":
        return list(Sweep.model_fields)
    return [field.alias or name for name, field in Plan.model_fields.items()]


# --- writing ------------------------------------------------------------


def to_toml(plan: Plan) -> str:
    """The plan as text that :func:`loads` reads back to an equal plan."""
    keys = plan.model_dump(exclude_unset=True, by_alias=True)
    sweeps, budget = keys.pop("sweep", ()), keys.pop("budget", {})
    tables = [
        ("", keys),
        *([("[budget]", budget)] if budget else []),
        *(("[[sweep]]", sweep) for sweep in sweeps),
    ]
    return "\n".join(_table(header, table) for header, table in tables)


def _table(header: str, keys: Mapping[str, Any]) -> str:
    lines = [f"{key} = {_toml(value)}" for key, value in keys.items() if value is not None]
    return "".join(f"{line}\n" for line in ([header, *lines] if header else lines))


def _toml(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON writes numbers and strings as TOML does, but leaves DEL, which TOML forbids, as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def digest(plan: Plan) -> str:
    """16 hexadecimal digits, equal for plans that measure the same in the same way, whatever their name."""
    meaning = {
        "sweeps": [sweep.model_dump() for sweep in plan.sweeps],
        "budget": plan.budget_keys.model_dump(),
        "seed": plan.seed,
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]


# --- cases ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Network:
    """A network of a plan, and what is worth saying about how the plan got there.

    Attributes:
        model: As in :class:`~profiler.records.Case`, like the next three.
        scaling: Empty for the unscaled network.
        factor: 1.0 for the unscaled network.
        target_flops: What the factor was solved for, or None.
        note: A sentence, or empty.
        repeats: Whether an earlier network of the same model is the same, so that this one is not measured.
    """

    model: str
    scaling: str = ""
    factor: float = 1.0
    target_flops: int | None = None
    note: str = ""
    repeats: bool = False


def expand(plan: Plan, usable_threads: int) -> tuple[Case, ...]:
    """All cases of a plan in a stable order, each once.

    Networks that come out the same (every rule at factor 1, a rule that changes nothing, two targets with one
    answer) are measured once, under the first name; :func:`notes` says so.

    Args:
        plan: A valid plan.
        usable_threads: Cores that this process may use, put where the plan says 0.
    """
    cases: dict[tuple[object, ...], Case] = {}
    for sweep in plan.sweeps:
        networks = [n for n in _networks(sweep) if not n.repeats]
        for network, backend, placement, batch, mode in itertools.product(
            networks, sweep.backends, _placements(sweep, usable_threads), sweep.batches, sweep.modes
        ):
            same = (network.model, _structure(network), backend, placement, batch, mode)
            case = Case(
                model=network.model,
                scaling=network.scaling,
                factor=network.factor,
                target_flops=network.target_flops,
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
    networks = [n.note for sweep in plan.sweeps for n in _networks(sweep) if n.note]
    return list(dict.fromkeys(networks + _device_notes(plan)))


def _device_notes(plan: Plan) -> list[str]:
    """Accelerators of one host are not independent, even where only one is used at a time."""
    used = dict.fromkeys(device for sweep in plan.sweeps for device in sweep.devices if not device.startswith("cpu"))
    if len(used) < 2:
        return []
    return [f"{', '.join(used)} are visited one at a time; they share this host's power, cooling and PCIe lanes"]


def complexities(cases: Iterable[Case]) -> dict[str, Complexity | None]:
    """Complexity of each case for one image, under its key; None for brought models: not counted here."""
    return {case.key: _complexity(case.model, case.scaling, case.factor) for case in cases}


def _placements(sweep: Sweep, usable_threads: int) -> list[Placement]:
    threads = dict.fromkeys(t or usable_threads for t in sweep.threads)
    grid = itertools.product(sweep.devices, sweep.precisions, threads, sweep.memory_formats)
    return [Placement(device, precision, t, layout) for device, precision, t, layout in grid]


def _networks(sweep: Sweep) -> Iterator[Network]:
    for model in sweep.models:
        if is_brought(model):
            note = f"{model} is a model of your own and cannot be scaled: measured as it is" if sweep.scalings else ""
            yield Network(model, note=note)
        elif sweep.scalings:
            yield from _scaled_networks(model, sweep)
        else:
            yield Network(model)


def _scaled_networks(model: str, sweep: Sweep) -> Iterator[Network]:
    seen: dict[object, Network] = {}
    base = Network(model)
    for rule, (factor, target) in itertools.product(sweep.scalings, _steps(sweep)):
        asked = Network(model, rule, factor if target is None else _solve(model, rule, target), target)
        by_one = factor == 1 and target is None
        found = base if by_one or _structure(asked) == _structure(base) else asked
        repeats = _structure(found) in seen
        first = seen.setdefault(_structure(found), found)
        yield replace(first, repeats=repeats, note="" if by_one else _note(asked, first))


def _note(asked: Network, first: Network) -> str:
    if first is not asked:
        return f"{_said(asked)} is the same network as {_said(first)}: measured once"
    return _off_target(asked)


def _steps(sweep: Sweep) -> list[tuple[float, int | None]]:
    return [(1.0, target) for target in sweep.flops] or [(factor, None) for factor in sweep.factors]


@cache
def _arch(model: str, scaling: str, factor: float) -> Arch:
    return zoo.resolve(model, scaling, factor)


@cache
def _solve(model: str, scaling: str, target: int) -> float:
    return zoo.scale_to_flops(zoo.get(model), scaling, target).factor


@cache
def _complexity(model: str, scaling: str, factor: float) -> Complexity | None:
    return None if is_brought(model) else zoo.complexity(_arch(model, scaling, factor))


def _structure(network: Network) -> object:
    """What is built, without how the plan arrived there: equal for networks that are the same."""
    if is_brought(network.model):
        return network.model
    return replace(_arch(network.model, network.scaling, network.factor), scaling="", factor=1.0)


def _said(network: Network) -> str:
    if not network.scaling:
        return network.model
    target = network.target_flops
    step = f"x{network.factor:.4g}" if target is None else _short(target)
    return f"{network.model} {network.scaling} {step}"


def _short(flops: float) -> str:
    """Flops without a blank, as a flag takes them."""
    return units.format_flops(flops).replace(" ", "")


# Rounding to usable widths moves flops away from what was asked. Solving promises 2%; a plain factor
# promises nothing, so only what would surprise is worth a sentence.
_NEAR_TARGET = 0.02
_NEAR_FACTOR = 0.20


def _off_target(network: Network) -> str:
    """Where the flops that a network really has are not those that were asked for, say so."""
    reached, base = _flops(network), _flops(Network(network.model))
    if network.target_flops is not None:
        off = reached / network.target_flops - 1
        return f"{_said(network)}: reached {_short(reached)} ({off:+.1%})" if abs(off) > _NEAR_TARGET else ""
    off = reached / (network.factor * base) - 1
    if abs(off) <= _NEAR_FACTOR:
        return ""
    return (
        f"{_said(network)}: {_short(reached)}, {off:+.1%} from {network.factor:.4g} times {network.model}; "
        f"--flops {_short(network.factor * base)} solves for the factor"
    )


def _flops(network: Network) -> int:
    counted = _complexity(network.model, network.scaling, network.factor)
    return counted.flops if counted else 0


# --- time ------------------------------------------------------------

# Multiply-adds per second that fp32 inference of these networks reaches, in GF/s; on CPUs for each thread.
# Rough figures for today's machines, good to a factor of three: enough to tell minutes from hours before the
# first round.
_RATE = {"cpu": 20.0, "cuda": 2000.0, "xpu": 500.0, "mps": 300.0}
# Process, building, loading, parity check, in seconds; exporting, tracing and optimising, once for each case.
_OVERHEAD_S = 0.3
_PREPARE_S = 1.0
_TRAIN_COST = 3.0
# An own model that cannot be counted is taken for a ResNet-50.
_UNCOUNTED_FLOPS = 4.1e9


def estimate_seconds(cases: Iterable[Case], counted: Mapping[str, Complexity | None], budget: Budget) -> float:
    """A first guess at how long a plan takes, made before anything was measured.

    Each case gets a second to be exported, and ``(min_rounds + rounds) / 2`` visits of ``max(visit_s, min_samples · t)
    + 3 · t + 0.3 s``, where t is flops over an assumed speed of the device. The visits that are needed depend on the
    noise of the machine, and the speed on the network and backend: only the time of a finished round is a measurement.

    Args:
        cases: From :func:`expand`.
        counted: From :func:`complexities`.
        budget: Of the plan.

    Returns:
        Seconds.
    """
    visits = (budget.min_rounds + budget.rounds) / 2
    return sum(
        _PREPARE_S + visits * min(_visit_s(case, counted.get(case.key), budget), budget.timeout_s) for case in cases
    )


def _visit_s(case: Case, counted: Complexity | None, budget: Budget) -> float:
    flops = (counted.flops if counted else _UNCOUNTED_FLOPS) * case.batch
    kind = case.placement.device_type
    rate = _RATE[kind] * 1e9 * (case.placement.threads if kind == "cpu" else 1)
    forward = flops / rate * (_TRAIN_COST if case.mode == "train" else 1)
    # The timed part is reference and model by turns; warm-up and parity need a few forwards at least.
    timed = max(budget.visit_s, budget.min_samples * forward)
    return timed + 3 * forward + _OVERHEAD_S
