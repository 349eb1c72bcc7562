"""Each check is handed what a sound machine shows, and then each fault that it is there to find."""

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from typer import Exit
from typer.testing import CliRunner

from profiler import backends
from profiler.backends import devices
from profiler.backends.base import Placement
from profiler.cli import doctor
from profiler.cli.app import app
from profiler.errors import UserError
from profiler.machine import device_checks
from profiler.machine.device import _settings_at_work
from profiler.machine.finding import Finding
from profiler.machine.host_checks import (
    check_backend,
    check_clock,
    check_usable,
)
from profiler.machine.nvml import GpuSettings
from profiler.records.circumstances import Conditions
from profiler.records.nominal import Calls
from profiler.records.types import Failure, Measurement, Warmup
from profiler.run import examine
from profiler.run.child import Limits
from profiler.run.processes import LocalExecutor

MS = 1_000_000
QUIET = Conditions(load=0.05, steal_s=0.0, stall_s=0.01, throttled_s=0.0)
SETTINGS = GpuSettings(
    power_limit_w=250.0,
    power_limit_default_w=400.0,
    max_clock_mhz=1980,
    max_memory_clock_mhz=2619,
    application_clock_mhz=1410,
    clocks_held=True,
    persistence=True,
    compute_mode="default",
    mig=False,
    ecc=True,
    pcie_generation=4,
    pcie_generation_max=5,
    pcie_width=16,
    pcie_width_max=16,
)
MEASURED = Measurement(((9 * MS, 8 * MS),), 1, (), None, Warmup((), steady=True), 1e-7, QUIET, {})


def ticking(step, count=100):
    return [step * i for i in range(count)]


class Scripted:
    """An executor that runs nothing: each function that would have run in a process has its answer."""

    def __init__(self, **answers: object) -> None:
        self.answers = {
            "_use_threads": lambda count: (count, count, float(count)),
            "_device_reason": lambda device: (device, None, None),
            "calibrate": lambda _task: (3, Calls([5 * MS] * 8, crowded=False)),
            "visit": lambda _task: MEASURED,
            "check_device": lambda _device: [Finding("events scale", "pass", "2.0")],
            "device_settings": lambda _device: SETTINGS,
        } | answers

    def call(self, function: Callable[..., object], argument: object, timeout_s: float, limits: object) -> object:
        answer = self.answers[function.__name__]
        return answer(argument) if callable(answer) else answer

    def close(self) -> None:
        pass


@pytest.fixture
def machine(monkeypatch):
    """A quiet machine on which every process answers as scripted."""

    def install(**answers):
        monkeypatch.setattr(examine, "LocalExecutor", lambda: Scripted(**answers))
        monkeypatch.setattr(examine, "_rest", lambda _seconds: QUIET)
        monkeypatch.setattr(examine, "check_clock", lambda _readings, sample_ns: doctor_clock(ticking(40), sample_ns))

    doctor_clock = check_clock
    return install


def doctor_of(device, *, as_json):
    """Run the command and return its exit code."""
    with pytest.raises(Exit) as ended:
        doctor.doctor_command(device, as_json)
    return ended.value.exit_code


def found(capsys):
    return {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}


def test_exit_code_of_a_sound_machine(machine, capsys):
    machine()
    assert doctor_of("cpu", as_json=True) == 0
    checks = found(capsys)
    assert {finding["status"] for finding in checks.values()} == {"pass"}
    assert "events scale" not in checks


def test_what_cannot_be_told_fails_nothing(machine, capsys):
    machine(visit=Failure("unsupported", "not installed"))
    assert doctor_of("cpu", as_json=True) == 0
    assert found(capsys)["backend eager"]["status"] == "unverifiable"


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        ({"_device_reason": ("cpu", "no such device", None)}, "device"),
        ({"_device_reason": Failure("crashed", "killed by signal 11")}, "device"),
        ({"_use_threads": Failure("timeout", "no result")}, "threads (1)"),
        ({"calibrate": Failure("oom", "out of memory")}, "reference"),
        ({"visit": Failure("crashed", "killed by signal 11")}, "backend eager"),
    ],
)
def test_one_fault_is_enough_to_fail(broken, check, machine, capsys):
    machine(**broken)
    assert doctor_of("cpu", as_json=True) == 1
    assert found(capsys)[check]["status"] == "fail"


def test_a_device_that_does_not_work_is_not_examined_further(machine, capsys):
    machine(_device_reason=("cuda:0", "the driver is missing", None))
    assert doctor_of("cuda:0", as_json=True) == 1
    answer = json.loads(capsys.readouterr().out)
    checks = {finding["check"]: finding for finding in answer["findings"]}
    assert checks["device"]["said"] == "the driver is missing"
    assert not {"reference", "events scale", "self-check"} & set(checks)
    assert answer["settings"] is None


def test_an_accelerator_is_checked_by_itself(machine, capsys):
    machine()
    assert doctor_of("cuda:0", as_json=True) == 0
    assert found(capsys)["events scale"]["status"] == "pass"
    machine(check_device=Failure("crashed", "killed by signal 6"))
    assert doctor_of("cuda:0", as_json=True) == 1
    assert found(capsys)["self-check"]["said"] == "killed by signal 6"


@pytest.mark.parametrize(("device", "label"), [("xpu", "XPU"), ("mps", "MPS"), ("cuda:0", "ROCm")])
def test_an_untested_platform_is_labelled(device, label, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.2" if label == "ROCm" else None)
    monkeypatch.setattr(devices, "unavailable", lambda _device: None)
    finding = check_usable(examine._device_reason(device))
    assert finding.status == "pass"
    assert f"untested on {label}" in finding.said


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_cpu_and_cuda_carry_no_such_label(device, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(devices, "unavailable", lambda _device: None)
    assert check_usable(examine._device_reason(device)).said == f"torch computes on {device}"


def test_settings_are_reported_and_fail_nothing(machine, capsys):
    machine(device_settings=replace(SETTINGS, compute_mode="prohibited", persistence=False))
    assert doctor_of("cuda:0", as_json=False) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in ("250 W, default 400 W", "at most 1980 MHz, 1410 MHz set", "prohibited", "4, at most 5"):
        assert words in printed
    doctor_of("cuda:0", as_json=True)
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["power_limit_w"], settings["power_limit_default_w"]) == (250.0, 400.0)


def test_settings_that_are_not_told_are_empty(machine, capsys):
    """As on a MIG partition: null in JSON, an empty cell in the table, never 0 or off."""
    silent = GpuSettings(**dict.fromkeys(GpuSettings.__dataclass_fields__))
    assert {value for _, value in doctor._settings_rows(silent)} == {""}
    assert ("PCIe lanes", "at most 16") in doctor._settings_rows(replace(silent, pcie_width_max=16))
    assert ("ECC", "off") in doctor._settings_rows(replace(silent, ecc=False))
    machine(device_settings=silent)
    assert doctor_of("cuda:0", as_json=True) == 0
    assert set(json.loads(capsys.readouterr().out)["settings"].values()) == {None}


@pytest.mark.parametrize("answer", ["no driver [here]", Failure("crashed", "no driver [here]")])
def test_why_there_are_no_settings_is_said(answer, machine, capsys):
    machine(device_settings=answer)
    assert doctor_of("cuda:0", as_json=False) == 0
    assert "settings of cuda:0 are not told: no driver [here]" in capsys.readouterr().out
    doctor_of("cuda:0", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["settings"], told["settings_note"]) == (None, "no driver [here]")


def test_settings_are_read_while_the_device_works():
    """At rest the link falls back and no setting holds the clocks."""
    order = []

    class Working:
        def work(self, units):
            order.append("work")

        def sync(self):
            order.append("sync")

    def read():
        order.append("read")
        return SETTINGS

    assert _settings_at_work(Working(), read, lambda _seconds: order.append("sleep")) == SETTINGS
    assert order == ["work", "sleep", "read", "sync"]


def test_the_table_counts(machine, capsys):
    machine(visit=Failure("parity", "[bold]outputs[/bold] differ"))
    assert doctor_of("cpu", as_json=False) == 1
    printed = capsys.readouterr().out
    assert f"{len(backends.available()) - 1} failed" in printed  # all but the fake
    assert "[bold]" in printed


@pytest.mark.parametrize("device", ["", "CPU", " cuda", "gpu", "cuda:x", "cpu:1"])
def test_a_name_that_is_no_device(device):
    with pytest.raises(UserError, match="expected cpu, cuda"):
        doctor_of(device, as_json=False)


def test_real_processes_answer():
    """The functions that run in processes of their own, in such processes."""
    executor = LocalExecutor()
    try:
        asked, told, busy = executor.call(examine._use_threads, 1, 60.0, Limits())
        outcome = examine._visited("eager", Placement("cpu"), executor)
        nowhere = examine._visited("eager", Placement("xpu"), executor)
    finally:
        executor.close()
    assert (asked, told) == (1, 1)
    assert 0 < busy < 1.25
    assert check_backend("eager", outcome).status == "pass"
    assert check_backend("eager", nowhere).status == "unverifiable"


def test_a_check_that_raises_has_failed():
    class Broken:
        def __getattr__(self, name):
            raise RuntimeError("device-side assert triggered\nmore")

    findings = device_checks.run_checks(Broken(), None, "no driver", sleep=lambda _seconds: None)
    assert {f.said for f in findings if f.status == "fail"} == {"the check itself failed: device-side assert triggered"}
    assert len([f for f in findings if f.status == "fail"]) == 6


class Ramping:
    """A device at its idle clock, which rises with each unit of work until it is ten times as high."""

    def __init__(self) -> None:
        self.speed = 0.1

    def event_ns(self, units: int) -> int:
        took = 0.0
        for _ in range(units):
            took += 5 * MS / self.speed
            self.speed = min(1.0, self.speed * 1.2)
        return round(took)


def test_a_gpu_that_leaves_its_idle_clock_is_not_blamed():
    assert device_checks._events_scale(Ramping()).status == "pass"


class Counted:
    """A device whose events count launches, whatever was launched."""

    def event_ns(self, _units: int) -> int:
        return 5 * MS


def test_events_that_do_not_time_the_work_are_still_found():
    assert device_checks._events_scale(Counted()).status == "fail"


@pytest.mark.parametrize(
    ("driver", "partition", "status"),
    [
        ("NVIDIA A100", True, "pass"),
        ("NVIDIA A100 MIG 1g.5gb", True, "pass"),
        ("NVIDIA A100", False, "fail"),
        ("NVIDIA L4", True, "fail"),
    ],
)
def test_a_partition_may_be_known_by_the_name_of_its_gpu(driver, partition, status):
    bench = SimpleNamespace(name="NVIDIA A100 MIG 1g.5gb")
    known = SimpleNamespace(name=driver, is_partition=partition)
    assert device_checks._driver_agrees(bench, known).status == status


def test_the_command_line_passes_device_and_exit_code(monkeypatch):
    asked = []
    broken = [Finding("device", "fail", "no such device")]
    monkeypatch.setattr(doctor, "examine", lambda placement: asked.append(placement.device) or (broken, None))
    done = CliRunner().invoke(app, ["doctor", "--device", "cuda:1", "--json"])
    assert done.exit_code == 1
    assert asked == ["cuda:1"]
    assert json.loads(done.stdout)["findings"][0]["said"] == "no such device"
