"""What NVIDIA's management library (NVML) says of one GPU, by UUID.

torch numbers the devices that ``CUDA_VISIBLE_DEVICES`` leaves, NVML numbers all: only the UUID means the same in both.
What a GPU, a driver or a partition (MIG) does not tell is None, never 0. Asking costs up to milliseconds and takes
locks in the driver, so the process that is being timed never does it: ``python -m profiler.nvml UUID SECONDS`` does,
see :class:`profiler.telemetry.Watch`.
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import pynvml

from profiler.telemetry import Reading

#: Answers that mean "this is not told here": not supported, no permission, function not found, no data, other version,
#: deprecated, not ready.
_UNTOLD = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_DATA,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_DEPRECATED,
    pynvml.NVML_ERROR_NOT_READY,
)

_SENTENCES = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 cannot be loaded: install the NVIDIA driver, or start the "
    "container with --gpus all",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA kernel driver is not loaded: load it (modprobe nvidia), or start "
    "the container with --gpus all",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA libraries and the kernel driver have different versions: "
    "reboot after the driver's update, or install the matching libraries",
    pynvml.NVML_ERROR_GPU_IS_LOST: "the GPU is lost (it fell off the bus): look for Xid in the kernel's log, then "
    "reset the GPU or reboot",
    pynvml.NVML_ERROR_NOT_FOUND: "NVML does not know this GPU: it is hidden from this container, or it is lost",
}


class NvmlError(Exception):
    """NVML cannot answer at all; the message is a sentence with the remedy."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """What identifies a GPU; stable between runs.

    Attributes:
        uuid: As NVML writes it, ``GPU-...`` or ``MIG-...``.
        name: Product name.
        driver: Version of the driver.
        power_limit_w: Enforced limit, in watts.
        max_clock_mhz: Highest clock of the multiprocessors, in MHz.
        mig: Whether the GPU is partitioned.
        ecc: Whether its memory corrects errors.
    """

    uuid: str
    name: str | None
    driver: str | None
    power_limit_w: float | None = None
    max_clock_mhz: int | None = None
    mig: bool | None = None
    ecc: bool | None = None


@contextmanager
def opened() -> Iterator[None]:
    """Hold NVML open.

    Raises:
        NvmlError: There is no library, no driver, or they do not fit together.
    """
    with _one_sentence():
        pynvml.nvmlInit()
    try:
        yield
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def handle(uuid: str) -> Any:
    """Return NVML's handle of the device with ``uuid``, with or without its prefix ``GPU-`` or ``MIG-``.

    Raises:
        NvmlError: NVML knows no such device.
    """
    names = [uuid] if uuid.startswith(("GPU-", "MIG-")) else [f"GPU-{uuid}", f"MIG-{uuid}"]
    for name in names[:-1]:
        with suppress(pynvml.NVMLError):
            return pynvml.nvmlDeviceGetHandleByUUID(name)
    with _one_sentence():
        return pynvml.nvmlDeviceGetHandleByUUID(names[-1])


def identify(uuid: str) -> Gpu:
    """Return what identifies the GPU with ``uuid``; NVML must be open. Raises NvmlError as :func:`handle`."""
    found = handle(uuid)
    limit = _told(pynvml.nvmlDeviceGetEnforcedPowerLimit, found)
    mig = _told(pynvml.nvmlDeviceGetMigMode, found)
    ecc = _told(pynvml.nvmlDeviceGetEccMode, found)
    return Gpu(
        uuid=uuid,
        name=_told(pynvml.nvmlDeviceGetName, found),
        driver=_told(pynvml.nvmlSystemGetDriverVersion),
        power_limit_w=None if limit is None else limit / 1000,
        max_clock_mhz=_told(pynvml.nvmlDeviceGetMaxClockInfo, found, pynvml.NVML_CLOCK_SM),
        mig=None if mig is None else bool(mig[0]),
        ecc=None if ecc is None else bool(ecc[0]),
    )


def installed() -> tuple[str | None, str | None]:
    """Return (names of all GPUs of this host, driver version), or Nones without a working NVIDIA driver."""
    try:
        with opened():
            count = _told(pynvml.nvmlDeviceGetCount) or 0
            with _one_sentence():
                handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
            names = [_told(pynvml.nvmlDeviceGetName, found) or "unnamed" for found in handles]
            return "; ".join(names) or None, _told(pynvml.nvmlSystemGetDriverVersion)
    except NvmlError:
        return None, None


def read(found: Any) -> Reading:
    """Look at a GPU once.

    Raises:
        NvmlError: The GPU is lost.
    """
    energy = _told(pynvml.nvmlDeviceGetTotalEnergyConsumption, found)
    used = _told(pynvml.nvmlDeviceGetUtilizationRates, found)
    memory = _told(pynvml.nvmlDeviceGetMemoryInfo, found)
    return Reading(
        ns=time.monotonic_ns(),
        clock_mhz=_told(pynvml.nvmlDeviceGetClockInfo, found, pynvml.NVML_CLOCK_SM),
        memory_clock_mhz=_told(pynvml.nvmlDeviceGetClockInfo, found, pynvml.NVML_CLOCK_MEM),
        events=_first_told(
            (pynvml.nvmlDeviceGetCurrentClocksEventReasons, pynvml.nvmlDeviceGetCurrentClocksThrottleReasons), found
        ),
        temperature_c=_first_told(
            (pynvml.nvmlDeviceGetTemperatureV, pynvml.nvmlDeviceGetTemperature), found, pynvml.NVML_TEMPERATURE_GPU
        ),
        energy_j=None if energy is None else energy / 1000,
        utilisation=None if used is None else used.gpu / 100,
        used_bytes=None if memory is None else int(memory.used),
        processes=_processes(found),
    )


def _processes(found: Any) -> tuple[tuple[int, int | None], ...] | None:
    listed = _first_told(
        (pynvml.nvmlDeviceGetComputeRunningProcesses_v3, pynvml.nvmlDeviceGetComputeRunningProcesses_v2), found
    )
    return None if listed is None else tuple((process.pid, process.usedGpuMemory) for process in listed)


def _told(ask: Callable[..., Any], *arguments: object) -> Any:
    """Return the answer, None where it is not told here; NvmlError where nothing more will be."""
    try:
        return ask(*arguments)
    except pynvml.NVMLError as error:
        if error.value in _UNTOLD:
            return None
        raise NvmlError(_sentence(error)) from error


def _first_told(asks: Sequence[Callable[..., Any]], *arguments: object) -> Any:
    """Newer names first: an older driver does not have them."""
    answers = (_told(ask, *arguments) for ask in asks)
    return next((answer for answer in answers if answer is not None), None)


@contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except pynvml.NVMLError as error:
        raise NvmlError(_sentence(error)) from error


def _sentence(error: pynvml.NVMLError) -> str:
    return _SENTENCES.get(error.value) or f"NVML fails with error {error.value} ({error}): check nvidia-smi"


def main(uuid: str, interval_s: float) -> None:
    """Write one reading a line until standard input closes or the GPU no longer answers."""
    try:
        with opened():
            found = handle(uuid)
            while True:
                print(json.dumps(asdict(read(found))), flush=True)
                ready, _, _ = select.select([sys.stdin], [], [], interval_s)
                if ready:
                    return
    except NvmlError as error:
        print(json.dumps({"note": str(error)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
