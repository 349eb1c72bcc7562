"""Where the time of a forward goes: traced layers, scaled to the latency that was measured without tracing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from profiler.analysis.quantity import Quantity
from profiler.measure.layers import Layer, Traced
from profiler.measure.peaks import Peaks
from profiler.records.columns import Row
from profiler.records.intervals import Interval

Bound = Literal["compute", "memory", "overhead"]

#: How deep a stage is sought; with more of the time than this it is looked into, and so many stages tell nothing.
_DEEPEST, _MOST_OF_ONE, _MOST_STAGES = 6, 0.8, 24

#: Columns of a table of layers, in their order; counts are of the whole batch.
LAYER_COLUMNS = (
    "layer",
    "operator",
    "latency_ms",
    "share",
    "share_low",
    "share_high",
    "traced_ms",
    "flops",
    "acts",
    "params",
    "moved_bytes",
    "flops_per_s",
    "bytes_per_s",
    "bound",
    "of_roof",
    "shapes",
    "calls",
)


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What one layer, or several together, cost of the latency.

    Attributes:
        name: The layer, or what is common to several.
        operator: What it does.
        latency_ms: Its part of the latency.
        share: The same as a fraction.
        shares: The least and the most that single processes said; None from one process.
        traced_ms: Its time while it was traced.
        flops: Multiply-adds; None where they are not known.
        acts: As flops.
        params: As flops.
        moved_bytes: As flops.
        bound: What keeps it from being faster, of several together most of the time; None where that is not known.
        roof_ms: The least time that the machine's peaks allow it; None where peaks or counts are not known.
        shapes: As ``profiler.measure.layers.Layer``; empty of several together.
        calls: How often it runs in one forward.
        padding_flops: As flops; None of several together.
    """

    name: str
    operator: str
    latency_ms: float
    share: float
    shares: Interval | None
    traced_ms: float
    flops: int | None
    acts: int | None
    params: int | None
    moved_bytes: int | None
    bound: Bound | None
    roof_ms: float | None
    shapes: str = ""
    calls: int = 1
    padding_flops: int | None = None

    @property
    def of_roof(self) -> float | None:
        """Which fraction of what the machine's peaks allow it reaches."""
        return None if self.roof_ms is None or not self.latency_ms else self.roof_ms / self.latency_ms

    def per_second(self, amount: int | None) -> float | None:
        """An amount of this layer per second; None where one is not known."""
        return None if amount is None or not self.latency_ms else amount / self.latency_ms * 1e3

    def row(self) -> Row:
        """The layer as a row with ``LAYER_COLUMNS``."""
        low, high = self.shares or (None, None)
        counts: Row = {name: getattr(self, name) for name in ("flops", "acts", "params", "moved_bytes")}
        rates: Row = {
            "flops_per_s": self.per_second(self.flops or None),
            "bytes_per_s": self.per_second(self.moved_bytes or None),
        }
        shown: Row = {"layer": self.name, "operator": self.operator, "latency_ms": self.latency_ms}
        shown |= {"share": self.share, "share_low": low, "share_high": high, "traced_ms": self.traced_ms}
        placed: Row = {"bound": self.bound, "of_roof": self.of_roof, "shapes": self.shapes, "calls": self.calls}
        return shown | counts | rates | placed


@dataclass(frozen=True, slots=True)
class Explanation:
    """A latency and its layers.

    Attributes:
        row: The case whose latency it is.
        latency: Of one forward, in ms.
        layers: In the order in which they ran first; their latencies add up to it.
        traced_ms: A whole traced forward; None where the runtime does not tell.
        processes: How many were traced.
        peaks: Of the machine; None where they are not known.
        no_peaks: Why they are not.
        waited: Whether an accelerator waited for the host while it was traced, which times of layers then hold.
    """

    row: Row
    latency: Quantity
    layers: tuple[LayerCost, ...]
    traced_ms: float | None
    processes: int
    peaks: Peaks | None
    no_peaks: str = ""
    waited: bool = False

    @property
    def inflation(self) -> float:
        """How many times their part of the latency the layers took while they were traced."""
        return sum(layer.traced_ms for layer in self.layers) / self.latency.value

    @property
    def tracing(self) -> float | None:
        """How many times as long as the latency a whole traced forward took; None where the runtime does not tell."""
        return None if self.traced_ms is None else self.traced_ms / self.latency.value

    def costliest(self, count: int) -> list[LayerCost]:
        """The layers that cost most, the first first."""
        return sorted(self.layers, key=lambda layer: -layer.latency_ms)[:count]

    def by_operator(self) -> list[LayerCost]:
        """What all layers with one operator cost, the costliest first."""
        return grouped(self.layers, lambda layer: layer.operator)

    def by_stage(self, depth: int) -> list[LayerCost]:
        """What the modules ``depth`` names down cost, in the order in which they ran first."""
        return grouped(self.layers, lambda layer: ".".join(parts_of(layer.name)[:depth]), ordered=False)

    def stages(self) -> list[LayerCost]:
        """The outermost modules that share the time out, in the order in which they ran first; none where none do."""
        for depth in range(1, _DEEPEST):
            found = self.by_stage(depth)
            if len(found) > _MOST_STAGES:
                return []
            if len(found) > 1 and max(one.share for one in found) < _MOST_OF_ONE:
                return found
        return []


def parts_of(name: str) -> list[str]:
    """The names of modules in a path, or in the name of a node of ONNX with slashes."""
    return name.strip("/").split("/") if name.startswith("/") else name.split(".")


def explained(
    row: Row, latency: Quantity, traces: Sequence[Traced], peaks: Peaks | None, no_peaks: str = ""
) -> Explanation:
    """Scale the layers of traces to a latency.

    The share of a layer is the mean of its shares in each process, so that one process that was slow as a whole counts
    as any other. What a forward takes beyond its layers lies between them and is shared out by calls, not by time.

    Args:
        row: The case.
        latency: Of one forward in ms, measured without tracing.
        traces: One for each process, none empty.
        peaks: Of the machine, where they are known.
        no_peaks: Why they are not.
    """
    totals = [sum(layer.ns for layer in one.layers) or 1.0 for one in traces]
    gaps = [_between(one, total, latency.value * 1e6) for one, total in zip(traces, totals, strict=True)]
    shares: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * len(traces))
    times: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * len(traces))
    known: dict[tuple[str, str], Layer] = {}
    for i, (one, total, gap) in enumerate(zip(traces, totals, gaps, strict=True)):
        whole = total + gap * sum(layer.calls for layer in one.layers)
        for layer in one.layers:
            key = layer.name, layer.operator
            shares[key][i] += (layer.ns + gap * layer.calls) / whole
            times[key][i] += layer.ns / total
            known.setdefault(key, layer)
    traced = fmean(totals) / 1e6
    layers = tuple(
        _cost(known[key], found, latency.value, fmean(times[key]) * traced, peaks) for key, found in shares.items()
    )
    forwards = [one.forward_ns for one in traces if one.forward_ns is not None]
    forward = fmean(forwards) / 1e6 if forwards else None
    waited = any(one.waited for one in traces)
    return Explanation(row, latency, layers, forward, len(traces), peaks, no_peaks, waited)


def _between(one: Traced, total: float, latency_ns: float) -> float:
    """What lies between two layers of a forward, in ns: as far as the trace saw a gap and the latency has one."""
    seen = (one.forward_ns or 0.0) - total
    return max(0.0, min(seen, latency_ns - total)) / (sum(layer.calls for layer in one.layers) or 1)


def _cost(layer: Layer, shares: Sequence[float], latency_ms: float, traced_ms: float, peaks: Peaks | None) -> LayerCost:
    share, found = fmean(shares), floors(layer, peaks)
    return LayerCost(
        name=layer.name,
        operator=layer.operator,
        latency_ms=share * latency_ms,
        share=share,
        shares=(min(shares), max(shares)) if len(shares) > 1 else None,
        traced_ms=traced_ms,
        flops=layer.flops,
        acts=layer.acts,
        params=layer.params,
        moved_bytes=layer.moved_bytes,
        bound=None if found is None else max(found.items(), key=lambda floor: floor[1])[0],
        roof_ms=None if found is None else max(found.values()),
        shapes=layer.shapes,
        calls=layer.calls,
        padding_flops=layer.padding_flops,
    )


def floors(layer: Layer, peaks: Peaks | None) -> dict[Bound, float] | None:
    """The least time in ms for the multiply-adds, the bytes and the start of a layer; None where counts are missing."""
    if peaks is None or layer.flops is None or layer.moved_bytes is None:
        return None
    return {
        "compute": layer.flops / peaks.flops_per_s * 1e3,
        "memory": layer.moved_bytes / peaks.bandwidth(layer.moved_bytes) * 1e3,
        "overhead": peaks.overhead_ns / 1e6,
    }


def grouped(layers: Iterable[LayerCost], key: Callable[[LayerCost], str], *, ordered: bool = True) -> list[LayerCost]:
    """Add up layers by a key; sums of what is not known of one are not known."""
    groups: dict[str, list[LayerCost]] = defaultdict(list)
    for layer in layers:
        groups[key(layer)].append(layer)
    made = [summed(name, group) for name, group in groups.items()]
    return sorted(made, key=lambda one: -one.latency_ms) if ordered else made


def summed(name: str, layers: Sequence[LayerCost]) -> LayerCost:
    """What several layers cost together; processes may have shared their time out differently, so no interval."""
    held: dict[Bound, float] = defaultdict(float)
    for layer in layers:
        if layer.bound is not None:
            held[layer.bound] += layer.latency_ms
    roofs = [layer.roof_ms for layer in layers]
    return LayerCost(
        name=name,
        operator=layers[0].operator if len({layer.operator for layer in layers}) == 1 else "",
        latency_ms=sum(layer.latency_ms for layer in layers),
        share=sum(layer.share for layer in layers),
        shares=None,
        traced_ms=sum(layer.traced_ms for layer in layers),
        flops=_sum(layer.flops for layer in layers),
        acts=_sum(layer.acts for layer in layers),
        params=_sum(layer.params for layer in layers),
        moved_bytes=_sum(layer.moved_bytes for layer in layers),
        bound=None if None in roofs else max(held.items(), key=lambda one: one[1])[0],
        roof_ms=None if None in roofs else sum(roof or 0.0 for roof in roofs),
        calls=sum(layer.calls for layer in layers),
    )


def _sum(values: Iterable[int | None]) -> int | None:
    found = list(values)
    return None if None in found else sum(one or 0 for one in found)
