"""Whether a load is what it says: known service times against queueing theory, and streams against their sum."""

from __future__ import annotations

import altair as alt
import pandas as pd

from profiler.backends.base import Placement
from profiler.plan.read import for_answer
from profiler.records.load import LoadPoint
from profiler.records.types import Case
from profiler.run.experiment import opened_lab
from profiler.run.loads import under_load
from tests.studies import lab

SERVICE_MS = 1.0
#: 160,000 requests at the highest rate: the mean wait of an M/D/1 queue that is 80% busy is then known within 2%.
SECONDS = 200.0
FAKE = Case("resnet50", "", 1.0, f"fake:duration_ms={SERVICE_MS}", Placement())


def measured(**load: float) -> LoadPoint:
    with opened_lab(for_answer(models="resnet50", backends=FAKE.backend, time="1s"), calibrate=False) as shared:
        point = under_load(FAKE, shared, **load)
    assert isinstance(point, LoadPoint), point
    return point


def test_waiting_is_that_of_an_m_d_1_queue() -> None:
    """Pollaczek and Khinchine: busy / (2 (1 - busy)) times the service."""
    rows = []
    for busy in (0.3, 0.6, 0.8):
        point = measured(seconds=SECONDS, rate=busy * 1e3 / SERVICE_MS)
        theory = busy / (2 * (1 - busy)) * SERVICE_MS
        rows.append({"busy": busy, "theory_ms": theory, "waiting_ms": point.waiting_ms, "calls": point.calls})
    frame = pd.DataFrame(rows)
    frame["error"] = frame["waiting_ms"] / frame["theory_ms"] - 1
    points = alt.Chart(frame).mark_point().encode(x="theory_ms:Q", y="waiting_ms:Q")
    lab.save("load_waiting", frame, points)
    print(frame.to_string())
    assert (frame["error"].abs() <= 0.05).all()


def test_closed_loops_add_up_as_long_as_each_has_a_core() -> None:
    rows = []
    for streams in (1, 2):
        point = measured(seconds=10.0, streams=streams)
        rows.append({"streams": streams, "per_s": point.throughput_per_s, "known_per_s": streams * 1e3 / SERVICE_MS})
    frame = pd.DataFrame(rows)
    frame["error"] = frame["per_s"] / frame["known_per_s"] - 1
    lab.save("load_streams", frame, alt.Chart(frame).mark_bar().encode(x="streams:N", y="error:Q"))
    print(frame.to_string())
    assert (frame["error"].abs() <= 0.02).all()
