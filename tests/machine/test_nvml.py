"""pynvml's real calls into a stub of NVIDIA's library that answers from a script; only child processes load it."""

import ctypes
import json
import os
import subprocess
import sys

import pytest

from profiler.machine.gpu import Reading
from tests.machine.nvml_stub import LOST, watched


def asked(expression):
    """The value of an expression over ``nvml``, ``host`` and ``settings()`` in a fresh process."""
    code = (
        "import json; from dataclasses import asdict; from profiler.machine import host, nvml\n"
        "def settings():\n"
        "    with nvml.library(): return asdict(nvml.identify('GPU-aaaa').settings())\n"
        f"print(json.dumps({expression}))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_a_reading_holds_everything_in_its_unit(scripted):
    scripted(energy=f"1500 {LOST}", processes="7,8")
    (reading,), note = watched()
    assert reading == Reading(
        ns=reading.ns,
        clock_mhz=1500,
        memory_clock_mhz=5000,
        events=0,
        temperature_c=40,
        energy_j=1.5,
        utilisation=0.9,
        used_bytes=1 << 20,
        processes=((7, 1 << 28), (8, 1 << 28)),
    )
    assert "the GPU is lost" in note


def test_a_lost_gpu_keeps_the_readings_before(scripted):
    scripted(clock=f"1500 1400 1300 {LOST}")
    readings, note = watched()
    # The clock is asked first of all for multiprocessors, so each token is one reading.
    assert [reading.clock_mhz for reading in readings] == [1500, 1400, 1300]
    assert "Xid" in note


@pytest.mark.parametrize(
    ("metric", "field"),
    [
        ("clock", "clock_mhz"),
        ("memory_clock", "memory_clock_mhz"),
        ("events", "events"),
        ("temperature", "temperature_c"),
        ("utilisation", "utilisation"),
        ("memory", "used_bytes"),
        ("processes", "processes"),
    ],
)
def test_what_is_not_supported_is_empty_never_zero(metric, field, scripted):
    """As on a MIG partition."""
    scripted(energy=f"1 {LOST}", **{metric: None})
    (reading,), _ = watched()
    assert getattr(reading, field) is None
    others = {"clock_mhz", "memory_clock_mhz", "events", "temperature_c", "utilisation", "used_bytes"} - {field}
    assert all(getattr(reading, other) is not None for other in others)


def test_no_process_is_not_the_same_as_not_told(scripted):
    scripted(energy=f"1 {LOST}", processes="none")
    (reading,), _ = watched()
    assert reading.processes == ()


def test_an_older_driver_lacks_the_newer_names(scripted):
    scripted("old", energy=f"1 {LOST}", events="0x20", temperature="77")
    (reading,), _ = watched()
    assert (reading.events, reading.temperature_c) == (0x20, 77)


@pytest.mark.parametrize("uuid", ["GPU-bbbb", "bbbb"])
def test_devices_are_told_apart_by_uuid(uuid, scripted):
    scripted(clock__0="1000", clock__1="2000", energy=f"1 {LOST}")
    (reading,), _ = watched(uuid)
    assert reading.clock_mhz == 2000


def test_a_partition_has_a_uuid_of_its_own(scripted):
    scripted(uuids="GPU-aaaa MIG-cccc", clock__1="2000", energy=f"1 {LOST}")
    (reading,), _ = watched("cccc")
    assert reading.clock_mhz == 2000


def test_an_unknown_uuid_is_said(scripted):
    scripted()
    assert watched("GPU-zzzz") == ([], "NVML does not know this GPU: it is hidden from this container, or it is lost")


@pytest.mark.parametrize(("code", "words"), [(18, "different versions: reboot"), (9, "kernel driver is not loaded")])
def test_a_driver_that_does_not_start_is_said(code, words, scripted):
    scripted(init=f"!{code}")
    readings, note = watched()
    assert readings == []
    assert words in note
    assert asked("nvml.installed()") == [None, None]


def test_no_library():
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        assert "libnvidia-ml.so.1 cannot be loaded" in watched()[1]
    else:
        pytest.skip("this machine has an NVIDIA driver")


def test_the_host_key_tells_gpus_and_drivers_apart(scripted):
    scripted()
    facts = asked("dict(host.facts())")
    assert (facts["gpu"], facts["driver"]) == ("Tesla_T4; Tesla_T4", "580.65")
    keys = [asked("host.key()")]
    scripted(name="L4")
    keys.append(asked("host.key()"))
    scripted(driver="590.1")
    keys.append(asked("host.key()"))
    assert len(set(keys)) == 3


def test_settings_hold_everything_in_its_unit(scripted):
    scripted(events="0x2")
    assert asked("settings()") == {
        "power_limit_w": 60.0,
        "power_limit_default_w": 70.0,
        "max_clock_mhz": 1590,
        "max_memory_clock_mhz": 5001,
        "application_clock_mhz": 585,
        "clocks_held": True,
        "persistence": True,
        "compute_mode": "exclusive process",
        "mig": False,
        "ecc": True,
        "pcie_generation": 1,
        "pcie_generation_max": 3,
        "pcie_width": 8,
        "pcie_width_max": 16,
    }


@pytest.mark.parametrize("events", ["0", "0x1", "0x4"])
def test_only_clocks_that_somebody_set_are_called_held(events, scripted):
    scripted(events=events)
    assert asked("settings()")["clocks_held"] is False


SETTINGS_BY_METRIC = {
    "power_limit": "power_limit_w",
    "power_default": "power_limit_default_w",
    "max_clock": "max_clock_mhz",
    "max_memory_clock": "max_memory_clock_mhz",
    "application_clock": "application_clock_mhz",
    "events": "clocks_held",
    "persistence": "persistence",
    "compute_mode": "compute_mode",
    "mig": "mig",
    "ecc": "ecc",
    "pcie_generation": "pcie_generation",
    "pcie_generation_max": "pcie_generation_max",
    "pcie_width": "pcie_width",
    "pcie_width_max": "pcie_width_max",
}


def test_settings_that_are_not_supported_are_empty(scripted):
    scripted(**dict.fromkeys(SETTINGS_BY_METRIC))
    assert asked("settings()") == dict.fromkeys(SETTINGS_BY_METRIC.values())


def test_one_setting_that_may_not_be_asked_hides_no_other(scripted):
    scripted(power_default="!4", pcie_width="!3")
    settings = asked("settings()")
    assert {name for name, value in settings.items() if value is None} == {"power_limit_default_w", "pcie_width"}
