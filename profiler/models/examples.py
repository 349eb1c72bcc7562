"""Inputs of a model: from an example, a file, or drawn; then of the shape and batch that are asked for."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.backends.inputs import Inputs, fields_of, shape_text, with_fields
from profiler.errors import UserError
from profiler.models.loaded import Asked
from profiler.models.shapes import Sizes
from profiler.units import format_bytes

if TYPE_CHECKING:
    from profiler.backends.inputs import Array

#: Input of a brought module that names none, for one image: channels, height, width.
IMAGE = (3, 224, 224)

#: From where values that are no floats are drawn, ends included: every index below 2 is valid in any vocabulary.
_RANGES: Mapping[str, tuple[int, int]] = {"b": (0, 1), "u": (0, 255), "i": (0, 1)}


def check_room(shape: tuple[int, ...], itemsize: int = 4) -> None:
    """Raise UserError where an input of ``shape`` would take more than half of this machine's memory."""
    needed, there = math.prod(shape) * itemsize, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there / 2:
        raise UserError(
            f"an input of shape {shape_text(shape)} takes {format_bytes(needed)}, and this machine has "
            f"{format_bytes(there)} of memory: choose a smaller shape or batch"
        )


def normal(shape: tuple[int, ...]) -> Array:
    """Return the same standard normal fp32 values for the same shape, on every machine and for every backend."""
    import numpy as np

    check_room(shape)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def drawn(shape: tuple[int, ...], kind: str) -> tuple[Array, str]:
    """Return seeded values of type ``kind``, and the range that they are from; nothing for standard normal floats."""
    import numpy as np

    element = np.dtype(kind)
    if element.kind == "f":
        return normal(shape).astype(element), ""
    check_room(shape, 8)
    low, high = _RANGES[element.kind]
    if element.kind == "u" and element.itemsize > 1:
        high = 1
    return np.random.default_rng(0).integers(low, high, shape, endpoint=True).astype(element), f"{low}..{high}"


def of_example(example: object, names: tuple[str, ...]) -> Inputs:
    """Return an example as a user gives it, with arrays in the place of tensors."""
    args, kwargs = arranged(example if not _is_packed(example) else (example,))
    return Inputs(tuple(map(_plain, args)), _plain(kwargs), names if args else ())


def arranged(example: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments by position and by keyword of one tensor, a tuple, a dict, or (tuple, dict)."""
    if isinstance(example, Mapping):  # also what a tokenizer returns
        return (), dict(example)
    if isinstance(example, tuple | list):
        if len(example) == 2 and isinstance(example[0], tuple | list) and isinstance(example[1], Mapping):
            return tuple(example[0]), dict(example[1])
        return tuple(example), {}
    return (example,), {}


def image_height(shapes: Sequence[tuple[int, ...]]) -> int | None:
    """Return the height of the input where its shapes are those of one batch of images."""
    images = len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] in (1, 3, 4)
    return int(shapes[0][2]) if images else None


def _is_packed(value: object) -> bool:
    from torch.nn.utils.rnn import PackedSequence

    return isinstance(value, PackedSequence)  # a tuple of what no forward takes apart


def _plain(value: object) -> Any:
    """Return tensors as arrays; what numpy has no type for, as bf16, becomes fp32."""
    import torch

    if _is_packed(value):
        raise TypeError("a PackedSequence; let the model take what is padded and pack it itself")
    if isinstance(value, torch.Tensor):
        host = value.detach().cpu().resolve_conj().resolve_neg()
        known = host.dtype in (torch.float16, torch.float32, torch.float64) or not host.is_floating_point()
        return (host if known else host.float()).numpy().copy()
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if (held := fields_of(value)) is not None:
        return with_fields(value, {key: _plain(part) for key, part in held.items()})
    if isinstance(value, tuple | list):
        parts = [_plain(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def from_file(inputs: Inputs, asked: Asked) -> Inputs:
    """Return ``inputs`` with the arrays of ``asked.input_file`` in the place of those they are called like."""
    if not asked.input_file:
        return inputs
    given, known = read_values(asked.input_file), inputs.arrays
    _refuse_unknown(asked, "input", given, known)
    for name, array in given.items():
        check_kind(asked, name, array, known[name].dtype.name)
    return inputs.changed(given.get)


def check_kind(asked: Asked, name: str, array: Array, wanted: str) -> None:
    """Raise UserError where ``array`` holds no numbers of the kind of the type ``wanted``: no floats for indices."""
    import numpy as np

    found, kind = ("i" if one.kind == "u" else one.kind for one in (array.dtype, np.dtype(wanted)))
    if found != kind:
        raise UserError(
            f"--input {asked.input_file}: {name} is {array.dtype}; expected {wanted}, as the model takes it"
        )


#: By what numpy and zipfile say that a file is none of theirs.
_BROKEN: tuple[type[Exception], ...] = (zipfile.BadZipFile, zlib.error, EOFError, LookupError, ArithmeticError)
_UNREADABLE: tuple[type[Exception], ...] = (*_BROKEN, OSError, ValueError, RuntimeError, MemoryError)


def read_values(path: str) -> dict[str, Array]:
    """Return the arrays of an ``.npz`` file; raises UserError where it is none."""
    import numpy as np

    try:
        with Path(path).open("rb") as opened:  # numpy leaves a broken one open
            file = np.load(opened, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise UserError(f"--input {path}: a single array; expected an .npz file with one array for each input")
            return {name: file[name] for name in file.files}
    except _UNREADABLE as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"--input {path}: {said}; expected an .npz file with one array for each input") from error


def shaped(inputs: Inputs, shapes: Mapping[str, Sizes], asked: Asked, dimensions: Iterable[str] = ()) -> Inputs:
    """Return ``inputs`` in the shapes asked for, their values repeated along each axis.

    Args:
        inputs: As the model has them.
        shapes: By name.
        asked: For messages.
        dimensions: Names of single sizes, which whoever made the model has taken.
    """
    known, taken = inputs.arrays, tuple(dimensions)
    _refuse_unknown(asked, "shape", shapes, [*known, *taken])
    own = {name: shape for name, shape in shapes.items() if name not in taken or len(shape.sizes) > 1}
    for name, shape in own.items():
        if name not in known:
            raise UserError(
                f"model {asked.model!r}: shape {name}={shape_text(shape.sizes)} is of one size; expected {name}=64"
            )
        if len(shape.sizes) != known[name].ndim:
            raise UserError(
                f"model {asked.model!r}: shape {name}={shape_text(shape.sizes)} has {len(shape.sizes)} dimensions; "
                f"expected {known[name].ndim}, as in {name}={shape_text(known[name].shape)}"
            )
    return inputs.changed(lambda name, array: _repeated(array, own[name].sizes) if name in own else array)


def _refuse_unknown(asked: Asked, what: str, given: Iterable[str], known: Iterable[str]) -> None:
    names = list(dict.fromkeys(known))
    if unknown := [name for name in given if name not in names]:
        raise UserError(
            f"model {asked.model!r} has no {what} {', '.join(unknown)}; expected one of {', '.join(names) or 'none'}"
        )


def _repeated(array: Array, shape: tuple[int, ...]) -> Array:
    import numpy as np

    check_room(shape, array.itemsize)
    if 0 in array.shape:
        return np.zeros(shape, array.dtype)
    return array[np.ix_(*(np.arange(new) % old for new, old in zip(shape, array.shape, strict=True)))]


def batched(inputs: Inputs, asked: Asked) -> Inputs:
    """Return ``inputs`` for the batch asked for: arrays whose first axis is 1 are repeated along it.

    Raises:
        UserError: A batch other than 1 was asked, and no array has such an axis.
    """
    import numpy as np

    if asked.batch == 1 or (asked.batch == inputs.batch and _one_length(inputs)):
        return inputs
    if not any(map(_carries_batch, inputs.arrays.values())):
        raise UserError(
            f"model {asked.model!r} has no batch axis ({inputs.signature}), so its batch cannot be {asked.batch}: "
            "leave --batch out, or let the first axis of its inputs be 1"
        )
    for array in filter(_carries_batch, inputs.arrays.values()):
        check_room((asked.batch, *array.shape[1:]), array.itemsize)
    return inputs.changed(lambda _, array: np.repeat(array, asked.batch, axis=0) if _carries_batch(array) else array)


def _carries_batch(array: Array) -> bool:
    return array.ndim > 0 and array.shape[0] == 1


def _one_length(inputs: Inputs) -> bool:
    return len({array.shape[0] for array in inputs.arrays.values() if array.ndim}) == 1
