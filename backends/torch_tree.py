"""Whatever a torch module takes or returns, as a flat tuple of tensors."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from profiler.backends.base import BackendError
from profiler.backends.inputs import Inputs

if TYPE_CHECKING:
    import torch
    from torch import nn

#: A result is looked through this deep; nothing that a network returns is nested further.
_DEEPEST = 32


def tensors(result: object) -> tuple[torch.Tensor, ...]:
    """Return the tensors in ``result``, each once, in the order of a walk through tuples, lists, dicts and objects.

    Raises:
        BackendError: There is none.
    """
    found = tuple(_unique(_walk(result, 0)))
    if not found:
        raise BackendError(
            f"the model returned {_said(result)}, in which there is no tensor: let it return at least one tensor"
        )
    return found


def _said(result: object) -> str:
    name = type(result).__name__
    return "None" if result is None else f"a{'n' if name[0] in 'aeiouAEIOU' else ''} {name}"


def _unique(found: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    seen: set[int] = set()
    for tensor in found:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield tensor


def _walk(value: object, depth: int) -> Iterator[torch.Tensor]:
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif depth < _DEEPEST and not isinstance(value, str | bytes | int | float | type | torch.nn.Module):
        parts: Iterable[object]
        if isinstance(value, Mapping):
            parts = value.values()
        elif isinstance(value, tuple | list):
            parts = value
        else:
            parts = vars(value).values() if hasattr(value, "__dict__") else ()
        for part in parts:
            yield from _walk(part, depth + 1)


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


@cache
def _flat() -> Any:
    from torch import nn

    class Flat(nn.Module):
        """A module between flat tuples of tensors."""

        def __init__(self, module: nn.Module, inputs: Inputs) -> None:
            super().__init__()
            self.module = module
            self.training = False  # eval() would ask the module too, and an exported one refuses
            self._inputs = inputs

        def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            """Return the tensors of the module's result."""
            by_name = dict(zip(self._inputs.arrays, given, strict=True))
            args, kwargs = self._inputs.mapped(lambda name, _: by_name[name])
            return tensors(self.module(*args, **kwargs))

    return Flat
