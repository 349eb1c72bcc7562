"""Time by layer, in a pass of its own: tracing disturbs what it times, so nothing else is measured in its process."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from profiler import backends
from profiler.backends import accelerator
from profiler.backends.base import Around, Backend, BackendError, LayerTime, LayerTimed, OperatorWise
from profiler.backends.inputs import shape_text
from profiler.machine import allocator
from profiler.measure.timing import host_clock
from profiler.models import source
from profiler.models.layer_counts import OperatorCounts, node_name, node_operations, operator_name
from profiler.models.loaded import Loaded
from profiler.models.operators import Operation
from profiler.records.types import Case

if TYPE_CHECKING:
    from torch import Tensor

#: Operators that read as much of what they get first as they make.
_GATHERS = ("embedding", "gather", "index", "index_select")
#: Convolutions whose sixth argument is their dilation.
_DILATED = ("conv1d", "conv2d", "conv3d")
#: Forwards before those that count: the first ones plan and allocate.
_WARM = 3


@dataclass(frozen=True, slots=True)
class TraceTask:
    """Time the layers of a case over ``calls`` forwards."""

    case: Case
    calls: int
    cache: Path | None


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a traced model, as it ran; counts are of the whole batch.

    Attributes:
        name: The module or node as its user knows it; empty for what runs outside of any.
        operator: What it does.
        ns: Its time in one traced forward.
        flops: Multiply-adds; None where no rule counts them.
        acts: Outputs of operators that multiply-add; None as ``flops``.
        params: Learned numbers that it takes.
        moved_bytes: What goes in and comes out, weights among it; None where the runtime does not tell.
        shapes: Of what goes into one of its calls, and after an arrow of what comes out, with the dilation of a
            convolution that has one; empty where its calls differ, or the runtime does not tell.
        calls: How often it runs in one forward.
        padding_flops: As ``profiler.models.complexity.padding``; None as ``flops``.
    """

    name: str
    operator: str
    ns: float
    flops: int | None = None
    acts: int | None = None
    params: int | None = None
    moved_bytes: int | None = None
    shapes: str = ""
    calls: int = 1
    padding_flops: int | None = None


@dataclass(frozen=True, slots=True)
class Traced:
    """What one process told.

    Attributes:
        layers: In the order in which they ran first.
        forward_ns: Of a whole traced forward; None where the runtime does not tell.
        waited: Whether an accelerator waited for the host in between, which the times of layers then hold.
    """

    layers: tuple[Layer, ...]
    forward_ns: float | None
    waited: bool = False


def trace(task: TraceTask) -> Traced:
    """Time the layers of a case; to be called in a fresh process.

    Raises:
        BackendError: The backend cannot tell the times of layers, or not here.
    """
    case = task.case
    allocator.keep_freed()
    loaded, backend = source.load_model(case.asked(task.cache)), backends.get(case.backend)
    if case.content and loaded.content != case.content:
        raise BackendError(f"the model {case.model!r} has changed since its latency was measured: repeat the command")
    if reason := backend.unavailable(case.placement):
        raise BackendError(reason)
    if isinstance(backend, OperatorWise):
        return _by_operator(backend, loaded, task)
    if isinstance(backend, LayerTimed):
        return _by_runtime(backend, loaded, task)
    raise BackendError(untraceable(backend))


def untraceable(backend: Backend) -> str:
    """Say that a backend cannot tell the times of its layers."""
    return (
        f"{backend.name} does not tell the times of its layers: use --backend eager, onnxruntime, openvino or compile"
    )


def middle(times: Sequence[float]) -> float:
    """Mean of the middle half: as steady as a median, and finer than a clock that counts whole microseconds."""
    ordered = sorted(times)
    quarter = len(ordered) // 4
    return fmean(ordered[quarter : len(ordered) - quarter])


def _by_runtime(backend: LayerTimed, loaded: Loaded, task: TraceTask) -> Traced:
    told = backend.layer_times(loaded.model, loaded.inputs, task.case.placement, task.calls)
    groups: dict[tuple[str, str], list[LayerTime]] = defaultdict(list)
    for one in told.layers:
        groups[one.name, node_name(one)].append(one)
    return Traced(
        tuple(_joined(*key, group) for key, group in groups.items()),
        middle(told.forward_ns) if told.forward_ns else None,
    )


def _joined(name: str, operator: str, nodes: Sequence[LayerTime]) -> Layer:
    """Make one layer of the nodes of a module that do the same."""
    counted = [node_operations(node) for node in nodes]
    operations = None if None in counted else [one for each in counted for one in each or ()]
    moved, params = _sum([node.moved_bytes for node in nodes]), _sum([node.weights for node in nodes])
    shapes = _of_one_call([_node_shapes(node) for node in nodes])
    ns = sum(middle(node.ns) for node in nodes)
    return Layer(name, operator, ns, *_counts(operations), params, moved, shapes, len(nodes), _padding(operations))


def shapes_text(given: Iterable[Sequence[int]], made: Iterable[Sequence[int]]) -> str:
    """Return what goes in and what comes out in words: ``1x8x48x48 64x8x3x3 64 -> 1x64x48x48``."""
    return " -> ".join(" ".join(shape_text(tuple(one)) for one in side) for side in (given, made))


def _node_shapes(node: LayerTime) -> str:
    if not node.given and not node.made:
        return ""
    return shapes_text(node.given, node.made) + _dilation_text(node.attributes.get("dilations"))


def _dilation_text(dilation: object) -> str:
    """Return `` dilation 2x2``; empty without one, as shapes alone tell the work then."""
    told = tuple(int(one) for one in dilation) if isinstance(dilation, Sequence) else ()
    return f" dilation {shape_text(told)}" if any(one > 1 for one in told) else ""


def _of_one_call(told: Sequence[str]) -> str:
    return told[0] if len(set(told)) == 1 else ""


def _sum(values: Sequence[int | None]) -> int | None:
    return None if None in values else sum(value or 0 for value in values)


def _counts(operations: Sequence[Operation] | None) -> tuple[int | None, int | None]:
    """Return flops and acts."""
    if operations is None:
        return None, None
    return sum(one.flops for one in operations), sum(one.acts for one in operations)


def _padding(operations: Sequence[Operation] | None) -> int | None:
    return None if operations is None else sum(one.padding_flops for one in operations)


@dataclass(slots=True)
class _Sized:
    """What a layer moves in one forward, its weights by where they are, and the shapes of each of its calls."""

    moved: int = 0
    weights: dict[int, int] = field(default_factory=dict)
    shapes: list[str] = field(default_factory=list)


class _Sizes:
    """An ``Around`` that notes how many bytes go into each operator and come out of it."""

    def __init__(self) -> None:
        self.layers: dict[tuple[str, str], _Sized] = defaultdict(_Sized)

    def __call__(self, layer: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one operator; one that gives back what it got, as a view or a dropout that is off, moves nothing."""
        from torch.nn import Parameter

        from profiler.models.watching import storage

        out, name = func(*args, **kwargs), operator_name(func, args, kwargs)
        sized = self.layers[layer, name]
        given, made = list(_tensors((args, kwargs))), list(_tensors(out))
        dilation = kwargs.get("dilation", args[5] if len(args) > 5 else None) if name.startswith(_DILATED) else None
        shapes = shapes_text((one.shape for one in given), (one.shape for one in made))
        sized.shapes.append(shapes + _dilation_text(dilation))
        changes = getattr(getattr(func, "_schema", None), "is_mutable", False)
        if changes or not {storage(one) for one in made} <= {storage(one) for one in given}:
            read = given[1:] + made if name in _GATHERS else given
            sized.moved += sum(one.numel() * one.element_size() for one in [*read, *made])
            sized.weights |= {id(one): one.numel() for one in given if isinstance(one, Parameter)}
        return out


def _tensors(value: object) -> Iterator[Tensor]:
    from torch import Tensor, strided
    from torch.utils._pytree import tree_leaves

    return (one for one in tree_leaves(value) if isinstance(one, Tensor) and one.layout == strided)


#: Times of layers in one forward, in ns.
_Forward = dict[tuple[str, str], float]


class _Times:
    """An ``Around`` that times each operator by the host's clock, or by marks that its caller puts between them."""

    def __init__(self, mark: Callable[[], object] | None = None) -> None:
        self.ns: _Forward = defaultdict(float)
        self.keys: list[tuple[str, str]] = []
        self._mark = mark

    def __call__(self, layer: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one operator and note how long it took."""
        begin = host_clock()
        out = func(*args, **kwargs)
        took = host_clock() - begin
        key = layer, operator_name(func, args, kwargs)
        if self._mark is None:
            self.ns[key] += took
        else:
            self._mark()
            self.keys.append(key)
        return out


def _by_operator(backend: OperatorWise, loaded: Loaded, task: TraceTask) -> Traced:
    place = task.case.placement
    with backend.watched(loaded.model, loaded.inputs, place) as run:
        sizes, counts = _Sizes(), OperatorCounts()
        run(sizes)
        run(counts)
        timed = _timed_here if place.device_type == "cpu" else partial(_timed_there, place.device)
        forwards, whole, waited = timed(run, _WARM + task.calls)
    forwards, whole = forwards[_WARM:], whole[_WARM:]
    layers = []
    for key, sized in sizes.layers.items():
        operations = None if key in counts.unknown else counts.operations.get(key, ())
        ns = middle([times.get(key, math.nan) for times in forwards])
        if math.isnan(ns):
            raise BackendError("the model runs other operators each time, so that no layer has a time: fix its inputs")
        params, shapes = sum(sized.weights.values()), _of_one_call(sized.shapes)
        flops, acts = _counts(operations)
        calls, padding = len(sized.shapes), _padding(operations)
        layers.append(Layer(*key, ns, flops, acts, params, sized.moved, shapes, calls, padding))
    return Traced(tuple(layers), middle(whole), waited)


#: Of each forward its layers and the whole, in ns, and ``Traced.waited``.
_Timed = tuple[list[_Forward], list[float], bool]


def _timed_here(run: Callable[[Around], None], calls: int) -> _Timed:
    forwards, whole = list[_Forward](), list[float]()
    for _ in range(calls):
        times, begin = _Times(), host_clock()
        run(times)
        whole.append(host_clock() - begin)
        forwards.append(times.ns)
    return forwards, whole, False


def _timed_there(device: str, run: Callable[[Around], None], calls: int) -> _Timed:
    """Time each operator on an accelerator by its events; the whole is from the first of them to the last."""
    import torch

    watches: list[_Times] = []

    def submit(mark: Callable[[], object]) -> None:
        watches.append(_Times(mark))
        run(watches[-1])

    told, queued = accelerator.marked_times(submit, torch.device(device), calls)
    if not told:
        raise BackendError(f"the events of {device} keep no time, so that no layer has one: use --device cpu")
    for watch, between in zip(watches[-calls:], told, strict=True):
        for key, ns in zip(watch.keys, between, strict=True):
            watch.ns[key] += ns
    return [watch.ns for watch in watches[-calls:]], [float(sum(between)) for between in told], queued is False
