"""The clocks of the GPUs that a command measures on, held while it does where that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from profiler.errors import UserError
from profiler.machine.device import device_uuid
from profiler.machine.locking import locked_clocks
from profiler.run.child import Limits
from profiler.run.processes import LocalExecutor

#: In MHz. No GPU's clock lies outside.
_CLOCKS = range(100, 10_000)


def checked_clock(mhz: int | None) -> int | None:
    """Return ``mhz``; raises UserError where no GPU has such a clock."""
    if mhz is not None and mhz not in _CLOCKS:
        raise UserError(f"--lock-clocks {mhz}: expected MHz from {_CLOCKS.start} to {_CLOCKS.stop}, as 1410")
    return mhz


@contextmanager
def held_clocks(mhz: int | None, devices: Iterable[str], warn: Callable[[str], object]) -> Iterator[None]:
    """Hold those of ``devices`` that are NVIDIA GPUs at ``mhz`` while the context is open; None leaves them alone.

    ``warn`` is told in a sentence where that is not permitted, and where there is no such GPU.
    """
    if mhz is None:
        yield
        return
    uuids = _uuids(devices)
    if not uuids:
        warn(f"--lock-clocks {mhz} holds nothing: no case runs on an NVIDIA GPU that works")
        yield
        return
    with locked_clocks(uuids, mhz, warn):
        yield


def _uuids(devices: Iterable[str]) -> list[str]:
    """Ask which GPUs these are in processes of their own: asking initialises them."""
    places = [place for place in dict.fromkeys(devices) if place != "cpu"]
    if not places:
        return []
    executor = LocalExecutor()
    try:
        answers = [executor.call(device_uuid, place, 120.0, Limits()) for place in places]
    finally:
        executor.close()
    return list(dict.fromkeys(answer for answer in answers if isinstance(answer, str)))
