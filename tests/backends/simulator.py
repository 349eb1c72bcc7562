"""The simulated accelerator of ``tests/native/sim_accelerator.cpp``: compiled once, loaded into a process of its own.

It registers a device type with torch for the whole process, so the test process never loads it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import torch

from tests import NATIVE

SOURCE = NATIVE / "sim_accelerator.cpp"
#: What the simulated accelerator says of its second-level cache.
L2_BYTES = 6 << 20
#: Its memory.
TOTAL_BYTES = 16 << 30


def compiled(folder: Path) -> Path:
    """Return the library, compiled once for this source, torch and compiler; raises CalledProcessError or OSError."""
    home = Path(torch.__file__).parent
    compiler = subprocess.run(["g++", "--version"], check=True, capture_output=True).stdout
    digest = hashlib.sha256(SOURCE.read_bytes() + torch.__version__.encode() + compiler).hexdigest()[:16]
    library = folder / f"sim-{digest}.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{library.name}.{os.getpid()}"
    include = [f"-I{home / 'include'}", f"-I{home / 'include/torch/csrc/api/include'}"]
    link = [f"-L{home / 'lib'}", "-ltorch_cpu", "-lc10"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={torch.compiled_with_cxx11_abi():d}"
    flags = ["-std=c++20", "-O1", "-w", "-shared", "-fPIC", abi]
    subprocess.run(["g++", *flags, *include, str(SOURCE), "-o", str(partial), *link], check=True, capture_output=True)
    partial.replace(library)
    return library


def results_of(script: Path) -> Any:
    """Return what ``script``, run in a process of its own with the library for its argument, prints as JSON."""
    folder = Path(platformdirs.user_cache_dir("latency-profiler", appauthor=False)) / "tests"
    try:
        library = compiled(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        pytest.skip(f"the simulated accelerator does not compile here: {said.decode(errors='replace')[-300:]}")
    done = subprocess.run([sys.executable, str(script), str(library)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Simulator:
    """The knobs of the loaded library; times in virtual nanoseconds."""

    def __init__(self, library: Path) -> None:
        torch.utils.rename_privateuse1_backend("sim")
        torch.ops.load_library(str(library))
        self._library = ctypes.CDLL(str(library))
        for name in ("now_ns", "busy_ns", "zeroed_bytes", "current_device", "used_bytes"):
            getattr(self._library, f"sim_{name}").restype = ctypes.c_int64
        torch._register_device_module("sim", _module(self._library))

    def clock(self) -> int:
        """Return the host's virtual time."""
        return int(self._library.sim_now_ns())

    def cost(self, operation: str, ns: int) -> None:
        """Let ``operation``, as ``aten::relu_``, take ``ns`` on the device from now on."""
        self._library.sim_cost(operation.encode(), ctypes.c_int64(ns))

    def tf32(self, divisor: int) -> None:
        """Let matrix products and convolutions cost so many times less wherever torch's switches allow TF32."""
        self._library.sim_tf32(ctypes.c_int64(divisor))

    def lazy(self, *, on: bool) -> None:
        """Let memory hold what operations write only once their stream has come so far."""
        self._library.sim_lazy(ctypes.c_bool(on))

    def clock_mhz(self, mhz: int) -> None:
        """Let the multiprocessors run at ``mhz`` from now on; it moves the kernels that count cycles, and no other."""
        self._library.sim_clock_mhz(ctypes.c_int64(mhz))

    def others(self, index: int, size: int) -> None:
        """Let others than torch's allocator hold so many bytes of a device."""
        self._library.sim_others(ctypes.c_int64(index), ctypes.c_int64(size))

    def zeroed(self) -> int:
        """Return how many bytes of the device have been set to zero so far."""
        return int(self._library.sim_zeroed_bytes())

    def advance(self, ns: int) -> None:
        """Let ``ns`` pass on the host."""
        self._library.sim_advance(ctypes.c_int64(ns))

    def busy(self) -> int:
        """Return for how long operations have run on the device so far."""
        return int(self._library.sim_busy_ns())


def _module(library: ctypes.CDLL) -> types.ModuleType:
    module = types.ModuleType("torch.sim")

    def mem_get_info(device: torch.device) -> tuple[int, int]:
        index = library.sim_current_device() if device.index is None else device.index
        return TOTAL_BYTES - int(library.sim_used_bytes(ctypes.c_int64(index))), TOTAL_BYTES

    answers = {
        "device_count": lambda: 2,
        "is_available": lambda: True,
        "current_device": library.sim_current_device,
        "_sleep": lambda cycles: library.sim_sleep(ctypes.c_int64(cycles)),
        "mem_get_info": mem_get_info,
        "empty_cache": library.sim_empty_cache,
        "get_device_properties": lambda _device=None: types.SimpleNamespace(L2_cache_size=L2_BYTES),
        "is_initialized": lambda: True,
        "_is_in_bad_fork": lambda: False,
        "_lazy_init": lambda: None,
        "manual_seed_all": lambda _seed: None,
        "get_device_name": lambda _device=None: "simulated accelerator",
        "get_amp_supported_dtype": list,
    }
    for name, answer in answers.items():
        setattr(module, name, answer)
    module.simulated = True
    return module
