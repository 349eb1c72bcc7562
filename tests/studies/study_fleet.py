"""A fleet that is hurt at random, one of a thousand workers, and a journal of a million records.

``PROFILER_STUDY_SCALE`` is a part of all that, as 0.01, for a first look; ``PROFILER_STUDY_WORKERS`` so many workers.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from profiler.backends.base import Placement
from profiler.records.circumstances import Conditions
from profiler.records.journal import Journal
from profiler.records.lines import dump
from profiler.records.reading import NAME, read, visits_at
from profiler.records.types import Budget, Case, Failure, Feed, Measurement, Record, Warmup
from profiler.run import agent
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.errand import Errand
from profiler.run.fleet import Fleet, Member, sites_of
from profiler.run.lab import Lab
from profiler.run.meeting import Meeting
from profiler.run.placing import Placing, Way
from profiler.run.processes import LocalExecutor
from profiler.run.rounds import Measuring
from profiler.run.schedule import Progress
from profiler.run.serving import engine
from tests.run import fleets
from tests.run.fleets import LocalFleet, environment, local_fleet, orphans, wait_for
from tests.run.nets import nets
from tests.studies.lab import RESULTS

pytest.importorskip("distributed")

SCALE = float(os.environ.get("PROFILER_STUDY_SCALE", "1"))
LABELS = ("a", "b", "c", "d")
NET = "import torch\ndef net():\n    torch.manual_seed(0)\n    return torch.nn.Linear(4, 4), torch.ones(1, 4)\n"
#: Workers of one process in the simulation.
_TOGETHER = 50


def scaled(number: int, least: int = 1) -> int:
    return max(least, round(number * SCALE))


def keep(name: str, **figures: object) -> None:
    """Add a row to the table of a study, which stays also where it fails afterwards."""
    path, row = RESULTS / f"fleet_{name}.csv", {"scale": SCALE} | figures
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    print(row)


#: What is hurt, and how often relative to each other: what starts again takes seconds of a core, and with as many kills
#: of that as of visits no time were left to measure.
HURT = {"child": 20.0, "engine": 1.0, "nanny": 0.5, "scheduler": 0.2, "link": 0.5}
#: For so many kills is a cut link left down.
CUT = 10


class Hurting:
    """Kills something of a fleet at random, and starts again what nobody else would."""

    def __init__(self, fleet: LocalFleet, chance: random.Random) -> None:
        self.fleet, self.chance = fleet, chance
        self.killed: Counter[str] = Counter()
        self.cut: dict[str, int] = {}

    def once(self) -> None:
        kinds = [kind for kind in HURT if kind != "link" or self.fleet.net]
        [what] = self.chance.choices(kinds, weights=[HURT[kind] for kind in kinds])
        try:
            self.killed[what if self._done(what, self.chance.choice(LABELS)) else "nothing"] += 1
        except (StopIteration, psutil.Error):  # it had ended by itself, or has not started again
            self.killed["nothing"] += 1
        self.mend()

    def mend(self, *, now: bool = False) -> None:
        for label in list(self.cut):
            self.cut[label] -= 1
            if now or not self.cut[label]:
                assert self.fleet.net is not None
                self.fleet.net.link(label, up=True)
                del self.cut[label]

    def _done(self, what: str, label: str) -> bool:
        fleet = self.fleet
        if what == "scheduler":
            assert fleet.scheduler is not None
            fleet.scheduler.kill()
            fleet.scheduler.wait()
            fleet.start_scheduler()
        elif what == "link":
            assert fleet.net is not None
            fleet.net.link(label, up=False)
            self.cut[label] = CUT
        elif what == "nanny":
            fleet.nanny(label).kill()
            fleet.workers[label].wait()
            fleet.add(label)
        else:
            victims = [fleet.engine(label)] if what == "engine" else list(filter(None, map(fleet.child, LABELS)))
            if not victims:
                return False
            self.chance.choice(victims).kill()
        return True


#: Longer than a machine that is shared may stand still, which nobody here is to be blamed for.
_STILL = "600s"


@pytest.mark.parametrize("time_of", range(scaled(10)))
def test_two_hundred_cases_are_accounted_for_whatever_is_killed(tmp_path: Path, time_of: int) -> None:
    batches = scaled(50, 3)
    (tmp_path / "net.py").write_text(NET)
    with nets(LABELS) as net, local_fleet(tmp_path / "fleet", net) as fleet:
        for label in LABELS:
            fleet.add(label)
        begin, hurting = time.monotonic(), Hurting(fleet, random.Random(time_of))
        shape = ("--batch", ",".join(str(n + 1) for n in range(batches)), "--rounds", "1", "--visit", "200ms")
        given = ("--model", str(tmp_path / "net.py:net"), "--backend", "fake:duration_ms=20", *shape)
        run = fleet.run(tmp_path / "out", *given, "--device", ",".join(LABELS), "--patience", _STILL, "--quiet")
        wait_for(lambda: (tmp_path / "out" / NAME).is_file() or run.poll() is not None, 120)
        while run.poll() is None:
            time.sleep(2)
            hurting.once()
            assert time.monotonic() - begin < 3600, fleet.said()
        hurting.mend(now=True)
        seconds, found = time.monotonic() - begin, read(tmp_path / "out")
        failed = [r for r in found.records if isinstance(r.outcome, Failure)]
        counted = Counter((r.case.key, r.round) for r in found.records)
        figures = {
            "machines": "namespaces" if net else "loopback",
            "cases": 4 * batches,
            "accounted": len({key for key, _ in counted}),
            "twice": sum(n > 1 for n in counted.values()),
            "failed": len(failed),
            "seconds": seconds,
            **{f"killed_{kind}": hurting.killed[kind] for kind in HURT},
        }
        blamed = [r.outcome.reason for r in failed if "signal 9" not in r.outcome.reason]  # type: ignore[union-attr]
        said = fleet.said()
    wait_for(lambda: not orphans(tmp_path / "fleet"), 30)
    keep("kills", **figures, blamed=len(blamed))
    assert figures["accounted"] == 4 * batches, said
    assert not figures["twice"], said
    assert not blamed, blamed
    assert len(failed) <= hurting.killed["child"], said


GOOD = Measurement(((1_000_000,) * 10,) * 3, 1, (), None, Warmup((1,), steady=True), 0.0, Conditions(), {}, {})


def simulated(errand: Errand) -> Record:
    """What a worker of the simulation answers, after the time of a visit compressed to a tenth."""
    time.sleep(0.1 * errand.budget.visit_s)
    key = agent.introduction().key
    return Record(errand.case, None, None, key, errand.number, "now", 0.1, GOOD, measures=errand.measures, worker="w")


async def _serve_many(address: str, number: int) -> None:
    distributed = engine()
    agent._visited = simulated  # type: ignore[assignment]
    agent.start_server = lambda: None  # type: ignore[assignment]  # no visit is made
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


#: A scheduler that does not mind where this machine stands still for minutes, as one that is shared may.
_PATIENT = """
import sys
from profiler.run import serving
serving._QUIET["distributed.scheduler.worker-ttl"] = None
from profiler.cli.app import main
sys.exit(main())
"""
#: Looks at the fleet follow each other in a second; what is longer the machine stood still.
_STILL_S = 10.0


def test_a_thousand_workers_and_a_hundred_thousand_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number, cases = int(os.environ.get("PROFILER_STUDY_WORKERS", scaled(1000, 4))), scaled(100_000, 100)
    monkeypatch.setattr(fleets, "PROFILER", (sys.executable, "-c", _PATIENT))
    monkeypatch.setattr("profiler.run.fleet._ASK_S", 1800.0)
    with local_fleet(tmp_path / "fleet") as fleet:
        env = environment(tmp_path / "fleet") | {agent.LABEL: "a", agent.DEVICE: "cpu", agent.TOGETHER: "1"}
        for first in range(0, number, _TOGETHER):
            many = min(_TOGETHER, number - first)
            call = f"asyncio.run(_serve_many({fleet.address!r}, {many}))"
            code = f"import asyncio; from tests.studies.study_fleet import _serve_many; {call}"
            fleet.started.append(subprocess.Popen([sys.executable, "-c", code], env=env))
        with Fleet(Meeting(fleet.address)) as driver:
            wait_for(lambda: time.sleep(1) or len(driver.members()) == number, 1800)
            _placed(driver, fleet, number, cases, tmp_path)


class _Looks:
    """How long it takes to look who is there, and how long the machine stood still between looks."""

    def __init__(self, driver: Fleet) -> None:
        self._members, self.took_s, self.still_s = driver.members, list[float](), 0.0
        self._last = time.monotonic()

    def members(self) -> list[Member]:
        begin = time.monotonic()
        self.still_s += begin - self._last if begin - self._last > _STILL_S else 0.0
        try:
            return self._members()
        finally:
            self._last = time.monotonic()
            self.took_s.append(self._last - begin)


def _placed(driver: Fleet, fleet: LocalFleet, number: int, cases: int, folder: Path) -> None:
    sites = sites_of(driver.members())
    budget = Budget(rounds=1, min_rounds=1, precision=None, visit_s=1.0)
    executor = LocalExecutor()
    lab = Lab(budget, executor, lambda _: Limits(), Calibrations(executor, folder, lambda _: Limits()), Feed())
    progress = Progress(planned(cases), budget, partial(visits_at, folder / "out" / NAME))
    assert fleet.scheduler is not None
    both = [psutil.Process(), psutil.Process(fleet.scheduler.pid)]
    with Journal.open(folder / "out", {"cases": [], "budget": budget}) as journal:
        begin, before = time.monotonic(), [cpu_s([process]) for process in both]
        looks, told = _Looks(driver), _Silent()
        driver.members = looks.members  # type: ignore[method-assign]
        placing = Placing(driver, Way(sites, 60.0), told)
        assert placing(Measuring(journal, progress, lab, told, 1), (), None) == ""
        seconds = time.monotonic() - begin - looks.still_s
        cpu = [cpu_s([process]) - b for process, b in zip(both, before, strict=True)]
    assert progress.total == cases
    keep(
        "scale",
        workers=number,
        cases=cases,
        records_per_s=cases / seconds,
        still_s=looks.still_s,
        driver_ms=1e3 * cpu[0] / cases,
        scheduler_ms=1e3 * cpu[1] / cases,
        driver_mb=both[0].memory_info().rss / 1e6,
        scheduler_mb=both[1].memory_info().rss / 1e6,
        look_ms=1e3 * statistics.median(looks.took_s),
    )


_RESUME = """
import json, resource, sys, time
from functools import partial
from pathlib import Path
from profiler.records.columns import write_csv
from profiler.records.estimate import visit_estimate
from profiler.records.intervals import interval
from profiler.records.journal import Journal
from profiler.records.reading import NAME, read, visits_at
from profiler.records.table import each_row
from profiler.records.types import Budget
from profiler.run.schedule import Progress
from profiler.run.turns import Turns
from tests.studies.study_fleet import planned

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3

folder, cases = Path(sys.argv[1]), planned(int(sys.argv[2]))
figures = {"cases": len(cases), "before_mb": peak_mb()}
cpu = time.process_time()
begin = time.monotonic()
progress = Progress(cases, Budget(), partial(visits_at, folder / NAME))
with Journal.open(folder, {"cases": cases, "budget": Budget()}, resume=True, heard=progress.add) as journal:
    figures |= {"records": journal.earlier.made}
    figures |= {"turn": Turns(progress, (), 0).take().number, "resume_s": time.monotonic() - begin}
    figures |= {"resume_cpu_s": time.process_time() - cpu, "resume_mb": peak_mb()}
if len(sys.argv) > 3:
    begin = time.monotonic()
    write_csv(each_row(read(folder)), folder / "cases.csv")
    figures |= {"table_s": time.monotonic() - begin, "table_mb": peak_mb()}
print(json.dumps(figures))
"""


def planned(number: int) -> list[Case]:
    return [Case("resnet50", "", 1.0, "fake", Placement(), n + 1, fleet_label="a") for n in range(number)]


def test_a_journal_of_a_million_records_is_resumed(tmp_path: Path) -> None:
    number = scaled(1_000_000, 1000)
    cases = planned(number * 2 // 9)
    with Journal.open(tmp_path, {"cases": cases, "budget": Budget()}) as journal:
        path = journal.path
    with path.open("a", encoding="utf-8") as file:
        for n in range(number):
            line = Record(cases[n % len(cases)], None, None, "cafe", n // len(cases), "now", 0.1, GOOD)
            file.write(f'{{"kind":"visit","record":{dump(line)}}}\n')
    size = path.stat().st_size / 1e6
    arguments = [str(tmp_path), str(len(cases)), *(["table"] if os.environ.get("PROFILER_STUDY_TABLE") else [])]
    done = subprocess.run([sys.executable, "-c", _RESUME, *arguments], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    figures = json.loads(done.stdout)
    keep("journal", file_mb=size, **figures)
    assert figures["turn"] == 4
    assert figures["resume_mb"] < 2000
    assert figures["resume_s"] < 60


def cpu_s(of: Iterable[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in of)
