"""Under which conditions a visit ran: load, switches, stalls, frequency.

Two looks at the host's counters and their difference; a look costs tens of microseconds. What a system does not tell
stays None.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from profiler.machine import host
from profiler.records.circumstances import Conditions

if sys.platform != "win32":  # there is none on Windows
    import resource

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters at one moment; differences of two are ``Conditions``."""

    switches: int | None
    steal_s: float | None
    stall_s: float | None
    throttled_s: float | None
    busy_s: float | None
    own_s: float
    wall_s: float


def snapshot() -> Snapshot:
    """Read the counters of this process and of the machine."""
    busy, steal = _try(_cpu_seconds) or (None, None)
    return Snapshot(
        switches=_try(_involuntary_switches),
        steal_s=steal,
        stall_s=_try(_stalled_seconds),
        throttled_s=_try(_throttled_seconds),
        busy_s=busy,
        own_s=time.process_time(),
        wall_s=time.monotonic(),
    )


def since(first: Snapshot) -> Conditions:
    """Return what has happened since a snapshot."""
    last = snapshot()
    wall = last.wall_s - first.wall_s
    busy = _minus(last.busy_s, first.busy_s)
    others = None if busy is None or wall <= 0 else max(0.0, (busy - (last.own_s - first.own_s)) / wall)
    switches = None if last.switches is None or first.switches is None else last.switches - first.switches
    return Conditions(
        involuntary_switches=switches,
        steal_s=_minus(last.steal_s, first.steal_s),
        stall_s=_minus(last.stall_s, first.stall_s),
        throttled_s=_minus(last.throttled_s, first.throttled_s),
        frequency_mhz=_try(_frequency_mhz),
        load=None if others is None else round(others, 3),
    )


def core_wait(threads: int) -> Callable[[], int] | None:
    """Return what reads how long this process's threads have been ready to run without a core, in ns, all together.

    Linux counts it for each thread (Documentation/scheduler/sched-stats.rst, the second number of
    /proc/PID/task/TID/schedstat); a reading costs about 15 µs a thread. None elsewhere, and where ``threads`` are more
    than the cores, so that they wait for each other.
    """
    return _core_wait_ns if threads <= host.usable_cores() and _try(_core_wait_ns) is not None else None


def _core_wait_ns() -> int:
    total = 0
    for thread in os.scandir("/proc/self/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            total += int(Path(thread.path, "schedstat").read_text(encoding="ascii").split()[1])
    return total


def _minus(last: float | None, first: float | None) -> float | None:
    return None if last is None or first is None else round(last - first, 6)


def _try(read: Callable[[], _T]) -> _T | None:
    """Return what ``read`` returns, or None where this system has no such counter."""
    try:
        return read()
    except (OSError, ValueError, IndexError):
        return None


def _involuntary_switches() -> int:
    if sys.platform == "win32":
        raise OSError("no switches are counted")
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _cpu_seconds() -> tuple[float, float]:
    """Return seconds all cores were busy (without steal) and stolen, since boot (man 5 proc, /proc/stat)."""
    ticks = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    hertz = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / hertz, steal / hertz


def _stalled_seconds() -> float:
    """Return the ``some`` total of CPU pressure, in seconds (Linux Documentation/accounting/psi.rst)."""
    line = Path("/proc/pressure/cpu").read_text(encoding="ascii").splitlines()[0]
    return int(line.rpartition("total=")[2]) / 1e6


def _throttled_seconds() -> float:
    """Return how long this control group was throttled: cgroup v2 in microseconds, v1 in nanoseconds."""
    for path, name, unit in (
        ("/sys/fs/cgroup/cpu.stat", "throttled_usec", 1e6),
        ("/sys/fs/cgroup/cpu/cpu.stat", "throttled_time", 1e9),
    ):
        try:
            text = Path(path).read_text(encoding="ascii")
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith(name + " "):
                return int(line.split()[1]) / unit
    raise OSError("no throttling counter")


def _frequency_mhz() -> float:
    """Return the mean current frequency of the cores; virtual machines often show a constant."""
    files = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    kilohertz = [int(file.read_text(encoding="ascii")) for file in files]
    if not kilohertz:
        raise OSError("no frequency is readable")
    return round(sum(kilohertz) / len(kilohertz) / 1000, 1)
