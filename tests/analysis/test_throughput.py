from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.analysis.fit import fit
from profiler.analysis.load import NEAR_BEST
from profiler.analysis.throughput import curves
from profiler.report.tables import knees_table


def table(latencies: dict[int, float], backend: str = "eager") -> pd.DataFrame:
    rows = [
        {"model": "net", "family": "a", "scaling": "", "factor": 1.0, "flops": 1e9, "params": 1e7, "acts": 1e7,
         "backend": backend, "batch": batch, "latency_ms": ms, "status": "ok"}
        for batch, ms in latencies.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def curve(frame: pd.DataFrame) -> pd.DataFrame:
    return curves(frame, [one for one in fit(frame, "latency_ms") if one.family is None])


def knee(latencies: dict[int, float]) -> int:
    found = curve(table(latencies))
    return int(found[found["knee"]]["batch"].item())


def test_the_knee_is_the_smallest_batch_near_the_best_throughput() -> None:
    # Images/s: 100, 180, 280, 300, 301.
    assert knee({1: 10.0, 2: 2 / 0.18, 4: 4 / 0.28, 8: 8 / 0.3, 16: 16 / 0.301}) == 4


def test_a_network_that_gains_nothing_has_its_knee_at_once() -> None:
    assert knee({1: 10.0, 4: 40.0, 16: 160.0}) == 1


def test_throughput_is_in_images_per_second() -> None:
    found = curve(table({1: 10.0, 4: 20.0}))
    assert found["throughput"].tolist() == pytest.approx([100.0, 200.0])
    frame = table({1: 10.0, 4: 20.0}).rename(columns={"latency_ms": "latency_us"})
    found = curves(frame, [one for one in fit(frame, "latency_us") if one.family is None])
    assert found["throughput"].tolist() == pytest.approx([100e3, 200e3])


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from([1, 2, 4, 8, 16, 32]), st.floats(0.1, 1e4), min_size=2))
def test_no_smaller_batch_than_the_knee_is_near_the_best(latencies: dict[int, float]) -> None:
    found = curve(table(latencies))
    at = found[found["knee"]].iloc[0]
    best = found["throughput"].max()
    assert at["throughput"] >= NEAR_BEST * best
    assert (found[found["batch"] < at["batch"]]["throughput"] < NEAR_BEST * best).all()


def test_one_batch_and_failed_rows_make_no_curve() -> None:
    frame = table({1: 10.0, 4: 20.0})
    frame.loc[1, ["status", "latency_ms"]] = ["oom", None]
    assert curve(frame).empty
    assert curve(table({4: 20.0})).empty


def test_backends_have_curves_of_their_own() -> None:
    frame = pd.concat([table({1: 10.0, 4: 20.0}), table({1: 5.0, 4: 20.0}, "onnxruntime")])
    found = curve(frame)
    assert len(found) == 4
    assert found[found["knee"]]["batch"].tolist() == [4.0, 1.0]


def test_the_report_has_a_row_for_each_knee() -> None:
    frame = table({1: 10.0, 2: 11.0, 4: 20.0})
    made = knees_table(frame, [one for one in fit(frame, "latency_ms") if one.family is None])
    assert made is not None
    assert "knee: batch" in made.numbers
    # Smallest, knee and best: batch, images/s, ms.
    assert made.rows[0][2:] == ("1", "100", "10", "2", "181.8", "11", "4", "200", "20")
