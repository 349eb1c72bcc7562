"""Workers of a comparison between versions of the code: faults, output, and what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from profiler.backends.base import Placement
from profiler.gate.blocks import Trial
from profiler.gate.contest import apart, together
from profiler.gate.decision import Rule
from profiler.gate.likeness import Unlike
from profiler.gate.side import SIDES, Pair, Side
from profiler.gate.worker import LOAD_S, Worker, WorkerError, of_case
from profiler.records.types import Case, Failure
from profiler.run.preparing import ahead_s
from tests import ROOT

RULE = Rule(0.05, looks=(10,))
FAKE = Case("regnety_200mf", "", 1.0, "fake:duration_ms=1", Placement())


def _trial(folder: Path, old: Case, new: Case, cache: Path) -> Trial | Failure:
    starts = {name: partial(of_case, folder, case, cache) for name, case in zip(SIDES, (old, new), strict=True)}
    return apart(starts, 60.0).trial([RULE], 1)


def test_two_workers_tell_each_other_what_they_compute(tmp_path: Path) -> None:
    wrong = replace(FAKE, backend="fake:duration_ms=1,fault=parity")
    trial = _trial(tmp_path, FAKE, wrong, tmp_path)
    assert isinstance(trial, Trial), trial
    assert trial.blocks == ()
    assert trial.unlike is not None
    assert trial.unlike.kind == "output"
    assert "differs by 0.5 of its largest value" in trial.unlike.said
    larger = replace(FAKE, batch=2)
    trial = _trial(tmp_path, FAKE, larger, tmp_path)
    assert isinstance(trial, Trial), trial
    assert trial.unlike == Unlike(
        "inputs",
        "the inputs differ: input is float32 1x3x224x224 in the baseline and float32 2x3x224x224 in the candidate",
    )


def _children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "worker.serve_case" in " ".join(child.cmdline())]


def test_two_workers_alternate_and_leave_nothing_behind(tmp_path: Path) -> None:
    slower = Case("regnety_200mf", "", 1.0, "fake:duration_ms=1.5", Placement())
    trial = _trial(tmp_path, FAKE, slower, tmp_path)
    assert isinstance(trial, Trial), trial
    assert trial.latency_ns("candidate") / trial.latency_ns("baseline") == pytest.approx(1.5, rel=0.1)
    assert trial.facts["baseline"] == trial.facts["candidate"] | {"duration_ms": 1.0}
    assert _children() == []


@pytest.mark.parametrize(
    ("fault", "status", "sentence"),
    [
        ("raise", "error", "fake"),
        ("segfault", "crashed", "killed by signal 11"),
        ("kill", "crashed", "killed by signal 9"),
        ("exit", "crashed", "exit code 7"),
        ("unavailable", "error", "unavailable"),
    ],
)
@pytest.mark.parametrize("at", ["load", "run"])
def test_a_fault_of_one_side_is_a_failure_that_says_which(
    fault: str, status: str, sentence: str, at: str, tmp_path: Path
) -> None:
    if fault == "unavailable" and at == "run":
        pytest.skip("a backend is unavailable before anything runs")
    faulty = Case("regnety_200mf", "", 1.0, f"fake:duration_ms=1,fault={fault},at={at},after=20", Placement())
    found = _trial(tmp_path, FAKE, faulty, tmp_path)
    assert isinstance(found, Failure), found
    assert found.status == status
    assert sentence in found.reason
    assert _children() == []


def test_what_a_worker_prints_does_no_harm_and_is_kept_for_a_failure(tmp_path: Path) -> None:
    flood = Case("regnety_200mf", "", 1.0, "fake:duration_ms=1,fault=flood", Placement())
    assert isinstance(_trial(tmp_path, FAKE, flood, tmp_path), Trial)
    (tmp_path / "talks.py").write_text(
        "import os\n\ndef build():\n    print('last words', flush=True)\n    os._exit(5)\n"
    )
    said = _trial(tmp_path, FAKE, Case("talks:build", "", 1.0, "eager", Placement()), tmp_path)
    assert isinstance(said, Failure)
    assert "exit code 5" in said.reason
    assert said.detail == "last words"


def test_a_worker_that_hangs_is_stopped(tmp_path: Path) -> None:
    with of_case(tmp_path, FAKE, tmp_path) as worker:
        worker.load()
        assert len(_children()) == 1
        worker.ask("ready", 60.0, single=False)
        os.kill(worker._process.pid, signal.SIGSTOP)
        with pytest.raises(WorkerError, match="no answer within"):
            worker.ask("slot", 0.2)
    assert _children() == []


_PARENT = """
import sys
from pathlib import Path
from profiler.backends.base import Placement
from profiler.gate.worker import of_case
from profiler.records.types import Case
worker = of_case(Path.cwd(), Case("regnety_200mf", "", 1.0, "fake:duration_ms=1", Placement()), Path("."))
worker.load()
print(worker._process.pid, flush=True)
sys.stdin.read()
"""


def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    root = str(ROOT)
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT], cwd=tmp_path, env=os.environ | {"PYTHONPATH": root},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_packages_called_as_ours_are_the_users_and_hide_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("profiler", "backends"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not this one')\n")
    # Also where the user's own path names the folder.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with of_case(tmp_path, FAKE, tmp_path) as worker:
        worker.load()


def test_memory_of_a_version(tmp_path: Path) -> None:
    held = Case("regnety_200mf", "", 1.0, f"fake:duration_ms=1,bytes={32 << 20},at=load", Placement())
    broken = partial(Worker, [sys.executable, "-c", "raise SystemExit(3)"], tmp_path, "it")
    contest = apart({"baseline": partial(of_case, tmp_path, held, tmp_path), "candidate": broken})
    peaks = contest.peaks("baseline")
    assert isinstance(peaks, dict)
    assert peaks["process"] == pytest.approx(32 << 20, abs=2 << 20)
    assert isinstance(contest.peaks("candidate"), Failure)


def test_a_worker_that_ended_early_is_explained_by_the_first_line_that_it_marked(tmp_path: Path) -> None:
    said = "import sys; print('collecting'); print('E   ImportError: no x'); print('E   more'); sys.exit(4)"
    for mark, reason in (("E ", ": ImportError: no x"), ("", "")):
        worker = Worker([sys.executable, "-c", said], tmp_path, "it", mark=mark)
        with worker, pytest.raises(WorkerError) as raised:
            worker.load()
        failed = raised.value.failure
        assert (failed.status, failed.reason.endswith(f"answered{reason}")) == ("crashed", True)
        assert failed.detail.startswith("collecting")


def test_a_worker_keeps_no_record_of_its_use_unless_the_user_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "import os, sys; print('E  ', os.environ['ORT_DISABLE_TELEMETRY']); sys.exit(4)"
    for said in (None, "0"):
        monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
        if said:
            monkeypatch.setenv("ORT_DISABLE_TELEMETRY", said)
        with (
            Worker([sys.executable, "-c", told], tmp_path, "it", mark="E ") as worker,
            pytest.raises(WorkerError) as end,
        ):
            worker.load()
        assert end.value.failure.reason.endswith(f": {said or 1}")


def test_a_first_compilation_may_take_its_time_on_either_side(tmp_path: Path) -> None:
    """As in a run, where it has a limit of its own."""
    compiled, told = replace(FAKE, backend="compile"), list[float]()

    class Noted:
        def call(self, function: object, argument: object, timeout_s: float, limits: object) -> Failure:
            told.append(timeout_s)
            return Failure("timeout", "noted")

        def close(self) -> None:
            pass

    for sides in ((FAKE, compiled), (compiled, FAKE), (FAKE, FAKE)):
        contest = together(Pair(*map(Side, sides)), Noted(), 60.0)
        contest.trial([RULE], 1)
        contest.peaks("baseline")
    both, old, neither = told[::2], told[1::2], 60.0 + LOAD_S
    assert [seconds - neither for seconds in both] == [ahead_s(compiled), ahead_s(compiled), 0]
    assert [seconds - LOAD_S for seconds in old] == [0, ahead_s(compiled), 0]
    with of_case(tmp_path, compiled, tmp_path) as worker:
        assert worker._load_s == LOAD_S + ahead_s(compiled) > 3600


def test_a_worker_that_loads_for_long_is_waited_for_as_long_as_it_may(tmp_path: Path) -> None:
    slow = "import os, sys, time; time.sleep(0.3); os.write(int(sys.argv[2]), b'{}\\n'); time.sleep(60)"
    with Worker([sys.executable, "-c", slow], tmp_path, "it", load_s=30.0) as worker:
        worker.load()
    with Worker([sys.executable, "-c", slow], tmp_path, "it", load_s=0.01) as worker, pytest.raises(WorkerError) as end:
        worker.load()
    assert "no answer within 0.01 s" in end.value.failure.reason
