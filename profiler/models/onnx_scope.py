"""What is known of the values that flow through an ONNX graph: types, shapes, and small constants."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, TypeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import infer_node_outputs

from profiler.models.onnx_params import numbers
from profiler.models.onnx_rules import RUNTIME, SAME_SHAPE, STANDARD, Call, Known, runtime_shape

_Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

#: Elements of the largest constant that is followed: shapes, axes, sizes and indices have fewer, weights more.
_SMALL = 1024
CHANCE = ("Random", "Bernoulli", "Multinomial")


@dataclass(frozen=True, slots=True)
class Scope:
    """The values of a graph, and of those around it.

    Attributes:
        opsets: Versions by domain.
        folder: Where external data is; None where it cannot be had.
        types: Types by name, with shapes as far as they are known.
        values: Small constants by name.
    """

    opsets: Mapping[str, int]
    folder: Path | None
    types: ChainMap[str, TypeProto] = field(default_factory=ChainMap)
    values: ChainMap[str, _Array] = field(default_factory=ChainMap)

    def inner(self) -> Scope:
        """Of a branch or a loop's body: it sees these, and what it adds is its own."""
        return replace(self, types=self.types.new_child(), values=self.values.new_child())

    def shape(self, name: str) -> Known:
        """The shape of a value; () where there is none, None where it is not known."""
        if not name:
            return ()
        kind = self.types.get(name, TypeProto()).tensor_type
        dims = kind.shape.dim
        known = kind.HasField("shape") and all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims)
        return tuple(dim.dim_value for dim in dims) if known else None

    def add(self, name: str, tensor: TensorProto) -> None:
        """Add a constant."""
        self.types[name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        if prod(tensor.dims) <= _SMALL and (value := numbers(tensor, self.folder)) is not None:
            self.values[name] = value

    def infer(self, node: NodeProto, attributes: Mapping[str, Any]) -> None:
        """Add what is known of the outputs of a node."""
        if node.op_type == "Constant" and "value" in attributes:
            self.add(node.output[0], attributes["value"])
            return
        for name, kind in self._inferred(node, attributes).items():
            self.types[name] = kind
        if node.op_type in {"Shape", "Size"} and (shape := self.shape(node.input[0])) is not None:
            sizes = shape[attributes.get("start", 0) : attributes.get("end", len(shape))]
            self._know(node.output[0], np.array(sizes if node.op_type == "Shape" else prod(shape), np.int64))
        elif all(name in self.values for name in node.input if name) and self._small(node):
            for name, value in zip(node.output, self._evaluated(node), strict=False):
                self._know(name, value)

    def _inferred(self, node: NodeProto, attributes: Mapping[str, Any]) -> dict[str, TypeProto]:
        if node.domain == RUNTIME and node.op_type not in STANDARD:
            shape = runtime_shape(node.op_type, Call([*map(self.shape, node.input)], [], attributes))
            kind = self.types.get(node.input[0], TypeProto()).tensor_type.elem_type or TensorProto.FLOAT
            same = (0, 3) if node.op_type in SAME_SHAPE else (0,)  # the fourth is the sum before a norm
            made = {} if shape is None else {i: helper.make_tensor_type_proto(kind, shape) for i in same}
            return {name: made[i] for i, name in enumerate(node.output) if i in made}
        version = self.opsets.get("" if node.domain == RUNTIME else node.domain, 1)
        name, domain = (STANDARD[node.op_type], "") if node.domain == RUNTIME else (node.op_type, node.domain)
        given = {name: self.types.get(name, TypeProto()) for name in node.input if name}
        if node.domain == RUNTIME:  # beside an input of floats it takes weights of integers
            given |= {name: self._retyped(name, node.input[0]) for name in given}
        known = {name: numpy_helper.from_array(self.values[name]) for name in given if name in self.values}
        opsets = [helper.make_opsetid(domain, version) for domain, version in self.opsets.items()]
        try:
            schema = onnx.defs.get_schema(name, version, domain)
            plain = helper.make_node(name, node.input[: schema.max_input], node.output, domain=domain)
            plain.attribute.extend(each for each in node.attribute if each.name in schema.attributes)
            return infer_node_outputs(schema, plain, given, known, opset_imports=opsets)
        except Exception:  # noqa: BLE001 - whatever inference finds odd is unknown
            return {}

    def _retyped(self, name: str, like: str) -> TypeProto:
        kind = TypeProto()
        kind.CopyFrom(self.types.get(name, kind))
        kind.tensor_type.elem_type = self.types.get(like, kind).tensor_type.elem_type
        return kind

    def _small(self, node: NodeProto) -> bool:
        """Whether a node of constants can be evaluated, and is worth it."""
        if node.op_type.startswith(CHANCE) or node.domain:
            return False
        shapes = [self.shape(name) for name in node.output if name]
        return all(shape is None or prod(shape) <= _SMALL for shape in shapes)

    def _evaluated(self, node: NodeProto) -> list[_Array]:
        """What a node of constants gives, by the reference implementation; nothing where that has none."""
        names = [name for name in node.input if name]
        given = [helper.make_value_info(name, TypeProto()) for name in dict.fromkeys(names)]
        out = [helper.make_value_info(name, TypeProto()) for name in node.output]
        opsets = [helper.make_opsetid(domain, version) for domain, version in self.opsets.items()]
        model = helper.make_model(helper.make_graph([node], "one", given, out), opset_imports=opsets)
        try:
            found = ReferenceEvaluator(model).run(None, {name: self.values[name] for name in names})
        except Exception:  # noqa: BLE001 - what cannot be evaluated is unknown
            return []
        return [np.asarray(value) for value in found if isinstance(value, np.ndarray | np.generic)]

    def _know(self, name: str, value: _Array) -> None:
        if value.size <= _SMALL:
            self.values[name] = value
        self.types[name] = helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
