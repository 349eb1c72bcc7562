"""Energy of one forward on an NVIDIA GPU, in a pass of its own: nothing else runs between the forwards.

The driver's counter counts the whole board, idle draw included, and moves about every 100 ms; so forwards are repeated
for seconds, and the energy of one is the board's mean power times the time of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from profiler.machine import gpu
from profiler.machine.gpu import Reading
from profiler.measure.timing import Workload

#: Seconds for which forwards are repeated.
SECONDS = 2.0


def measure(
    session: Workload,
    uuid: str | None,
    seconds: float | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
) -> float | None:
    """Repeat forwards for ``seconds`` (``SECONDS``) and return joules per forward.

    None without an NVIDIA GPU (``uuid`` is None), and where its driver counts no energy.
    """
    with gpu.watching(uuid) as watch:
        if watch is None:
            return None
        start, calls = clock(), 0
        deadline = start + round((SECONDS if seconds is None else seconds) * 1e9)
        while clock() < deadline:
            session.run()
            session.sync()
            calls += 1
        end = clock()
        readings, _ = watch.stop()
    return per_forward(readings, start, end, calls)


def per_forward(readings: Sequence[Reading], start_ns: int, end_ns: int, calls: int) -> float | None:
    """Return mean power between two times, from the energy counter, times the mean time of one of ``calls``."""
    power = gpu.power([reading for reading in readings if start_ns <= reading.ns <= end_ns])
    return None if power is None else power * (end_ns - start_ns) / 1e9 / calls
