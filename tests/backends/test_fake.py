import itertools
import math
import signal
import statistics
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler import backends
from profiler.backends.base import BackendError, FallbackError, Model, Placement
from profiler.backends.fake import Fake, FakeSession, _expected_output
from profiler.backends.fake_clock import FakeClock, RestingClock, WallClock
from profiler.backends.fake_faults import EXIT_STATUS, FAULTS, FLOOD_BYTES
from tests.backends.samples import fed, only

MS = 1_000_000
MODEL = Model(key=None, module=None)
EXAMPLE = np.ones((1, 3, 4, 4), np.float32)

times = st.lists(st.integers(0, 10**9), min_size=1, max_size=20)


def first(fake, count):
    return list(itertools.islice(fake.durations_ns(), count))


@given(times)
def test_time_passes_exactly(durations):
    clock = FakeClock()
    session = FakeSession(durations, clock)
    for duration in durations:
        before = clock()
        session.run()
        session.sync()
        assert clock() - before == duration
    session.run()
    assert clock() == sum(durations) + durations[-1]


@given(times)
def test_an_asynchronous_device_needs_a_sync(durations):
    clock = FakeClock()
    session = FakeSession(durations, clock, asynchronous=True)
    for _ in durations:
        session.run()
    assert clock() == 0
    session.sync()
    assert clock() == sum(durations)


def test_an_asynchronous_device_works_while_the_host_does_something_else():
    clock = FakeClock()
    session = FakeSession([10], clock, asynchronous=True)
    session.run()
    clock.advance(7)
    session.sync()
    assert clock() == 10
    clock.advance(5)
    session.run()
    session.sync()
    assert clock() == 25


def test_loading_takes_its_time_and_runs_on_any_clock():
    clock = FakeClock()
    with Fake(duration_ms=2, load_ms=30).load(MODEL, fed(EXAMPLE), Placement(), clock=clock) as session:
        assert clock() == 30 * MS
        session.run()
    assert clock() == 32 * MS


@pytest.mark.parametrize("clock", [WallClock(), RestingClock()])
def test_real_time_is_never_cut_short(clock):
    start = time.perf_counter_ns()
    clock.advance(3 * MS)
    assert time.perf_counter_ns() - start >= 3 * MS


def test_drift_and_slow_first_runs():
    assert first(Fake(duration_ms=1, drift=0.5, drift_runs=2), 4) == [MS, 1.25 * MS, 1.5 * MS, 1.5 * MS]
    assert first(Fake(duration_ms=1, slow_runs=2, slow_factor=4), 3) == [4 * MS, 4 * MS, MS]


@given(st.integers(0, 1000), st.floats(0, 1))
def test_equal_options_give_equal_times(seed, jitter):
    fake = Fake(jitter=jitter, seed=seed)
    assert first(fake, 5) == first(Fake(jitter=jitter, seed=seed), 5)
    assert jitter < 1e-3 or first(fake, 5) != first(Fake(jitter=jitter, seed=seed + 1), 5)


def test_jitter_is_the_deviation_of_the_logarithm_and_leaves_the_median():
    logs = [math.log(ns / MS) for ns in first(Fake(jitter=0.1), 4000)]
    assert statistics.stdev(logs) == pytest.approx(0.1, rel=0.05)
    assert statistics.median(logs) == pytest.approx(0, abs=0.005)


RAISING = [("raise", RuntimeError), ("fallback", FallbackError), ("oom", MemoryError)]


def load(text, run=0):
    with backends.get(f"fake:duration_ms=0,{text}").load(MODEL, fed(EXAMPLE), Placement()) as session:
        for _ in range(run):
            session.run()
        return only(session) if run else None


@pytest.mark.parametrize(("fault", "kind"), RAISING)
def test_faults_that_raise_do_so_when_told(fault, kind):
    with pytest.raises(kind):
        load(f"fault={fault},at=load")
    with pytest.raises(kind):
        load(f"fault={fault},after=3", run=3)
    load(f"fault={fault},after=3", run=2)


def test_an_output_can_be_wrong_or_no_number():
    right = load("seed=0", run=1)
    np.testing.assert_array_equal(right, _expected_output(fed(EXAMPLE)))
    assert np.abs(load("fault=parity", run=1) - right).max() / np.abs(right).max() == pytest.approx(0.5)
    assert np.isnan(load("fault=nan", run=1)).any()


def test_unavailable_is_said_beforehand():
    assert "drop the option" in backends.get("fake:fault=unavailable").unavailable(Placement())


CHILD = """
import sys, numpy
from profiler import backends
from profiler.backends.base import Model, Placement
from profiler.backends.inputs import Inputs
example = numpy.ones((1, 3, 4, 4), "float32")
with backends.get(sys.argv[1]).load(Model(None, None), Inputs((example,)), Placement()) as session:
    print("loaded", flush=True)
    session.run()
    print("ran", flush=True)
"""


def child(spec):
    return subprocess.run([sys.executable, "-c", CHILD, spec], capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("fault", "status"), [("segfault", -signal.SIGSEGV), ("kill", -signal.SIGKILL), ("exit", EXIT_STATUS)]
)
@pytest.mark.parametrize(("at", "said"), [("load", b""), ("run", b"loaded\n")])
def test_faults_that_end_the_process_really_do(fault, status, at, said):
    done = child(f"fake:fault={fault},at={at}")
    assert (done.returncode, done.stdout) == (status, said)


def test_a_flood_is_megabytes_on_the_real_standard_output():
    done = child("fake:fault=flood")
    assert done.returncode == 0
    assert done.stdout.endswith(b"ran\n")
    assert len(done.stdout) > FLOOD_BYTES


def test_a_hang_never_ends():
    with subprocess.Popen([sys.executable, "-c", CHILD, "fake:fault=hang"], stdout=subprocess.PIPE) as hanging:
        assert hanging.stdout.readline() == b"loaded\n"
        with pytest.raises(subprocess.TimeoutExpired):
            hanging.wait(0.5)
        hanging.kill()


def resident():
    return psutil.Process().memory_info().rss


def test_memory_at_load_is_resident_until_the_session_closes():
    size, slack = 64 << 20, 4 << 20
    before = resident()
    with backends.get(f"fake:bytes={size},at=load").load(MODEL, fed(EXAMPLE), Placement()):
        assert size - slack < resident() - before < size + slack
    assert resident() - before < slack


def test_memory_at_run_comes_and_goes_and_a_leak_stays():
    size, slack = 16 << 20, 4 << 20
    before = resident()
    with backends.get(f"fake:bytes={size},duration_ms=0").load(MODEL, fed(EXAMPLE), Placement()) as session:
        for _ in range(3):
            session.run()
        assert resident() - before < slack
    with backends.get(f"fake:leak={size},duration_ms=0").load(MODEL, fed(EXAMPLE), Placement()) as session:
        for _ in range(3):
            session.run()
        assert 3 * size - slack < resident() - before < 3 * size + slack


def test_every_fault_has_an_action_and_a_closed_session_refuses():
    hints = backends.get_type_hints(Fake)["fault"]
    assert set(FAULTS) == set(backends.get_args(hints))
    session = FakeSession([1], FakeClock())
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.run()
