"""What clock a device runs at and how fast its memory is, by its own events: it tells, and divides nothing.

Two kernels that only wait for clock cycles differ by the cycles of the longer one beyond the shorter: their times by
events give the clock of the multiprocessors without a driver's library, in containers and on partitions (MIG) too. On
an H200 they gave 1984.5 MHz where NVML said 1980. Overwriting a buffer that no cache holds gives the bandwidth.
"""

from __future__ import annotations

from collections.abc import Callable

from profiler.backends import accelerator
from profiler.backends.base import Placement

#: Clock cycles of the shorter kernel, and how many times as many the longer one has: together 2 ms at 2 GHz, of which
#: an event's half microsecond is less than a thousandth.
_CYCLES, _LONGER = 1_000_000, 3


class Probe:
    """Looks at one accelerator between blocks of samples.

    Attributes:
        clock_mhz: Clock of the multiprocessors at each look, in MHz; empty where the device cannot sleep.
        stream_gb_s: Bandwidth of a write to its memory at each look, in GB/s; empty where there is no room for it.
    """

    def __init__(self, placement: Placement) -> None:
        import torch

        self._device = torch.device(placement.device)
        self._sleep = accelerator.sleeper(self._device)
        self._flush = self._buffer()
        self.clock_mhz: list[float] = []
        self.stream_gb_s: list[float] = []

    def look(self) -> None:
        """Look once; about 2 ms of the device's time."""
        if (clock := self._clock()) is not None:
            self.clock_mhz.append(clock)
        if (speed := self._speed()) is not None:
            self.stream_gb_s.append(speed)

    def _clock(self) -> float | None:
        sleep = self._sleep
        if sleep is None:
            return None
        short, long = self._ns(lambda: sleep(_CYCLES)), self._ns(lambda: sleep(_LONGER * _CYCLES))
        return round((_LONGER - 1) * _CYCLES / (long - short) * 1e3, 1) if long > short else None

    def _speed(self) -> float | None:
        if self._flush is None:
            return None
        ns = self._ns(self._flush.run)
        return round(self._flush.size / ns, 1) if ns > 0 else None

    def _ns(self, submit: Callable[[], object]) -> int:
        return next(iter(accelerator.device_times(submit, self._device, 1).ns), 0)

    def _buffer(self) -> accelerator.Flusher | None:
        """What is overwritten; a device that the model has nearly filled has no room for it."""
        try:
            return accelerator.flusher(self._device)
        except RuntimeError:
            return None
