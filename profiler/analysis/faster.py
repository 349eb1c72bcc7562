"""What would make a network faster, as far as the times of its layers and the machine's peaks tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from profiler.analysis.layers import Explanation, LayerCost
from profiler.analysis.quantity import Quantity
from profiler.analysis.speed import latency_of, ratio_interval
from profiler.records.columns import Row

#: What is less than this part of the latency is not worth a sentence.
_WORTH = 0.05
#: What starts an operator from a program takes several times what starts one in a loop; a layer that takes more than so
#: many times as long does other things than start.
_STARTED = 1 / 10
#: Operators that only change the order of numbers in memory.
_REORDERING = ("Reorder", "Transpose", "contiguous", "clone", "copy_", "_to_copy", "permute")
#: Operators that a runtime with fusions makes a part of the product before them.
_FUSIBLE = ("batch_norm", "relu", "silu", "hardswish", "hardsigmoid", "sigmoid", "gelu", "add", "mul", "clamp", "tanh")
#: Kinds of convolutions that no vector is full of, and what does the same with fuller ones.
_SHUFFLED = {"depthwise": "plain convolutions where channels are few", "grouped": "fewer or wider groups"}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One thing that may make a network faster.

    Attributes:
        finding: What was measured, in words.
        remedy: What to do.
        share: The part of the latency that the layers it rests on take.
        at_most: The part of the latency that could be saved, were these layers as fast as the machine's peaks allow,
            or gone.
        rests_on: The costliest of those layers.
        trial: Options of ``profiler latency`` to try it with; empty where it cannot be tried from here.
    """

    finding: str
    remedy: str
    share: float
    at_most: float
    rests_on: LayerCost
    trial: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a trial.

    Attributes:
        trial: Its options.
        row: What was measured.
        gain: How many times as fast it is for each example; None where it failed.
    """

    trial: dict[str, str]
    row: Row
    gain: Quantity | None

    @property
    def held(self) -> bool | None:
        """Whether it is faster; None where that cannot be told."""
        if self.gain is None:
            return False
        if self.gain.interval is None or self.gain.interval[0] <= 1 <= self.gain.interval[1]:
            return None
        return self.gain.value > 1


def tried(trial: dict[str, str], base: Row, row: Row) -> Tried:
    """Compare what was tried with what was explained, example by example."""
    before, after = latency_of(base), latency_of(row)
    if before is None or after is None:
        return Tried(trial, row, None)
    examples = int(row["batch"] or 1) / int(base["batch"] or 1)
    ends = ratio_interval(before, after)
    interval = None if ends is None else (ends[0] * examples, ends[1] * examples)
    return Tried(trial, row, Quantity(before.value / after.value * examples, interval))


def suggestions(explanation: Explanation, cores: int) -> list[Suggestion]:
    """Return what would make it faster, what could save most first.

    Args:
        explanation: Of the case.
        cores: How many threads may run here.
    """
    rules: tuple[Callable[[Explanation, int], Iterator[Suggestion]], ...] = (
        _unfused, _reordered, _shuffled, _weights, _small, _threads
    )  # fmt: skip
    found = [one for rule in rules for one in rule(explanation, cores) if one.at_most >= _WORTH]
    return sorted(found, key=lambda one: -one.at_most)


def _eager(one: Explanation) -> bool:
    return str(one.row["backend"]).partition(":")[0] == "eager"


def _operator(layer: LayerCost) -> str:
    return layer.operator.partition(" ")[0].rstrip("_")


def _share(layers: Iterable[LayerCost]) -> float:
    return sum(layer.share for layer in layers)


def _to_roof(layers: Iterable[LayerCost]) -> float:
    """The part of the latency that layers lose to what the machine could do; all of it where that is not known."""
    return sum(layer.share * max(0.0, 1 - (layer.of_roof or 0.0)) for layer in layers)


def _costliest(layers: Sequence[LayerCost]) -> LayerCost:
    return max(layers, key=lambda layer: layer.latency_ms)


def _unfused(one: Explanation, _cores: int) -> Iterator[Suggestion]:
    found = [layer for layer in one.layers if _operator(layer) in _FUSIBLE and layer.bound != "compute"]
    if found and _eager(one):
        names = ", ".join(dict.fromkeys(_operator(layer) for layer in sorted(found, key=lambda each: -each.latency_ms)))
        yield Suggestion(
            f"whole activations read and written for little arithmetic by {names}",
            "a runtime that fuses them into the product before them",
            _share(found),
            _share(found),
            _costliest(found),
            {"backend": "onnxruntime"},
        )


def _reordered(one: Explanation, _cores: int) -> Iterator[Suggestion]:
    if found := [layer for layer in one.layers if _operator(layer).startswith(_REORDERING)]:
        trial = {"memory_format": "channels_last"} if _eager(one) and _images(one) else {}
        yield Suggestion(
            "layers that only change the order of numbers in memory",
            "one layout throughout" if trial else "a model that keeps one layout, without turning its tensors around",
            _share(found),
            _share(found),
            _costliest(found),
            trial,
        )


def _images(one: Explanation) -> bool:
    return any(layer.operator.startswith("conv2d") for layer in one.layers)


def _shuffled(one: Explanation, _cores: int) -> Iterator[Suggestion]:
    turned = _eager(one) and _images(one)
    for kind, other in _SHUFFLED.items():
        found = [layer for layer in one.layers if layer.operator.endswith(kind) and layer.roof_ms]
        if found:
            yield Suggestion(
                f"{kind} convolutions, which use few weights for each activation",
                "channels last" if turned else other,
                _share(found),
                _to_roof(found),
                _costliest(found),
                {"memory_format": "channels_last"} if turned else {},
            )


def _weights(one: Explanation, _cores: int) -> Iterator[Suggestion]:
    """Weights that are read once for a few examples; with more examples each is read for all of them."""
    batch = int(one.row["batch"] or 1)
    found = [layer for layer in one.layers if layer.bound == "memory" and (layer.params or 0) * 8 > _moved(layer)]
    if found:
        yield Suggestion(
            f"layers that wait for their weights, read for {batch} example{'s' if batch > 1 else ''} at a time",
            "a larger batch, for each example,",
            _share(found),
            _share(found) * 3 / 4,
            _costliest(found),
            {"batch": str(4 * batch)},
        )


def _moved(layer: LayerCost) -> float:
    return layer.moved_bytes or float("inf")


def _small(one: Explanation, _cores: int) -> Iterator[Suggestion]:
    found = [layer for layer in one.layers if layer.bound == "overhead" and (layer.of_roof or 0.0) > _STARTED]
    if found:
        batch = int(one.row["batch"] or 1)
        yield Suggestion(
            _so_small(len(found)),
            "a runtime with less of it" if _eager(one) else "a larger batch, for each example,",
            _share(found),
            _share(found),
            _costliest(found),
            {"backend": "onnxruntime"} if _eager(one) else {"batch": str(4 * batch)},
        )


def _so_small(count: int) -> str:
    if count == 1:
        return "one layer is so small that starting it takes longer than its work"
    return f"{count} layers are so small that starting them takes longer than their work"


def _threads(one: Explanation, cores: int) -> Iterator[Suggestion]:
    threads = int(one.row["threads"] or cores)
    found = [layer for layer in one.layers if layer.bound == "compute"]
    if found and threads < cores:
        yield Suggestion(
            f"layers that compute on {threads} of {cores} cores",
            f"{cores} threads",
            _share(found),
            _share(found) * (1 - threads / cores),
            _costliest(found),
            {"threads": str(cores)},
        )
