"""A fleet that is hurt at random, one of a thousand workers, and a journal of a million records.

``PROFILER_STUDY_SCALE`` is a part of all that, as 0.01, for a first look.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from profiler.backends.base import Placement
from profiler.records.circumstances import Conditions
from profiler.records.journal import Journal
from profiler.records.lines import dump
from profiler.records.reading import NAME, read
from profiler.records.types import Budget, Case, Failure, Feed, Measurement, Record, Warmup
from profiler.run import agent
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.errand import Errand
from profiler.run.fleet import Fleet
from profiler.run.lab import Lab
from profiler.run.placing import Placing, Way
from profiler.run.processes import LocalExecutor
from profiler.run.rounds import Measuring
from profiler.run.schedule import Progress
from profiler.run.serving import Meeting, engine
from tests.run.fleets import LocalFleet, environment, local_fleet, orphans, wait_for, whole
from tests.studies.lab import RESULTS

pytest.importorskip("distributed")

SCALE = float(os.environ.get("PROFILER_STUDY_SCALE", "1"))
LABELS = ("a", "b", "c", "d")
NET = "import torch\ndef net():\n    torch.manual_seed(0)\n    return torch.nn.Linear(4, 4), torch.ones(1, 4)\n"
#: Workers of one process in the simulation.
_TOGETHER = 50


def scaled(number: int, least: int = 1) -> int:
    return max(least, round(number * SCALE))


def keep(**figures: object) -> None:
    with (RESULTS / "fleet.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"scale": SCALE} | figures) + "\n")
    print(figures)


def hurt(fleet: LocalFleet, chance: random.Random) -> str:
    """Kill something; what nobody else would start again is started again."""
    label = chance.choice(LABELS)
    # What starts again takes seconds of a core: kills of that alone would leave no time to measure.
    what = chance.choices(["child", "engine", "nanny", "scheduler"], weights=[12, 2, 1, 0.3])[0]
    try:
        if what == "scheduler":
            assert fleet.scheduler is not None
            fleet.scheduler.kill()
            fleet.scheduler.wait()
            fleet.start_scheduler()
        elif what == "nanny":
            fleet.nanny(label).kill()
            fleet.workers[label].wait()
            fleet.add(label)
        elif (victim := fleet.engine(label) if what == "engine" else fleet.child(label)) is not None:
            victim.kill()
    except (StopIteration, psutil.Error):  # it had ended by itself, or has not started again
        return "nothing"
    return what


@pytest.mark.parametrize("time_of", range(scaled(10)))
def test_two_hundred_cases_are_accounted_for_whatever_is_killed(tmp_path: Path, time_of: int) -> None:
    chance, batches = random.Random(time_of), scaled(50, 3)
    (tmp_path / "net.py").write_text(NET)
    with local_fleet(tmp_path / "fleet") as fleet:
        for label in LABELS:
            fleet.add(label)
        begin, killed = time.monotonic(), Counter[str]()
        shape = ("--batch", ",".join(str(n + 1) for n in range(batches)), "--rounds", "1", "--visit", "200ms")
        given = ("--model", str(tmp_path / "net.py:net"), "--backend", "fake:duration_ms=20", *shape)
        run = fleet.run(tmp_path / "out", *given, "--device", ",".join(LABELS), "--patience", "120s", "--quiet")
        wait_for(lambda: (tmp_path / "out" / NAME).is_file() or run.poll() is not None, 120)
        while run.poll() is None:
            time.sleep(2)
            killed[hurt(fleet, chance)] += 1
            assert time.monotonic() - begin < 1800, fleet.said()
        records = read(tmp_path / "out").records
        failed = [r for r in records if isinstance(r.outcome, Failure)]
        keep(study="kills", seconds=time.monotonic() - begin, killed=dict(killed), failed=len(failed))
        assert whole(tmp_path / "out", 4 * batches, 1), fleet.said()
        assert len(failed) <= killed["child"]
    wait_for(lambda: not orphans(tmp_path / "fleet"), 20)


GOOD = Measurement(((1_000_000,) * 10,) * 3, 1, (), None, Warmup((1,), steady=True), 0.0, Conditions(), {}, {})


def simulated(errand: Errand) -> Record:
    """What a worker of the simulation answers, after the time of a visit compressed to a tenth."""
    time.sleep(0.1 * errand.budget.visit_s)
    key = agent.introduction().key
    return Record(errand.case, None, None, key, errand.number, "now", 0.1, GOOD, measures=errand.measures, worker="w")


async def _serve_many(address: str, number: int) -> None:
    distributed = engine()
    agent._visited = simulated  # type: ignore[assignment]
    agent._STATE.lock = nullcontext()  # type: ignore[assignment]  # many workers are in one process here
    known = {"startup_information": agent.STARTUP, "metrics": agent.HEARTBEAT, "dashboard_address": "127.0.0.1:0"}
    workers = [
        distributed.Worker(address, nthreads=1, memory_limit=0, name=f"{os.getpid()}-{n}", host="127.0.0.1", **known)
        for n in range(number)
    ]
    for worker in workers:
        await worker
    await asyncio.gather(*(worker.finished() for worker in workers))


class _Silent:
    def fleet(self, *_: Any) -> None:
        pass

    event = preparing = before = after = fleet


def test_a_thousand_workers_and_a_hundred_thousand_cases(tmp_path: Path) -> None:
    number, cases = scaled(1000, 4), scaled(100_000, 100)
    with local_fleet(tmp_path / "fleet") as fleet:
        env = environment(tmp_path / "fleet") | {agent.LABEL: "a", agent.DEVICE: "cpu", agent.TOGETHER: "1"}
        for first in range(0, number, _TOGETHER):
            many = min(_TOGETHER, number - first)
            call = f"asyncio.run(_serve_many({fleet.address!r}, {many}))"
            code = f"import asyncio; from tests.studies.study_fleet import _serve_many; {call}"
            fleet.started.append(subprocess.Popen([sys.executable, "-c", code], env=env))
        with Fleet(Meeting(fleet.address)) as driver:
            wait_for(lambda: len(driver.members()) == number, 600)
            _placed(driver, fleet, number, cases, tmp_path)


def _placed(driver: Fleet, fleet: LocalFleet, number: int, cases: int, folder: Path) -> None:
    from profiler.run.fleet import sites_of

    sites = sites_of(driver.members())
    planned = [Case("resnet50", "", 1.0, "fake", Placement(), n + 1, fleet_label="a") for n in range(cases)]
    budget = Budget(rounds=1, min_rounds=1, precision=None, visit_s=1.0)
    executor = LocalExecutor()
    lab = Lab(budget, executor, lambda _: Limits(), Calibrations(executor, folder, lambda _: Limits()), Feed())
    progress = Progress(planned, budget)
    looks: list[float] = []
    members = driver.members

    def watched() -> Any:
        begin = time.monotonic()
        try:
            return members()
        finally:
            looks.append(time.monotonic() - begin)

    driver.members = watched  # type: ignore[method-assign]
    with Journal.open(folder / "out", {"cases": [], "budget": budget}) as journal:
        begin = time.monotonic()
        told = _Silent()
        placing = Placing(driver, Way(sites, 60.0), told)
        assert placing(Measuring(journal, progress, lab, told, 1), (), None) == ""
        seconds = time.monotonic() - begin
    assert progress.total == cases
    assert fleet.scheduler is not None
    keep(
        study="scale",
        workers=number,
        cases=cases,
        records_per_s=cases / seconds,
        driver_mb=psutil.Process().memory_info().rss / 1e6,
        scheduler_mb=psutil.Process(fleet.scheduler.pid).memory_info().rss / 1e6,
        look_s=sorted(looks)[len(looks) // 2],
    )


_RESUME = """
import json, resource, sys, time
from pathlib import Path
from profiler.records.lines import dump
from profiler.records.reading import NAME, read
from profiler.records.types import Budget
from profiler.run.schedule import Progress
begin = time.monotonic()
run = read(Path(sys.argv[1]))
progress = Progress(run.planned, Budget())
for record in run.records:
    progress.add(record)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps({"records": len(run.records), "resume_s": time.monotonic() - begin, "peak_mb": peak}))
"""


def test_a_journal_of_a_million_records_is_resumed(tmp_path: Path) -> None:
    number = scaled(1_000_000, 1000)
    first = Case("resnet50", "", 1.0, "fake", Placement(), fleet_label="a")
    line = Record(first, None, None, "cafe", 0, "now", 0.1, GOOD)
    with Journal.open(tmp_path, {"cases": [], "budget": Budget()}) as journal:
        path = journal.path
    with path.open("a", encoding="utf-8") as file:
        for n in range(number):
            case = replace(line.case, batch=n // 5 + 1)
            file.write(f'{{"kind":"visit","record":{dump(replace(line, case=case, round=n % 5))}}}\n')
    done = subprocess.run([sys.executable, "-c", _RESUME, str(tmp_path)], capture_output=True, text=True, check=True)
    keep(study="journal", file_mb=path.stat().st_size / 1e6, **json.loads(done.stdout))
