"""One device by its name: its checks, and how its driver says that it is set up."""

from __future__ import annotations

import time
from collections.abc import Callable

from profiler.machine import nvml
from profiler.machine.bench import Bench
from profiler.machine.device_checks import run_checks
from profiler.machine.finding import Finding

#: Units of work, of some milliseconds each, under which settings are read, and seconds until clocks and link are up.
_BUSY_UNITS, _BUSY_S = 100, 0.3


def check_device(device: str) -> list[Finding]:
    """Run every check on a device that torch can use, with NVML's view where there is one.

    Initialises the device: call it in a process of its own.
    """
    bench = Bench(device)
    if bench.uuid is None:
        return run_checks(bench, None, _no_driver(device))
    try:
        with nvml.library():
            return run_checks(bench, nvml.identify(bench.uuid), "")
    except nvml.NvmlError as error:
        return run_checks(bench, None, str(error))


def _no_driver(device: str) -> str:
    return f"{device} is no NVIDIA GPU, or this torch does not tell its UUID"


def device_uuid(device: str) -> str | None:
    """Return by which UUID the driver knows ``device``; None for others than NVIDIA GPUs.

    Initialises the device: call it in a process of its own.
    """
    return Bench(device).uuid


def device_settings(device: str) -> nvml.GpuSettings | str:
    """Return how the driver says that ``device`` is set up, or why it does not say.

    Read while the device works: at rest its link and its clocks fall back, and nothing holds them.
    Initialises the device: call it in a process of its own.
    """
    bench = Bench(device)
    uuid = bench.uuid
    if uuid is None:
        return _no_driver(device)
    try:
        with nvml.library():
            return _settings_at_work(bench, nvml.identify(uuid).settings)
    except nvml.NvmlError as error:
        return str(error)


def _settings_at_work(
    bench: Bench, read: Callable[[], nvml.GpuSettings], sleep: Callable[[float], None] = time.sleep
) -> nvml.GpuSettings:
    bench.work(_BUSY_UNITS)
    sleep(_BUSY_S)
    try:
        return read()
    finally:
        bench.sync()
