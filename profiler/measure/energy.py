"""Energy of one forward on an NVIDIA GPU, in a pass of its own: nothing else runs between the forwards.

The driver's counter counts the whole board, idle draw included, and moves about every 100 ms; so forwards are repeated
for seconds, and the energy of one is the board's mean power times the time of one.
"""

from __future__ import annotations

from collections.abc import Sequence

from profiler.machine import gpu
from profiler.measure.timing import Workload, repeat_for

#: Seconds for which forwards are repeated.
_SECONDS = 2.0


def joules_per_forward(session: Workload, uuid: str | None) -> float | None:
    """Repeat forwards for ``_SECONDS`` and return the energy of one.

    None without an NVIDIA GPU (``uuid`` is None), and where its driver counts no energy.
    """
    with gpu.watching(uuid) as watch:
        if watch is None:
            return None
        start, end, calls = repeat_for(session, _SECONDS, gpu.clock_ns)
        readings, _ = watch.stop()
    return _per_forward(readings, start, end, calls)


def _per_forward(readings: Sequence[gpu.Reading], start_ns: int, end_ns: int, calls: int) -> float | None:
    """Return mean power between two times, from the energy counter, times the mean time of one of ``calls``."""
    power = gpu.power([reading for reading in readings if start_ns <= reading.ns <= end_ns])
    return None if power is None else power * (end_ns - start_ns) / 1e9 / calls
