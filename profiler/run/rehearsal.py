"""What would fail in a run, found without measuring: models that cannot be had, backends that cannot serve."""

from __future__ import annotations

from collections.abc import Sequence

from profiler.measure.describe import unserved
from profiler.records.types import Case, Failure
from profiler.run.child import Limits
from profiler.run.describing import Described, described
from profiler.run.processes import LocalExecutor

#: Asking the backends loads the runtimes; longer than this and something hangs, in seconds.
_TIMEOUT_S = 120.0


def rehearse(cases: Sequence[Case], *, elsewhere: bool = False) -> tuple[Described, list[str]]:
    """Return what is known of the models of ``cases``, and a sentence for each thing that would fail, once.

    Whether backends can serve is asked here alone: not where cases are measured ``elsewhere``.
    """
    executor = LocalExecutor()
    try:
        known = described(cases, executor)
        answer = [] if elsewhere else executor.call(unserved, tuple(cases), _TIMEOUT_S, Limits())
    finally:
        executor.close()
    models = dict.fromkeys(failure.reason for failure in known.failed.values())
    return known, [*models, *([answer.reason] if isinstance(answer, Failure) else answer)]
