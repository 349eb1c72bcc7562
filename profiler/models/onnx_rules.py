"""What ONNX operators cost: one rule per operator that multiply-adds, from the shapes of its inputs and outputs.

Operators of ONNX Runtime's own domain count as the standard ones that they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from profiler.models.operators import Operation, Shape, attention, convolution, einsum, product, recurrent

#: A shape with every dimension known; None where one is not.
Known: TypeAlias = tuple[int, ...] | None
Rule: TypeAlias = Callable[["Call"], Iterable[Operation]]

#: The domain of ONNX Runtime's own operators.
RUNTIME = "com.microsoft"
#: Names of standard operators that multiply-add, or may.
_SUSPECT = re.compile("Conv(?!ert)|MatMul|Gemm|Attention|Einsum|LSTM|GRU|RNN|STFT|DFT|Det$")
#: What else ONNX Runtime fuses, and what gives its first output the shape of its first input.
SAME_SHAPE = frozenset(
    {"BiasAdd", "BiasGelu", "FastGelu", "Gelu", "QuickGelu", "LayerNormalization", "SimplifiedLayerNormalization"}
    | {"SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "GroupNorm", "SkipGroupNorm", "RotaryEmbedding"}
    | {"QLinearAdd", "QLinearMul", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax"}
    | {"QuantizeLinear", "DequantizeLinear"}
)


class UnknownShapeError(Exception):
    """A rule needs a shape that cannot be inferred."""


@dataclass(frozen=True, slots=True)
class Call:
    """One node as a rule sees it.

    Attributes:
        given: Shapes of its inputs; () for one that is left out.
        out: Shapes of its outputs.
        attributes: By name.
        biases: Positions of the inputs that are biases of the model's own.
    """

    given: Sequence[Known]
    out: Sequence[Known]
    attributes: Mapping[str, Any]
    biases: frozenset[int] = frozenset()

    def shape(self, position: int) -> Shape:
        """The shape of an input; raises UnknownShapeError where nobody can tell."""
        return _told(self.given, position)

    @property
    def output(self) -> Shape:
        """The shape of the first output; raises UnknownShapeError where nobody can tell."""
        return _told(self.out, 0)

    def length(self, position: int, axis: int) -> int:
        """The size of a dimension of an input; 0 where the input is left out."""
        return self.shape(position)[axis] if position < len(self.given) and self.given[position] != () else 0


def _told(shapes: Sequence[Known], position: int) -> Shape:
    found = shapes[position] if position < len(shapes) else None
    if found is None:
        raise UnknownShapeError
    return found


def may_cost(domain: str, operator: str) -> bool:
    """Whether an operator that has no rule may multiply-add, as far as its name tells."""
    if domain == "ai.onnx.ml":
        return operator.startswith(("Linear", "SVM"))
    if domain == RUNTIME:
        return operator not in SAME_SHAPE
    return bool(domain) or bool(_SUSPECT.search(operator))


def _side(call: Call, position: int, side: str) -> Shape:
    """One side of a product as it is multiplied; ONNX Runtime turns it around on the way, also its first dimension."""
    shape = tuple(call.shape(position))
    if call.attributes.get(f"transBatch{side}"):
        shape = (*shape[1:-1], shape[0], shape[-1])
    return (*shape[:-2], *shape[:-3:-1]) if call.attributes.get(f"trans{side}") else shape


def _convolution(x: int, weight: int, bias: int, *, transposed: bool = False) -> Rule:
    def rule(call: Call) -> Iterable[Operation]:
        given, filters = call.shape(x), call.shape(weight)
        yield convolution(given, call.output, filters, transposed=transposed, biased=bias in call.biases)

    return rule


def _product(left: int = 0, bias: int = -1) -> Rule:
    def rule(call: Call) -> Iterable[Operation]:
        yield product(call.output, _side(call, left, "A")[-1], biased=bias in call.biases)

    return rule


def _gemm(added: int) -> Rule:
    """What is added is a bias where every row gets the same one; else it is a sum with another output."""

    def rule(call: Call) -> Iterable[Operation]:
        rows, inner = _side(call, 0, "A")
        shape = call.shape(added) if added < len(call.given) else ()
        shared = added in call.biases or len(shape) == 1 or (len(shape) == 2 and shape[0] < rows)
        yield product(call.output, inner, biased=shared and call.attributes.get("beta", 1.0) != 0)

    return rule


def _few_bits(call: Call) -> Iterable[Operation]:
    """A product with weights of few bits, packed: attributes alone tell how many there are."""
    inner, width = call.attributes["K"], call.attributes["N"]
    yield product([*call.shape(0)[:-1], width], inner, biased=5 in call.biases)


def _linear_regression(call: Call) -> Iterable[Operation]:
    rows, features = call.shape(0)
    biased = bool(call.attributes.get("intercepts"))
    yield product([rows, len(call.attributes["coefficients"]) // features], features, biased=biased)


def _einsum(call: Call) -> Iterable[Operation]:
    shapes = [call.shape(i) for i in range(len(call.given))]
    return einsum(call.attributes["equation"].decode(), shapes)


def _recurrent(gates: int) -> Rule:
    def rule(call: Call) -> Iterable[Operation]:
        first, second, features = call.shape(0)
        hidden = call.attributes["hidden_size"]
        return recurrent(gates, first * second, features, hidden, directions=call.shape(2)[0])

    return rule


def _attention(call: Call) -> Iterable[Operation]:
    """Of queries, keys and values of (batch, heads, length, width), or with the heads side by side."""
    heads = [call.attributes.get(f"{name}_num_heads", 1) for name in ("q", "kv", "kv")]
    query, key, value = (_split(call.shape(i), count) for i, count in enumerate(heads))
    past = call.length(4, -2)
    return attention(query, _longer(key, past), _longer(value, past))


def _split(shape: Shape, heads: int) -> Shape:
    if len(shape) == 4:
        return shape
    batch, length, width = shape
    return batch, heads, length, width // heads


def _longer(shape: Shape, past: int) -> Shape:
    return *shape[:-2], shape[-2] + past, shape[-1]


def _several_heads(call: Call) -> Iterable[Operation]:
    """ONNX Runtime's attention after the projections; it adds their biases itself."""
    heads, past = call.attributes["num_heads"], call.length(6, 2)
    query, key, value = (_split(call.shape(i), heads) for i in range(3))
    if 3 in call.biases:
        yield Operation(sum(map(prod, (query, key, value))))
    yield from attention(query, _longer(key, past), _longer(value, past))


def _whole_attention(call: Call) -> Iterable[Operation]:
    """ONNX Runtime's attention with the projections before it."""
    batch, length, width = call.shape(0)
    heads, third = call.attributes["num_heads"], call.shape(1)[1] // 3
    widths = call.attributes.get("qkv_hidden_sizes", [third] * 3)
    yield product([batch, length, sum(widths)], width, biased=2 in call.biases)
    query, key, value = (_split([batch, length, one], heads) for one in widths)
    past = call.length(4, 3)
    yield from attention(query, _longer(key, past), _longer(value, past))


def runtime_shape(operator: str, call: Call) -> Known:
    """The shape of the first output of one of ONNX Runtime's operators; None where nobody can tell."""
    try:
        if operator in SAME_SHAPE:
            return tuple(call.shape(0))
        if operator in _WIDTHS:
            return *call.shape(0)[:-1], _WIDTHS[operator](call)
        if operator in _PRODUCTS:
            return _multiplied(
                *(_side(call, position, side) for position, side in zip(_PRODUCTS[operator], "AB", strict=True))
            )
    except UnknownShapeError:
        return None
    return None


#: Operators of ONNX Runtime that change the width of their first input alone, with what makes it.
_WIDTHS: Mapping[str, Callable[[Call], int]] = {
    "MultiHeadAttention": lambda call: call.shape(2)[-1],
    "Attention": lambda call: call.attributes.get("qkv_hidden_sizes", [0, 0, call.shape(1)[1] // 3])[2],
    "MatMulNBits": lambda call: call.attributes["N"],
}


def _multiplied(a: Shape, b: Shape) -> tuple[int, ...]:
    longest = max(len(a), len(b)) - 2
    leading = [(1,) * (longest + 2 - len(one)) + tuple(one[:-2]) for one in (a, b)]
    return *map(max, *leading), a[-2], b[-1]


#: Operators of ONNX Runtime that are a product, with the positions of its sides.
_PRODUCTS = {
    "FusedMatMul": (0, 1),
    "FusedGemm": (0, 1),
    "QGemm": (0, 3),
    "MatMulIntegerToFloat": (0, 1),
    "DynamicQuantizeMatMul": (0, 1),
}
#: The standard operator with the shapes of one of ONNX Runtime's.
STANDARD = {"FusedConv": "Conv", "QLinearConv": "QLinearConv", "DynamicQuantizeLSTM": "LSTM"}

_STANDARD_RULES: Mapping[str, Rule] = {
    "Conv": _convolution(0, 1, 2),
    "ConvTranspose": _convolution(0, 1, 2, transposed=True),
    "DeformConv": _convolution(0, 1, 3),
    "QLinearConv": _convolution(0, 3, 8),
    "ConvInteger": _convolution(0, 1, -1),
    "MatMul": _product(),
    "MatMulInteger": _product(),
    "QLinearMatMul": _product(),
    "Gemm": _gemm(2),
    "Einsum": _einsum,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "Attention": _attention,
}
RULES: Mapping[tuple[str, str], Rule] = {
    **{("", name): rule for name, rule in _STANDARD_RULES.items()},
    ("ai.onnx.ml", "LinearRegressor"): _linear_regression,
    (RUNTIME, "MatMulNBits"): _few_bits,
    (RUNTIME, "FusedConv"): _convolution(0, 1, 2),
    (RUNTIME, "QLinearConv"): _convolution(0, 3, 8),
    (RUNTIME, "DynamicQuantizeLSTM"): _recurrent(4),
    (RUNTIME, "FusedMatMul"): _product(),
    (RUNTIME, "MatMulIntegerToFloat"): _product(bias=6),
    (RUNTIME, "DynamicQuantizeMatMul"): _product(bias=4),
    (RUNTIME, "FusedGemm"): _gemm(2),
    (RUNTIME, "QGemm"): _gemm(6),
    (RUNTIME, "MultiHeadAttention"): _several_heads,
    (RUNTIME, "Attention"): _whole_attention,
}
