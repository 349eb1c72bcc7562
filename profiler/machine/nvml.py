"""What NVIDIA's management library (NVML) says of one GPU, by UUID.

torch numbers the devices that ``CUDA_VISIBLE_DEVICES`` leaves, NVML numbers all: only the UUID means the same in both.
What a GPU, a driver or a partition (MIG) does not tell is None, never 0. Asking costs up to milliseconds and takes
locks in the driver, so the process that is being timed never does it: ``python -m profiler.machine.nvml UUID SECONDS``
does, see ``profiler.machine.gpu.Watch``.
"""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import pynvml

from profiler.machine.gpu import Reading, clock_ns

#: Answers after which nothing more will be told: not initialised, no driver, library and driver that do not fit, the
#: GPU is lost, it must be reset. Any other error is about what was asked, and loses that alone.
_OVER = (
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
)

#: The clock-event reason for clocks that somebody set (NVML API reference, nvmlClocksEventReasons).
_CLOCKS_SET = 0x02

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

_COMPUTE_MODES = {
    pynvml.NVML_COMPUTEMODE_DEFAULT: "default",
    pynvml.NVML_COMPUTEMODE_EXCLUSIVE_THREAD: "exclusive thread",
    pynvml.NVML_COMPUTEMODE_PROHIBITED: "prohibited",
    pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS: "exclusive process",
}


class NvmlError(Exception):
    """NVML cannot answer at all; the message is a sentence with the remedy."""


@dataclass(frozen=True, slots=True)
class GpuSettings:
    """How a GPU is set up, as far as latency and power depend on it. None is what the driver does not tell.

    Attributes:
        power_limit_w: Enforced limit, in watts.
        power_limit_default_w: The limit that it has when nobody sets one, in watts.
        max_clock_mhz: Highest clock of the multiprocessors, in MHz.
        max_memory_clock_mhz: Highest clock of the memory, in MHz.
        application_clock_mhz: Clock of the multiprocessors that applications are set to get, in MHz.
        clocks_held: Whether clocks that somebody set (application or locked clocks) hold it back at this moment; NVML
            tells no locked clocks, only that they do.
        persistence: Whether the driver stays loaded while nobody uses the GPU.
        compute_mode: ``default``, ``exclusive process`` or ``prohibited``.
        mig: Whether the GPU is partitioned.
        ecc: Whether its memory corrects errors.
        pcie_generation: Of the link at this moment; an idle link falls back to a lower one.
        pcie_generation_max: The most that GPU and slot can do.
        pcie_width: Lanes of the link at this moment.
        pcie_width_max: The most that GPU and slot can do.
    """

    power_limit_w: float | None
    power_limit_default_w: float | None
    max_clock_mhz: int | None
    max_memory_clock_mhz: int | None
    application_clock_mhz: int | None
    clocks_held: bool | None
    persistence: bool | None
    compute_mode: str | None
    mig: bool | None
    ecc: bool | None
    pcie_generation: int | None
    pcie_generation_max: int | None
    pcie_width: int | None
    pcie_width_max: int | None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, while NVML is open.

    Attributes:
        uuid: As NVML writes it, ``GPU-...`` or ``MIG-...``.
        name: Product name.
        driver: Version of the driver.
        max_clock_mhz: Highest clock of the multiprocessors, in MHz.
        handle: By which NVML knows it.
    """

    uuid: str
    name: str | None
    driver: str | None
    max_clock_mhz: int | None
    handle: Any = field(repr=False, compare=False)

    @property
    def whole(self) -> Any:
        """The handle of the GPU that it is a partition of; its own where it is none."""
        return _whole(self.handle)

    @property
    def is_partition(self) -> bool:
        """Whether it is a partition (MIG) of a GPU, or known by the GPU's own UUID: CUDA has none as a whole then."""
        return self.whole is not self.handle or bool(on(query("nvmlDeviceGetMigMode", self.handle)))

    def read(self) -> Reading:
        """Look at it once. Raises NvmlError when it is lost."""
        return _reading(self.handle)

    def settings(self) -> GpuSettings:
        """Return how it is set up. Raises NvmlError when it is lost."""
        return _settings(self.whole)


@contextmanager
def library() -> Iterator[None]:
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


def _handle(uuid: str) -> Any:
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


def _whole(found: Any) -> Any:
    """Return the handle of the GPU that a partition (MIG) is on, which has its clocks, power and temperature.

    That of a GPU that is no partition is its own.
    """
    if not query("nvmlDeviceIsMigDeviceHandle", found):
        return found
    parent = query("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", found)
    return found if parent is None else parent


def identify(uuid: str) -> Gpu:
    """Return what identifies the GPU with ``uuid``; NVML must be open. Raises NvmlError when it knows none."""
    found = _handle(uuid)
    return Gpu(
        uuid=uuid,
        name=query("nvmlDeviceGetName", found),
        driver=query("nvmlSystemGetDriverVersion"),
        max_clock_mhz=query("nvmlDeviceGetMaxClockInfo", _whole(found), pynvml.NVML_CLOCK_SM),
        handle=found,
    )


def _settings(found: Any) -> GpuSettings:

    def its(name: str, *arguments: object) -> Any:
        return query(name, found, *arguments)

    events = _events(found)
    return GpuSettings(
        power_limit_w=watts(its("nvmlDeviceGetEnforcedPowerLimit")),
        power_limit_default_w=watts(its("nvmlDeviceGetPowerManagementDefaultLimit")),
        max_clock_mhz=its("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM),
        max_memory_clock_mhz=its("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_MEM),
        application_clock_mhz=its("nvmlDeviceGetApplicationsClock", pynvml.NVML_CLOCK_SM),
        clocks_held=None if events is None else bool(events & _CLOCKS_SET),
        persistence=on(its("nvmlDeviceGetPersistenceMode")),
        compute_mode=_COMPUTE_MODES.get(its("nvmlDeviceGetComputeMode")),
        mig=on(its("nvmlDeviceGetMigMode")),
        ecc=on(its("nvmlDeviceGetEccMode")),
        pcie_generation=its("nvmlDeviceGetCurrPcieLinkGeneration"),
        pcie_generation_max=its("nvmlDeviceGetMaxPcieLinkGeneration"),
        pcie_width=its("nvmlDeviceGetCurrPcieLinkWidth"),
        pcie_width_max=its("nvmlDeviceGetMaxPcieLinkWidth"),
    )


def watts(milliwatts: int | None) -> float | None:
    """Return watts of milliwatts, None of None."""
    return None if milliwatts is None else milliwatts / 1000


def on(answer: int | Sequence[int] | None) -> bool | None:
    """Whether a switch is on; of some switches NVML tells what it is now and what it will be after a reset."""
    if answer is None:
        return None
    return bool(answer if isinstance(answer, int) else answer[0])


def _reading(found: Any) -> Reading:
    """Look at a GPU, or at a partition: memory and processes are its own, the rest is the whole GPU's."""
    whole = _whole(found)
    energy = query("nvmlDeviceGetTotalEnergyConsumption", whole)
    used = query("nvmlDeviceGetUtilizationRates", found)
    memory = query("nvmlDeviceGetMemoryInfo", found)
    return Reading(
        ns=clock_ns(),
        clock_mhz=query("nvmlDeviceGetClockInfo", whole, pynvml.NVML_CLOCK_SM),
        memory_clock_mhz=query("nvmlDeviceGetClockInfo", whole, pynvml.NVML_CLOCK_MEM),
        events=_events(whole),
        temperature_c=_first_told(
            ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature"), whole, pynvml.NVML_TEMPERATURE_GPU
        ),
        energy_j=None if energy is None else energy / 1000,
        utilisation=None if used is None else used.gpu / 100,
        used_bytes=None if memory is None else int(memory.used),
        processes=_processes(found),
    )


def _events(found: Any) -> int | None:
    """Bit mask of the reasons for the clocks as they are."""
    names = "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
    mask: int | None = _first_told(names, found)
    return mask


def _processes(found: Any) -> tuple[tuple[int, int | None], ...] | None:
    names = "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"
    listed = _first_told(names, found)
    return None if listed is None else tuple((process.pid, process.usedGpuMemory) for process in listed)


def query(name: str, *arguments: object) -> Any:
    """Return what a function of NVML answers; NvmlError where nothing more will be told.

    None where it is not told here: by the driver, or by a binding that does not have the function yet or any more.
    """
    ask = getattr(pynvml, name, None)
    if ask is None:
        return None
    try:
        answer = ask(*arguments)
        return answer.decode() if isinstance(answer, bytes) else answer  # as older bindings have it
    except pynvml.NVMLError as error:
        if error.value in _OVER:
            raise NvmlError(_sentence(error)) from error
        return None


def _first_told(names: Sequence[str], *arguments: object) -> Any:
    """Newer names first: an older driver, or binding, does not have them."""
    answers = (query(name, *arguments) for name in names)
    return next((answer for answer in answers if answer is not None), None)


@contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except pynvml.NVMLError as error:
        raise NvmlError(_sentence(error)) from error


def _sentence(error: pynvml.NVMLError) -> str:
    return _SENTENCES.get(error.value) or f"NVML fails with error {error.value} ({error}): check nvidia-smi"


def _report(uuid: str, interval_s: float) -> None:
    """Write one reading a line until standard input closes or the GPU no longer answers."""
    try:
        with library():
            found = _handle(uuid)
            while True:
                print(json.dumps(asdict(_reading(found))), flush=True)
                ready, _, _ = select.select([sys.stdin], [], [], interval_s)
                if ready:
                    return
    except NvmlError as error:
        print(json.dumps({"note": str(error)}), flush=True)


if __name__ == "__main__":
    _report(sys.argv[1], float(sys.argv[2]))
