"""The fixed workload that is interleaved with every measurement, and its nominal time on this machine.

On a CPU it has three parts: a chain of pointwise convolutions over the same few weights, such a chain that goes on
through 48 MiB of weights and finds them in no cache, and matrix products. Each kind of work that a network does follows
something else: matrix products the clock, the short chain the cache that all cores share and how far apart two cores
are, the long one memory too. Their shares are from three experiments, of 360 to 900 fresh processes each, with the
parts timed apart beside five networks in two runtimes on one and two threads: by these shares the time of a visit over
the reference spread by 1.2% on one thread and 2.0% on two with the cores together, where the plain time spread by 2.2%
and 2.8%. A small network run layer by layer, once a part, follows the caches twice to ten times as much as any model,
and with small kernels the mix was no better. Elsewhere it is a larger matrix product and small kernels.

Its nominal time is measured once per machine, device, thread count and precision and kept in the user's cache; a
latency is a ratio to the reference beside it times that nominal time.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from profiler.backends import devices, switches
from profiler.backends.base import Placement
from profiler.machine.conditions import core_wait
from profiler.measure.timing import Clock, Workload, host_clock, reference_block, reference_settle_ns, time_one
from profiler.records.disturbance import crowded
from profiler.records.nominal import Calls

if TYPE_CHECKING:
    import torch


#: In ns. A call of the reference lasts about this long: long enough for the clock, short enough to follow a
#: disturbance. study_repeatability tells: beside one of 1.5 ms headlines repeated less well.
_TARGET_NS = 4_000_000
#: MiB of weights that the long chain goes through: more than a third-level cache holds beside a model.
#: study_repeatability tells.
_STREAMED = 48
#: Edge of the matrices that are multiplied on a device: milliseconds in fp32, and every multiprocessor at work.
_EDGE = 2048
#: In s. Before a calibration takes times, for caches and clocks. study_truth tells.
_WARM_UP_S = 0.2


class _InPlain:
    """A workload that runs under switches of its own, whatever a model, its author or a session has made of torch's."""

    def __init__(self, placement: Placement, parts: tuple[Callable[[], None], ...], repeats: int = 1) -> None:
        import torch

        self._torch = torch
        self._threads, self._device = placement.threads, torch.device(placement.device)
        self._parts, self._repeats = parts, repeats
        self._held = False

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Hold the switches for several calls; after it they are as they were."""
        with switches.plain(self._threads, self._device.type):
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def run(self) -> None:
        """Submit one call."""
        with nullcontext() if self._held else self.apart(), self._torch.inference_mode():
            for _ in range(self._repeats):
                for part in self._parts:
                    part()


class Reference(_InPlain):
    """The workload itself, on one device; satisfies ``profiler.measure.timing.Workload``."""

    def __init__(self, placement: Placement, repeats: int = 1) -> None:
        on_host = placement.device_type == "cpu"
        super().__init__(placement, _on_host(placement.threads) if on_host else _on_device(placement), repeats)

    def sync(self) -> None:
        """Block until everything submitted has finished."""
        devices.synchronize(self._device)


def _on_host(threads: int) -> tuple[Callable[[], None], ...]:
    """Return the parts of a unit on a CPU; work in half precision is emulated on most, so that all is in single."""
    import torch

    edge = round(192 * threads ** (1 / 3) / 16) * 16
    short, long, count = (4, 4, 16) if threads == 1 else (7, 13, 8)
    generator = torch.Generator().manual_seed(0)  # the global one is the model's
    a, b = torch.rand(2, edge, edge, generator=generator, dtype=torch.float32, device="cpu")
    return _chain(short, short, threads), _chain(long, _STREAMED, threads), _products(a, b, count)


def _on_device(placement: Placement) -> tuple[Callable[[], None], ...]:
    import torch

    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(placement.precision, torch.float32)
    generator = torch.Generator().manual_seed(0)

    def random(*size: int) -> torch.Tensor:
        return torch.rand(*size, generator=generator, dtype=torch.float32, device="cpu").to(placement.device, dtype)

    return _products(random(_EDGE, _EDGE), random(_EDGE, _EDGE), 1), _small_kernels(random(4096), 30)


def _products(a: torch.Tensor, b: torch.Tensor, count: int) -> Callable[[], None]:
    import torch

    product = torch.empty_like(a)

    def run() -> None:
        for _ in range(count):
            torch.mm(a, b, out=product)

    return run


def _small_kernels(values: torch.Tensor, launches: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(launches):
            values.mul_(1.0)

    return run


def _chain(layers: int, weights: int, images: int) -> Callable[[], None]:
    """Pointwise convolutions, each with a MiB of weights of its own, as a network's late layers are.

    A call goes through ``layers`` of ``weights`` of them and the next call goes on from there, round and round.
    """
    import torch

    # One value for all: random ones would take a tenth of a second in every visit.
    in_turn = itertools.cycle(torch.full((weights, 512, 512, 1, 1), 1 / 512, dtype=torch.float32, device="cpu"))
    first = torch.ones(images, 512, 6, 6, dtype=torch.float32, device="cpu")
    conv2d, relu, turns = torch.nn.functional.conv2d, torch.relu_, range(layers)

    def run() -> None:
        x = first
        for _ in turns:
            x = relu(conv2d(x, next(in_turn)))

    return run


class StandIn(_InPlain):
    """What stands in for a model while the reference is calibrated, for some milliseconds on a CPU core."""

    def __init__(self, placement: Placement) -> None:
        super().__init__(placement, (_convolutions(placement.device),))

    def sync(self) -> None:
        """Leave it to the reference, which waits for the device before it is timed."""


def _convolutions(device: str) -> Callable[[], None]:
    """Two convolutions, and 16 MiB read and written."""
    import torch

    generator = torch.Generator().manual_seed(0)
    shapes = ((1, 32, 112, 112), (64, 32, 3, 3), (64, 8, 3, 3), (2048, 2048))
    x, dense, grouped, large = (
        torch.rand(*shape, generator=generator, dtype=torch.float32, device="cpu").to(device) for shape in shapes
    )
    conv2d = torch.nn.functional.conv2d

    def run() -> None:
        conv2d(conv2d(x, dense, padding=1), grouped, padding=1, groups=8)
        large.mul_(1.0)

    return run


def choose_repeats(placement: Placement, clock: Clock = host_clock) -> int:
    """Return how many units make one call of about ``_TARGET_NS``."""
    unit = Reference(placement)
    with unit.apart():
        times = [time_one(unit, clock) for _ in range(20)]
    return max(1, round(_TARGET_NS / statistics.median(times[5:])))


def sample(placement: Placement, repeats: int, seconds: float) -> Calls:
    """Return single calls over ``seconds``, after warming up, taken as a visit takes them."""
    reference, model = Reference(placement, repeats), StandIn(placement)
    settle_ns = reference_settle_ns(placement.threads)
    _sample_beside(model, reference, _WARM_UP_S, settle_ns)
    return _sample_beside(model, reference, seconds, settle_ns, core_wait(placement.threads))


def _sample_beside(
    model: Workload,
    reference: Workload,
    seconds: float,
    settle_ns: int,
    core_wait: Clock | None = None,
    clock: Clock = host_clock,
) -> Calls:
    """Return single calls of ``reference`` over ``seconds``, in blocks after ``model``.

    In a visit the reference finds caches and threads as a model left them, and is slower than in a loop of its own; a
    nominal time from such a loop would make every headline too small by that. So something stands in for the model
    here, and it settles as long before the timed calls as in a visit.

    Blocks whose threads waited for a core, as ``core_wait`` tells, count only where there are no others: beside a
    competitor for a core a call on two threads can take fifty times its time.
    """
    alone: list[int] = []
    crowded_out: list[int] = []
    end = clock() + round(seconds * 1e9)
    while not (alone or crowded_out) or clock() < end:
        model.run()
        begin, waited = clock(), core_wait() if core_wait else 0
        block = reference_block(reference, clock, settle_ns)
        waited = core_wait() - waited if core_wait else 0
        (crowded_out if crowded(waited, (clock() - begin,)) else alone).extend(block)
    return Calls(alone or crowded_out, crowded=not alone)
