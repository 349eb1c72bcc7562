"""A fleet of real processes that are killed: every case accounted for, nothing measured twice, nothing left behind."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from profiler.records.reading import read
from profiler.records.types import Failure, Measurement
from tests.run.fleets import PROFILER, LocalFleet, environment, journal, local_fleet, orphans, visits, wait_for

pytest.importorskip("distributed")

MODELS = "regnety_200mf,regnetz_500mf,efficientnet_b0,resnet50"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with local_fleet(folder) as made:
        made.add("big")
        made.add("small")
        yield made
    wait_for(lambda: not orphans(folder), 10)


def counts(out: Path) -> Counter[tuple[str, str, int]]:
    return Counter((r.case.key, r.case.fleet_label, r.round) for r in read(out).records)


def whole(out: Path, cases: int, rounds: int) -> bool:
    """Whether each visit of each case stands in the journal once."""
    found = counts(out)
    return len(found) == cases * rounds and set(found.values()) == {1}


def test_devices_are_labels_and_models_travel_by_content(fleet: LocalFleet, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("import torch\ntorch.manual_seed(0)\nLAYER = torch.nn.Linear(4, 4)\n")
    (tmp_path / "net.py").write_text("import torch, beside\ndef net():\n    return beside.LAYER, torch.ones(1, 4)\n")
    out = tmp_path / "out"
    given = ("--model", "net.py:net", "--backend", "fake", "--time", "100ms", "--visit", "5ms", "--memory")
    run = fleet.run(out, *given, cwd=tmp_path)
    assert run.wait(60) == 0, fleet.said()
    records = read(out).records
    assert {r.case.fleet_label for r in records} == {"big", "small"}
    assert all(r.case.model == "net.py:net" and not isinstance(r.outcome, Failure) for r in records)
    assert Counter(r.measures for r in records if r.case.fleet_label == "big").keys() == {"latency", "memory"}
    assert all(r.worker for r in records)
    with (out / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["fleet_label"] for row in rows) == ["big", "small"]
    assert all(row["cpu"] and row["status"] in ("ok", "unstable") for row in rows)
    listed = subprocess.run(
        [*PROFILER, "workers", "--scheduler", fleet.address, "--json"],
        env=environment(fleet.folder), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert all(each["visits"] and not each["refused"] for each in json.loads(listed.stdout))


def test_what_is_killed_in_a_visit_costs_that_visit_alone(fleet: LocalFleet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = fleet.run(out, "--model", MODELS, "--backend", "fake:duration_ms=30", "--rounds", "3", "--visit", "300ms")
    wait_for(lambda: fleet.child("big"))
    fleet.engine("big").kill()
    wait_for(lambda: fleet.child("small"))
    child = fleet.child("small")
    assert child is not None
    child.kill()
    wait_for(lambda: visits(out) >= 10)
    wait_for(lambda: fleet.child("small"))
    held = [fleet.engine("small"), *fleet.engine("small").children(recursive=True)]
    fleet.nanny("small").kill()
    psutil.wait_procs(held, timeout=5)
    assert not [process for process in held if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    fleet.add("small")
    assert run.wait(60) in (0, 1), fleet.said()
    failed = [r.outcome for r in read(out).records if isinstance(r.outcome, Failure)]
    assert [f.status for f in failed] == ["crashed"]
    assert "signal 9" in failed[0].reason
    blamed = next(r.case.key for r in read(out).records if isinstance(r.outcome, Failure))
    found = counts(out)
    assert set(found.values()) == {1}
    assert {key for key, _, _ in found} == {case.key for case in read(out).planned}
    assert all(isinstance(r.outcome, Measurement) for r in read(out).records if r.case.key != blamed)
    assert fleet.said().count("is made again") == 2


def test_a_scheduler_that_is_killed_comes_back_and_a_driver_that_is_killed_resumes(
    fleet: LocalFleet, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = ("--model", MODELS, "--backend", "fake:duration_ms=20", "--rounds", "2", "--visit", "200ms", "--seed", "3")
    run = fleet.run(out, *given)
    wait_for(lambda: visits(out) >= 2)
    assert fleet.scheduler is not None
    fleet.scheduler.kill()
    fleet.scheduler.wait()
    fleet.start_scheduler()
    before = visits(out)
    wait_for(lambda: visits(out) >= before + 3)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not whole(out, 8, 2)
    assert fleet.run(out, *given, "--resume").wait(60) == 0, fleet.said()
    assert whole(out, 8, 2)


def test_two_drivers_share_a_fleet(fleet: LocalFleet, tmp_path: Path) -> None:
    given = ("--model", MODELS, "--backend", "fake:duration_ms=5", "--rounds", "1", "--visit", "50ms")
    runs = [fleet.run(tmp_path / name, *given) for name in ("one", "two")]
    assert [run.wait(60) for run in runs] == [0, 0], fleet.said()
    assert whole(tmp_path / "one", 8, 1)
    assert whole(tmp_path / "two", 8, 1)


def test_stopping_finishes_what_runs_and_says_how_to_go_on(fleet: LocalFleet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = fleet.run(out, "--model", MODELS, "--backend", "fake:duration_ms=20", "--rounds", "5", "--visit", "200ms")
    wait_for(lambda: visits(out) >= 2)
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == 130
    assert "--resume" in fleet.said().splitlines()[-1]
    found = journal(out)
    assert found is not None
    assert not [r for r in found.records if isinstance(r.outcome, Failure)]
