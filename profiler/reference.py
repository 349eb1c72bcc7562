"""The fixed workload that is interleaved with every measurement, and its nominal time on this machine.

On a CPU the workload is made of small kernels (about half of the time), depthwise convolutions (a quarter), a matrix
product and a pointwise convolution. Seven candidates were timed beside two networks, in two runtimes, on one and two
threads, in 200 fresh processes: this mix left the least spread of the ratio, 0.8 to 2.0% on one thread and 1.2 to 5%
on two, where the plain time spread by 1.9 to 2.9% and 5 to 14%, and the matrix product with small kernels alone by 0.7
to 2.5% and 2 to 12%. Streams through memory or caches follow nothing but themselves. Elsewhere it is a larger matrix
product and small kernels.

Its nominal time is measured once per machine, device, thread count and precision and kept in the user's cache; a
latency is a ratio to the reference beside it times that nominal time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backends.base import Placement
from profiler import kept

if TYPE_CHECKING:
    import torch

#: Bumped when the workload or its calibration changes: a nominal time holds for one version of them.
VERSION = 4
#: Where calibrations are kept, in the user's cache.
FILE = "calibration.json"
#: A call of the reference lasts about this long: long enough for the clock, short enough to follow a disturbance.
TARGET_NS = 4_000_000


@dataclass(frozen=True, slots=True)
class Calibration:
    """The reference on one machine, device, thread count and precision.

    Attributes:
        repeats: Units of work in one call.
        nominal_ns: Time of one call when nothing disturbs the machine.
        spread: Relative standard deviation of the nominal over the processes that measured it.
        visits: Fresh processes that measured it.
        created: UTC time, ISO 8601.
    """

    repeats: int
    nominal_ns: float
    spread: float
    visits: int
    created: str


class Reference:
    """The workload itself, on one device; satisfies :class:`profiler.measure.Workload`."""

    def __init__(self, placement: Placement, repeats: int = 1) -> None:
        import torch

        device = torch.device(placement.device)
        kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[placement.precision]
        on_cpu = device.type == "cpu"
        # CPU matrix products in half precision are emulated on most machines and would dwarf the rest.
        dtype = torch.float32 if on_cpu else kind
        edge = round(192 * placement.threads ** (1 / 3) / 16) * 16 if on_cpu else 2048
        generator = torch.Generator().manual_seed(0)

        def random(*size: int) -> torch.Tensor:
            return torch.rand(*size, generator=generator).to(device, dtype)

        self._torch = torch
        self._a, self._b, self._c = random(edge, edge), random(edge, edge), random(edge, edge)
        self._small = random(4096)
        self._launches = range(300 if on_cpu else 30)
        images = max(1, placement.threads // 2)
        self._convolutions = _Convolutions(random, images) if on_cpu else None
        self.repeats = repeats
        self._sync: Callable[[], None] = (lambda: None) if on_cpu else _synchronize(device)

    def run(self) -> None:
        """Submit one call."""
        with self._torch.inference_mode():
            for _ in range(self.repeats):
                self._torch.mm(self._a, self._b, out=self._c)
                for _ in self._launches:
                    self._small.mul_(1.0)
                if self._convolutions is not None:
                    self._convolutions.run()

    def sync(self) -> None:
        """Block until everything submitted has finished."""
        self._sync()


class _Convolutions:
    """Two depthwise convolutions and a pointwise one, of the sizes that networks have in their middle."""

    def __init__(self, random: Callable[..., torch.Tensor], images: int) -> None:
        from torch.nn import functional

        self._conv2d, self._relu = functional.conv2d, functional.relu
        self._wide, self._depthwise = random(images, 96, 56, 56), random(96, 1, 3, 3)
        self._narrow, self._pointwise = random(images, 96, 28, 28), random(96, 96, 1, 1)

    def run(self) -> None:
        for _ in range(2):
            self._conv2d(self._wide, self._depthwise, padding=1, groups=96)
        self._relu(self._conv2d(self._narrow, self._pointwise))


class _StandIn:
    """What stands in for a model while the reference is calibrated: convolutions, and 16 MiB read and written."""

    def __init__(self, placement: Placement) -> None:
        import torch

        self._torch = torch
        device = torch.device(placement.device)
        generator = torch.Generator().manual_seed(0)
        shapes = ((1, 32, 112, 112), (64, 32, 3, 3), (64, 8, 3, 3), (2048, 2048))
        self._x, self._dense, self._grouped, self._large = (
            torch.rand(*shape, generator=generator).to(device) for shape in shapes
        )

    def run(self) -> None:
        """Run for some milliseconds on a CPU core."""
        conv2d = self._torch.nn.functional.conv2d
        with self._torch.inference_mode():
            conv2d(conv2d(self._x, self._dense, padding=1), self._grouped, padding=1, groups=8)
            self._large.mul_(1.0)


def _synchronize(device: torch.device) -> Callable[[], None]:
    import torch

    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return torch.accelerator.synchronize


def choose_repeats(placement: Placement, clock: Callable[[], int] = time.perf_counter_ns) -> int:
    """Return how many units make one call of about :data:`TARGET_NS`."""
    unit = Reference(placement)
    times = []
    for _ in range(20):
        start = clock()
        unit.run()
        unit.sync()
        times.append(clock() - start)
    return max(1, round(TARGET_NS / statistics.median(times[5:])))


def sample(placement: Placement, repeats: int, seconds: float) -> list[int]:
    """Return times in nanoseconds of single calls over ``seconds``, after warming up, taken as a visit takes them.

    In a visit the reference finds caches and threads as a model left them, and is 0.4 to 1.6% slower than in a loop of
    its own; a nominal time from such a loop would make every headline too small by that. So something stands in for
    the model here, and the first call after it is not counted.
    """
    reference, model = Reference(placement, repeats), _StandIn(placement)
    times: list[int] = []
    warm = time.perf_counter_ns() + 200_000_000
    deadline = warm + round(seconds * 1e9)
    while time.perf_counter_ns() < deadline:
        model.run()
        reference.run()
        reference.sync()
        for _ in range(3):
            start = time.perf_counter_ns()
            reference.run()
            reference.sync()
            now = time.perf_counter_ns()
            if start > warm:
                times.append(now - start)
    return times


def nominal(visits: list[list[int]]) -> tuple[float, float]:
    """Return (nominal time in ns, relative spread) from times taken in several fresh processes.

    The median over processes of their medians: a minority of them may be disturbed without moving the result, and on
    a quiet machine, where the median is what a plain loop sees, so is the latency that the nominal time gives.
    """
    levels = [statistics.median(times) for times in visits]
    centre = statistics.median(levels)
    return centre, (statistics.stdev(levels) / centre if len(levels) > 1 else 0.0)


def identity(host: str, placement: Placement) -> str:
    """Return the name under which a calibration is kept."""
    p = placement
    return f"v{VERSION} {host} {p.device} {p.precision} t{p.threads}"


def stored(folder: Path, name: str) -> Calibration | None:
    """Return the calibration kept under ``name``, or None when there is none or it cannot be read."""
    try:
        return Calibration(**kept.load(folder / FILE)[name])
    except (KeyError, TypeError):
        return None


def store(folder: Path, name: str, calibration: Calibration) -> None:
    """Keep a calibration under ``name`` in ``folder``."""
    kept.keep(folder / FILE, name, asdict(calibration))
