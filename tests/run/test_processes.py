"""Whatever happens to the process of a visit, the parent gets a reason, and no process is left behind."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from profiler.records.types import Failure
from profiler.run import processes
from profiler.run.child import Limits, failure
from profiler.run.processes import LocalExecutor
from tests import ROOT

NO_LIMITS = Limits()


def double(number: int) -> int:
    return 2 * number


def raise_error(text: str) -> None:
    raise ValueError(text)


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)


def segfault(_: None) -> None:
    ctypes.string_at(0)


def leave(code: int) -> None:
    print("last words", flush=True)
    os._exit(code)


def stammer(pieces: int) -> None:
    for number in range(pieces):
        os.write(2, f"{number} ".encode())
        time.sleep(0.001)
    os._exit(1)


def allocate(size: int) -> int:
    return len(bytearray(size))


def hang(pid_file: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(pid_file).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)


def flood(megabytes: int) -> str:
    for _ in range(megabytes):
        os.write(1, b"x" * 1_000_000)
    os.write(2, b"the end")
    return "done"


def affinity(_: None) -> list[int]:
    return sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    local = LocalExecutor()
    yield local
    local.close()


def failed(answer: object) -> Failure:
    assert isinstance(answer, Failure), answer
    return answer


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return gone(pid)


def test_a_result_comes_back(executor: LocalExecutor) -> None:
    assert executor.call(double, 21, 30, NO_LIMITS) == 42


def test_a_wait_may_be_longer_than_the_system_counts(executor: LocalExecutor) -> None:
    assert executor.call(double, 21, 1e9, NO_LIMITS) == 42


def test_spawn_gives_the_same_result() -> None:
    assert LocalExecutor("spawn").call(double, 21, 60, NO_LIMITS) == 42


#: Asks a fresh process what it has of that variable.
_OBSERVED = """
import os, sys
from profiler.run import child, processes
print(processes.LocalExecutor(sys.argv[1]).call(os.getenv, "ORT_DISABLE_TELEMETRY", 60.0, child.Limits()))
"""


@pytest.mark.parametrize(("said", "found"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
@pytest.mark.parametrize("isolation", ["forkserver", "spawn"])
def test_no_child_keeps_a_record_of_its_use_unless_the_user_says_so(
    isolation: str, said: dict[str, str], found: str, tmp_path: Path
) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment = inherited | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)} | said
    command = [sys.executable, "-c", _OBSERVED, isolation]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{found}\n"
    assert said or not list(tmp_path.iterdir())


def keep_a_lock(_: None) -> None:
    keep_a_lock.lock = multiprocessing.get_context("spawn").Lock()  # type: ignore[attr-defined]


#: Has a fresh process end with a lock of its own, as torch's has where it compiles.
_LOCKED = """
from profiler.run import child, processes
from tests.run.test_processes import keep_a_lock
processes.LocalExecutor("forkserver").call(keep_a_lock, None, 60.0, child.Limits())
"""


def test_what_a_process_leaves_behind_is_cleared_away_without_a_word() -> None:
    done = subprocess.run([sys.executable, "-c", _LOCKED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_an_exception_is_an_error_with_its_traceback(executor: LocalExecutor) -> None:
    failure = failed(executor.call(raise_error, "width must be positive", 30, NO_LIMITS))
    assert (failure.status, failure.reason) == ("error", "ValueError: width must be positive")
    assert "raise_error" in failure.detail


def test_a_signal_is_named(executor: LocalExecutor) -> None:
    failure = failed(executor.call(kill_self, int(signal.SIGKILL), 30, NO_LIMITS))
    assert failure.status == "crashed"
    assert "signal 9 (SIGKILL)" in failure.reason


def test_a_segfault_leaves_its_python_stack(executor: LocalExecutor) -> None:
    failure = failed(executor.call(segfault, None, 30, NO_LIMITS))
    assert failure.status == "crashed"
    assert "SIGSEGV" in failure.reason
    assert "segfault" in failure.detail


def test_an_exit_without_a_result_is_a_crash_with_its_last_words(executor: LocalExecutor) -> None:
    failure = failed(executor.call(leave, 3, 30, NO_LIMITS))
    assert failure.status == "crashed"
    assert "exit code 3" in failure.reason
    assert "last words" in failure.detail


def test_last_words_written_in_many_pieces_are_kept_whole(executor: LocalExecutor) -> None:
    """A fault's stack is followed by a hundred short writes, one for each extension module."""
    failure = failed(executor.call(stammer, 200, 30, NO_LIMITS))
    assert failure.detail.split() == [str(number) for number in range(200)]


def test_memory_beyond_the_limit_is_oom(executor: LocalExecutor) -> None:
    failure = failed(executor.call(allocate, 4 << 30, 30, Limits(memory_bytes=1 << 30)))
    assert failure.status == "oom"


def test_a_hang_is_stopped_with_everything_it_started(executor: LocalExecutor, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    begin = time.monotonic()
    failure = failed(executor.call(hang, str(pids), 2.0, NO_LIMITS))
    assert failure.status == "timeout"
    assert "2 s" in failure.reason
    assert time.monotonic() - begin < 20
    assert all(wait_until_gone(int(pid)) for pid in pids.read_text().split())


def test_a_flood_of_output_neither_blocks_nor_reaches_the_terminal(
    executor: LocalExecutor, capfd: pytest.CaptureFixture[str]
) -> None:
    assert executor.call(flood, 20, 60, NO_LIMITS) == "done"
    assert capfd.readouterr() == ("", "")


def test_the_parent_sleeps_while_a_child_runs(executor: LocalExecutor) -> None:
    executor.call(double, 1, 30, NO_LIMITS)
    before = time.process_time()
    failed(executor.call(time.sleep, 30, 1.0, NO_LIMITS))
    assert time.process_time() - before < 0.1


def test_pinning(executor: LocalExecutor) -> None:
    core = max(os.sched_getaffinity(0))
    assert executor.call(affinity, None, 30, Limits(cores=(core,))) == [core]


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = (
        "from profiler.run.processes import LocalExecutor; from profiler.run.child import Limits\n"
        "from tests.run.test_processes import hang\n"
        f"LocalExecutor().call(hang, {str(pids)!r}, 600, Limits())"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not (pids.exists() and len(pids.read_text().split()) == 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert all(wait_until_gone(int(pid)) for pid in pids.read_text().split())


def test_a_failure_leaves_out_what_torch_advises_its_own_developers():
    said = (
        "CUDA error: an illegal memory access was encountered\nSearch for `cudaErrorIllegalAddress' in the docs for"
        " more information.\nCUDA kernel errors might be asynchronously reported\nCompile with `TORCH_USE_CUDA_DSA`\n"
    )
    made = failure(RuntimeError(said))
    assert made.reason == "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert "TORCH_USE_CUDA_DSA" in made.detail


def server_of(_: None) -> int:
    return os.getppid()


@pytest.fixture
def due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every server is due at once."""
    monkeypatch.setattr(processes, "_SERVER", processes._Server())
    monkeypatch.setattr(processes, "_SERVES_AT_MOST_S", 0.0)
    processes._SERVER._serves_s = 0.0


def test_visits_of_one_server_are_alike_so_that_another_takes_its_place(executor: LocalExecutor, due: None) -> None:
    first, second = (executor.call(server_of, None, 60, NO_LIMITS) for _ in range(2))
    assert first != second
    assert not psutil.pid_exists(first)
    assert executor.call(double, 21, 60, NO_LIMITS) == 42


def test_a_server_with_another_child_stays(executor: LocalExecutor, due: None) -> None:
    first = executor.call(server_of, None, 60, NO_LIMITS)
    with processes._SERVER.child():
        held = executor.call(server_of, None, 60, NO_LIMITS)
        assert executor.call(server_of, None, 60, NO_LIMITS) == held != first


def test_a_server_serves_longer_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, started = [0.0], []
    monkeypatch.setattr(processes, "start_server", lambda: started.append(now[0]))
    monkeypatch.setattr(processes.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(processes.multiprocessing.forkserver._forkserver, "_stop", lambda: None)
    server = processes._Server()
    for second in range(200):
        now[0] = float(second)
        with server.child():
            pass
    assert started == [4.0, 20.0, 80.0, 140.0]
