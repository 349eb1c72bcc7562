"""Ask for networks of the user's own, each family once, in a fresh process: this one imports none of their code."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TypeVar

from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.measure.families import networks
from profiler.models.brought import Brought, Wanted
from profiler.models.naming import may_be_family
from profiler.records.types import Case, Failure
from profiler.run.child import Limits
from profiler.run.describing import described
from profiler.run.processes import Executor, LocalExecutor

#: Networks that have not been built on paper after this long are given up, in seconds.
_TIMEOUT_S = 600.0

_A = TypeVar("_A")
_R = TypeVar("_R")


def families(wanted: Iterable[Wanted], executor: Executor | None = None) -> dict[Wanted, Brought | str]:
    """Return the networks that are wanted, or why their model is no family.

    Raises:
        UserError: A model cannot be imported, does not scale, or has no network of the flops.
    """
    found: dict[Wanted, Brought | str] = {}
    for _, group in itertools.groupby(sorted(wanted, key=lambda one: one.model), key=lambda one: one.model):
        some = tuple(dict.fromkeys(group))
        answer = answered(networks, some, executor)
        found |= dict.fromkeys(some, answer) if isinstance(answer, str) else answer
    return found


def brought(wanted: Wanted) -> Brought:
    """Return one network of the user's own, of a family or not; raises UserError as ``families``."""
    if may_be_family(wanted.model):
        found = families([wanted])[wanted]
        if isinstance(found, Brought):
            return found
        if wanted.rule:
            raise UserError(f"{wanted.model} cannot be scaled: {found}")
    elif wanted.rule:
        raise UserError(f"{wanted.model} cannot be scaled: only networks that `profiler models` lists and families can")
    return family_of_case(Case(wanted.model, "", 1.0, backend="", placement=Placement()))


def family_of_case(case: Case) -> Brought:
    """Return the model of a case as its inputs have it; raises UserError where it cannot be had."""
    executor = LocalExecutor()
    try:
        known = described([case], executor)
    finally:
        executor.close()
    for failure in known.failed.values():
        raise UserError(failure.reason)
    [found] = known.found.values()
    return Brought(
        case.model,
        found.family,
        case.scaling,
        case.factor,
        resolution=found.resolution,
        counts=found.complexity,
        uncounted=found.uncounted,
    )


def answered(function: Callable[[_A], _R], argument: _A, executor: Executor | None = None) -> _R:
    """Return what a function returns in a fresh process; raises UserError where that fails."""
    own = executor or LocalExecutor()
    try:
        answer = own.call(function, argument, _TIMEOUT_S, Limits())
    finally:
        if executor is None:
            own.close()
    if isinstance(answer, Failure):
        raise UserError(answer.reason)
    return answer
