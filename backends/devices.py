"""Whether a device can be used, asked in the order in which a user would fix it.

Nothing here falls back to another device. The probes initialise the device: call them only in the process
that is going to use it, never in one that forks later.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from profiler.backends.base import MemoryFormat, Placement, Precision

if TYPE_CHECKING:
    import torch

# Bare metal and containers, Windows' subsystem for Linux, Jetson.
_DRIVER_NODES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-ctrl-gpu")

#: Where nobody computes fp32 in TF32 unless told to.
_WITHOUT_TF32 = ("cpu", "xpu", "mps")

_USE_CPU = "or use --device cpu"


def malformed(placement: Placement) -> str | None:
    """Return which field of ``placement`` has a value that no backend knows, or None."""
    for field, allowed in (("precision", get_args(Precision)), ("memory_format", get_args(MemoryFormat))):
        value = getattr(placement, field)
        if value not in allowed:
            return f"{field} is {value!r}: use one of {', '.join(allowed)}"
    if placement.threads < 1:
        return f"threads is {placement.threads}: use 1 or more"
    if not re.fullmatch(r"[a-z]+(:\d+)?", placement.device):
        return f"device is {placement.device!r}: use cpu, cuda, cuda:N, xpu or mps"
    if placement.precision == "tf32" and placement.device_type in _WITHOUT_TF32:
        return f"tf32 is arithmetic of NVIDIA's GPUs and the device is {placement.device!r}: use precision fp32"
    return None


def unavailable(device: str) -> str | None:
    """Return the first reason why torch cannot use ``device``, with the remedy, or None when it can."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return None if index in ("", "0") else f"device is {device!r}: there is one cpu, use --device cpu"
    return _cuda(int(index or 0)) if kind == "cuda" else _accelerator(kind, int(index or 0))


def untested(device: str) -> str | None:
    """Return the platform of ``device`` where this project is untested on it; None for the CPU and for CUDA."""
    import torch

    kind = device.partition(":")[0]
    if kind == "cuda":
        return "ROCm" if torch.version.hip else None
    return None if kind == "cpu" else kind.upper()


def arithmetic_unavailable(placement: Placement) -> str | None:
    """Return why an available device has no arithmetic in the precision of ``placement``, or None when it has."""
    import torch

    precision, device = placement.precision, placement.device
    if placement.device_type != "cuda" or precision not in ("bf16", "tf32"):
        return None
    if torch.version.hip:
        return "tf32 is arithmetic of NVIDIA's GPUs: use precision fp32" if precision == "tf32" else None
    if precision == "tf32" and (overridden := tf32_overridden()):
        return overridden
    major, minor = torch.cuda.get_device_capability(torch.device(device))
    if major >= 8:
        return None
    return f"{device} has compute capability {major}.{minor} and {precision} needs 8.0: use precision fp16 or fp32"


def tf32_overridden() -> str | None:
    """Return why NVIDIA's libraries compute nothing in TF32, whatever they are told, with the remedy, or None."""
    if os.environ.get("NVIDIA_TF32_OVERRIDE") != "0":
        return None
    return "NVIDIA_TF32_OVERRIDE=0 keeps NVIDIA's libraries from TF32: unset it, or compute in fp32"


def synchronize(device: torch.device) -> None:
    """Block until ``device`` has finished everything submitted to it."""
    import torch

    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def release(device: torch.device) -> None:
    """Give memory that torch keeps for reuse on ``device`` back to it."""
    import torch

    if device.type != "cpu":
        empty = getattr(torch.get_device_module(device), "empty_cache", None)
        if empty is not None:
            empty()


def device_name(device: torch.device) -> str | None:
    """Return the product name of an accelerator, where its module tells."""
    import torch

    if device.type == "cpu":
        return None
    named = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(named(device)) if named is not None else None


def _cuda(index: int) -> str | None:
    return (
        _cuda_wheel()
        or _cuda_visible()
        or _cuda_blocking()
        or _cuda_driver()
        or _cuda_start()
        or _in_range("cuda", index)
        or _cuda_architecture(index)
        or _probe(f"cuda:{index}")
    )


def _cuda_wheel() -> str | None:
    import torch

    if torch.version.cuda or torch.version.hip:
        return None
    return (
        f"torch {torch.__version__} is a build for the CPU only: install a CUDA build of torch"
        f" (see its start page for the command), {_USE_CPU}"
    )


def _cuda_visible() -> str | None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or visible.strip() not in ("", "-1"):
        return None
    return f"CUDA_VISIBLE_DEVICES is {visible!r} and hides every GPU: unset it, {_USE_CPU}"


def _cuda_blocking() -> str | None:
    blocking = os.environ.get("CUDA_LAUNCH_BLOCKING", "").strip()
    if blocking in ("", "0"):
        return None
    return f"CUDA_LAUNCH_BLOCKING is {blocking!r} and lets every launch wait for its kernel: unset it, {_USE_CPU}"


def _cuda_driver() -> str | None:
    import torch

    # ROCm answers to the name cuda and has another driver, and Windows has it elsewhere; the probe will tell.
    if torch.version.hip or sys.platform != "linux":
        return None
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return (
            f"the NVIDIA driver's libcuda.so.1 cannot be loaded ({error}): install the driver,"
            f" start the container with --gpus all, {_USE_CPU}"
        )
    if not any(Path(node).exists() for node in _DRIVER_NODES):
        return f"{_DRIVER_NODES[0]} does not exist: start the container with --gpus all, {_USE_CPU}"
    return None


def _cuda_start() -> str | None:
    """Why CUDA finds no device: where it does not start, torch counts none and says why only to whoever starts it."""
    import torch

    try:
        if torch.cuda.device_count() == 0:
            torch.cuda.init()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        return f"CUDA does not start ({_first_line(error)}): check nvidia-smi, {_USE_CPU}"
    return None


def _in_range(kind: str, index: int) -> str | None:
    import torch

    count = torch.get_device_module(kind).device_count()
    if index < count:
        return None
    names = ", ".join(f"{kind}:{i}" for i in range(count)) or "none"
    return f"there is no {kind}:{index}, the devices are {names}: use one of them, {_USE_CPU}"


def _cuda_architecture(index: int) -> str | None:
    import torch

    if torch.version.hip:  # architectures are named, not numbered; the probe will tell
        return None
    try:
        capability = torch.cuda.get_device_capability(index)
    except RuntimeError as error:  # the driver answers here for the first time
        return f"cuda:{index} does not start ({_first_line(error)}): check nvidia-smi, {_USE_CPU}"
    built = torch.cuda.get_arch_list()
    if _runs_on(capability, built):
        return None
    return (
        f"cuda:{index} has compute capability {capability[0]}.{capability[1]}, torch {torch.__version__}"
        f" was built for {' '.join(built)}: install a build of torch for this GPU, {_USE_CPU}"
    )


def _runs_on(capability: tuple[int, int], built: Iterable[str]) -> bool:
    """Return whether a GPU of ``capability`` runs code built for one of ``built``.

    Binary code (``sm_86``) runs on the same major version from its minor version on, intermediate code
    (``compute_90``) on that version and every later one, code for one architecture (``sm_90a``) there alone
    (CUDA C++ Programming Guide, "Application Compatibility"). Family code (``sm_100f``) counts as binary.
    """
    for name in built:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
        if match is None:
            continue
        kind, major, minor, suffix = match[1], int(match[2]), int(match[3]), match[4]
        if suffix == "a":
            fits = capability == (major, minor)
        elif kind == "sm" or suffix == "f":
            fits = capability[0] == major and capability[1] >= minor
        else:
            fits = capability >= (major, minor)
        if fits:
            return True
    return False


def _accelerator(kind: str, index: int) -> str | None:
    import torch

    current = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if current is None or current.type != kind:
        has = f"has {current.type}" if current else "has no accelerator that works"
        return f"device is {kind!r} but torch {torch.__version__} {has} here: install a build for {kind}, {_USE_CPU}"
    return _in_range(kind, index) or _probe(f"{kind}:{index}")


def _probe(device: str) -> str | None:
    """Counts and flags prove nothing about a GPU; only an operation and a synchronize do."""
    import torch

    try:
        total = (torch.ones(8, device=device) + 1).sum()
        synchronize(torch.device(device))
        if total.item() == 16.0:
            return None
        found = f"added ones to {total.item()} instead of 16"
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        found = f"failed ({_first_line(error)})"
    return f"a first operation on {device} {found}: check the driver and who else uses the device, {_USE_CPU}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
