"""Live modules: a program gives the object itself, under a name that holds in its own process alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from profiler.errors import UserError
from profiler.models.loaded import Asked, Loaded
from profiler.models.torch_source import from_module

if TYPE_CHECKING:
    from torch import nn

_LENT: dict[str, tuple[nn.Module, object]] = {}


@contextmanager
def lent(module: nn.Module, example: object) -> Iterator[str]:
    """Give ``module`` a name, such as ``live:ResNet``, for as long as the context lasts.

    Whether it and its parts train is put back afterwards; nothing else of it changes, since every use has a copy.

    Args:
        module: In any mode.
        example: Its inputs, see ``profiler.models.torch_source.from_module``.
    """
    name = f"live:{type(module).__name__}"
    number = 2
    while name in _LENT:
        name, number = f"live:{type(module).__name__}_{number}", number + 1
    modes = {part: part.training for part in module.modules()}
    _LENT[name] = (module, example)
    try:
        yield name
    finally:
        del _LENT[name]
        for part, training in modes.items():
            part.training = training


def load_live(asked: Asked) -> Loaded:
    """Return the module that was lent under the name asked for; raises UserError where there is none."""
    if asked.model not in _LENT:
        raise UserError(
            f"model {asked.model!r} is an object of a Python program, and none has lent it here: name a factory, as "
            "path/file.py:function, or give the module to profiler.latency"
        )
    module, example = _LENT[asked.model]
    return from_module(module, example, asked)
