"""How far apart two cores are, and what that does to networks on two threads.

The host of a virtual machine may run its cores on one cluster of real ones that shares a third-level cache, or on two,
and change that every few seconds to a minute. Nothing in the guest tells. Two processes that hand a byte to and fro
do: that takes several times as long when the cores are apart. Visits of five networks in two runtimes, each between
two such measurements, show what it costs, and whether the reference knows.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from statistics import median

import altair as alt
import pandas as pd
import pytest

from profiler.backends.base import Placement
from profiler.records.disturbance import QUIET, _reference_slowness
from profiler.records.estimate import visit_estimate
from profiler.records.types import Case
from profiler.run.processes import LocalExecutor
from tests.studies import lab

SECONDS = 360.0
VISIT_S = 0.8
CASES = [
    Case(network, "", 1.0, backend, Placement(threads=2))
    for network in ("regnety_400mf", "regnetx_800mf", "efficientnet_b0", "regnety_4.0gf", "resnet50")
    for backend in ("eager", "onnxruntime")
]
#: Apart, a byte takes so many times as long as together, at least.
APART = 1.6

_HAND_OVER = """
import mmap, os, time
byte, times, count = mmap.mmap(-1, 4096), 2000, 9
child = os.fork() == 0
found = []
for _ in range(count):
    start = time.perf_counter()
    for _ in range(times):
        if child:
            while not byte[0]:
                pass
            byte[0] = 0
        else:
            byte[0] = 1
            while byte[0]:
                pass
    found.append((time.perf_counter() - start) / times)
if not child:
    print(sorted(found)[count // 2])
"""


def hand_over() -> float:
    """Return how long a byte takes to another process and back, in µs, the loops of both included."""
    done = subprocess.run([sys.executable, "-c", _HAND_OVER], capture_output=True, text=True, timeout=30, check=True)
    return float(done.stdout) * 1e6


def collect(executor: LocalExecutor) -> pd.DataFrame:
    calibration = lab.calibrations(executor, (2,))[2]
    draw = random.Random(0)
    rows = []
    start, before = time.perf_counter(), hand_over()
    while (now := time.perf_counter() - start) < SECONDS:
        for case in draw.sample(CASES, len(CASES)):
            visit = lab.call(executor, lab.ours, lab.Job(case, VISIT_S, calibration))
            after = hand_over()
            found = visit_estimate(visit)
            rows.append(
                {
                    "network": case.model,
                    "backend": case.backend,
                    "s": now,
                    "before_us": before,
                    "after_us": after,
                    "reference": median(_reference_slowness(visit)),
                    "raw_ms": found.raw_ns / 1e6,
                    "headline_ms": found.normalised_ns / 1e6,
                }
            )
            before, now = after, time.perf_counter() - start
    return pd.DataFrame(rows)


def test_cores_that_are_apart() -> None:
    executor = LocalExecutor()
    for case in CASES:  # export before anything is timed
        lab.call(executor, lab.ours, lab.Job(case, 0.5))
    frame = collect(executor)
    executor.close()
    near = frame[["before_us", "after_us"]].stack().quantile(0.05)
    ends = frame[["before_us", "after_us"]] > APART * near
    frame["cores"] = ends.sum(axis=1).map({0: "together", 1: "changing", 2: "apart"})
    together = frame[frame["cores"] == "together"]
    usual = together.groupby(["network", "backend"])["raw_ms"].median().rename("together_ms")
    frame = frame.join(usual, on=["network", "backend"])
    frame["slower"] = frame["raw_ms"] / frame["together_ms"]
    frame["network in"] = frame["network"] + " " + frame["backend"]
    level = together["reference"].quantile(0.1)
    frame["reference over quiet"] = frame["reference"] / level
    plot = alt.Chart(frame).mark_point(filled=True, size=45).encode(
        x=alt.X("reference over quiet:Q", scale=alt.Scale(zero=False), title="reference over its time when quiet"),
        y=alt.Y("slower:Q", scale=alt.Scale(zero=False), title="time over that with cores together"),
        color=alt.Color("network in:N", title=None, legend=alt.Legend(columns=2)),
        shape=alt.Shape("cores:N"),
    )  # fmt: skip
    lab.save("cores", frame, plot.properties(width=420, height=320))
    print(frame.groupby("cores")[["before_us", "reference over quiet"]].median().to_string())
    print(frame.pivot_table("slower", ["network", "backend"], "cores", "median").to_string())
    print(frame["cores"].value_counts().to_string())
    apart = frame[frame["cores"] == "apart"]
    if apart.empty:
        pytest.skip("the cores stayed together all along")
    assert (apart["reference over quiet"] > QUIET).mean() > 0.9
    assert (frame[frame["cores"] == "together"]["reference over quiet"] <= QUIET).mean() > 0.9
