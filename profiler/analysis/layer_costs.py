"""What layers cost on a device, whichever network they are in: shapes that were met, and a fitted cost per operator.

A network that nobody measured costs the sum of its layers, as in nn-Meter (Zhang et al. 2021): each shape that was met
costs what it did, any other what its operator's fit says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from profiler.analysis.frame import plain
from profiler.analysis.layers import Explanation
from profiler.analysis.nonnegative import non_negative_fit
from profiler.analysis.regression import Floats
from profiler.measure.layers import Layer
from profiler.records.columns import Row

#: Shapes of one operator from which it has a fit of its own.
_LEAST_SHAPES = 6
#: Runtimes that count whole microseconds say 0 of what takes less than half of one, in ns.
_TICK_NS = 500.0
#: Operators without a fit of their own, by whether they multiply-add.
PRODUCTS, OTHERS = "(any that multiply-adds)", "(any other)"


@dataclass(frozen=True, slots=True)
class Costed:
    """A measured network with the costs of its layers.

    Attributes:
        row: Of its table, see ``profiler.records.columns``.
        layers: Their times add up to the latency.
    """

    row: Row
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class OperatorCost:
    """What an operator costs by what it computes and moves: ``calls · start``, and for each of its counts a cost.

    Attributes:
        operator: Its name, see ``plain_operator``; one of ``PRODUCTS`` and ``OTHERS`` for what has no fit of its own.
        met: Shapes that it was fitted to.
        start_ns: Of one call.
        ns_per_flop: Of a multiply-add.
        ns_per_byte: Of a byte that goes in or out.
        ns_per_param: Of a learned number, which some runtimes put into another order at each call.
        ns_per_padding_flop: Of a multiply-add that a narrow group is filled up with.
    """

    operator: str
    met: int
    start_ns: float
    ns_per_flop: float
    ns_per_byte: float
    ns_per_param: float
    ns_per_padding_flop: float

    def ns(self, layer: Layer) -> float:
        """What a layer costs; counts that are not known count as none."""
        each = (self.ns_per_flop, self.ns_per_byte, self.ns_per_param, self.ns_per_padding_flop)
        return layer.calls * self.start_ns + sum(ns * count for ns, count in zip(each, _counts(layer), strict=True))


@dataclass(frozen=True, slots=True)
class LayerCosts:
    """What the layers of some networks say of any.

    Attributes:
        met: ns of one call, by plain operator and shapes.
        operators: By name.
    """

    met: Mapping[tuple[str, str], float]
    operators: Mapping[str, OperatorCost]

    def ns(self, layer: Layer) -> float:
        """What a layer costs."""
        known = self.met.get(_key(layer))
        return self.fitted(layer).ns(layer) if known is None else layer.calls * known

    def fitted(self, layer: Layer) -> OperatorCost:
        """The fit that a layer is priced by where its shapes were not met."""
        return self.operators.get(plain_operator(layer.operator)) or self.operators[PRODUCTS if layer.flops else OTHERS]

    def network_ms(self, layers: Iterable[Layer]) -> float:
        """What a network costs."""
        return sum(map(self.ns, layers)) / 1e6

    def share_met(self, layers: Sequence[Layer]) -> float:
        """Which part of a network's cost is of shapes that were met."""
        met = sum(self.ns(layer) for layer in layers if _key(layer) in self.met)
        return met / (sum(map(self.ns, layers)) or 1.0)


def plain_operator(operator: str) -> str:
    """Return an operator's name without what was fused into it: the same kernel does ``FusedConv`` and ``Conv``."""
    return operator.removeprefix("Fused")


def _key(layer: Layer) -> tuple[str, str]:
    return plain_operator(layer.operator), layer.shapes


def _counts(layer: Layer) -> tuple[int, int, int, int]:
    return layer.flops or 0, layer.moved_bytes or 0, layer.params or 0, layer.padding_flops or 0


def costed(one: Explanation, row: Row) -> Costed:
    """Return an explained network with the row that is kept of it."""
    layers = (
        Layer(
            name=layer.name,
            operator=layer.operator,
            ns=layer.latency_ms * 1e6,
            flops=layer.flops,
            acts=layer.acts,
            params=layer.params,
            moved_bytes=layer.moved_bytes,
            shapes=layer.shapes,
            calls=layer.calls,
            padding_flops=layer.padding_flops,
        )
        for layer in one.layers
    )
    return Costed(row, tuple(layers))


def layer_costs(networks: Iterable[Costed]) -> LayerCosts:
    """Learn what layers cost from those of ``networks``, all of one place; at least one has layers."""
    met: dict[tuple[str, str], list[Layer]] = defaultdict(list)
    alone: list[list[Layer]] = []
    for layer in (each for network in networks for each in network.layers):
        if layer.shapes:
            met[_key(layer)].append(layer)
        else:
            alone.append([layer])
    points = [*met.values(), *alone]
    by_operator: dict[str, list[list[Layer]]] = defaultdict(list)
    for point in points:
        by_operator[plain_operator(point[0].operator)].append(point)
    fits = {name: _fit(name, several) for name, several in by_operator.items() if len(several) >= _LEAST_SHAPES}
    for name, products in ((PRODUCTS, True), (OTHERS, False)):
        fits[name] = _fit(name, [point for point in points if bool(point[0].flops) == products] or points)
    return LayerCosts({key: _ns_of_one(several) for key, several in met.items()}, fits)


def _ns_of_one(point: Sequence[Layer]) -> float:
    return fmean(layer.ns / layer.calls for layer in point)


def _fit(operator: str, points: Sequence[Sequence[Layer]]) -> OperatorCost:
    """Least squares of errors over the root of the time: neither many small layers nor few large ones decide."""
    ns = np.array([max(_TICK_NS, _ns_of_one(point)) for point in points])
    first = [point[0] for point in points]
    counts = np.array([[count / one.calls for count in _counts(one)] for one in first])
    return OperatorCost(operator, len(points), *map(float, non_negative_fit(counts, ns, ns / ns.mean())))


def in_place(networks: Iterable[Costed], group: Mapping[str, str]) -> list[Costed]:
    """The networks whose rows have the values of ``group``."""
    return [one for one in networks if all(plain(one.row.get(key)) == value for key, value in group.items())]


def said_by_others(networks: Sequence[Costed], part: Callable[[Costed], str]) -> Floats:
    """What the layers of the others say of each network, in ms, shape (n,); NaN where there are no others.

    Args:
        networks: Of one place.
        part: What is left out together.
    """
    parts = [part(one) for one in networks]
    said = np.full(len(networks), np.nan)
    for out in set(parts):
        others = [one for one, its in zip(networks, parts, strict=True) if its != out]
        if others:
            costs = layer_costs(others)
            for i, its in enumerate(parts):
                if its == out:
                    said[i] = costs.network_ms(networks[i].layers)
    return said
