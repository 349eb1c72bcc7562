"""What an NVIDIA GPU does while a visit is timed.

A process of its own reads it at most ten times a second, because asking the driver costs milliseconds and takes its
locks. What a driver does not tell stays None.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, Any

from profiler.machine.beside import run_beside
from profiler.records.circumstances import Conditions

#: The clock of readings, in nanoseconds: all processes of a machine share it.
clock_ns = time.monotonic_ns

#: Seconds between two readings. NVML's own figures change no faster.
_INTERVAL_S = 0.1

#: In ns. Power is told from so much time at least: the energy counter moves in steps of a tenth of a second, and from
#: less 633 W were told on a card that took 420.
_POWER_NS = 1_000_000_000

#: A clock stands still when its last readings differ by no more than this share: two of the driver's steps of 15 MHz.
_CLOCK_STEADY = 0.02
#: So many readings: half a second, in which a GPU that starts from idle has long left its idle clock.
_CLOCK_READINGS = 5

#: Clock-event reasons that make a GPU slower than it could be, by bit (NVML API reference, nvmlClocksEventReasons).
#: Idle clocks, clocks set by the user and sync boost are not among them.
_SLOWDOWNS = {
    0x04: "power cap",
    0x08: "hardware slow-down",
    0x20: "thermal (software)",
    0x40: "thermal (hardware)",
    0x80: "power brake",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a GPU.

    Attributes:
        ns: Time of the reading by ``clock_ns``.
        clock_mhz: Clock of the multiprocessors.
        memory_clock_mhz: Clock of the memory.
        events: Bit mask of clock-event reasons.
        temperature_c: Temperature in degrees Celsius.
        energy_j: Energy since the driver was loaded, in joules.
        utilisation: Share of the last NVML period (up to a second) in which a kernel ran, 0 to 1.
        used_bytes: Memory in use by anyone.
        processes: Process ids with a compute context, and their bytes where told.
    """

    ns: int
    clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    events: int | None = None
    temperature_c: int | None = None
    energy_j: float | None = None
    utilisation: float | None = None
    used_bytes: int | None = None
    processes: tuple[tuple[int, int | None], ...] | None = None


def _slowdown(events: Sequence[int]) -> str:
    """Return the reasons of slow-down in bit masks of clock events, as ``power cap, thermal (software)``."""
    mask = 0
    for event in events:
        mask |= event
    return ", ".join(name for bit, name in _SLOWDOWNS.items() if mask & bit)


def _summary(
    readings: Sequence[Reading], own: int, note: str | None = None, longer: Sequence[Reading] = ()
) -> dict[str, Any]:
    """Return the GPU fields of ``Conditions`` for the readings of one timed part.

    Args:
        readings: In the order of time.
        own: The process that is timed; all others with a context on the GPU are foreign. A container may see other
            numbers than NVML: without ``own`` in a list nothing is said of that list.
        note: Why readings are missing or end early.
        longer: More readings under the same load, for power.
    """
    events = _all(readings, "events")
    return {
        "gpu_readings": len(readings),
        "gpu_clock_mhz": _of(statistics.median, _all(readings, "clock_mhz")),
        "gpu_clock_min_mhz": _of(min, _all(readings, "clock_mhz")),
        "gpu_memory_clock_mhz": _of(statistics.median, _all(readings, "memory_clock_mhz")),
        "gpu_temperature_c": _of(max, _all(readings, "temperature_c")),
        "gpu_power_w": power(longer or readings),
        "gpu_utilisation": _of(statistics.fmean, _all(readings, "utilisation")),
        "gpu_memory_bytes": _of(max, _own_bytes(readings, own)),
        "gpu_foreign_processes": _of(max, _foreign(readings, own)),
        "gpu_slowdown": _slowdown(events) if events else None,
        "gpu_note": note,
    }


def _all(readings: Sequence[Reading], name: str) -> list[Any]:
    return [value for value in (getattr(reading, name) for reading in readings) if value is not None]


def _of(statistic: Callable[[list[Any]], Any], values: list[Any]) -> Any:
    return statistic(values) if values else None


def power(readings: Sequence[Reading]) -> float | None:
    """Return mean power in watts from the energy counter: what NVML calls power is itself an average over a second.

    None from less than ``_POWER_NS``, and of a counter that stands still.
    """
    told = [(reading.ns, reading.energy_j) for reading in readings if reading.energy_j is not None]
    if len(told) < 2:
        return None
    (start, first), (end, last) = told[0], told[-1]
    if end - start < _POWER_NS or last <= first:
        return None
    return round((last - first) / ((end - start) / 1e9), 3)


def _foreign(readings: Sequence[Reading], own: int) -> list[int]:
    lists = [[pid for pid, _ in reading.processes] for reading in readings if reading.processes is not None]
    return [len(set(pids) - {own}) for pids in lists if own in pids]


def _own_bytes(readings: Sequence[Reading], own: int) -> list[int]:
    pairs = [pair for reading in readings for pair in reading.processes or ()]
    return [used for pid, used in pairs if pid == own and used is not None]


def _stands_still(clocks: Sequence[int]) -> bool:
    """Return whether the last ``_CLOCK_READINGS`` of ``clocks``, in MHz, lie within ``_CLOCK_STEADY``."""
    last = clocks[-_CLOCK_READINGS:]
    return len(last) == _CLOCK_READINGS and max(last) <= (1 + _CLOCK_STEADY) * min(last)


class Watch:
    """A process that reads one GPU until told to stop; readings go to a file, so nothing here ever waits for them."""

    def __init__(self, uuid: str, interval_s: float = _INTERVAL_S) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
        self._process = run_beside("profiler.machine.nvml", uuid, str(interval_s), stdout=self._file)
        self._size, self._settled = 0, False

    def settled(self) -> bool:
        """Return whether the clock of the multiprocessors stands still; also where the driver will never tell it.

        Made to be asked between samples: it costs microseconds, and a little more when there is a new reading.
        """
        if not hasattr(os, "pread"):  # Windows: a file that two processes share cannot be read without moving both
            return True
        size = os.fstat(self._file.fileno()).st_size
        if size != self._size:
            self._size, self._settled = size, self._clock_stands_still(size)
        return self._settled or self._process.poll() is not None

    def _clock_stands_still(self, size: int) -> bool:
        # A read that moves the file's offset would move it for the child too, which writes there.
        lines = os.pread(self._file.fileno(), size, 0).decode().splitlines()
        readings, _ = _parse(lines[-_CLOCK_READINGS:])
        clocks = [reading.clock_mhz for reading in readings if reading.clock_mhz is not None]
        return _stands_still(clocks) if clocks else bool(readings)

    def stop(self) -> tuple[list[Reading], str | None]:
        """End the process; return its readings, and why they are missing or end early. Twice gives nothing."""
        if self._file.closed:
            return [], None
        try:
            # Closing its standard input is the signal, so that it also ends when this process dies.
            self._process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._file.seek(0)
        lines = self._file.read().decode().splitlines()
        self._file.close()
        readings, note = _parse(lines)
        if note is None and self._process.returncode:
            note = f"the process that reads the driver failed with exit code {self._process.returncode}"
        return readings, note


@contextmanager
def watching(uuid: str | None) -> Iterator[Watch | None]:
    """Watch the GPU with ``uuid`` for the duration of the context; without one, watch nothing."""
    watch = Watch(uuid) if uuid is not None else None
    try:
        yield watch
    finally:
        if watch is not None:
            watch.stop()


def add(conditions: Conditions, watch: Watch | None, start_ns: int, end_ns: int) -> Conditions:
    """Return ``conditions`` with what ``watch`` saw between two times of ``clock_ns``; stops the watch."""
    if watch is None:
        return conditions
    readings, note = watch.stop()
    timed = [reading for reading in readings if start_ns <= reading.ns <= end_ns]
    # A model warms up under the load that is timed, and two readings lie a little less apart than what they bound.
    since_ns = min(start_ns, end_ns - _POWER_NS - round(3e9 * _INTERVAL_S))
    longer = [reading for reading in readings if since_ns <= reading.ns <= end_ns]
    return replace(conditions, **_summary(timed, os.getpid(), note, longer))


def _parse(lines: Sequence[str]) -> tuple[list[Reading], str | None]:
    """Return the readings that ``profiler.machine.nvml`` wrote, and the sentence with which it gave up, if it did."""
    readings, note = [], None
    for line in lines:
        with suppress(ValueError):  # the last line of a process that was killed
            told: dict[str, Any] = json.loads(line)
            note = told.get("note", note)
            if "ns" in told:
                readings.append(_reading(told))
    return readings, note


def _reading(told: Mapping[str, Any]) -> Reading:
    listed = told["processes"]
    pairs = None if listed is None else tuple((pid, used) for pid, used in listed)
    return Reading(**{**told, "processes": pairs})
