"""What visits of one run share that those of another do not: layouts of processes, and the minute they were made in.

Runs take turns: forked from servers that are replaced after a while, and spawned, each process from nothing. A visit's
time is compared within its run and between runs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from profiler.records.estimate import visit_estimate
from profiler.records.reading import read
from profiler.records.types import Measurement
from tests.studies import lab

CASES = ("--model", "efficientnet_b0", "--scale", "dwr,d", "--factor", "0.5", "--backend", "eager", "--threads", "1")
TIMES = {"forkserver": "40s", "spawn": "60s"}
TURNS = 3


def visits_of(folder: Path) -> list[dict[str, object]]:
    """The visits of a run, in their order."""
    found = [record for record in read(folder).records if isinstance(record.outcome, Measurement)]
    return [
        {"case": one.case.network, "ms": visit_estimate(one.outcome).normalised_ns / 1e6}
        for one in found
        if isinstance(one.outcome, Measurement)
    ]


def spreads(frame: pd.DataFrame) -> pd.DataFrame:
    """The standard deviation of logarithms of visits within a run, and of runs beyond what that explains."""
    rows = []
    for (isolation, case), visits in frame.assign(log=np.log(frame["ms"])).groupby(["isolation", "case"]):
        runs = visits.groupby("run")["log"]
        within, beyond = runs.var().mean(), runs.mean().var() - (runs.var() / runs.size()).mean()
        rows.append((isolation, case, len(runs), within**0.5, max(0.0, beyond) ** 0.5))
    return pd.DataFrame(rows, columns=["isolation", "case", "runs", "within", "between"])


def test_what_visits_of_one_run_share(tmp_path: Path) -> None:
    rows = []
    for turn in range(TURNS):
        for isolation, time in TIMES.items():
            out = tmp_path / f"{isolation}{turn}"
            command = [sys.executable, "-m", "profiler", "run", *CASES, "--time", time, "--isolation", isolation]
            subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
            rows += [{"isolation": isolation, "run": turn, **visit} for visit in visits_of(out)]
    frame = pd.DataFrame(rows).round({"ms": 4})
    frame.to_csv(lab.RESULTS / "layout.csv", index=False)
    found = spreads(frame)
    print(found.to_string())
    assert (found["runs"] == TURNS).all()


def test_runs_that_differ_are_told_from_visits_that_do() -> None:
    draw = np.random.default_rng(0)
    rows = [
        {"isolation": "forkserver", "run": run, "case": "net", "ms": ms}
        for run, shift in enumerate(draw.normal(0, 0.03, 300))
        for ms in np.exp(shift + draw.normal(0, 0.01, 9))
    ]
    [(within, between)] = spreads(pd.DataFrame(rows))[["within", "between"]].to_numpy()
    assert within == pytest.approx(0.01, rel=0.1)
    assert between == pytest.approx(0.03, rel=0.15)
