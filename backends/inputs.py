"""What one forward takes: arrays on the host, as a model has them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

#: An array, a value that is no array (None, a number, text), or a tuple, list, dict or dataclass of such.
Tree = Any


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """The arguments of one forward.

    Attributes:
        args: Positional ones; each an array, a constant, or tuples, lists and dicts of them.
        kwargs: Those by keyword.
        names: What the positional ones are called; ``input`` and a number where nothing names them.
    """

    args: tuple[Tree, ...] = ()
    kwargs: Mapping[str, Tree] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @property
    def arrays(self) -> dict[str, Array]:
        """The arrays by name, in their order; one inside ``mask`` is called ``mask.0`` or ``mask.key``."""
        return dict(self._leaves(arrays=True))

    @property
    def constants(self) -> dict[str, object]:
        """What else is passed, by name: numbers, text and None."""
        return dict(self._leaves(arrays=False))

    @property
    def signature(self) -> str:
        """Names, types and shapes: ``ids int64 1x128, mask bool 1x128, scale=2``; values only of constants."""
        arrays = [f"{name} {array.dtype} {shape_text(array.shape)}" for name, array in self.arrays.items()]
        return ", ".join([*arrays, *(f"{name}={_said(value)}" for name, value in self.constants.items())])

    @property
    def batch(self) -> int:
        """The size of the first axis of the first array that has one; 1 where none has."""
        return next((int(array.shape[0]) for array in self.arrays.values() if array.ndim), 1)

    def mapped(self, change: Callable[[str, Array], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments by position and by keyword with ``change(name, array)`` in the place of each array."""
        positional = tuple(_mapped(name, tree, change) for name, tree in zip(self._names(), self.args, strict=True))
        return positional, {name: _mapped(name, tree, change) for name, tree in self.kwargs.items()}

    def changed(self, change: Callable[[str, Array], Array]) -> Inputs:
        """Return the same arguments with ``change(name, array)`` in the place of each array."""
        args, kwargs = self.mapped(change)
        return Inputs(args, kwargs, self.names)

    def _names(self) -> list[str]:
        count = len(self.args)
        own = [*self.names[:count], *(f"input_{i}" for i in range(len(self.names), count))]
        return ["input"] if count == 1 and not self.names else own

    def _leaves(self, *, arrays: bool) -> Iterator[tuple[str, Any]]:
        for name, tree in [*zip(self._names(), self.args, strict=True), *self.kwargs.items()]:
            yield from ((path, leaf) for path, leaf in _walk(name, tree) if _is_array(leaf) is arrays)


def _said(value: object) -> str:
    """Return a value in words that are the same in every process: an object's address is not."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


def _is_array(value: object) -> bool:
    import numpy as np

    return isinstance(value, np.ndarray)


def _parts(name: str, tree: Tree) -> list[tuple[str, Tree]] | None:
    held = fields_of(tree)
    if isinstance(tree, Mapping) or held is not None:
        return [(f"{name}.{key}", part) for key, part in (tree if held is None else held).items()]
    return [(f"{name}.{i}", part) for i, part in enumerate(tree)] if isinstance(tree, list | tuple) else None


def fields_of(value: object) -> dict[str, Any] | None:
    """Return what an object of a dataclass holds, by the names of its fields; None for anything else."""
    if not is_dataclass(value) or isinstance(value, type | Mapping):
        return None
    return {field.name: getattr(value, field.name) for field in fields(value) if hasattr(value, field.name)}


def with_fields(value: Any, held: Mapping[str, Any]) -> Any:
    """Return a copy of an object of a dataclass, frozen or not, that holds ``held``."""
    made = copy.copy(value)
    for name, part in held.items():
        object.__setattr__(made, name, part)
    return made


def _walk(name: str, tree: Tree) -> Iterator[tuple[str, Any]]:
    parts = _parts(name, tree)
    if parts is None:
        yield name, tree
        return
    for path, part in parts:
        yield from _walk(path, part)


def _mapped(name: str, tree: Tree, change: Callable[[str, Array], Any]) -> Tree:
    parts = _parts(name, tree)
    if parts is None:
        return change(name, tree) if _is_array(tree) else tree
    values = [_mapped(path, part, change) for path, part in parts]
    if isinstance(tree, Mapping):
        return dict(zip(tree, values, strict=True))
    if (held := fields_of(tree)) is not None:
        return with_fields(tree, dict(zip(held, values, strict=True)))
    named = getattr(tree, "_fields", None)
    return type(tree)(*values) if named else type(tree)(values)


def shape_text(shape: tuple[object, ...]) -> str:
    """Return ``1x3x224x224``; ``scalar`` for no dimension."""
    return "x".join(map(str, shape)) or "scalar"
