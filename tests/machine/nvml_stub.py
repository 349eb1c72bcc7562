"""A stub of NVIDIA's library that answers from a script; only child processes load it. A plugin of the whole suite."""

from __future__ import annotations

import subprocess

import pytest

from profiler.machine import gpu
from tests import NATIVE

SOURCE = NATIVE / "nvml_stub.c"
#: The stub answers `!15` after the last reading of a script, which ends the watching process: no test waits for time.
LOST = "!15"
HEALTHY = {
    "uuids": "GPU-aaaa GPU-bbbb",
    "count": "2",
    "name": "Tesla_T4",
    "driver": "580.65",
    "clock": "1500",
    "memory_clock": "5000",
    "events": "0",
    "temperature": "40",
    "energy": "1000 2000 3000 4000",
    "utilisation": "90",
    "memory": "1048576",
    "max_clock": "1590",
    "max_memory_clock": "5001",
    "application_clock": "585",
    "power_limit": "60000",
    "power_settable": "60000",
    "power_default": "70000",
    "persistence": "1",
    "compute_mode": "3",
    "pcie_generation": "1",
    "pcie_generation_max": "3",
    "pcie_width": "8",
    "pcie_width_max": "16",
    "mig": "0",
    "ecc": "1",
    "processes": "none",
}


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Folders that hold the stub, as a new and as an old driver have it."""

    def build(name, *flags):
        folder = tmp_path_factory.mktemp(name)
        target = folder / "libnvidia-ml.so.1"
        command = ["gcc", "-O1", "-shared", "-fPIC", *flags, str(SOURCE), "-o", str(target)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"the stub does not compile here: {error}")
        return folder

    return {"new": build("new"), "old": build("old", "-DOLD_DRIVER")}


@pytest.fixture
def scripted(library, tmp_path, monkeypatch):
    """Install a script: children of this test see a GPU that answers from it. ``None`` takes a metric away."""

    def install(built="new", **changes):
        script = {metric.replace("__", "."): answer for metric, answer in (HEALTHY | changes).items()}
        file = tmp_path / "script"
        file.write_text("".join(f"{metric} {answer}\n" for metric, answer in script.items() if answer is not None))
        monkeypatch.setenv("NVML_STUB", str(file))
        monkeypatch.setenv("LD_LIBRARY_PATH", str(library[built]))

    return install


def watched(uuid="GPU-aaaa"):
    """Readings of a child that watches until the script says that the GPU is lost, and its last words."""
    watch = gpu.Watch(uuid, interval_s=0.001)
    watch._process.wait(timeout=20)
    return watch.stop()
