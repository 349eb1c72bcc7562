"""Whether the headline is true: against known durations, and against a bare loop run next to it."""

from __future__ import annotations

import itertools
import math
from statistics import median

import altair as alt
import pandas as pd

from profiler.backends.base import Placement
from profiler.measure.timing import REFERENCE_CALLS, reference_settle_ns
from profiler.measure.visit import Task, visit
from profiler.records.estimate import visit_estimate
from profiler.records.types import Budget, Case
from profiler.run.processes import LocalExecutor
from tests.studies import lab, ways

CELLS = tuple(itertools.product(lab.NETWORKS, ("eager", "onnxruntime"), (1, 2)))
PROCESSES = 5


def test_known_durations() -> None:
    executor = LocalExecutor()
    rows = []
    for duration_ms, allowed in ((1.0, 0.001), (0.05, 0.01)):
        fake = Case("resnet50", "", 1.0, f"fake:duration_ms={duration_ms}", Placement())
        replies = [lab.call(executor, visit, Task(fake, Budget(visit_s=0.5), None, None)) for _ in range(5)]
        raw = median(visit_estimate(reply.outcome).raw_ns for reply in replies)
        rows.append(
            {"known_ms": duration_ms, "measured_ms": raw / 1e6, "bias": raw / 1e6 / duration_ms - 1, "allowed": allowed}
        )
    executor.close()
    frame = pd.DataFrame(rows)
    lab.save(
        "truth_known",
        frame,
        alt.Chart(frame).mark_bar().encode(x=alt.X("bias:Q", axis=alt.Axis(format=".2%")), y="known_ms:N"),
    )
    print(frame.to_string())
    assert (frame["bias"].abs() <= frame["allowed"]).all()


def test_a_bare_loop_agrees_and_the_reference_disturbs_nothing(executor: LocalExecutor) -> None:
    """The nominal time is taken again in each turn: a machine that has slowed since its calibration is no bias.

    What the headline corrects for is a column of its own, ``slower_since``.
    """
    calibrated = lab.calibrations(executor)
    rows = []
    for process, (network, backend, threads) in itertools.product(range(PROCESSES), CELLS):
        job = lab.Job(lab.case(network, backend, threads), 0.1, calibrated[threads])
        for turn, times in enumerate(lab.call(executor, ways.side_by_side, job)):
            where = {"network": network, "backend": backend, "threads": threads, "process": process, "turn": turn}
            slower = times.pop("nominal") / calibrated[threads].nominal_ns
            rows.append(where | {name: ns / 1e6 for name, ns in times.items()} | {"slower_since": slower})
    frame = pd.DataFrame(rows)
    frame["headline_over_bare"] = frame["headline"] / frame["bare"]
    frame["beside_over_alone"] = frame["beside"] / frame["alone"]
    ratios = (
        frame.groupby(["network", "backend", "threads"])[["headline_over_bare", "beside_over_alone", "slower_since"]]
        .median()
        .reset_index()
    )
    cell = ["network", "backend", "threads"]
    long = ratios.drop(columns="slower_since").melt(cell, var_name="ratio", value_name="value")
    long["cell"] = long["network"] + " " + long["backend"] + " " + long["threads"].astype(str) + "T"
    plot = alt.Chart(long).mark_point(filled=True, size=70).encode(
        x=alt.X("value:Q", scale=alt.Scale(zero=False), title="ratio"), y=alt.Y("cell:N", title=None), color="ratio:N"
    )  # fmt: skip
    lab.save("truth_loop", frame, plot.properties(width=420))
    print(ratios.to_string())
    assert (ratios["headline_over_bare"] - 1).abs().max() <= 0.01
    assert (ratios["beside_over_alone"] - 1).abs().max() <= 0.01


def test_the_reference_has_settled_when_its_calls_are_timed(executor: LocalExecutor) -> None:
    """Each call after a block of the model, over the last four of twelve; what is timed lies within 1%."""
    calibrated = lab.calibrations(executor)
    rows = []
    for network, backend, threads in CELLS:
        job = lab.Job(lab.case(network, backend, threads), 8.0, calibrated[threads])
        blocks = lab.call(executor, ways.calls_after_a_model, job)
        ratios = [median(block[k] / median(block[8:]) for block in blocks) for k in range(12)]
        settle = math.ceil(reference_settle_ns(threads) / calibrated[threads].nominal_ns)
        rows += [
            {
                "network": network,
                "backend": backend,
                "threads": threads,
                "call": k + 1,
                "over_last": ratio,
                "timed": timed,
            }
            for k, ratio in enumerate(ratios)
            for timed in [settle <= k < settle + REFERENCE_CALLS]
        ]
    frame = pd.DataFrame(rows)
    frame.to_csv(lab.RESULTS / "truth_settling.csv", index=False, float_format="%.4f")
    print(frame.pivot_table(index=["network", "backend", "threads"], columns="call", values="over_last").to_string())
    timed = frame[frame["timed"]].groupby(["network", "backend", "threads"])["over_last"].median()
    assert (timed - 1).abs().max() <= 0.01
