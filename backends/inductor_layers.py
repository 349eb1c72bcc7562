"""Times of the kernels that torch.compile made for the CPU, from torch's own profiler."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from profiler.backends.base import BackendError, LayerTime, LayerTrace

_FORWARD = "latency-profiler forward"
#: What Inductor calls the kernels that it writes: by graph, by what they fuse, and by number.
_FUSED = re.compile(r"(?:graph_\d+_)?cpp_fused_(.*?)_?(\d+)$")
#: Events that hold others and do nothing themselves but call them.
_CALLERS = ("Torch-Compiled Region", "## Call CompiledFxGraph", "TorchDynamo", "Pregraph", "AOTDispatcher")
#: The name of what is between kernels.
BETWEEN = "between kernels"


@contextmanager
def kernels_marked() -> Iterator[None]:
    """Let what is compiled inside the context tell the profiler of each kernel that Inductor wrote."""
    import torch

    with torch._inductor.config.patch({"cpp.enable_kernel_profile": True}):  # noqa: SLF001 - the profiler sees none else
        yield


def traced_kernels(run: Callable[[], None], warm: int, calls: int) -> LayerTrace:
    """Return what torch's profiler says of the kernels of ``calls`` forwards, after some for warming up.

    Raises:
        BackendError: It saw none.
    """
    from torch.profiler import ProfilerActivity, profile, record_function

    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        for _ in range(warm + calls):
            with record_function(_FORWARD):
                run()
    return kernels_of([one for one in profiled.events() if one.name == _FORWARD][warm:])


def kernels_of(forwards: Sequence[Any]) -> LayerTrace:
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
    layers = (_kernel(name, turn, told, len(forwards)) for (name, turn), told in found.items())
    return LayerTrace(tuple(layers), tuple(one.time_range.elapsed_us() * 1e3 for one in forwards))


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
        return LayerTime(f"kernel {fused[2]}", f"fused {fused[1].strip('_') or 'copy'}", tuple(ns))
    if name == BETWEEN:
        return LayerTime("", name, tuple(ns), moved_bytes=0, weights=0)
    return _call(name.removeprefix("aten::"), f"call {turn + 1}", tuple(ns), shapes)


def _call(name: str, turn: str, ns: tuple[float, ...], shapes: tuple[tuple[int, ...], ...]) -> LayerTime:
    """Return a call of one of torch's own kernels; products of matrices alone are counted."""
    factors = shapes[1:] if name == "addmm" else shapes
    if name in ("addmm", "mm", "bmm") and len(factors) == 2:
        made = (*factors[0][:-1], factors[1][-1])
        return LayerTime(f"{name} {turn}", "MatMul", ns, given=factors, made=(made,))
    return LayerTime(turn, name if "::" in name else f"aten::{name}", ns, given=shapes)
