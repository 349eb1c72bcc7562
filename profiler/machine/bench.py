"""What checks of a device need: a driver, a clock, findings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from profiler.machine.gpu import Reading

Status = Literal["pass", "fail", "unverifiable"]
Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: Name of the check.
        status: Unverifiable means that this machine cannot tell, and fails nothing.
        said: One sentence with the figures, and the next step where it failed.
    """

    check: str
    status: Status
    said: str


class Bench(Protocol):
    """A device to be checked."""

    @property
    def name(self) -> str | None:
        """Product name."""

    @property
    def uuid(self) -> str | None:
        """The NVIDIA driver's name of this device; None for others."""

    @property
    def processors(self) -> int | None:
        """Multiprocessors of an NVIDIA GPU."""

    def work(self, units: int) -> None:
        """Submit work whose time is proportional to ``units``; return before it is done."""

    def sync(self) -> None:
        """Wait for everything submitted."""

    def event_ns(self, units: int) -> int | None:
        """Return the time of ``work(units)`` by the device's events; None without such events."""

    def product(self, edge: int) -> Callable[[], object]:
        """Return what submits one fp32 product of two square matrices."""

    def reset_peak(self) -> None:
        """Let the peak of allocated memory start again."""

    def peak(self) -> int | None:
        """Return the most bytes allocated since the reset; None where nobody counts."""

    def holding(self, size: int) -> AbstractContextManager[None]:
        """Hold ``size`` bytes."""

    def graph_difference(self) -> float | None:
        """Return the difference between a replayed graph and plain launches; None without graphs."""


class Driver(Protocol):
    """The driver's view of the same device."""

    @property
    def name(self) -> str | None:
        """Product name."""

    @property
    def max_clock_mhz(self) -> int | None:
        """Highest clock of the multiprocessors."""

    def read(self) -> Reading:
        """Look at the device once."""


def within(value: float, low: float, high: float, said: str, remedy: str) -> tuple[Status, str]:
    status: Status = "pass" if low <= value <= high else "fail"
    return status, said + unless(status, f"expected {low:g} to {high:g}: {remedy}")


def unless(status: Status, remedy: str) -> str:
    return "" if status == "pass" else f"; {remedy}"
