"""Models in ONNX files: what they take, and the content of all that they are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.backends.base import Model
from profiler.backends.inputs import Inputs, shape_text
from profiler.errors import UserError
from profiler.models import content
from profiler.models.examples import check_kind, drawn, read_values
from profiler.models.loaded import Asked, Loaded
from profiler.models.onnx_counting import count_onnx
from profiler.models.onnx_params import graphs_in
from profiler.models.onnx_scope import CHANCE
from profiler.models.shapes import Sizes, parse_shapes

if TYPE_CHECKING:
    from profiler.backends.inputs import Array
    from profiler.models.complexity import Complexity

#: Types of elements by the names that ONNX gives them, as numpy calls them.
_TYPES = {"FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "float16"}
#: Types that numpy has too and that a runtime can be given.
_GIVEN = re.compile(r"U?INT(8|16|32|64)|BOOL|FLOAT|FLOAT16|DOUBLE")


@dataclass(frozen=True, slots=True)
class Declared:
    """An input as a file declares it.

    Attributes:
        name: As the graph calls it.
        kind: Type of its elements, in ONNX's words.
        sizes: A number for each fixed dimension, its name for each open one, "" where it has none.
        ranked: Whether the file says how many dimensions there are.
    """

    name: str
    kind: str
    sizes: tuple[int | str, ...]
    ranked: bool = True

    @property
    def said(self) -> str:
        """The shape in words: ``Nx3x?x?``."""
        return shape_text(tuple(size or "?" for size in self.sizes)) if self.ranked else "of any shape"

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape is what the file declares."""
        alike = len(shape) == len(self.sizes) and all(
            isinstance(size, str) or size == given for size, given in zip(self.sizes, shape, strict=True)
        )
        return alike or not self.ranked


def load_onnx(asked: Asked) -> Loaded:
    """Return a file as it is, with inputs of the types that it declares; raises UserError in one sentence."""
    path = Path(asked.model)
    proto = _read(path, asked.model)
    external = tuple(_external(proto, path))
    digest = content.of_files([path, *external])
    declared = list(_declared(proto, asked.model))
    values = read_values(asked.input_file) if asked.input_file else {}
    shapes = parse_shapes(asked.shape) if asked.shape else {}
    _refuse_unknown(asked, declared, [*values, *shapes])
    sizes = _sizes(asked, declared, values, shapes)
    arrays, ranges = {}, {}
    for one in declared:
        if one.name in values:
            arrays[one.name] = _given(one, values[one.name], sizes[one.name], asked)
        else:
            arrays[one.name], ranges[one.name] = drawn(sizes[one.name], _numpy_type(one.kind))
    inputs = Inputs(kwargs=arrays)
    whole = content.of_parts(digest, content.of_inputs(Inputs(kwargs=values)) if values else "")
    model = Model(whole, None, onnx=path, cache=asked.cache)
    ranges = {name: text for name, text in ranges.items() if text}
    return Loaded(
        model, inputs, whole, lambda: _counted(path, inputs, asked), _resolution(inputs), ranges, files=external
    )


def _read(path: Path, name: str) -> Any:
    import onnx

    try:
        proto = onnx.load(path, load_external_data=False)
    except FileNotFoundError as error:
        raise UserError(f"model {name!r}: no such file; expected a path to an ONNX model") from error
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"model {name!r} is not a readable ONNX model: {said}; expected a file that onnx wrote"
        ) from error
    if not proto.graph.output:
        raise UserError(f"model {name!r} is not a readable ONNX model: it has no output; expected what onnx wrote")
    return proto


def draws_numbers(path: Path) -> bool:
    """Whether a file draws random numbers in a forward."""
    import onnx

    proto = onnx.load(path, load_external_data=False)
    nodes = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    inner = (each for node in nodes for graph in graphs_in(node) for each in graph.node)
    return any(
        node.op_type.startswith(CHANCE) or (node.op_type == "Dropout" and len(node.input) > 2)
        for node in (*nodes, *inner)
    )


def _external(proto: Any, path: Path) -> list[Path]:
    """Return the files that hold weights beside the model, each of which must be there."""
    from onnx import external_data_helper as helper

    found = helper._get_all_tensors(proto)  # noqa: SLF001 - nothing public walks through all graphs of a model
    tensors = [tensor for tensor in found if helper.uses_external_data(tensor)]
    names = dict.fromkeys(helper.ExternalDataInfo(tensor).location for tensor in tensors)
    files = [path.parent / name for name in sorted(names)]
    if missing := [file.name for file in files if not file.is_file()]:
        raise UserError(
            f"model {str(path)!r} keeps weights in {', '.join(missing)}, which is not beside it; put it into "
            f"{str(path.parent)!r}, or save the model in one file"
        )
    return files


def _declared(proto: Any, name: str) -> Iterator[Declared]:
    """Yield the inputs; old files list their weights among them."""
    from onnx import TensorProto

    graph = proto.graph
    weights = {weight.name for weight in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer))}
    for value in graph.input:
        if value.name in weights:
            continue
        if not value.type.HasField("tensor_type"):
            raise UserError(
                f"model {name!r}: its input {value.name!r} is no tensor ({value.type.WhichOneof('value')}); expected "
                "tensors: export the part of the model that takes those"
            )
        tensor = value.type.tensor_type
        kind = TensorProto.DataType.Name(tensor.elem_type)
        if not _GIVEN.fullmatch(kind):
            raise UserError(
                f"model {name!r}: its input {value.name!r} is of type {kind.lower()}, which no runtime can be given; "
                "expected floats, integers or booleans: export the part of the model that takes those"
            )
        sizes = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim)
        # An exporter that knew no size wrote 0 or -1.
        fixed = tuple("" if isinstance(size, int) and size < 1 else size for size in sizes)
        yield Declared(value.name, kind, fixed, tensor.HasField("shape"))


def _refuse_unknown(asked: Asked, declared: Sequence[Declared], given: Sequence[str]) -> None:
    names = [one.name for one in declared]
    open_names = [size for one in declared for size in one.sizes if isinstance(size, str) and size]
    if unknown := [name for name in given if name not in (*names, *open_names)]:
        raise UserError(
            f"model {asked.model!r} has no input or dimension {', '.join(unknown)}; its inputs are {_all(declared)}"
        )


def _all(declared: Sequence[Declared]) -> str:
    return ", ".join(f"{one.name} {one.kind.lower()} {one.said}" for one in declared)


def batch_names(declared: Sequence[Declared]) -> set[str]:
    """Return the names of open dimensions that are the batch: those called so, or the first of an input alone."""
    first = {one.sizes[0] for one in declared if len(one.sizes) > 1}
    others = {size for one in declared for size in (one.sizes[1:] if len(one.sizes) > 1 else ())}
    named = {size for one in declared for size in one.sizes if isinstance(size, str) and "batch" in size.lower()}
    return named | {size for size in first - others if isinstance(size, str) and size}


def _sizes(
    asked: Asked, declared: Sequence[Declared], values: dict[str, Array], shapes: dict[str, Sizes]
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each input that is drawn; raises UserError with what is still open."""
    batches = batch_names(declared)
    found, still_open, batched = {}, [], False
    for one in declared:
        if one.name in shapes or one.name in values:
            given = values[one.name].shape if one.name in values else shapes[one.name].sizes
            if not one.takes(given):
                raise UserError(
                    f"model {asked.model!r}: {one.name} was given as {shape_text(given)}, and the file declares "
                    f"{one.said}"
                )
            repeats = given[:1] == (1,) and _first_is_batch(one, batches)
            found[one.name] = (asked.batch, *given[1:]) if repeats else given
            batched |= repeats
            continue
        if not one.ranked:
            still_open.append(one)
        sizes: list[int] = []
        for axis, size in enumerate(one.sizes):
            if isinstance(size, int):
                sizes.append(size)
            elif size in shapes and (size not in batches or shapes[size].sizes[0] != 1):
                sizes.append(shapes[size].sizes[0])
            elif size in batches or (axis == 0 and _first_is_batch(one, batches)):
                sizes.append(asked.batch)
                batched = True
            else:
                still_open.append(one)
                break
        found[one.name] = tuple(sizes)
    if still_open:
        raise UserError(
            f"model {asked.model!r} leaves dimensions open: {_all(still_open)}; give them with "
            f"--shape {_suggestion(still_open, asked.batch)} (choose the numbers), or with --input FILE.npz"
        )
    if (not batched and asked.batch != 1) or (batched and _batches_differ(declared, batches, found)):
        _check_batch(asked, declared, found)
    return found


def _batches_differ(declared: Sequence[Declared], batches: set[str], found: dict[str, tuple[int, ...]]) -> bool:
    """Whether one name of a batch has two sizes."""
    pairs = {
        (size, found[one.name][axis]) for one in declared for axis, size in enumerate(one.sizes) if size in batches
    }
    return len(pairs) > len({name for name, _ in pairs})


def _first_is_batch(one: Declared, batches: set[str]) -> bool:
    first = one.sizes[0] if one.sizes else 0
    return first in batches or (first == "" and len(one.sizes) > 1)


def _check_batch(asked: Asked, declared: Sequence[Declared], found: dict[str, tuple[int, ...]]) -> None:
    if {sizes[0] for sizes in found.values() if sizes} == {asked.batch}:
        return
    batches = batch_names(declared)
    if given := [f"{one.name}={shape_text(found[one.name])}" for one in declared if _first_is_batch(one, batches)]:
        raise UserError(
            f"model {asked.model!r} was given {','.join(given)}, so its batch cannot be {asked.batch}: give 1 as the "
            "first size, which --batch multiplies, or leave --batch out"
        )
    raise UserError(
        f"model {asked.model!r} has no open batch axis ({_all(declared)}), so its batch cannot be {asked.batch}: "
        "leave --batch out, or export the model with a dynamic first axis"
    )


def _suggestion(still_open: Sequence[Declared], batch: int) -> str:
    """Return shapes that would close what is open, each open size as 224 where it may be an image, else 128."""
    parts = []
    for one in still_open:
        guess = 224 if len(one.sizes) == 4 else 128
        if not one.ranked:
            parts.append(f"{one.name}={batch}x3x224x224")
            continue
        sizes = [
            size if isinstance(size, int) else batch if axis == 0 else guess for axis, size in enumerate(one.sizes)
        ]
        parts.append(f"{one.name}={shape_text(tuple(sizes))}")
    return ",".join(parts)


def _given(one: Declared, array: Array, sizes: tuple[int, ...], asked: Asked) -> Array:
    """Return what a file gives in the type that is declared, one example repeated along the batch."""
    import numpy as np

    check_kind(asked, one.name, array, _numpy_type(one.kind))
    typed = array.astype(_numpy_type(one.kind))
    if array.dtype.kind != "f" and not np.array_equal(typed, array):
        raise UserError(
            f"--input {asked.input_file}: {one.name} holds numbers from {array.min()} to {array.max()}, and the file "
            f"declares {one.kind.lower()}; expected numbers of that type"
        )
    return np.repeat(typed, sizes[0], axis=0) if typed.shape != sizes else typed


def _numpy_type(kind: str) -> str:
    """Return what numpy calls a type of ONNX."""
    return _TYPES.get(kind, kind.lower())


def _resolution(inputs: Inputs) -> int | None:
    arrays = list(inputs.arrays.values())
    images = len(arrays) == 1 and arrays[0].ndim == 4 and arrays[0].shape[1] in (1, 3, 4)
    return int(arrays[0].shape[2]) if images else None


def _counted(path: Path, inputs: Inputs, asked: Asked) -> Complexity:
    shapes = {name: array.shape for name, array in inputs.arrays.items()}
    # What decides a branch or a shape: flags, rates and sizes.
    values = {name: array for name, array in inputs.arrays.items() if array.dtype.kind in "iub" and array.ndim < 2}
    return count_onnx(path, shapes, values, examples=asked.batch)
