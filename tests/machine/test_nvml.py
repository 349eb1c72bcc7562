"""pynvml's real calls into a stub of NVIDIA's library that answers from a script; only child processes load it."""

import ctypes
import json
import os
import subprocess
import sys
import time

import pynvml
import pytest

from profiler.machine import gpu, host, nvml
from profiler.machine.gpu import Reading
from tests.machine.nvml_stub import LOST, watched


def asked(expression):
    """The value of an expression over what is imported here and ``settings()``, in a fresh process."""
    code = (
        "import json; from dataclasses import asdict; from profiler.machine import gpus, host, locking, nvml\n"
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


@pytest.fixture
def binding(tmp_path, monkeypatch):
    """Give children of this test a binding that is the installed one followed by lines of one's own."""

    def install(lines):
        (tmp_path / "pynvml.py").write_text(f"exec(open({pynvml.__file__!r}).read())\n{lines}\n")
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_an_older_binding_lacks_the_newer_names_and_a_later_one_the_oldest(scripted, binding):
    """12.560 has no TemperatureV, and CUDA 14 is to drop application clocks: each loses one figure at most."""
    scripted(energy=f"1 {LOST}", temperature="77", events="0x20")
    binding("del nvmlDeviceGetTemperatureV, nvmlDeviceGetCurrentClocksEventReasons, nvmlDeviceGetApplicationsClock")
    (reading,), note = watched()
    assert (reading.events, reading.temperature_c, reading.energy_j) == (0x20, 77, 0.001)
    assert "the GPU is lost" in note
    assert asked("gpus.set_up()") == "GPU-aaaa, 60 W; GPU-bbbb, 60 W"
    assert asked("settings()")["application_clock_mhz"] is None


def test_a_binding_that_answers_in_bytes_names_the_same_machine(scripted, binding):
    scripted()
    names = asked("[gpus.installed(), gpus.set_up()]")
    binding("text = nvmlDeviceGetUUID\nnvmlDeviceGetUUID = lambda d: text(d).encode()")
    assert asked("[gpus.installed(), gpus.set_up()]") == names


def test_a_watch_that_fails_is_said(scripted, binding):
    scripted()
    binding("raise OSError('damaged')")
    assert watched() == ([], "the process that reads the driver failed with exit code 1")


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
    assert asked("gpus.installed()") == [None, None]


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


@pytest.mark.parametrize("code", [999, 7, 4, 10, 1])
def test_an_unexpected_answer_loses_one_figure_and_not_all(code, scripted):
    """Unknown, size, permission, interrupt; only the last, that NVML is not initialised, is about everything."""
    scripted(temperature=f"!{code}", energy=f"1 {LOST}")
    readings, _ = watched()
    if code == 1:
        assert readings == []
        return
    assert readings[0].temperature_c is None
    assert (readings[0].clock_mhz, readings[0].energy_j, readings[0].used_bytes) == (1500, 0.001, 1 << 20)


#: A partition has memory and processes of its own; its clocks, temperature and energy are those of the whole GPU.
PARTITION = {
    "uuids": "GPU-aaaa MIG-cccc", "partition__1": "0", "clock__0": "1410", "clock__1": "!3", "temperature__1": "!3",
    "energy__1": "!3", "events__1": "!3", "memory__0": "77", "memory__1": "99",
}  # fmt: skip


def test_a_partition_is_read_by_its_gpu_where_it_has_no_figure_of_its_own(scripted):
    scripted(**PARTITION, energy__0=f"1500 {LOST}", processes__0="7:1", processes__1="8:2")
    (reading,), _ = watched("MIG-cccc")
    assert (reading.clock_mhz, reading.temperature_c, reading.energy_j, reading.events) == (1410, 40, 1.5, 0)
    assert (reading.used_bytes, reading.processes) == (99, ((8, 2),))


def keys():
    return asked("[host.key(), host.facts()['gpu_setup']]")


def test_the_host_key_tells_uuid_power_limit_clock_and_partitions_apart(scripted):
    """Two cards of one name are two machines: they differ by several per cent."""
    found = []
    for changes in (
        {},
        {"uuids": "GPU-cccc GPU-dddd"},
        {"power_limit": "50000"},
        {"application_clock": "900"},
        {"mig": "1", "partitions": "1", "name__1": "MIG_1g.10gb"},
    ):
        scripted(**changes)
        found.append(keys())
    assert found[0][1] == "GPU-aaaa, 60 W, 585 MHz; GPU-bbbb, 60 W, 585 MHz"
    assert "MIG_1g.10gb" in found[4][1]
    assert len({key for key, _ in found}) == 5


def test_which_of_two_gpus_is_the_first_is_part_of_the_key(scripted, monkeypatch):
    """cuda:0 is the other card once CUDA_VISIBLE_DEVICES has turned them round."""
    found = []
    for visible in ("0", "1,0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        scripted()
        found.append(keys())
    assert found[1][1] == "GPU-aaaa, 60 W, 585 MHz; GPU-bbbb, 60 W, 585 MHz; CUDA_VISIBLE_DEVICES 1,0"
    assert found[0][0] != found[1][0]


def test_one_gpu_is_the_first_whatever_is_visible(scripted, monkeypatch):
    scripted(count="1")
    before = keys()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert keys() == before


def test_a_power_limit_that_nobody_can_set_is_not_part_of_the_key(scripted):
    """A laptop's moves by itself, with what its processor takes."""
    found = []
    for limit in ("80000", "95000"):
        scripted(count="1", power_settable=None, power_limit=limit)
        found.append(keys())
    assert found[0] == found[1]
    assert found[0][1] == "GPU-aaaa, 585 MHz"


def test_a_gpu_that_may_not_be_asked_hides_no_other(scripted):
    """As in a container that has one of two."""
    scripted(handle__0="!4", name__1="L4")
    assert asked("gpus.installed()") == ["L4", "580.65"]
    assert asked("gpus.set_up()") == "GPU-bbbb, 60 W, 585 MHz"


def test_a_gpu_with_partitions_is_none_as_a_whole(scripted):
    """Whatever UUID torch tells of one of them."""
    whole = "(lambda _: nvml.identify('GPU-aaaa').is_partition)(nvml.library().__enter__())"
    for mig, partitioned in (("0", False), ("1", True)):
        scripted(mig=mig)
        assert asked(whole) is partitioned


def test_a_host_without_a_gpu_keeps_the_key_that_it_had():
    described = {"cpu": "x", "isa": "y"}
    assert host.key(described) == host.key(described | {"gpu_setup": None})
    assert host.key(described) != host.key(described | {"gpu_setup": "GPU-aaaa, 60 W"})


def test_an_old_run_that_says_nothing_of_the_setup_is_not_unlike():
    ours, theirs = {"cpu": "x", "gpu_setup": "GPU-aaaa"}, {"cpu": "x"}
    assert host.difference(ours, theirs) is None
    assert "gpu_setup is 'GPU-aaaa' here and 'GPU-b' there" in host.difference(ours, theirs | {"gpu_setup": "GPU-b"})


LOCKING = """(lambda said: (lambda scope: (
    scope.__enter__(), host.facts()['gpu_setup'], scope.__exit__(None, None, None), host.facts()['gpu_setup'], said
))(locking.locked_clocks(['{uuid}'], 1200, said.append)))([])"""


def locked_meanwhile(uuid="GPU-bbbb"):
    """What identifies the machine while the clock of a GPU is locked and after, and what was said."""
    _, during, _, after, said = asked(LOCKING.format(uuid=uuid))
    return during, after, said


def test_a_clock_is_locked_for_a_run_and_reset_after_it(scripted, tmp_path, monkeypatch):
    """Of the GPU that was asked for alone; what identifies the machine says so meanwhile."""
    scripted(lock="0")
    monkeypatch.setenv("NVML_STUB_LOCKED", str(tmp_path / "locked"))
    during, after, said = locked_meanwhile()
    assert said == []
    assert during == "GPU-aaaa, 60 W, 585 MHz; GPU-bbbb, 60 W, 1200 MHz"
    assert after == "GPU-aaaa, 60 W, 585 MHz; GPU-bbbb, 60 W, 585 MHz"
    assert (tmp_path / "locked").read_text().splitlines() == ["1 1200 1200", "1 0 0"]


def test_a_clock_that_may_not_be_locked_is_a_warning(scripted, tmp_path, monkeypatch):
    scripted(lock="!4")
    during, _, said = locked_meanwhile()
    assert len(said) == 1
    assert "the clock of GPU-bbbb cannot be locked at 1200 MHz" in said[0]
    assert "insufficient permissions" in said[0]
    assert "1200 MHz" not in during


def test_a_clock_that_cannot_be_reset_is_said_with_the_remedy(scripted):
    scripted(lock="0 !4")
    _, _, said = locked_meanwhile()
    assert said == [
        "the clock of GPU-bbbb cannot be reset (insufficient permissions): reset it with nvidia-smi --reset-gpu-clocks"
    ]


def test_the_clock_of_a_partition_is_that_of_its_gpu(scripted, tmp_path, monkeypatch):
    scripted(**PARTITION | {"lock": "0", "count": "1", "uuids": "GPU-aaaa MIG-cccc"})
    monkeypatch.setenv("NVML_STUB_LOCKED", str(tmp_path / "locked"))
    during, after, said = locked_meanwhile("MIG-cccc")
    assert said == []
    assert "1200 MHz" in during
    assert "1200 MHz" not in after
    assert (tmp_path / "locked").read_text().splitlines() == ["0 1200 1200", "0 0 0"]


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_clock_is_reset_however_the_command_ends(how, scripted, tmp_path, monkeypatch):
    scripted(lock="0")
    file = tmp_path / "locked"
    monkeypatch.setenv("NVML_STUB_LOCKED", str(file))
    code = (
        "import os, signal, time; from profiler.machine import locking\n"
        f"with locking.locked_clocks(['GPU-bbbb'], 1200, print): os.kill(os.getpid(), signal.{how}); time.sleep(9)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True)
    until = time.monotonic() + 20
    while "1 0 0" not in file.read_text() and time.monotonic() < until:
        time.sleep(0.02)
    assert file.read_text().splitlines() == ["1 1200 1200", "1 0 0"]


def test_without_a_driver_a_clock_is_not_locked_and_the_run_goes_on(scripted):
    scripted(init="!9")
    _, _, (said,) = locked_meanwhile()
    assert "kernel driver is not loaded" in said


def test_what_is_asked_of_nvml_is_what_its_header_means():
    """By value, as nvml.h has them: a binding, or a rename, that changed one would ask for something else."""
    assert nvml._OVER == (1, 9, 18, 15, 16)
    assert (pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM, pynvml.NVML_TEMPERATURE_GPU) == (1, 2, 0)
    assert nvml._COMPUTE_MODES == {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
    assert set(nvml._SENTENCES) == {12, 9, 18, 15, 6}
    assert gpu._SLOWDOWNS == {
        0x04: "power cap", 0x08: "hardware slow-down", 0x20: "thermal (software)", 0x40: "thermal (hardware)",
        0x80: "power brake",
    }  # fmt: skip
