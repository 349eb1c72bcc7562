"""A fleet of real processes that are killed: every case accounted for, nothing measured twice, nothing left behind.

``tests/studies/study_fleet.py`` hurts one at random, and kills what is not killed here.
"""

from __future__ import annotations

import contextlib
import csv
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from profiler.cli.fleet_run import run_on_fleet
from profiler.cli.run import How
from profiler.cli.workers import workers_command
from profiler.errors import StoppedError
from profiler.records.reading import read
from profiler.records.types import Failure, Measurement
from profiler.run.meeting import Meeting
from tests.run.fleets import LocalFleet, local_fleet, orphans, visits, wait_for, whole
from tests.run.nets import nets

pytest.importorskip("distributed")

NET = "import torch, beside\ndef net():\n    return beside.LAYER, torch.ones(1, 4)\n"
BESIDE = "import torch\ntorch.manual_seed(0)\nLAYER = torch.nn.Linear(4, 4)\n"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "home").mkdir()
    (folder / "home/beside.py").write_text(BESIDE)
    (folder / "home/net.py").write_text(NET)
    with local_fleet(folder) as made:
        made.add("big")
        made.add("small")
        yield made
    wait_for(lambda: not orphans(folder), 10)


def drive(
    fleet: LocalFleet, out: Path, *, resume: bool = False, patience: str = "60s", **flags: object
) -> tuple[int, str]:
    """Run a plan as its user does; return the exit code, -1 where it stopped, and what was said."""
    console, how = (
        StringIO(),
        How(out=out, resume=resume, detail="quiet", meeting=Meeting(fleet.address), patience=patience),
    )
    given = {"models": f"{fleet.folder}/home/net.py:net", "backends": "fake", "threads": "1", "devices": "big,small"}
    try:
        code = run_on_fleet(None, given | flags, how, None, Console(file=console, width=500))
    except StoppedError as stopped:
        return -1, f"{console.getvalue()}{stopped}"
    return code, console.getvalue()


def beside(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def test_models_travel_by_content_and_records_come_back_with_their_machine(
    fleet: LocalFleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = drive(fleet, tmp_path, batches="1,2", memory=True, rounds=2, visit_s="5ms")
    assert code == 0, said
    records = read(tmp_path).records
    assert Counter((r.case.fleet_label, r.measures) for r in records) == {
        ("big", "latency"): 4, ("small", "latency"): 4, ("big", "memory"): 2, ("small", "memory"): 2,
    }  # fmt: skip
    assert not [r for r in records if isinstance(r.outcome, Failure)]
    assert all(r.worker and r.inputs for r in records)
    with (tmp_path / "cases.csv").open() as file:
        assert all(row["cpu"] and row["fleet_label"] in ("big", "small") for row in csv.DictReader(file))
    capsys.readouterr()
    workers_command(scheduler=fleet.address, json=True)
    assert '"label": "big"' in capsys.readouterr().out


def test_what_is_killed_in_a_visit_costs_that_visit_alone(fleet: LocalFleet, tmp_path: Path) -> None:
    def kill() -> None:
        wait_for(lambda: fleet.child("big"), 120)
        fleet.engine("big").kill()
        child = wait_for(lambda: fleet.child("small"), 120)
        assert child is not None
        child.kill()

    killer = beside(kill)
    code, said = drive(fleet, tmp_path, backends="fake:duration_ms=30", batches="1,2,3", rounds=2, visit_s="1s")
    killer.join()
    records = read(tmp_path).records
    failed = [r for r in records if isinstance(r.outcome, Failure)]
    assert [(r.case.fleet_label, r.outcome.status) for r in failed] == [("small", "crashed")]  # type: ignore[union-attr]
    assert code == (1 if len({r.case.key for r in records if isinstance(r.outcome, Measurement)}) < 6 else 0)
    assert said.count("its visit of") == 1
    assert set(Counter((r.case.key, r.round) for r in records).values()) == {1}
    assert {r.case.key for r in records} == {case.key for case in read(tmp_path).planned}
    assert sum(r.case.fleet_label == "big" for r in records) == 6


def test_a_driver_that_is_killed_leaves_no_visit_behind_and_resumes(fleet: LocalFleet, tmp_path: Path) -> None:
    flags = ("--model", f"{fleet.folder}/home/net.py:net", "--backend", "fake:duration_ms=20", "--batch", "1,2")
    run = fleet.run(tmp_path, *flags, "--rounds", "3", "--visit", "200ms", "--device", "big,small")
    wait_for(lambda: visits(tmp_path) >= 3)
    run.send_signal(signal.SIGKILL)
    run.wait()
    wait_for(lambda: not fleet.child("big") and not fleet.child("small"))
    assert not whole(tmp_path, 4, 3)
    flagged = {"backends": "fake:duration_ms=20", "batches": "1,2", "rounds": 3, "visit_s": "200ms"}
    code, said = drive(fleet, tmp_path, resume=True, **flagged)
    assert code == 0, said
    assert whole(tmp_path, 4, 3)


SLOW = {"backends": "fake:duration_ms=30", "batches": "1,2", "rounds": 2, "visit_s": "800ms"}
SLOW_FLAGS = ("--backend", "fake:duration_ms=30", "--batch", "1,2", "--rounds", "2", "--visit", "800ms")


def started(fleet: LocalFleet, out: Path) -> subprocess.Popen[bytes]:
    return fleet.run(out, "--model", f"{fleet.folder}/home/net.py:net", *SLOW_FLAGS, "--device", "big,small")


def failures(out: Path) -> list[Failure]:
    return [r.outcome for r in read(out).records if isinstance(r.outcome, Failure)]


def test_ctrl_c_of_a_driver_ends_what_is_under_way_and_says_how_to_go_on(fleet: LocalFleet, tmp_path: Path) -> None:
    run = started(fleet, tmp_path)
    wait_for(lambda: visits(tmp_path) >= 2)
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == 130
    assert f"stopped; continue with: profiler run --model {fleet.folder}/home/net.py:net" in fleet.said()
    assert not fleet.child("big")
    assert not fleet.child("small")
    made = visits(tmp_path)
    assert 2 <= made < 8
    code, said = drive(fleet, tmp_path, resume=True, **SLOW)
    assert (code, failures(tmp_path)) == (0, []), said
    assert whole(tmp_path, 4, 2)


def test_two_drivers_lose_nothing_to_each_other(fleet: LocalFleet, tmp_path: Path) -> None:
    other = started(fleet, tmp_path / "other")
    code, said = drive(fleet, tmp_path / "own", **SLOW)
    assert (code, other.wait(60)) == (0, 0), said
    for out in (tmp_path / "own", tmp_path / "other"):
        assert whole(out, 4, 2)
        assert not failures(out)


def test_a_scheduler_that_is_killed_costs_what_was_under_way(fleet: LocalFleet, tmp_path: Path) -> None:
    def kill() -> None:
        wait_for(lambda: fleet.child("big") or fleet.child("small"))
        assert fleet.scheduler is not None
        fleet.scheduler.kill()
        fleet.scheduler.wait()
        fleet.start_scheduler()

    killer = beside(kill)
    code, said = drive(fleet, tmp_path, **SLOW)
    killer.join()
    assert (code, failures(tmp_path)) == (0, []), said
    assert whole(tmp_path, 4, 2)
    # One that is back at once may only be noticed by what it forgot.
    assert "the scheduler is back" in said or "is made again" in said


def test_a_worker_of_which_no_process_is_left_costs_its_visit_alone(fleet: LocalFleet, tmp_path: Path) -> None:
    def kill() -> None:
        child, engine = wait_for(lambda: fleet.child("small")), fleet.engine("small")
        assert child is not None
        fleet.nanny("small").kill()
        fleet.workers["small"].wait()
        wait_for(lambda: not engine.is_running() and not child.is_running())
        fleet.add("small")

    killer = beside(kill)
    code, said = drive(fleet, tmp_path, **SLOW)
    killer.join()
    assert (code, failures(tmp_path)) == (0, []), said
    assert whole(tmp_path, 4, 2)
    assert said.count("its visit of") == 1


def test_a_link_that_is_cut_costs_what_was_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut until the worker is given up; its visit is made again when it is back, and the other goes on meanwhile."""
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP", "11s")  # the least it takes
    (tmp_path / "net.py").write_text(NET.replace("beside.LAYER", "torch.nn.Identity()").replace(", beside", ""))
    out, given = tmp_path / "out", ("--model", str(tmp_path / "net.py:net"), *SLOW_FLAGS, "--device", "near,far")
    with nets(("near", "far")) as net:
        if net is None:
            pytest.skip("this user may make no network namespaces")
        with local_fleet(tmp_path / "fleet", net) as cut:
            cut.add("near")
            cut.add("far")
            run = cut.run(out, *given)
            wait_for(lambda: cut.child("far") or run.poll() is not None, 60)
            net.link("far", up=False)
            wait_for(lambda: "is made again" in cut.said() or run.poll() is not None, 60)
            assert run.poll() is None, cut.said()
            wait_for(lambda: sum(r.case.fleet_label == "near" for r in read(out).records) == 4)
            net.link("far", up=True)
            assert run.wait(60) == 0, cut.said()
            assert cut.said().count("its visit of") == 1
            assert whole(out, 4, 2)
            assert not failures(out)
    wait_for(lambda: not orphans(tmp_path / "fleet"), 10)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may mount no small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_worker_whose_disk_is_full_blames_no_case(fleet: LocalFleet, tmp_path: Path, small_disk: Path) -> None:
    fleet.add("many", "full", TMPDIR=str(small_disk))
    wait_for(lambda: list(small_disk.rglob("worker-*")))
    with contextlib.suppress(OSError), (small_disk / "rest").open("wb") as rest:
        while True:
            rest.write(bytes(4096))
            rest.flush()
    wait_for(lambda: "worker many on cpu serves" in fleet.said())
    code, said = drive(fleet, tmp_path / "alone", devices="many", patience="2s", **SLOW)
    assert (code, visits(tmp_path / "alone")) == (-1, 0), said
    fleet.add("many", "roomy")
    code, said = drive(fleet, tmp_path / "out", devices="many", **SLOW)
    assert (code, failures(tmp_path / "out")) == (0, []), said
    assert whole(tmp_path / "out", 2, 2)
    assert "is full" in said
    for name in ("full", "roomy"):
        fleet.workers[name].send_signal(signal.SIGTERM)
        fleet.workers[name].wait(20)
