"""Look at every model of a run before the first visit: once for each, in a fresh process where it is brought."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from profiler.errors import UserError
from profiler.machine.cache import cache_folder
from profiler.measure.describe import DescribeTask, Description, describe, of_zoo
from profiler.models.naming import is_brought
from profiler.records.types import Case, Failure
from profiler.run.child import Limits
from profiler.run.processes import Executor

#: A model that has not been loaded and counted after this long is given up, in seconds.
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Described:
    """Cases with the content of their models, and what was found of these, by the case's key.

    Attributes:
        cases: In their order; one whose model cannot be had has no content.
        found: Descriptions.
        failed: Why there is none.
    """

    cases: tuple[Case, ...] = ()
    found: Mapping[str, Description] = field(default_factory=dict)
    failed: Mapping[str, Failure] = field(default_factory=dict)


def described(cases: Sequence[Case], executor: Executor, timeout_s: float = _TIMEOUT_S) -> Described:
    """Describe the models of ``cases``."""
    answers = {model: _described(group, executor, timeout_s) for model, group in _by_model(cases).items()}
    known, found, failed = [], {}, {}
    for case in cases:
        answer = answers[_model(case)]
        if isinstance(answer, Description) and case.batch in answer.refused:
            answer = Failure("error", answer.refused[case.batch])
        if isinstance(answer, Failure):
            known.append(case)
            failed[case.key] = answer
            continue
        known.append(replace(case, content=answer.content))
        found[known[-1].key] = answer
    return Described(tuple(known), found, failed)


def _model(case: Case) -> tuple[object, ...]:
    return case.model, case.scaling, case.factor, case.step, case.shape, case.input_file


def _by_model(cases: Iterable[Case]) -> dict[tuple[object, ...], list[Case]]:
    groups: dict[tuple[object, ...], list[Case]] = {}
    for case in cases:
        groups.setdefault(_model(case), []).append(case)
    return groups


def _described(cases: Sequence[Case], executor: Executor, timeout_s: float) -> Description | Failure:
    batches = tuple(dict.fromkeys(case.batch for case in cases))
    task = DescribeTask(cases[0], batches, cache_folder())
    if is_brought(cases[0].model):
        return executor.call(describe, task, timeout_s, Limits())
    try:
        return of_zoo(task)
    except UserError as error:
        return Failure("error", str(error))
