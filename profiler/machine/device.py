"""The device's settings, and the check of one device by its name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.machine.bench import Bench, Finding
from profiler.machine.device_checks import run_checks
from profiler.machine.gpu import Reading

if TYPE_CHECKING:
    from profiler.machine.nvml import Settings


#: Units of work, of some milliseconds each, under which settings are read, and seconds until clocks and link are up.
BUSY_UNITS, BUSY_S = 100, 0.3


@dataclass(frozen=True, slots=True)
class NvmlDriver:
    """NVML's view of one GPU; satisfies ``Driver``. NVML must be open."""

    name: str | None
    max_clock_mhz: int | None
    handle: object

    def read(self) -> Reading:
        """Look at the GPU once."""
        from profiler.machine import nvml

        return nvml.read(self.handle)


def check_device(device: str) -> list[Finding]:
    """Run every check on a device that torch can use, with NVML's view where there is one.

    Initialises the device: call it in a process of its own.
    """
    from profiler.machine import nvml
    from profiler.machine.torch_bench import TorchBench

    bench = TorchBench(device)
    if bench.uuid is None:
        return run_checks(bench, None, _no_driver(device))
    try:
        with nvml.opened():
            gpu = nvml.identify(bench.uuid)
            driver = NvmlDriver(gpu.name, gpu.max_clock_mhz, nvml.handle(bench.uuid))
            return run_checks(bench, driver, "")
    except nvml.NvmlError as error:
        return run_checks(bench, None, str(error))


def _no_driver(device: str) -> str:
    return f"{device} is no NVIDIA GPU, or this torch does not tell its UUID"


def device_settings(device: str) -> Settings | str:
    """Return how the driver says that ``device`` is set up, or why it does not say.

    Read while the device works: at rest its link and its clocks fall back, and nothing holds them.
    Initialises the device: call it in a process of its own.
    """
    from profiler.machine import nvml
    from profiler.machine.torch_bench import TorchBench

    bench = TorchBench(device)
    uuid = bench.uuid
    if uuid is None:
        return _no_driver(device)
    try:
        with nvml.opened():
            found = nvml.handle(uuid)
            return settings_at_work(bench, lambda: nvml.settings(found))
    except nvml.NvmlError as error:
        return str(error)


def settings_at_work(
    bench: Bench, read: Callable[[], Settings], sleep: Callable[[float], None] = time.sleep
) -> Settings:
    """Return what ``read`` returns while ``bench`` works."""
    bench.work(BUSY_UNITS)
    sleep(BUSY_S)
    try:
        return read()
    finally:
        bench.sync()
