"""Whatever a torch module takes or returns, as a flat tuple of tensors."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from functools import cache
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from profiler.backends.base import BackendError
from profiler.backends.inputs import Inputs

if TYPE_CHECKING:
    import torch
    from torch import nn

#: A result is looked through this deep; nothing that a network returns is nested further.
_DEEPEST = 32

#: What torch says where a forward asks for gradients inside, as of an energy for forces, and finds inference mode.
_WANTS_GRADIENTS = re.compile("does not require grad|[Ii]nference tensor")

#: What torch says where the sides of a product are of unlike types.
_MIXES_TYPES = re.compile("the same dtype|expected scalar type|bias type .* should be the same")


def mixes_types(error: RuntimeError) -> bool:
    """Whether a forward has failed because numbers of two types meet in it."""
    return bool(_MIXES_TYPES.search(str(error)))


def wants_gradients(error: RuntimeError) -> bool:
    """Whether a forward has failed because it asks for gradients inside, and inference mode has none."""
    return bool(_WANTS_GRADIENTS.search(str(error)))


def tensors(result: object) -> tuple[torch.Tensor, ...]:
    """Return the tensors in ``result``, each once, in the order of a walk through tuples, lists, dicts and objects.

    Raises:
        BackendError: There is none, or a part of it is computed only when somebody reads it.
    """
    import torch

    parts = [*_leaves(result)]
    lazy = next(filter(computes_later, parts), None)
    if lazy is not None:
        raise BackendError(
            f"the model returned {_said(lazy)}, which computes only when it is read: let it return tensors"
        )
    found = tuple({id(part): part for part in parts if isinstance(part, torch.Tensor)}.values())
    if not found:
        raise BackendError(
            f"the model returned {_said(result)}, in which there is no tensor: let it return at least one tensor"
        )
    return found


def computes_later(result: object) -> bool:
    """Whether a result is none yet: a generator, or what ``async def`` returns."""
    return isinstance(result, GeneratorType | CoroutineType | AsyncGeneratorType | map | filter | zip)


def _said(result: object) -> str:
    if result is None:
        return "None"
    name = type(result).__name__
    return f"an {name}" if name[0].lower() in "aeio" or name == "ndarray" else f"a {name}"


def _leaves(value: object, depth: int = 0, *, objects: bool = True) -> Iterator[object]:
    """Yield all in ``value`` that has no parts; without ``objects``, nothing that is an attribute of one."""
    parts = _parts(value, objects=objects) if depth < _DEEPEST else None
    if parts is None:
        yield value
        return
    for part in parts:
        yield from _leaves(part, depth + 1, objects=objects)


def _parts(value: Any, *, objects: bool) -> Iterable[object] | None:
    import torch

    if isinstance(value, torch.Tensor | torch.nn.Module | str | bytes | int | float | type):
        return None
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, tuple | list):
        return value
    if not (objects or is_dataclass(value)):
        return None
    slots = [name for kind in type(value).__mro__ for name in _slots(kind) if hasattr(value, name)]
    if not hasattr(value, "__dict__") and not slots:
        return None
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, name) for name in slots)]


def _slots(kind: type) -> list[str]:
    """Return the names in which objects of a class of Python's keep what they hold."""
    named = vars(kind).get("__slots__", ())
    private = f"_{kind.__name__.lstrip('_')}"
    names = [named] if isinstance(named, str) else [*named]
    return [
        f"{private}{name}" if name.startswith("__") and not name.endswith("__") else name
        for name in names
        if name not in {"__dict__", "__weakref__"}
    ]


def evaluated(module: nn.Module) -> nn.Module:
    """Put ``module`` into evaluation mode; an exported one stays in that in which it was exported."""
    with suppress(NotImplementedError):
        module.eval()
    return module


def duplicated(module: nn.Module) -> nn.Module:
    """Return a copy of ``module``.

    A weight that is computed from others, as weight norm and pruning do, is copied as it is now, for which torch has no
    way of its own.
    """
    import torch

    held = (value for part in module.modules() for value in vars(part).values())
    computed = {id(one): one.detach().clone() for one in held if isinstance(one, torch.Tensor) and not one.is_leaf}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # an exported program is copied in a way that torch outgrew
        made = copy.deepcopy(module, computed)
    for own, new in zip(module.parameters(), made.parameters(), strict=False):
        if own.is_leaf and not new.is_leaf:  # as of what was scripted
            new.detach_().requires_grad_(own.requires_grad)
    return made


def flat(module: nn.Module, inputs: Inputs) -> nn.Module:
    """Return ``module`` as one that takes the arrays of ``inputs`` as tensors, in their order, and returns a tuple.

    What torch.compile was asked for is undone: nothing can trace it.
    """
    return _flat()(_uncompiled(module), inputs)  # type: ignore[no-any-return]


def _uncompiled(module: nn.Module) -> nn.Module:
    module = getattr(module, "_orig_mod", module)
    for part in list(module.modules()):
        if getattr(part, "_compiled_call_impl", None) is not None:
            part._compiled_call_impl = None  # noqa: SLF001 - what Module.compile sets has no other way back
        for name, child in list(part.named_children()):
            if hasattr(child, "_orig_mod"):
                setattr(part, name, child._orig_mod)  # noqa: SLF001
    return module


def _has_numbers(result: object) -> bool:
    """Whether numbers are returned beside tensors; raises BackendError for numpy's arrays, which no trace follows."""
    import numpy as np

    others = [*_leaves(result, objects=False)]
    array = next((part for part in others if isinstance(part, np.ndarray | np.generic)), None)
    if array is not None:
        raise BackendError(
            f"the model returned {_said(array)}, and a trace leaves out what that is computed by: let it return "
            "tensors, or use eager"
        )
    return any(isinstance(part, int | float | complex) and not isinstance(part, bool) for part in others)


@cache
def _flat() -> Any:
    from torch import nn

    class Flat(nn.Module):
        """A module between flat tuples of tensors.

        Attributes:
            numbers: Whether it has returned numbers beside tensors, which a trace does not follow.
        """

        def __init__(self, module: nn.Module, inputs: Inputs) -> None:
            super().__init__()
            self.module = module
            self.training = False  # eval() would ask the module too, and an exported one refuses
            self._inputs = inputs
            self.numbers = False

        def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            """Return the tensors of the module's result."""
            by_name = dict(zip(self._inputs.arrays, given, strict=True))
            args, kwargs = self._inputs.mapped(lambda name, _: by_name[name])
            result = self.module(*args, **kwargs)
            if not self.numbers and _has_numbers(result):
                self.numbers = True
            return tensors(result)

    return Flat
