"""Make what a visit finds in the cache, before any is timed: exports, traces and the outputs to compare with."""

from __future__ import annotations

from contextlib import ExitStack

from profiler import backends
from profiler.backends import stages
from profiler.measure import parity, timing
from profiler.measure.visit import Task
from profiler.models import source


def make_ahead(task: Task) -> bool:
    """Load the case of ``task`` once and compare its outputs; return whether its backend can serve it.

    What fails here fails in the visit again, which says it.
    """
    import torch

    # As many are made at once as there are cores: threads that wait for each other's cores make all of them slower.
    torch.set_num_threads(1)
    case = task.case
    loaded = source.load_model(case.asked(task.cache))
    backend = backends.get(case.backend)
    if backend.unavailable(case.placement) is not None:
        return False
    with ExitStack() as stack:
        with stages.timed_by(timing.stage_timer):
            session = stack.enter_context(backend.load(loaded.model, loaded.inputs, case.placement))
        session.run()
        session.sync()
        parity.check(backend, loaded, case, session, task.cache)
    return True
