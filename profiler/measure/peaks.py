"""What this machine can do at most: multiply-adds and bytes per second, and the least time of an operator.

A layer is faster than none of the three (the roofline of Williams et al. 2009, with a floor for starting an operator).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path

from profiler.backends.base import BackendError, Placement
from profiler.machine import cache
from profiler.measure.timing import host_clock
from profiler.records.ranges import Count, Rate

#: Bumped when the work changes that peaks are measured by.
VERSION = 3
#: Where peaks are kept, in the user's cache.
_FILE = "peaks.json"
#: Edges of the square matrices that are multiplied: the best of them counts.
_EDGES = (256, 512, 1024)
#: Examples, channels, edges and layouts of images of a 3 x 3 convolution, which some processors do faster than a
#: product: those with channels last are not turned around at each call.
_IMAGES = (
    (1, 64, 56, "contiguous"),
    (1, 256, 14, "contiguous"),
    (1, 64, 112, "channels_last"),
    (8, 256, 14, "channels_last"),
)
#: Bytes that one copy reads and writes: from what a core has for itself to what no cache holds.
_WORKING_SETS = tuple(2**power for power in range(17, 30, 2))
#: In s, for each size; the fastest turn of many counts.
_SECONDS = 0.08
_LEAST_TURNS = 5
#: Additions of one number that are timed at once.
_TINY = 200


@dataclass(frozen=True, slots=True)
class Peaks:
    """The most that a device did, with one precision and number of threads.

    Attributes:
        flops_per_s: Multiply-adds per second, of a matrix product or a convolution, whichever does more.
        bytes_per_s: Bytes per second that a copy reads and writes, by the bytes that it goes through.
        overhead_ns: Time of an operator on a single number.
        made: When they were last measured, ISO 8601.
    """

    flops_per_s: Rate
    bytes_per_s: dict[Count, Rate]
    overhead_ns: Rate
    made: str

    def bandwidth(self, moved_bytes: float) -> float:
        """Bytes per second at most for what goes through so many bytes: those of the next larger copy, or the largest.

        The next smaller one where bytes lie between two, since a cache may hold them still.
        """
        smaller = [size for size in self.bytes_per_s if size <= moved_bytes]
        return self.bytes_per_s[max(smaller, default=min(self.bytes_per_s))]


@dataclass(frozen=True, slots=True)
class PeaksTask:
    """Measure the peaks of a placement."""

    placement: Placement
    made: str


def peaks_name(host: str, placement: Placement) -> str:
    """Return the name under which peaks are kept."""
    return f"v{VERSION} {host} {placement.device} {placement.precision} t{placement.threads}"


def stored_peaks(folder: Path, name: str) -> Peaks | None:
    """Return the peaks kept under ``name``, or None when there are none or they cannot be any."""
    return cache.kept(folder / _FILE, name, Peaks)


def store_peaks(folder: Path, name: str, peaks: Peaks) -> None:
    """Keep peaks under ``name`` in ``folder``."""
    cache.keep(folder / _FILE, name, asdict(peaks))


def measure_peaks(task: PeaksTask) -> Peaks:
    """Measure the peaks of a CPU; to be called in a fresh process.

    Raises:
        BackendError: The device is another one.
    """
    import torch

    place = task.placement
    if place.device_type != "cpu":
        raise BackendError(f"peaks are measured on the CPU alone, not on {place.device!r}")
    torch.set_num_threads(place.threads)
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(place.precision, torch.float32)
    with torch.inference_mode():
        products = [edge**3 / _fastest(_product(edge, kind)) for edge in _EDGES]
        convolutions = [
            9 * examples * (channels * edge) ** 2 / _fastest(_convolution(examples, channels, edge, layout, kind))
            for examples, channels, edge, layout in _IMAGES
        ]
        flops = max(*products, *convolutions)
        moved = {size: size / _fastest(_copy(size)) for size in _WORKING_SETS}
        tiny = torch.ones(1)

        def add() -> None:
            for _ in range(_TINY):
                tiny.add_(1.0)

        overhead = _fastest(add) / _TINY
    return Peaks(flops * 1e9, falling(moved), overhead, task.made)


def best_of(first: Peaks, second: Peaks) -> Peaks:
    """The better of two in each respect: what keeps cores busy only ever makes peaks look lower."""
    a, b = first.bytes_per_s, second.bytes_per_s
    return Peaks(
        max(first.flops_per_s, second.flops_per_s),
        {size: max(a.get(size, 0.0), b.get(size, 0.0)) for size in sorted({*a, *b})},
        min(first.overhead_ns, second.overhead_ns),
        second.made,
    )


def falling(per_ns: dict[int, float]) -> dict[int, float]:
    """Bytes per second from bytes per ns; what goes through less is never slower than what goes through more."""
    best, made = 0.0, dict[int, float]()
    for size in sorted(per_ns, reverse=True):
        best = max(best, per_ns[size])
        made[size] = best * 1e9
    return dict(sorted(made.items()))


def _product(edge: int, kind: object) -> Callable[[], None]:
    import torch

    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, edge, edge, generator=generator).to(kind)  # type: ignore[call-overload]
    out = torch.empty_like(a)

    def run() -> None:
        torch.mm(a, b, out=out)

    return run


def _convolution(examples: int, channels: int, edge: int, layout: str, kind: object) -> Callable[[], None]:
    import torch

    generator = torch.Generator().manual_seed(0)
    form = {"dtype": kind, "memory_format": {"channels_last": torch.channels_last}.get(layout, torch.contiguous_format)}
    image = torch.rand(examples, channels, edge, edge, generator=generator).to(**form)  # type: ignore[call-overload]
    weight = torch.rand(channels, channels, 3, 3, generator=generator).to(**form)  # type: ignore[call-overload]

    def run() -> None:
        torch.conv2d(image, weight, padding=1)

    return run


def _copy(size: int) -> Callable[[], None]:
    import torch

    source = torch.ones(ceil(size / 8))
    target = torch.empty_like(source)

    def run() -> None:
        target.copy_(source)

    return run


def _fastest(run: Callable[[], None]) -> float:
    """Return the least time of a turn, in ns."""
    run()
    begin, best, turns = host_clock(), float("inf"), 0
    while turns < _LEAST_TURNS or host_clock() - begin < _SECONDS * 1e9:
        start = host_clock()
        run()
        best, turns = min(best, host_clock() - start), turns + 1
    return max(best, 1.0)
