"""Channels last for ONNX Runtime: a graph whose images come in and go out as NHWC, so that its ends transpose nothing.

Operators of ONNX know NCHW alone. A provider that computes in NHWC puts a transposition behind each input and before
each output, which would be timed with the model. Here the graph gets the opposite ones at its ends: the optimizer of
the provider's layout drops both, and what remains takes and gives NHWC.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.backends.onnx_graph import GRAPH, WEIGHTS

if TYPE_CHECKING:
    from profiler.backends.inputs import Array

#: Ends the name of an input or output whose channels are last.
_LAST = ".channels_last"
#: The axes of NHWC in the order of NCHW, and the other way.
_TO_FIRST, _TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def with_channels_last(source: Path, folder: Path) -> None:
    """Write the graph of ``source`` into ``folder`` with inputs and outputs of four axes of floats as NHWC."""
    import onnx

    model = onnx.load(source)
    graph = model.graph
    weights = {weight.name for weight in graph.initializer}
    first, last = [], []
    for value in (value for value in graph.input if value.name not in weights and _is_image(value)):
        first.append(onnx.helper.make_node("Transpose", [value.name + _LAST], [value.name], perm=_TO_FIRST))
        _put_channels_last(value)
    for value in (value for value in graph.output if _is_image(value)):
        last.append(onnx.helper.make_node("Transpose", [value.name], [value.name + _LAST], perm=_TO_LAST))
        _put_channels_last(value)
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, folder / GRAPH, save_as_external_data=True, location=WEIGHTS)


def _is_image(value: Any) -> bool:
    import onnx

    kind = value.type.tensor_type
    floats = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    return kind.elem_type in floats and kind.HasField("shape") and len(kind.shape.dim) == len(_TO_LAST)


def _put_channels_last(value: Any) -> None:
    import onnx

    value.name += _LAST
    sizes = [
        onnx.TensorShapeProto.Dimension.FromString(size.SerializeToString())
        for size in value.type.tensor_type.shape.dim
    ]
    del value.type.tensor_type.shape.dim[:]
    value.type.tensor_type.shape.dim.extend(sizes[axis] for axis in _TO_LAST)


def as_taken(names: list[str], given: Mapping[str, Array]) -> dict[str, Array]:
    """Return ``given`` arrays, NCHW, under the ``names`` of a graph's inputs, in the order of axes that it takes."""
    last = {name: array.transpose(_TO_LAST) for name, array in given.items() if name + _LAST in names}
    return {name + _LAST if name in last else name: last.get(name, array) for name, array in given.items()}


def as_given(name: str, array: Array) -> Array:
    """Return an output of a graph, by its ``name``, as NCHW."""
    return array.transpose(_TO_FIRST) if name.endswith(_LAST) else array
