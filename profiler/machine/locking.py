"""Hold the clocks of GPUs while a run measures, where the driver permits it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pynvml

from profiler.machine import host, nvml

#: What there is to do where the driver does not permit it.
_INSTEAD = (
    "clocks are as they are: set them as root (nvidia-smi --lock-gpu-clocks), or leave --lock-clocks out and look at "
    "probe_clock_mhz"
)


@contextmanager
def locked_clocks(uuids: Sequence[str], mhz: int) -> Iterator[list[str]]:
    """Hold the multiprocessors of the GPUs with ``uuids`` at ``mhz`` for the duration of the context.

    Gives a sentence for each GPU whose driver does not permit it. The host's facts tell the clocks meanwhile.
    """
    try:
        with nvml.library():
            handles = {uuid: nvml.identify(uuid).whole for uuid in uuids}
            warnings = [said for uuid, found in handles.items() if (said := _lock(uuid, found, mhz))]
            host.facts.cache_clear()
            try:
                yield warnings
            finally:
                for uuid in set(handles) & set(nvml.LOCKED_MHZ):
                    del nvml.LOCKED_MHZ[uuid]
                    with suppress(pynvml.NVMLError):
                        pynvml.nvmlDeviceResetGpuLockedClocks(handles[uuid])
                host.facts.cache_clear()
    except nvml.NvmlError as error:
        yield [f"{error}; {_INSTEAD}"]


def _lock(uuid: str, found: object, mhz: int) -> str:
    """Lock one GPU; return why not, in a sentence."""
    try:
        pynvml.nvmlDeviceSetGpuLockedClocks(found, mhz, mhz)
    except pynvml.NVMLError as error:
        return f"the clock of {uuid} cannot be locked at {mhz} MHz ({str(error).lower()}); {_INSTEAD}"
    nvml.LOCKED_MHZ[uuid] = mhz
    return ""
