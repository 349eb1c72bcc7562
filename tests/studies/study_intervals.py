"""Whether the 95% interval holds the long-run value 95% of the time, on traces of real visits, idle and disturbed.

Sixty visits are recorded in each condition. A run is then replayed many times: visits are drawn from the trace, the
rounds end by the program's own rule, and so is made what they say. The long-run value is what the program makes of all
sixty.
"""

from __future__ import annotations

import math
from statistics import fmean

import altair as alt
import numpy as np
import pandas as pd
import pytest

from profiler.records.disturbance import quiet_level
from profiler.records.estimate import VisitEstimate, _headline, visit_estimate
from profiler.records.types import Budget
from profiler.run.processes import LocalExecutor
from tests.studies import lab

VISITS = 60
SECONDS = 0.7
REPLAYS = 2000
TRACES = (("light", "onnxruntime", 1), ("light", "eager", 2))


def record(executor: LocalExecutor, job: lab.Job, period: float | None) -> list[VisitEstimate]:
    """Return what each visit says."""
    with lab.hog(period):
        visits = [lab.call(executor, lab.ours, job) for _ in range(VISITS)]
    level = quiet_level(visits)
    return [visit_estimate(visit, level) for visit in visits]


def replay(
    trace: list[VisitEstimate], truth: float, draw: np.random.Generator, budget: Budget
) -> tuple[bool, int, float]:
    """Return whether the interval of one replayed run holds ``truth``, its visits, and its half width."""
    drawn = [trace[i] for i in draw.integers(len(trace), size=budget.rounds)]
    for visits in range(budget.min_rounds, budget.rounds + 1):
        centre, half = _headline(drawn[:visits], budget.min_rounds)
        if half is not None and (math.expm1(half) <= budget.precision or visits == budget.rounds):
            return abs(centre - truth) <= half, visits, half
    raise AssertionError("rounds end")


def test_intervals_hold_the_long_run_value() -> None:
    executor = LocalExecutor()
    calibrated = lab.calibrations(executor)
    draw = np.random.default_rng(0)
    traces, rows = [], []
    for network, backend, threads in TRACES:
        job = lab.Job(lab.case(network, backend, threads), SECONDS, calibrated[threads])
        for load, period in (("idle", None), ("hog", 1.0)):
            trace = record(executor, job, period)
            cell = {"network": network, "backend": backend, "threads": threads, "load": load}
            traces += [
                cell | {"visit": i, "ms": e.normalised_ns / 1e6, "quiet": e.quiet, "slowness": e.slowness}
                for i, e in enumerate(trace)
            ]
            truth, _ = _headline(trace)
            replays = [replay(trace, truth, draw, Budget()) for _ in range(REPLAYS)]
            holds, visits, half = (fmean(column) for column in zip(*replays, strict=True))
            spread = float(np.std([math.log(e.normalised_ns) for e in trace], ddof=1))
            quiet = sum(e.quiet for e in trace)
            rows.append(
                cell | {"quiet": quiet, "spread": spread, "coverage": holds, "visits": visits, "half_width": half}
            )
    executor.close()
    frame, table = pd.DataFrame(traces), pd.DataFrame(rows)
    plot = (
        alt.Chart(frame).mark_point().encode(x="visit:Q", y=alt.Y("ms:Q", scale=alt.Scale(zero=False)), color="load:N")
    )
    lab.save("intervals", frame, plot.facet(row="backend:N").resolve_scale(y="independent"))
    table.to_csv(lab.RESULTS / "intervals_coverage.csv", index=False, float_format="%.4g")
    print(table.to_string())
    assert table["coverage"].between(0.93, 0.98).all(), table


@pytest.mark.parametrize("spread", [0.003, 0.01, 0.03])
def test_intervals_are_not_narrower_than_they_claim_when_visits_differ(spread: float) -> None:
    logs = np.random.default_rng(1).normal(0.0, spread, 10_000).tolist()
    trace = [VisitEstimate(math.exp(log), math.exp(log), samples=1, slowness=1.0) for log in logs]
    draw = np.random.default_rng(2)
    assert fmean(replay(trace, 0.0, draw, Budget())[0] for _ in range(1000)) >= 0.93
