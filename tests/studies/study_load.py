"""Whether a load is what it says: known service times against queueing theory, and streams against their sum."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import altair as alt
import pandas as pd

from profiler.backends.base import Placement
from profiler.measure.load import arrivals
from profiler.plan.read import for_answer
from profiler.records.load import Call, Load, LoadRecord, load_point
from profiler.records.types import Case
from profiler.run.experiment import opened_lab
from profiler.run.loads import under_load
from tests.studies import lab

SERVICE_MS = 1.0
SERVICE_NS = round(SERVICE_MS * 1e6)
#: A call that begins or ends so much later than it should, in ns, has been kept from its core.
LATE_NS = 100_000
BUSY, SECONDS = (0.3, 0.6, 0.8), 12.0
FAKE = Case("resnet50", "", 1.0, f"fake:duration_ms={SERVICE_MS},resting=1", Placement())


def measured(load: Load) -> LoadRecord:
    with opened_lab(for_answer(models="resnet50", backends=FAKE.backend, time="1s"), calibrate=False) as shared:
        record = under_load(FAKE, shared, load)
    assert record.failure is None, record.failure
    return record


def drawn_ns(load: Load) -> list[int]:
    """What each of the very requests that were drawn waits where all take exactly their time: Lindley's recursion."""
    free, waited = 0, []
    for at in arrivals(load.rate or 0.0, load.seconds, load.seed):
        begun = max(at, free)
        waited.append(begun - at)
        free = begun + SERVICE_NS
    return waited


def undisturbed(stream: Sequence[Call]) -> list[bool]:
    """Which calls had the core to themselves, and so had all before them since nobody waited."""
    kept, clean, free = [], True, 0
    for arrived, begun, done in stream:
        if arrived >= free:  # nobody waits: what was before has no say in what comes
            clean = True
        clean &= begun - max(arrived, free) < LATE_NS and done - begun < SERVICE_NS + LATE_NS
        kept.append(clean)
        free = done
    return kept


def test_waiting_is_that_of_an_m_d_1_queue() -> None:
    """Pollaczek and Khinchine: busy / (2 (1 - busy)) times the service.

    Two things are known and taken out: the luck of the draw, as the error is the difference from what the same requests
    wait by Lindley's recursion (a control variate); and what the machine did to a call, by leaving out that call and
    whoever waited behind it.
    """
    rows = []
    for busy in BUSY:
        load = Load(rate=busy * 1e3 / SERVICE_MS, seconds=SECONDS)
        [stream] = measured(load).streams
        theory, kept = busy / (2 * (1 - busy)) * SERVICE_MS, undisturbed(stream)
        pairs = [(begun - at, drawn) for (at, begun, _), drawn in zip(stream, drawn_ns(load), strict=False)]
        clean = [pair for pair, good in zip(pairs, kept, strict=True) if good]
        errors = [statistics.fmean(ours - drawn for ours, drawn in some) / 1e6 / theory for some in (clean, pairs)]
        told = {"calls": len(pairs), "undisturbed": len(clean) / len(pairs), "error": errors[0], "with_all": errors[1]}
        rows.append({"busy": busy, "theory_ms": theory, "waiting_ms": theory * (1 + errors[0])} | told)
    frame = pd.DataFrame(rows)
    line = alt.Chart(frame).mark_line().encode(x="theory_ms:Q", y="theory_ms:Q")
    points = alt.Chart(frame).mark_point(size=70).encode(x="theory_ms:Q", y="waiting_ms:Q")
    lab.save("load_waiting", frame, alt.LayerChart(layer=[line, points]))
    print(frame.to_string())
    assert (frame["error"].abs() <= 0.05).all()


def test_closed_loops_add_up_as_long_as_each_has_a_core() -> None:
    rows = []
    for streams in (1, 2):
        record = measured(Load(streams=streams, seconds=5.0))
        point = load_point(record.streams)
        assert point is not None
        known = streams * 1e3 / SERVICE_MS
        good = [
            [done - begun for _, begun, done in one if done - begun < SERVICE_NS + LATE_NS] for one in record.streams
        ]
        ours = sum(1e9 / statistics.fmean(one) for one in good)
        share = sum(map(len, good)) / sum(map(len, record.streams))
        told = {"undisturbed": share, "error": ours / known - 1, "with_all": point.calls_per_s / known - 1}
        rows.append({"streams": streams, "known_per_s": known, "per_s": ours} | told)
    frame = pd.DataFrame(rows)
    lab.save("load_streams", frame, alt.Chart(frame).mark_bar().encode(x="streams:N", y="error:Q"))
    print(frame.to_string())
    assert (frame["error"].abs() <= 0.02).all()
