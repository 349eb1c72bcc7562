"""The clocks of the GPUs that a run measures on, held while it does where that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from profiler.errors import UserError
from profiler.machine.device import device_uuid
from profiler.machine.locking import locked_clocks
from profiler.records.types import Case
from profiler.run.child import Limits
from profiler.run.processes import Executor

#: In MHz. No GPU's clock lies outside.
_CLOCKS = range(100, 10_000)


def checked_clock(mhz: int | None) -> int | None:
    """Return ``mhz``; raises UserError where no GPU has such a clock."""
    if mhz is not None and mhz not in _CLOCKS:
        raise UserError(f"--lock-clocks {mhz}: expected MHz from {_CLOCKS.start} to {_CLOCKS.stop}, as 1410")
    return mhz


@contextmanager
def held_clocks(
    mhz: int | None, cases: Sequence[Case], executor: Executor, warn: Callable[[str], object]
) -> Iterator[None]:
    """Hold the NVIDIA GPUs of ``cases`` at ``mhz`` for the duration of the context; None leaves them alone.

    ``warn`` is told in a sentence where that is not permitted, and where there is no such GPU.
    """
    if mhz is None:
        yield
        return
    places = dict.fromkeys(case.placement.device for case in cases if case.placement.device_type != "cpu")
    answers = [executor.call(device_uuid, place, 120.0, Limits()) for place in places]
    uuids = dict.fromkeys(answer for answer in answers if isinstance(answer, str))
    if not uuids:
        warn(f"--lock-clocks {mhz} holds nothing: no case runs on an NVIDIA GPU that works")
        yield
        return
    with locked_clocks(list(uuids), mhz) as warnings:
        for warning in warnings:
            warn(warning)
        yield
