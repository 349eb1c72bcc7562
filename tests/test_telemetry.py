"""What the host's counters say, of a process that shares its core and of one that does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from profiler import host, telemetry

#: Spins on one core for half a second, beside a competitor on the same core or alone; prints the share it waited.
_PROGRAM = """
import os, subprocess, sys, time
from profiler import telemetry
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
read = telemetry.core_wait(1)
rival = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if sys.argv[1] == "shared" else None
try:
    time.sleep(0.3)
    start, before = time.perf_counter_ns(), read()
    while time.perf_counter_ns() - start < 500_000_000:
        pass
    print((read() - before) / (time.perf_counter_ns() - start))
finally:
    if rival is not None:
        rival.kill()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counted by Linux alone")
def test_time_without_a_core_is_counted() -> None:
    share = {}
    for how in ("shared", "alone"):
        done = subprocess.run([sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, check=True)
        share[how] = float(done.stdout)
    assert 0.2 < share["shared"] < 0.9
    assert share["alone"] < share["shared"]


def test_threads_that_crowd_their_own_cores_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "usable_cores", lambda: 2)
    monkeypatch.setattr(telemetry, "_core_wait_ns", lambda: 0)
    assert telemetry.core_wait(2) is not None
    assert telemetry.core_wait(3) is None


def test_without_the_counter_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> int:
        raise FileNotFoundError("/proc/self/task")

    monkeypatch.setattr(telemetry, "_core_wait_ns", missing)
    assert telemetry.core_wait(1) is None
