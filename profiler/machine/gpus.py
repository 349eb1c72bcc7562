"""The GPUs of this host, as what identifies it."""

from __future__ import annotations

import os
from typing import Any

import pynvml

from profiler.machine.nvml import NvmlError, library, on, query, watts

#: Which of several GPUs or partitions the first one of CUDA is depends on these.
_ORDER = ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES")

#: Clocks that this process has locked, in MHz, by UUID: NVML does not tell them.
LOCKED_MHZ: dict[str, int] = {}


def installed() -> tuple[str | None, str | None]:
    """Return (names of all GPUs of this host, driver version), or Nones without a working NVIDIA driver."""
    try:
        with library():
            names = [query("nvmlDeviceGetName", found) or "unnamed" for found in _all()]
            return "; ".join(names) or None, query("nvmlSystemGetDriverVersion")
    except NvmlError:
        return None, None


def set_up() -> str | None:
    """Return how all GPUs of this host are set up, as far as results depend on it, or None without a working driver.

    Of each, where it is told: UUID, power limit, clock that was set, and its partitions (MIG), whose names end in the
    profile, as ``1g.10gb``. Of several, which of them CUDA was told to number, and in which order.
    """
    try:
        with library():
            found = _all()
            parts = [_set_up(one) for one in found]
            if len(found) > 1 or any(map(_partitions, found)):
                parts += [f"{name} {os.environ[name]}" for name in _ORDER if name in os.environ]
            return "; ".join(parts) or None
    except NvmlError:
        return None


def _all() -> list[Any]:
    """Return the handles of the GPUs of this host that this process may ask: a container may have some alone."""
    count = query("nvmlDeviceGetCount") or 0
    found = [query("nvmlDeviceGetHandleByIndex", index) for index in range(count)]
    return [one for one in found if one is not None]


def _set_up(found: Any) -> str:
    uuid = query("nvmlDeviceGetUUID", found)
    # Where nobody can set a limit it moves by itself, as a laptop's does with what its processor takes.
    settable = query("nvmlDeviceGetPowerManagementLimit", found) is not None
    limit = watts(query("nvmlDeviceGetEnforcedPowerLimit", found)) if settable else None
    clock = LOCKED_MHZ.get(uuid) or query("nvmlDeviceGetApplicationsClock", found, pynvml.NVML_CLOCK_SM)
    parts = (uuid, limit and f"{limit:g} W", clock and f"{clock} MHz", *_partitions(found))
    return ", ".join(str(part) for part in parts if part)


def _partitions(found: Any) -> list[str]:
    if not on(query("nvmlDeviceGetMigMode", found)):
        return []
    most = query("nvmlDeviceGetMaxMigDeviceCount", found) or 0
    handles = [query("nvmlDeviceGetMigDeviceHandleByIndex", found, index) for index in range(most)]
    return [query("nvmlDeviceGetName", handle) or "MIG" for handle in handles if handle is not None]
