"""Plans from TOML files and flags, and back to TOML."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from profiler.errors import UserError
from profiler.models.naming import is_brought, may_be_family, split_names
from profiler.plan.messages import sentences
from profiler.plan.plan import BudgetKeys, Plan, Sweep, merged
from profiler.plan.values import closest
from profiler.records.outside import file_bytes, text_of, toml_table
from profiler.records.types import Budget

#: Where a plan is measured: on this machine, or on those of a fleet.
Place: TypeAlias = Literal["here", "fleet"]

_FOLDER = Path(__file__).parent / "built_in"
BUILT_IN = ("quick", "paper", "fast-and-accurate", "fast-and-accurate-gpu")

# Each key of a plan, and the flag that says the same.
_FLAGS: Mapping[str, str] = {
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
    "shapes": "--shape",
    "input_file": "--input",
    "gaps": "--gap",
    "seed": "--seed",
    "time": "--time",
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

# A comma separates two names unless the next word is a setting: "fake:duration_ms=1,sigma=0.1,eager" is two
# backends.
_COMMA = re.compile(r",(?!\s*\w+=)")


def load(source: str | Path, place: Place = "here") -> Plan:
    """Read a built-in plan by its name, or a TOML file by its path.

    On a ``fleet`` its devices are labels of machines.

    Raises:
        UserError: There is no such plan, it is no TOML, or some of its keys are wrong: one line for each.
    """
    path = _FOLDER / f"{source}.toml" if source in BUILT_IN else Path(source)
    try:
        text = text_of(file_bytes(path))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"no plan {str(source)!r} ({reason}); expected one of {', '.join(BUILT_IN)}, "
            f"or the path of a TOML file{closest(str(source), BUILT_IN, 1)}."
        ) from error
    plan = loads(text, str(source) if path.parent != _FOLDER else path.name, place)
    return plan if plan.name else plan.model_copy(update={"name": path.stem})


def loads(text: str, source: str = "plan", place: Place = "here") -> Plan:
    """Read a plan from TOML text; ``source`` names it in errors, ``place`` as for ``load``.

    Raises:
        UserError: As ``load``.
    """
    try:
        keys = toml_table(text)
    except ValueError as error:
        raise UserError(f"{source}: {error}; expected a plan, which is TOML such as models = ['resnet50']") from error
    return _validated(keys, lambda key: f"{source}: {key}", place)


def from_flags(place: Place = "here", /, **flags: object) -> Plan:
    """Make a plan from flags alone, see ``override``.

    Raises:
        UserError: A value is wrong, or no model was named.
    """
    return override(Plan.model_construct(name="flags"), place, **flags)


def for_answer(**flags: object) -> Plan:
    """Make a plan that answers within the ``time`` that is among ``flags``: short visits, a few of each case.

    Raises:
        UserError: As ``from_flags``.
    """
    return from_flags(**flags, visit_s="0.3s", warmup_s="1s", min_samples=3)


def override(plan: Plan, place: Place = "here", /, **flags: object) -> Plan:
    """Replace keys of a plan, in all of its sweeps.

    Args:
        plan: The plan to start from; it stays as it is.
        place: As for ``load``.
        **flags: Keys of a plan. A list may be text with commas (``"1,2,4"``) or hold such texts; ``None`` and
            empty lists mean "not given". Fields of the budget are named as they are: ``rounds=5``.

    Raises:
        UserError: A value is wrong; the message names the flag.
    """
    given = {key: _split(key, value) for key, value in flags.items() if value is not None and value not in ([], ())}
    keys = plan.model_dump(exclude_unset=True, by_alias=True)
    budget = {key: given.pop(key) for key in BudgetKeys.model_fields if key in given}
    if "rounds" in budget and "time" not in given:
        keys.pop("time", None)
    keys["budget"] = keys.get("budget", {}) | budget
    withdrawn = {"factors", "flops"} if given.keys() & {"factors", "flops"} else set()
    keys["sweep"] = [{k: v for k, v in s.items() if k not in given.keys() | withdrawn} for s in keys.get("sweep", ())]
    said = given | {f"budget.{key}": value for key, value in budget.items()}
    where = partial(_where, said=said, name=plan.name or "plan")
    return _validated(merged(keys, given), where, place)


def _where(key: str, said: Iterable[str], name: str) -> str:
    return _flag(key, said) or f"{name}: {key}"


def _split(key: str, value: object) -> Any:
    if key not in Sweep.model_fields or key in ("shapes", "input_file"):
        return value
    parts = value if isinstance(value, list | tuple) else (value,)
    split = _split_models if key == "models" else _COMMA.split
    texts = itertools.chain.from_iterable(split(p) if isinstance(p, str) else (p,) for p in parts)
    return [t.strip() if isinstance(t, str) else t for t in texts]


def _split_models(text: str) -> list[str]:
    return split_names(text, lambda path: Path(path).is_file())


def _flag(key: str, given: Iterable[str]) -> str:
    """The flag that set a key such as ``models[1]`` or ``budget.visit_s``; empty where no flag did."""
    name = key.partition("[")[0]
    return _FLAGS.get(name, key) if name in given else ""


def _validated(keys: Mapping[str, Any], where: Callable[[str], str], place: Place) -> Plan:
    """Check every key, then what they mean together. ``where`` says where a key stands."""
    try:
        plan = Plan.model_validate(keys, context={"place": place})
    except ValidationError as error:
        raise UserError("\n".join(sentences(error, where, _known_keys))) from error
    contradictions = list(_contradictions(plan))
    if contradictions:
        raise UserError("\n".join(f"{where(key)}: {sentence}" for key, sentence in contradictions))
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
            yield f"{at}{key}", "scaling needs a rule: give scalings (--scale), such as 'dwr' or 'dWr'"
        if any(sweep.gaps) and "train" in sweep.modes:
            yield (
                f"{at}gaps",
                "gaps are between forwards and training steps follow each other: leave the mode train out",
            )
        fixed = [model for model in sweep.models if is_brought(model) and not may_be_family(model)]
        if sweep.scalings and fixed and len(fixed) == len(sweep.models):
            yield (
                f"{at}scalings",
                f"{', '.join(fixed)} cannot be scaled: only networks that `profiler models` lists and families can",
            )


def _known_keys(loc: Sequence[int | str]) -> list[str]:
    if loc[0] == "budget":
        return list(BudgetKeys.model_fields)
    if loc[0] == "sweep":
        return list(Sweep.model_fields)
    return [field.alias or name for name, field in Plan.model_fields.items()]


def to_toml(plan: Plan) -> str:
    """The plan as text that ``loads`` reads back to an equal plan."""
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
        "sweeps": [_meaning(sweep) for sweep in plan.sweeps],
        # As it is without a time, which may differ each time that a run goes on.
        "budget": asdict(Budget()) | plan.budget_keys.model_dump(exclude_none=True),
        "seed": plan.seed,
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]


def _meaning(sweep: Sweep) -> dict[str, Any]:
    """Return the keys of a sweep; those that are younger than the first journals only where they say something."""
    keys = sweep.model_dump()
    return {key: value for key, value in keys.items() if value or key not in ("shapes", "input_file", "gaps")}
