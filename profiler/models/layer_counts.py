"""What single layers cost, as the runtime runs them: torch's operators by module, and the nodes of an ONNX graph.

The formulas are those of ``profiler.models.counting`` and ``profiler.models.onnx_counting``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from profiler.models.operators import Operation

if TYPE_CHECKING:
    from profiler.backends.base import LayerTime


class OperatorCounts:
    """An ``Around`` that counts what each operator costs, by the layer and the operator's name.

    Attributes:
        operations: What ran in each.
        unknown: Those that may multiply-add and that no rule counts.
    """

    def __init__(self) -> None:
        from profiler.models.watching import OperatorWatch

        self._watch = OperatorWatch(())
        self.operations: dict[tuple[str, str], list[Operation]] = defaultdict(list)
        self.unknown: set[tuple[str, str]] = set()

    def __call__(self, layer: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one operator and count it."""
        key = layer, operator_name(func, args, kwargs)
        before, unknown = len(self._watch.operations), set(self._watch.unknown)
        with self._watch:
            out = func(*args, **kwargs)
        self.operations[key] += self._watch.operations[before:]
        if self._watch.unknown - unknown:
            self.unknown.add(key)
            self._watch.unknown = unknown
        return out


def operator_name(func: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> str:
    """Return an operator of torch as people say it: ``linear``, ``conv2d 1x1``, ``torchvision::nms``, ``cond``."""
    schema = getattr(func, "_schema", None)
    name = (
        (str(func.name()) if schema is None else str(schema.name))
        .removeprefix("aten::")
        .removeprefix("scaled_dot_product_")
    )
    if not name.startswith("conv"):
        return name
    weight = args[1] if len(args) > 1 else (kwargs or {}).get("weight")
    shape = getattr(weight, "shape", None)
    given = getattr(args[0], "shape", None) if args else None
    return name if shape is None or given is None else f"{name} {convolution_kind(given, shape)}".rstrip()


def convolution_kind(given: Sequence[int], weight: Sequence[int]) -> str:
    """Say which kind of convolution its input and its weights, both channels second, make: depthwise, grouped, 1x1."""
    if len(given) != len(weight) or len(weight) < 3 or given[1] == weight[1]:
        return "1x1" if set(weight[2:]) == {1} else ""
    return "depthwise" if weight[1] == 1 else "grouped"


def node_operations(layer: LayerTime) -> list[Operation] | None:
    """Return what an ONNX node costs by its shapes; None where it may multiply-add and that cannot be counted."""
    from profiler.models.onnx_rules import RULES, Call, UnknownShapeError, may_cost

    domain, _, operator = layer.operator.rpartition("::")
    domain = "" if domain.startswith("com.microsoft.nchwc") or operator == layer.operator else domain
    rule = RULES.get((domain, operator))
    if rule is None:
        return None if domain != "com.microsoft" and may_cost(domain, operator) else []
    biases = frozenset(i for i, shape in enumerate(layer.given) if i >= 2 and len(shape) == 1)
    try:
        return list(rule(Call(layer.given, layer.made, layer.attributes, biases)))
    except (UnknownShapeError, ValueError, IndexError, KeyError):
        return None


def node_name(layer: LayerTime) -> str:
    """Return the operator of an ONNX node as people say it, without its domain: ``Conv depthwise``."""
    name = layer.operator.rpartition("::")[2]
    if "Conv" not in name or "Transpose" in name or len(layer.given) < 2:
        return name
    return f"{name} {convolution_kind(layer.given[0], layer.given[1])}".rstrip()
