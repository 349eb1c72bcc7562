"""What an operator that multiply-adds costs, from the shapes that go in and come out.

The conventions are those of ``profiler.models.complexity``; torch modules and ONNX graphs are counted by these formulas
alone, so that one model counts the same however it is brought.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple, TypeAlias

from profiler.models.complexity import Complexity, padding

Shape: TypeAlias = Sequence[int]


class Operation(NamedTuple):
    """What one operator costs for the whole batch; a bias that is an operator of its own has flops alone.

    Attributes:
        flops: Multiply-adds.
        acts: Output elements.
        padding_flops: See ``padding``.
    """

    flops: int
    acts: int = 0
    padding_flops: int = 0


def total(operations: Iterable[Operation], params: int, unknown: Iterable[str], examples: int) -> Complexity:
    """Add up what ran for ``examples`` examples at once; ``unknown`` names the operators that no rule knows."""
    ran = list(operations)
    names = ", ".join(sorted(set(unknown)))
    return Complexity(
        flops=sum(one.flops for one in ran) // examples,
        params=params,
        acts=sum(one.acts for one in ran) // examples,
        layers=sum(one.acts > 0 for one in ran),
        padding_flops=sum(one.padding_flops for one in ran) // examples,
        uncounted=f"no rule counts {names}: flops and acts are at least what is given" if names else "",
    )


def product(output: Shape, inner: int, *, biased: bool = False) -> Operation:
    """A matrix product: every output element takes ``inner`` multiply-adds, and one more for a bias."""
    elements = prod(output)
    return Operation(elements * (inner + biased), elements)


def convolution(given: Shape, output: Shape, weight: Shape, *, transposed: bool = False, biased: bool) -> Operation:
    """A convolution of any rank, channels second.

    Each output element takes the weights of its filter. Each input element of a transposed one meets all weights of its
    channel: the work of the convolution that goes the other way.
    """
    elements = prod(output)
    multiplied = prod(given) if transposed else elements
    flops = multiplied * prod(weight[1:]) + biased * elements
    groups = (output if transposed else given)[1] // weight[1]
    return Operation(flops, elements, padding(flops, output[1], groups))


def attention(query: Shape, key: Shape, value: Shape) -> tuple[Operation, Operation]:
    """The two products of scaled dot-product attention, of shapes (..., heads, length, width); masks save nothing.

    Fewer heads of keys and values serve several heads of queries each.
    """
    leading = [max(sizes) for sizes in zip(query[:-2], key[:-2], value[:-2], strict=True)]
    scores = [*leading, query[-2], key[-2]]
    return product(scores, query[-1]), product([*leading, query[-2], value[-1]], key[-2])


def einsum(equation: str, shapes: Sequence[Shape]) -> list[Operation]:
    """The products of an Einstein sum, contracted from left to right; what sums over nothing only scales."""
    given, arrow, out = equation.replace(" ", "").partition("->")
    terms = [_labels(term, len(shape)) for term, shape in zip(given.split(","), shapes, strict=True)]
    sizes: dict[str, int] = {}
    for labels, shape in zip(terms, shapes, strict=True):
        sizes |= {label: max(size, sizes.get(label, 1)) for label, size in zip(labels, shape, strict=True)}
    letters = "".join(filter(str.isalpha, given))
    wanted = set(out) if arrow else {label for label in letters if letters.count(label) == 1}
    wanted |= {label for label in sizes if label.isdigit() and (not arrow or "..." in out)}
    found, left = [], set(terms[0])
    for i, labels in enumerate(terms[1:], start=1):
        later = wanted.union(*terms[i + 1 :])
        summed, left = (left & set(labels)) - later, (left | set(labels)) & later
        if summed:
            found.append(product([sizes[one] for one in left], prod(sizes[one] for one in summed)))
    return found


def _labels(term: str, rank: int) -> list[str]:
    """One label per dimension; those of an ellipsis are numbers, counted from the right."""
    before, dots, after = term.partition("...")
    hidden = range(rank - len(before) - len(after), 0, -1) if dots else ()
    return [*before, *map(str, hidden), *after]


def recurrent(
    gates: int, steps: int, features: int, hidden: int, *, layers: int = 1, directions: int = 1, projected: int = 0
) -> list[Operation]:
    """The matrix products of a recurrent network, without biases; one operation per layer.

    Args:
        gates: 4 of an LSTM, 3 of a GRU, 1 of a plain one.
        steps: Steps of all sequences of the batch.
        features: Width of the input.
        hidden: Width of the state.
        layers: One on the other.
        directions: 2 for a bidirectional one.
        projected: Width that an LSTM projects its output to; 0 where it does not.
    """
    width = projected or hidden
    inputs = [features] + [directions * width] * (layers - 1)
    return [
        Operation(
            directions * steps * (gates * hidden * (given + width) + hidden * projected), directions * steps * width
        )
        for given in inputs
    ]
