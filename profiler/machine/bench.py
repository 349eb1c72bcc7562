"""A device as its checks use it, on torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from profiler.backends import devices
from profiler.backends.accelerator import captured, device_times, peaks, reset_peaks, uuid

#: Work that takes some milliseconds on a device: cycles to sleep on CUDA, matrix products elsewhere.
_SLEEP_CYCLES = 10_000_000
_PRODUCTS = 20
_EDGE = 1024


class Bench:
    """What ``profiler.machine.device_checks`` does with a device."""

    def __init__(self, device: str, edge: int = _EDGE) -> None:
        import torch

        self.device = torch.device(device)
        self._a = torch.ones(edge, edge, device=self.device)
        self._c = torch.empty_like(self._a)
        self.work(1)  # loads kernels and libraries
        self.sync()

    @property
    def name(self) -> str | None:
        """Product name."""
        return devices.device_name(self.device)

    @property
    def uuid(self) -> str | None:
        """The NVIDIA driver's name of this device; None for others."""
        return uuid(str(self.device))

    @property
    def processors(self) -> int | None:
        """Multiprocessors of an NVIDIA GPU; None for others."""
        import torch

        if self.uuid is None:
            return None
        return int(torch.cuda.get_device_properties(self.device).multi_processor_count)

    def work(self, units: int) -> None:
        """Submit work whose time on the device is proportional to ``units``; returns at once."""
        import torch

        if self.device.type == "cuda":
            with torch.cuda.device(self.device):  # it sleeps on the current device
                torch.cuda._sleep(units * _SLEEP_CYCLES)  # type: ignore[no-untyped-call]  # noqa: SLF001 - torch's tests use it
            return
        for _ in range(units * _PRODUCTS):
            torch.mm(self._a, self._a, out=self._c)

    def sync(self) -> None:
        """Wait for everything submitted."""
        devices.synchronize(self.device)

    def event_ns(self, units: int) -> int | None:
        """Return the time of ``work(units)`` by the device's events, in ns; None without such events."""
        return next(iter(device_times(lambda: self.work(units), self.device, 1).ns), None)

    def product(self, edge: int) -> Callable[[], object]:
        """Return what submits one fp32 product of two ``edge`` x ``edge`` matrices; TF32 is off."""
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        a, b = (torch.rand(edge, edge).to(self.device) for _ in range(2))
        c = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=c)

    def reset_peak(self) -> None:
        """Let the peak start again."""
        reset_peaks(self.device)

    def peak(self) -> int | None:
        """Return the most bytes allocated since the reset; None where nobody counts."""
        found = peaks(self.device)
        return None if found is None else found[0]

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Hold ``size`` bytes on the device."""
        import torch

        held = torch.empty(size, dtype=torch.uint8, device=self.device)
        try:
            yield
        finally:
            del held
            devices.release(self.device)

    def graph_difference(self) -> float | None:
        """Return the largest difference between a replayed CUDA graph and plain launches; None without graphs."""
        import torch

        if self.device.type != "cuda":
            return None
        x = torch.rand(256, 256).to(self.device)
        layer = torch.nn.Linear(256, 256).to(self.device)
        with torch.inference_mode():
            replay, out = captured(lambda: torch.relu(layer(x)), self.device)
            replay()
            difference: float = (out - torch.relu(layer(x))).abs().max().item()
        return difference
