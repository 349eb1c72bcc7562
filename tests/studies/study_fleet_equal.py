"""``quick`` on two workers of this machine against runs without a fleet, before and after: the same within intervals.

Each run is a test of its own, so that each may have a quiet turn: in ``PROFILER_STUDY_FOLDER`` what was measured stays
and is not measured again. ``PROFILER_STUDY_TIME`` is what each run takes.
"""

from __future__ import annotations

import csv
import math
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.run.fleets import PROFILER, environment, local_fleet, wait_for
from tests.studies.lab import RESULTS

pytest.importorskip("distributed")

TIME = os.environ.get("PROFILER_STUDY_TIME", "3min")
RUNS = ("here", "fleet", "again")
CASES = 66
#: By so many do intervals that meet differ by chance.
_CHANCE = 3
_WHICH = ("model", "scaling", "factor", "backend")

Row = Mapping[str, str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("PROFILER_STUDY_FOLDER")
    return Path(given) if given else tmp_path_factory.mktemp("equal")


@pytest.mark.parametrize("run", RUNS)
def test_quick_is_measured(folder: Path, run: str) -> None:
    out, home = folder / run, folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    given = ("run", "quick", "--time", TIME, "--out", str(out), "--quiet")
    if not (out / "cases.csv").is_file():
        if run == "fleet":
            on_two_workers(home, *given)
        else:  # in the home of the workers, as on a host of theirs
            subprocess.run([*PROFILER, *given], env=environment(home), check=False)
    assert len(rows(out)) == CASES


def on_two_workers(home: Path, *given: str) -> None:
    """Run on two workers of one host, which measure one at a time."""
    with local_fleet(home) as fleet:
        two = [fleet.process("worker", "--scheduler", fleet.address, "--label", "here") for _ in range(2)]
        wait_for(lambda: fleet.said().count("worker here on cpu serves") == len(two), 60)
        fleet.process(*given, "--scheduler", fleet.address, "--device", "here").wait()


def rows(out: Path) -> dict[tuple[str, ...], Row]:
    with (out / "cases.csv").open(encoding="utf-8", newline="") as file:
        return {tuple(row[name] for name in _WHICH): row for row in csv.DictReader(file)}


def ends(row: Row) -> tuple[float, float] | None:
    """The interval in calls of the reference: two runs may have been calibrated apart."""
    low, high, nominal = (row[name] for name in ("latency_ci_low_ms", "latency_ci_high_ms", "nominal_ms"))
    return (float(low) / float(nominal), float(high) / float(nominal)) if low and high else None


def calls(row: Row) -> float:
    return float(row["latency_ms"]) / float(row["nominal_ms"])


def meet(one: Row, other: Row) -> bool | None:
    """Whether two intervals have something in common; None where one of them is none."""
    a, b = ends(one), ends(other)
    return None if a is None or b is None else a[0] <= b[1] and b[0] <= a[1]


def against(one: dict[tuple[str, ...], Row], other: dict[tuple[str, ...], Row]) -> dict[str, float]:
    """How the latencies of two runs differ, and how many of their intervals meet."""
    met = [meet(row, other[name]) for name, row in one.items()]
    logs = [math.log(calls(other[name]) / calls(row)) for name, row in one.items()]
    return {
        "intervals": sum(each is not None for each in met),
        "meet": sum(each is True for each in met),
        "ratio": math.exp(sum(logs) / len(logs)),
        "furthest": math.exp(max(logs, key=abs)),
    }


def test_they_are_equal_within_their_intervals(folder: Path) -> None:
    found = {run: rows(folder / run) for run in RUNS if (folder / run / "cases.csv").is_file()}
    with (RESULTS / "fleet_equal.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        told = ("ms", "low_ms", "high_ms", "visits", "nominal_ms")
        writer.writerow([*_WHICH, *(f"{run}_{what}" for run in found for what in told)])
        for name in found["here"]:
            cells = ("latency_ms", "latency_ci_low_ms", "latency_ci_high_ms", "visits", "nominal_ms")
            writer.writerow([*name, *(of[name][cell] for of in found.values() for cell in cells)])
    print({run: against(found["here"], of) for run, of in found.items() if run != "here"})
    # Within a run, and so between workers of one host, there is one calibration.
    assert all(len({row["nominal_ms"] for row in of.values()}) == 1 for of in found.values())
    between = against(found["here"], found["fleet"])
    # Two runs differ by more than the intervals of one tell, see docs/estimator.md: a fleet adds nothing to that.
    same = against(found["here"], found["again"])["meet"] if "again" in found else between["intervals"]
    assert between["meet"] >= same - _CHANCE, between
