"""pynvml's real calls into a stub of NVIDIA's library that answers from a script; only child processes load it."""

import ctypes
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from profiler.backends.base import Placement
from profiler.cli.app import app
from profiler.machine import gpu as telemetry
from profiler.machine.gpu import Reading
from profiler.measure import energy, visit
from profiler.plan.cases import notes
from profiler.plan.read import from_flags
from profiler.records.reading import Run
from profiler.records.table import rows
from profiler.records.types import Budget, Case, Conditions, Failure, Measurement, Record, Warmup
from profiler.run.lab import Lab, one_visit
from profiler.run.schedule import Progress
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
def gpu(library, tmp_path, monkeypatch):
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
    watch = telemetry.Watch(uuid, interval_s=0.001)
    watch._process.wait(timeout=20)
    return watch.stop()


def asked(expression):
    """The value of an expression over ``nvml``, ``host`` and ``settings()`` in a fresh process."""
    code = (
        "import json; from dataclasses import asdict; from profiler.machine import host, nvml\n"
        "def settings():\n"
        "    with nvml.opened(): return asdict(nvml.settings(nvml.handle('GPU-aaaa')))\n"
        f"print(json.dumps({expression}))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_a_reading_holds_everything_in_its_unit(gpu):
    gpu(energy=f"1500 {LOST}", processes="7,8")
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


def test_a_lost_gpu_keeps_the_readings_before(gpu):
    gpu(clock=f"1500 1400 1300 {LOST}")
    readings, note = watched()
    # The clock is asked first of all for multiprocessors, so each token is one reading.
    assert [reading.clock_mhz for reading in readings] == [1500, 1400, 1300]
    assert "Xid" in note


def test_a_throttle_in_the_middle_is_named(gpu):
    gpu(events=f"0 1 0x44 0 {LOST}")
    readings, note = watched()
    found = telemetry.summary(readings, os.getpid(), note)
    assert found["gpu_readings"] == 4
    assert found["gpu_slowdown"] == "power cap, thermal (hardware)"


def test_only_the_timed_part_counts(gpu):
    gpu(events=f"0x40 0 0 {LOST}")
    watch = telemetry.Watch("GPU-aaaa", interval_s=0.05)
    watch._process.wait(timeout=20)
    watch._file.seek(0)
    first, second, third = (json.loads(line)["ns"] for line in watch._file.read().splitlines()[:3])
    found = telemetry.add(Conditions(load=1.0), watch, first + 1, third)
    assert first < second < third
    assert (found.gpu_readings, found.gpu_slowdown, found.load) == (2, "", 1.0)


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
def test_what_is_not_supported_is_empty_never_zero(metric, field, gpu):
    """As on a MIG partition."""
    gpu(energy=f"1 {LOST}", **{metric: None})
    (reading,), _ = watched()
    assert getattr(reading, field) is None
    others = {"clock_mhz", "memory_clock_mhz", "events", "temperature_c", "utilisation", "used_bytes"} - {field}
    assert all(getattr(reading, other) is not None for other in others)


def test_no_process_is_not_the_same_as_not_told(gpu):
    gpu(energy=f"1 {LOST}", processes="none")
    (reading,), _ = watched()
    assert reading.processes == ()


def test_an_older_driver_lacks_the_newer_names(gpu):
    gpu("old", energy=f"1 {LOST}", events="0x20", temperature="77")
    (reading,), _ = watched()
    assert (reading.events, reading.temperature_c) == (0x20, 77)


@pytest.mark.parametrize("uuid", ["GPU-bbbb", "bbbb"])
def test_devices_are_told_apart_by_uuid(uuid, gpu):
    gpu(clock__0="1000", clock__1="2000", energy=f"1 {LOST}")
    (reading,), _ = watched(uuid)
    assert reading.clock_mhz == 2000


def test_a_partition_has_a_uuid_of_its_own(gpu):
    gpu(uuids="GPU-aaaa MIG-cccc", clock__1="2000", energy=f"1 {LOST}")
    (reading,), _ = watched("cccc")
    assert reading.clock_mhz == 2000


def test_an_unknown_uuid_is_said(gpu):
    gpu()
    assert watched("GPU-zzzz") == ([], "NVML does not know this GPU: it is hidden from this container, or it is lost")


@pytest.mark.parametrize(("code", "words"), [(18, "different versions: reboot"), (9, "kernel driver is not loaded")])
def test_a_driver_that_does_not_start_is_said(code, words, gpu):
    gpu(init=f"!{code}")
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


def test_the_host_key_tells_gpus_and_drivers_apart(gpu):
    gpu()
    facts = asked("dict(host.facts())")
    assert (facts["gpu"], facts["driver"]) == ("Tesla_T4; Tesla_T4", "580.65")
    keys = [asked("host.key()")]
    gpu(name="L4")
    keys.append(asked("host.key()"))
    gpu(driver="590.1")
    keys.append(asked("host.key()"))
    assert len(set(keys)) == 3


def test_settings_hold_everything_in_its_unit(gpu):
    gpu(events="0x2")
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
def test_only_clocks_that_somebody_set_are_called_held(events, gpu):
    gpu(events=events)
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


def test_settings_that_are_not_supported_are_empty(gpu):
    gpu(**dict.fromkeys(SETTINGS_BY_METRIC))
    assert asked("settings()") == dict.fromkeys(SETTINGS_BY_METRIC.values())


def test_one_setting_that_may_not_be_asked_hides_no_other(gpu):
    gpu(power_default="!4", pcie_width="!3")
    settings = asked("settings()")
    assert {name for name, value in settings.items() if value is None} == {"power_limit_default_w", "pcie_width"}


@pytest.mark.parametrize(
    ("clocks", "still"),
    [
        ([1500] * telemetry.CLOCK_READINGS, True),
        ([300, 900, *[1500] * telemetry.CLOCK_READINGS], True),
        ([*[1500] * telemetry.CLOCK_READINGS, 1400], False),
        ([1500, 1515, 1530, 1515, 1500], True),
        ([1500, 1515, 1530, 1545, 1500], False),
        ([1500] * (telemetry.CLOCK_READINGS - 1), False),
        ([], False),
    ],
)
def test_a_clock_stands_still_within_two_per_cent(clocks, still):
    assert telemetry.stands_still(clocks) is still


def settles(watch, seconds=20.0):
    """Whether the watch says so before its deadline, while its child still runs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and watch._process.poll() is None:
        if watch.settled():
            return True
        time.sleep(0.005)
    return False


def test_a_clock_that_rises_and_then_stands_still_settles(gpu):
    """Asking moves nothing: all readings are there at the end, in their order."""
    gpu(clock="300 600 900 1200 1500")
    watch = telemetry.Watch("GPU-aaaa", interval_s=0.01)
    assert settles(watch)
    readings, note = watch.stop()
    clocks = [reading.clock_mhz for reading in readings]
    assert clocks[:4] == [300, 600, 900, 1200]
    assert set(clocks[4:]) == {1500}
    assert len(clocks) >= 4 + telemetry.CLOCK_READINGS
    assert note is None


def test_a_clock_that_goes_on_moving_does_not_settle(gpu):
    gpu(clock=" ".join(["1500", "1400"] * 30))
    watch = telemetry.Watch("GPU-aaaa", interval_s=0.05)
    assert not settles(watch, 0.8)
    watch.stop()


def test_a_lost_gpu_is_not_waited_for(gpu):
    gpu(clock=f"300 600 {LOST}")
    watch = telemetry.Watch("GPU-aaaa", interval_s=0.001)
    watch._process.wait(timeout=20)
    assert watch.settled()
    watch.stop()


@pytest.mark.parametrize("uuid", ["GPU-aaaa", "GPU-zzzz"])
def test_where_nobody_tells_the_clock_nothing_is_waited_for(uuid, gpu):
    gpu(clock=None)
    watch = telemetry.Watch(uuid, interval_s=0.01)
    deadline = time.monotonic() + 20
    while not watch.settled():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    watch.stop()


def test_a_visit_does_not_call_itself_warm_while_the_clock_moves(gpu, monkeypatch):
    """The fake forward is steady from its first sample: only the clock can keep it warming up."""
    monkeypatch.setattr(visit.accelerator, "uuid", lambda _device: "GPU-bbbb")
    monkeypatch.setattr(energy, "SECONDS", 0.01)
    case = Case("resnet50", "", 1.0, "fake:duration_ms=1", Placement())

    def is_steady(seconds, clock):
        gpu(clock=clock)
        task = visit.Task(case, Budget(visit_s=0.01, warmup_s=seconds), None, None)
        return visit.visit(task).outcome.warmup.steady

    assert not is_steady(0.7, " ".join(["1500", "1000"] * 30))
    assert is_steady(20.0, "300 1500")


def test_watching_ends_when_told(gpu):
    gpu()
    with telemetry.watching("GPU-aaaa") as watch:
        process = watch._process
    assert process.returncode == 0
    assert watch.stop() == ([], None)


def test_without_a_gpu_nothing_is_watched():
    with telemetry.watching(None) as watch:
        assert watch is None
    assert telemetry.add(Conditions(), None, 0, 1) == Conditions()


def test_power_is_energy_over_time():
    readings = [Reading(10**9, energy_j=5.0), Reading(2 * 10**9), Reading(3 * 10**9, energy_j=145.0)]
    assert telemetry.summary(readings, 1)["gpu_power_w"] == 70.0
    assert telemetry.summary(readings[:2], 1)["gpu_power_w"] is None


def test_energy_of_a_forward_is_power_times_its_time():
    """50 W for a second in which four forwards ran; readings outside do not count."""
    readings = [Reading(0, energy_j=0.0), *(Reading(10**9 + t * 10**8, energy_j=900 + 5.0 * t) for t in range(11))]
    assert energy.per_forward(readings, 10**9, 2 * 10**9, 4) == 12.5
    assert energy.per_forward(readings, 10**9, 10**9 + 1, 4) is None


class Idle:
    """A workload that does nothing."""

    def run(self) -> None:
        pass

    def sync(self) -> None:
        pass


def test_energy_where_nobody_counts_it_is_empty(gpu):
    gpu(energy=None)
    assert energy.measure(Idle(), "GPU-aaaa", 0.01) is None
    assert energy.measure(Idle(), None) is None


@pytest.mark.parametrize(
    ("processes", "foreign"), [(((1, 5),), 0), (((1, 5), (2, None), (3, 5)), 2), (((2, 5),), None), (None, None)]
)
def test_foreign_processes(processes, foreign):
    """Without this process in the list (a container), nothing is said of the others."""
    assert telemetry.summary([Reading(0, processes=processes)], own=1)["gpu_foreign_processes"] == foreign


@given(st.lists(st.integers(0, 0x1FF), max_size=8))
def test_slowdown_names_each_reason_that_any_reading_had(events):
    named = telemetry.slowdown(events)
    for bit, reason in telemetry.SLOWDOWNS.items():
        assert (reason in named.split(", ")) == any(event & bit for event in events)


def test_a_line_cut_off_by_a_kill_is_left_out():
    line = json.dumps(dict.fromkeys(Reading.__dataclass_fields__) | {"ns": 5})
    assert telemetry.parse([line, line[:20]]) == ([Reading(5)], None)


def test_a_visit_brings_home_what_its_gpu_did(gpu, monkeypatch):
    """A whole visit, its GPU told by the stub: a slow-down throughout, another process beside ours."""
    gpu(events="0x40", processes=f"{os.getpid()},4242")
    monkeypatch.setattr(visit.accelerator, "uuid", lambda _device: "GPU-bbbb")
    monkeypatch.setattr(energy, "SECONDS", 0.01)
    case = Case("resnet50", "", 1.0, "fake:duration_ms=1", Placement())
    reply = visit.visit(visit.Task(case, Budget(visit_s=2.0, warmup_s=0.1), None, None))
    found = reply.outcome.conditions
    assert found.gpu_readings >= 1
    assert (found.gpu_slowdown, found.gpu_foreign_processes) == ("thermal (hardware)", 1)
    assert (found.gpu_clock_mhz, found.gpu_temperature_c, found.gpu_note) == (1500, 40, None)
    assert found.gpu_memory_bytes == 1 << 28


def test_energy_takes_seconds_and_is_counted_in_the_first_round_alone():
    asked = []

    class Asks:
        def call(self, _function, task, _timeout_s, _limits):
            asked.append(task.energy)
            return Failure("error", "only asked")

    lab = Lab(Budget(), Asks(), lambda _: None, None)
    for number in range(3):
        one_visit(Case("resnet50", "", 1.0, "fake", Placement()), number, lab)
    assert asked == [True, False, False]


def test_a_visit_that_shall_not_count_energy_does_not(gpu, monkeypatch):
    gpu(energy="1000 2000")
    monkeypatch.setattr(visit.accelerator, "uuid", lambda _device: "GPU-bbbb")
    monkeypatch.setattr(energy, "measure", None)
    case = Case("resnet50", "", 1.0, "fake:duration_ms=1", Placement())
    task = visit.Task(case, Budget(visit_s=0.01, warmup_s=0.1), None, None, energy=False)
    assert visit.visit(task).outcome.energy_j is None


CASE = Case("resnet50", "", 1.0, "eager", Placement("cuda:0"))
MEASURED = Measurement(((10, 10, 10),), 1, (), None, Warmup((10,), steady=True), None, Conditions(), {}, {})
SLOWED = replace(MEASURED, conditions=Conditions(gpu_slowdown="power cap", gpu_clock_mhz=900.0), device_ns=(3, 4, 5))


def record(number, outcome):
    return Record(CASE, None, None, "host", number, "2026-01-01T00:00:00+00:00", 1.0, outcome)


def test_a_slowed_visit_is_tried_again_until_the_rounds_are_used_up():
    progress = Progress([CASE], Budget(rounds=5, min_rounds=2))
    outcomes = [SLOWED, MEASURED, SLOWED, MEASURED]
    finished = []
    for number, outcome in enumerate(outcomes):
        progress.add(record(number, outcome))
        finished.append(progress.finished(CASE))
    assert finished == [False, False, False, True]


def test_a_row_says_that_the_gpu_slowed_itself_down():
    visits = tuple(record(number, outcome) for number, outcome in enumerate([SLOWED, MEASURED]))
    (row,) = rows(Run(Path("journal.jsonl"), records=visits))
    assert "in 1 of 2 visits the GPU slowed itself down (power cap)" in row["reason"]
    assert (row["gpu_slowdown"], row["gpu_clock_mhz"], row["gpu_power_w"]) == ("power cap", 900.0, None)
    assert row["device_ms"] == 4e-6


def test_a_plan_for_two_gpus_says_what_they_share():
    two = from_flags(models="resnet50", devices="cuda:0,cuda:1", backends="eager")
    assert any("share this host's power" in note for note in notes(two))
    one = from_flags(models="resnet50", devices="cpu,cuda:1", backends="eager")
    assert not any("power" in note for note in notes(one))


@pytest.mark.parametrize("flag", ["--device", "--devices"])
def test_both_spellings_take_several_gpus_and_say_once_what_they_share(flag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = ["run", "--model", "resnet50", "--backend", "eager", flag, "cuda:0,cuda:1", "--dry-run"]
    done = CliRunner().invoke(app, told)
    assert done.exit_code == 0, done.output
    assert " ".join(done.output.split()).count("cuda:0, cuda:1 are visited one at a time") == 1
