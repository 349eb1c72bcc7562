"""Whether a load is what it says: known service times against queueing theory, and streams against their sum."""

from __future__ import annotations

import altair as alt
import pandas as pd

from profiler.backends.base import Placement
from profiler.measure.load import arrivals
from profiler.plan.read import for_answer
from profiler.records.load import Load, LoadPoint, load_point
from profiler.records.types import Case
from profiler.run.experiment import opened_lab
from profiler.run.loads import under_load
from tests.studies import lab

SERVICE_MS = 1.0
BUSY, SECONDS = (0.3, 0.6, 0.8), 12.0
FAKE = Case("resnet50", "", 1.0, f"fake:duration_ms={SERVICE_MS},resting=1", Placement())


def measured(load: Load) -> LoadPoint:
    with opened_lab(for_answer(models="resnet50", backends=FAKE.backend, time="1s"), calibrate=False) as shared:
        record = under_load(FAKE, shared, load)
    assert record.failure is None, record.failure
    point = load_point(record.streams)
    assert point is not None
    return point


def drawn_ms(load: Load) -> float:
    """The mean wait of the very requests that were drawn, where each takes exactly its time: Lindley's recursion."""
    free = waited = 0
    times = arrivals(load.rate or 0.0, load.seconds, load.seed)
    for at in times:
        begun = max(at, free)
        waited, free = waited + begun - at, begun + round(SERVICE_MS * 1e6)
    return waited / len(times) / 1e6


def test_waiting_is_that_of_an_m_d_1_queue() -> None:
    """Pollaczek and Khinchine: busy / (2 (1 - busy)) times the service.

    Few requests wait for another time than the formula's by the luck of their draw, which is known and taken out: the
    difference from what the same requests wait by Lindley's recursion is the error (a control variate).
    """
    rows = []
    for busy in BUSY:
        load = Load(rate=busy * 1e3 / SERVICE_MS, seconds=SECONDS)
        point, theory = measured(load), busy / (2 * (1 - busy)) * SERVICE_MS
        known = {"busy": busy, "theory_ms": theory, "drawn_ms": drawn_ms(load), "waiting_ms": point.waiting_ms}
        told = {"calls": point.calls, "service_ms": point.service_ms, "busy_measured": point.busy}
        rows.append(known | told)
    frame = pd.DataFrame(rows)
    frame["error"] = (frame["waiting_ms"] - frame["drawn_ms"]) / frame["theory_ms"]
    line = alt.Chart(frame).mark_line().encode(x="drawn_ms:Q", y="drawn_ms:Q")
    points = alt.Chart(frame).mark_point(size=70).encode(x="drawn_ms:Q", y="waiting_ms:Q")
    lab.save("load_waiting", frame, alt.LayerChart(layer=[line, points]))
    print(frame.to_string())
    assert (frame["error"].abs() <= 0.05).all()


def test_closed_loops_add_up_as_long_as_each_has_a_core() -> None:
    rows = []
    for streams in (1, 2):
        point = measured(Load(streams=streams, seconds=5.0))
        told = {"low_per_s": point.calls_low_per_s, "high_per_s": point.calls_high_per_s}
        rows.append({"streams": streams, "per_s": point.calls_per_s, "known_per_s": streams * 1e3 / SERVICE_MS} | told)
    frame = pd.DataFrame(rows)
    frame["error"] = frame["per_s"] / frame["known_per_s"] - 1
    lab.save("load_streams", frame, alt.Chart(frame).mark_bar().encode(x="streams:N", y="error:Q"))
    print(frame.to_string())
    assert (frame["error"].abs() <= 0.02).all()
