"""What the host's counters say, of a process that shares its core and of one that does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from profiler.machine import conditions, host
from profiler.machine.conditions import core_wait

#: Spins on one core for half a second, beside competitors on the same core or alone; prints the share it waited. Three
#: of them, so that a stranger on that core, while it should be alone, makes no difference.
_PROGRAM = """
import os, subprocess, sys, time
from profiler.machine import conditions
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
read = conditions.core_wait(1)
rivals = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(int(sys.argv[1]))]
try:
    time.sleep(0.3)
    start, before = time.perf_counter_ns(), read()
    while time.perf_counter_ns() - start < 500_000_000:
        pass
    print((read() - before) / (time.perf_counter_ns() - start))
finally:
    for rival in rivals:
        rival.kill()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counted by Linux alone")
def test_time_without_a_core_is_counted() -> None:
    share = {}
    for rivals in (3, 0):
        done = subprocess.run([sys.executable, "-c", _PROGRAM, str(rivals)], capture_output=True, text=True, check=True)
        share[rivals] = float(done.stdout)
    assert 0.2 < share[3] < 0.99
    assert share[0] < share[3]


def test_threads_that_crowd_their_own_cores_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "usable_cores", lambda: 2)
    monkeypatch.setattr(conditions, "_core_wait_ns", lambda: 0)
    assert core_wait(2) is not None
    assert core_wait(3) is None


def test_without_the_counter_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> int:
        raise FileNotFoundError("/proc/self/task")

    monkeypatch.setattr(conditions, "_core_wait_ns", missing)
    assert core_wait(1) is None
