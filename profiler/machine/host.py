"""Facts of the machine, and the key that says which results may be compared."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from profiler.machine import gpus

#: The facts that latencies depend on; two runs with the same values may be compared. Never a measured clock.
_KEY_FACTS = ("cpu", "isa", "cores", "quota", "os", "gpu", "driver", "torch", "onnxruntime")
#: Younger ones: a host that does not tell one keeps the key that it had, and an old run that lacks one is not unlike.
_YOUNGER_FACTS = ("gpu_setup", "openvino")

_RUNTIMES = ("torch", "onnxruntime", "onnxruntime-gpu", "onnx", "openvino", "numpy")
#: Instruction sets that change which kernels a runtime picks.
_ISA = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_tile",
    "amx_bf16",
)
_ISA_ARM = ("asimd", "asimddp", "sve", "sve2", "i8mm", "bf16")


def versions() -> dict[str, str]:
    """Return the versions of the installed runtimes, without importing them."""
    found = {}
    for name in _RUNTIMES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def usable_cores() -> int:
    """Return the cores this process may use: its affinity mask, capped by the control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, min(cores, int(quota))) if quota else cores


def _cpu_quota() -> float | None:
    """Return the control group's CPU quota in cores, or None when there is none (cgroup v2, then v1)."""
    try:
        limit, period = _read("/sys/fs/cgroup/cpu.max").split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit = _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        return None if int(limit) < 0 else int(limit) / int(_read("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))
    except (OSError, ValueError):
        return None


@functools.cache
def facts() -> Mapping[str, str | int | float | None]:
    """Return what identifies this machine and its software; every value is stable between runs."""
    installed = versions()
    gpu, driver = gpus.installed()
    return {
        "cpu": _cpu_model(),
        "isa": _isa(),
        "cores": usable_cores(),
        "quota": _cpu_quota(),
        "os": f"{platform.system()} {platform.machine()}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "memory_bytes": _memory_bytes(),
        "gpu": gpu,
        "driver": driver,
        "gpu_setup": gpus.set_up() if gpu else None,
        "torch": installed.get("torch"),
        "onnxruntime": installed.get("onnxruntime") or installed.get("onnxruntime-gpu"),
        "openvino": installed.get("openvino"),
    }


def key(described: Mapping[str, object] | None = None) -> str:
    """Return eight hexadecimal digits that name the machine's ``_KEY_FACTS``."""
    described = facts() if described is None else described
    younger = [described[name] for name in _YOUNGER_FACTS if described.get(name)]
    text = json.dumps([described.get(name) for name in _KEY_FACTS] + younger)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def difference(ours: Mapping[str, object], theirs: Mapping[str, object]) -> str | None:
    """Return a sentence naming the key facts in which two machines differ, or None when they match."""
    pairs = [(name, ours.get(name), theirs.get(name)) for name in _KEY_FACTS]
    younger = [(name, ours[name], theirs[name]) for name in _YOUNGER_FACTS if name in ours and name in theirs]
    unlike = [f"{name} is {a!r} here and {b!r} there" for name, a, b in pairs + younger if a != b]
    return f"not the same machine: {'; '.join(unlike)}" if unlike else None


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace").strip()


def _cpuinfo() -> dict[str, str]:
    """Return the first processor's fields of /proc/cpuinfo; empty elsewhere than on Linux."""
    fields: dict[str, str] = {}
    try:
        for line in _read("/proc/cpuinfo").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    except OSError:
        return {}
    return fields


def _cpu_model() -> str:
    info = _cpuinfo()
    named = info.get("model name") or platform.processor() or platform.machine()
    model = "/".join(info[f] for f in ("cpu family", "model", "stepping") if f in info)
    return f"{named} ({model})" if model else named


def _isa() -> str:
    info = _cpuinfo()
    present = set((info.get("flags") or info.get("Features") or "").split())
    return " ".join(flag for flag in (*_ISA, *_ISA_ARM) if flag in present)


def _memory_bytes() -> int | None:
    if sys.platform == "win32" or not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
