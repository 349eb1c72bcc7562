"""Times of the kernels that torch.compile made for the CPU, from torch's own profiler."""

from __future__ import annotations

import math
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
#: How many arguments ``aten::convolution`` has.
_CONVOLUTION = 9
#: The name of what is between kernels.
BETWEEN = "between kernels"


@contextmanager
def kernels_marked() -> Iterator[None]:
    """Let what is compiled inside the context tell the profiler of each kernel that Inductor wrote."""
    import torch

    with torch._inductor.config.patch({"cpp.enable_kernel_profile": True}):  # noqa: SLF001 - the profiler sees none else
        yield


def traced_kernels(run: Callable[[], None], warm: int, calls: int, number_bytes: int) -> LayerTrace:
    """Return what torch's profiler says of the kernels of ``calls`` forwards, after some for warming up.

    Args:
        run: One forward.
        warm: Forwards before them.
        calls: Forwards.
        number_bytes: Of one number in what the kernels read and write.

    Raises:
        BackendError: It saw none.
    """
    from torch.profiler import ProfilerActivity, profile, record_function

    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        for _ in range(warm + calls):
            with record_function(_FORWARD):
                run()
    return kernels_of([one for one in profiled.events() if one.name == _FORWARD][warm:], number_bytes)


def kernels_of(forwards: Sequence[Any], number_bytes: int) -> LayerTrace:
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
    layers = (_kernel(name, turn, told, len(forwards), number_bytes) for (name, turn), told in found.items())
    return LayerTrace(tuple(layers), tuple(one.time_range.elapsed_us() * 1e3 for one in forwards))


def _within(event: Any) -> Iterator[Any]:
    """Yield what a forward calls, and whatever only calls others."""
    yield event
    if event.name.startswith((_FORWARD, *_CALLERS)):
        for child in sorted(event.cpu_children, key=lambda one: one.time_range.start):
            yield from _within(child)


def _kernel(
    name: str, turn: int, told: Iterable[tuple[int, float, Any]], forwards: int, number_bytes: int
) -> LayerTime:
    ns = [0.0] * forwards
    first = None
    for i, one, event in told:
        ns[i] += one
        first = first or event
    if fused := _FUSED.fullmatch(name):
        return LayerTime(f"kernel {fused[2]}", f"fused {fused[1].strip('_') or 'copy'}", tuple(ns))
    if name == BETWEEN:
        return LayerTime("", name, tuple(ns), moved_bytes=0, weights=0)
    return _call(name.removeprefix("aten::"), f"call {turn + 1}", tuple(ns), first, number_bytes)


def _call(name: str, turn: str, ns: tuple[float, ...], event: Any, number_bytes: int) -> LayerTime:
    """Return a call of one of torch's own kernels; products of matrices and convolutions are counted by shapes."""
    given = tuple(tuple(shape) for shape in event.input_shapes or () if shape)
    told = list(getattr(event, "concrete_inputs", None) or ())
    if name in ("addmm", "mm", "bmm") and len(given) >= 2:
        given = given[-2:]
        made, operator = (*given[0][:-1], given[1][-1]), "MatMul"
    elif name == "convolution" and len(given) >= 2 and len(told) == _CONVOLUTION:
        made, operator = _convolved(given[0], given[1], *told[3:]), "ConvTranspose" if told[6] else "Conv"
    else:
        return LayerTime(turn, name if "::" in name else f"aten::{name}", ns, given=given)
    moved, weights = sum(map(math.prod, (*given, made))) * number_bytes, sum(map(math.prod, given[1:]))
    return LayerTime(f"{name} {turn}", operator, ns, moved, weights, given, (made,))


def _convolved(
    given: Sequence[int],
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    more: Sequence[int],
    groups: int,
) -> tuple[int, ...]:
    """Return the shape that ``aten::convolution`` makes; arguments in its order, channels second."""
    reach = [d * (k - 1) for d, k in zip(dilation, weight[2:], strict=True)]
    sized = zip(given[2:], stride, padding, reach, more, strict=True)
    if transposed:
        return (given[0], weight[1] * groups, *((n - 1) * s - 2 * p + r + m + 1 for n, s, p, r, m in sized))
    return (given[0], weight[0], *((n + 2 * p - r - 1) // s + 1 for n, s, p, r, _ in sized))
