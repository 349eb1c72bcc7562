"""Times of the kernels that torch.compile made for the CPU, from torch's own profiler."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

from profiler.backends.base import BackendError, LayerTime, LayerTrace

_FORWARD = "latency-profiler forward"
#: What Inductor calls the kernels that it writes: by graph, by what they fuse, and by number.
_FUSED = re.compile(r"(?:graph_\d+_)?cpp_fused_(.*?)_?(\d+)$")
#: Events that hold others and do nothing themselves but call them.
_CALLERS = ("Torch-Compiled Region", "## Call CompiledFxGraph", "TorchDynamo", "Pregraph", "AOTDispatcher")
#: The name of what is between kernels.
BETWEEN = "between kernels"
#: How Inductor writes what people call otherwise.
_SAID = (("_native_batch_norm_legit_no_training", "batch_norm"), ("native_batch_norm_legit_no_training", "batch_norm"))
#: Shapes of what goes into a product of torch's own.
_Shapes = tuple[tuple[int, ...], ...]


class Product(NamedTuple):
    """A convolution or a linear layer: its module, what it makes, the bytes that it moves, and its learned numbers."""

    layer: str
    made: tuple[int, ...]
    moved_bytes: int
    weights: int


class Products:
    """An ``Around`` that notes which module runs each convolution and linear layer, by the shapes that go in.

    Calls of the same shapes come in the order in which eager runs them.
    """

    def __init__(self) -> None:
        self._found: dict[_Shapes, list[Product]] = defaultdict(list)

    def __call__(self, layer: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one operator and note it where it is a product with weights."""
        out = func(*args, **kwargs)
        name = str(getattr(getattr(func, "_schema", None), "name", "")).removeprefix("aten::")
        held = [args[i] if len(args) > i else kwargs.get(key) for i, key in enumerate(("input", "weight", "bias"))]
        tensors = [one for one in held if one is not None]
        if name in ("linear", "conv1d", "conv2d", "conv3d") and len(tensors) > 1:
            moved = sum(one.numel() * one.element_size() for one in (*tensors, out))
            weights = sum(one.numel() for one in tensors[1:])
            self.note(
                tuple(tensors[0].shape), tuple(tensors[1].shape), Product(layer, tuple(out.shape), moved, weights)
            )
        return out

    def note(self, given: tuple[int, ...], weight: tuple[int, ...], one: Product) -> None:
        """Note one call; the rows of a linear layer become one axis, and its weights are turned around."""
        if len(weight) == 2:
            given, weight = (prod(given[:-1]), given[-1]), weight[::-1]
            one = one._replace(made=(prod(one.made[:-1]), one.made[-1]))
        self._found[given, weight].append(one)

    def of(self, given: _Shapes, turn: int) -> Product | None:
        """Return what a call is; None where eager runs no such call."""
        several = self._found.get(given[:2], [])
        return several[turn] if turn < len(several) else None


@contextmanager
def kernels_marked() -> Iterator[None]:
    """Let what is compiled inside the context tell the profiler of each kernel that Inductor wrote."""
    import torch

    with torch._inductor.config.patch({"cpp.enable_kernel_profile": True}):  # noqa: SLF001 - the profiler sees none else
        yield


def traced_kernels(run: Callable[[], None], warm: int, calls: int, products: Products) -> LayerTrace:
    """Return what torch's profiler says of the kernels of ``calls`` forwards, after some for warming up.

    Raises:
        BackendError: It saw none.
    """
    from torch.profiler import ProfilerActivity, profile, record_function

    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        for _ in range(warm + calls):
            with record_function(_FORWARD):
                run()
    return kernels_of([one for one in profiled.events() if one.name == _FORWARD][warm:], products)


def kernels_of(forwards: Sequence[Any], products: Products) -> LayerTrace:
    """Return what the events of some forwards say of the kernels within; raises BackendError where there are none."""
    found: dict[tuple[str, int], list[tuple[int, float, Any]]] = defaultdict(list)
    for i, forward in enumerate(forwards):
        turns: Counter[str] = Counter()
        for event in _within(forward):
            between = event is forward or event.name.startswith(_CALLERS)
            name = BETWEEN if between else event.name
            turn = 0 if between else turns[name]
            turns[name] += 1
            took = event.self_cpu_time_total if between else event.cpu_time_total
            found[name, turn].append((i, took * 1e3, event))
    if not found or all(name == BETWEEN for name, _ in found):
        raise BackendError("this version of torch tells no kernels of what it compiled: use --backend eager")
    layers = [_kernel(name, turn, told, len(forwards)) for (name, turn), told in found.items()]
    return LayerTrace(tuple(_placed(layers, products)), tuple(one.time_range.elapsed_us() * 1e3 for one in forwards))


def _placed(layers: Iterable[LayerTime], products: Products) -> Iterator[LayerTime]:
    """Give products the names of their modules, and fused kernels that of the block whose product ran before them."""
    turns: Counter[_Shapes] = Counter()
    block = ""
    for layer in layers:
        known = products.of(layer.given, turns[layer.given[:2]])
        if known is not None:
            turns[layer.given[:2]] += 1
            block = known.layer.rpartition(".")[0]
            operator = "MatMul" if len(layer.given[1]) == 2 else "Conv"
            yield replace(
                layer, name=known.layer, operator=operator, made=(known.made,), moved_bytes=known.moved_bytes,
                weights=known.weights,
            )  # fmt: skip
        elif layer.operator.startswith("fused") and block:
            yield replace(layer, name=f"{block}.{layer.name}")
        else:
            yield layer


def _within(event: Any) -> Iterator[Any]:
    """Yield what a forward calls, and whatever only calls others."""
    yield event
    if event.name.startswith((_FORWARD, *_CALLERS)):
        for child in sorted(event.cpu_children, key=lambda one: one.time_range.start):
            yield from _within(child)


def _kernel(name: str, turn: int, told: Iterable[tuple[int, float, Any]], forwards: int) -> LayerTime:
    ns = [0.0] * forwards
    shapes: tuple[tuple[int, ...], ...] = ()
    for i, one, event in told:
        ns[i] += one
        shapes = shapes or tuple(tuple(shape) for shape in event.input_shapes or () if shape)
    if fused := _FUSED.fullmatch(name):
        return LayerTime(f"kernel {fused[2]}", f"fused {_said(fused[1])}", tuple(ns))
    if name == BETWEEN:
        return LayerTime("", name, tuple(ns), weights=0)
    return _call(name.removeprefix("aten::"), f"call {turn + 1}", tuple(ns), shapes)


def _said(what: str) -> str:
    for told, name in _SAID:
        what = what.replace(told, name)
    return what.strip("_") or "copy"


def _call(name: str, turn: str, ns: tuple[float, ...], shapes: tuple[tuple[int, ...], ...]) -> LayerTime:
    """Return a call of one of torch's own kernels; products of matrices alone are counted."""
    factors = shapes[1:] if name == "addmm" else shapes
    if name in ("addmm", "mm", "bmm") and len(factors) == 2:
        made = (*factors[0][:-1], factors[1][-1])
        return LayerTime(f"{name} {turn}", "MatMul", ns, given=factors, made=(made,))
    return LayerTime(turn, name if "::" in name else f"aten::{name}", ns, given=shapes)
