"""Only ``profiler.measure.timing`` reads a clock around a model; who else reads one, and for what."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest

from tests import ROOT

#: Every other module that reads a clock, and around what.
OTHERS = {
    "backends/fake_clock.py": "the fake's own time, which it spends",
    "profiler/cli/run.py": "a whole run",
    "profiler/gate/blocks.py": "all blocks of a trial, so that it ends in time",
    "profiler/gate/worker.py": "waiting for another process",
    "profiler/machine/conditions.py": "two looks at the host's counters",
    "profiler/machine/device_checks.py": "work of known size, to check the device's own clock",
    "profiler/machine/gpu.py": "stamps of a GPU's readings, from another process",
    "profiler/run/examine.py": "the clock itself, and how many cores torch's threads keep busy",
    "profiler/run/far.py": "waiting for machines of a fleet, and when what is shown changes",
    "profiler/run/fleet.py": "waiting for an answer from another machine",
    "profiler/run/lab.py": "the process of a visit",
    "profiler/run/display.py": "how much is left of the time that a run was given",
    "profiler/run/placing.py": "how long it is waited for a machine that is gone",
    "profiler/run/turns.py": "when the time that a run was given is up",
    "profiler/run/rounds.py": "when the time that a run was given is up",
    "profiler/run/processes.py": "waiting for the process of a visit",
}
TIMING = "profiler/measure/timing.py"
CLOCKS = {name for name in vars(time) if name.startswith(("perf_counter", "monotonic", "process_time", "thread_time"))}
CLOCKS |= {"time", "time_ns", "clock_gettime", "clock_gettime_ns"}


def reads_a_clock(code: str) -> bool:
    """Whether ``code`` names one of the clocks of the module ``time``, also where it only passes it on."""
    tree = ast.parse(code)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "time"]
    if any(alias.name in CLOCKS for node in imports for alias in node.names):
        return True
    known = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "time"
    }
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in CLOCKS
        and isinstance(node.value, ast.Name)
        and node.value.id in known
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize(
    ("code", "reads"),
    [
        ("import time\nstart = time.perf_counter()", True),
        ("import time\ndef f(clock=time.monotonic_ns): pass", True),
        ("import time as t\nt.process_time()", True),
        ("from time import perf_counter_ns", True),
        ("import time\ntime.sleep(1)", False),
        ("from profiler.measure.timing import host_clock\nhost_clock()", False),
    ],
)
def test_a_clock_is_found_however_it_is_named(code: str, reads: bool) -> None:
    assert reads_a_clock(code) is reads


def test_no_other_module_reads_a_clock_than_those_that_say_why() -> None:
    folders = (ROOT / "backends", ROOT / "profiler")
    files = [path for folder in folders for path in folder.rglob("*.py") if "backends" not in relative(path).parts[1:]]
    found = {relative(path).as_posix() for path in files if reads_a_clock(path.read_text(encoding="utf-8"))}
    assert found == {TIMING, *OTHERS}


def relative(path: Path) -> Path:
    return path.relative_to(ROOT)
