"""The stages before a first forward, as a backend passes through them: what a watcher of the same process may time.

A backend reads no clock: it says which stage it is in, and whoever measures counts the seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Literal

#: ``export``: from the model as it was brought to the runtime's own form. ``compile``: to what runs on this processor.
Stage = Literal["export", "compile"]

_Timer = Callable[[], AbstractContextManager[Callable[[], float]]]

_timer: ContextVar[_Timer | None] = ContextVar("timer of stages", default=None)


@contextmanager
def timed_by(timer: _Timer) -> Iterator[None]:
    """Let ``timer`` time the stages inside the context: its context gives a function of the seconds since it began."""
    token = _timer.set(timer)
    try:
        yield
    finally:
        _timer.reset(token)


@contextmanager
def stage(name: Stage, facts: dict[str, str | int | float | bool | None]) -> Iterator[None]:
    """Pass through a stage; put ``export_s`` or ``compile_s`` into ``facts`` where somebody times it, in seconds.

    What a backend keeps for the next time should keep these facts with it: they are of when it was made.
    """
    timer = _timer.get()
    if timer is None:
        yield
        return
    with timer() as seconds:
        yield
        facts[f"{name}_s"] = round(seconds() + float(facts.get(f"{name}_s") or 0.0), 6)
