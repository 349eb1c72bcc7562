from __future__ import annotations

import pandas as pd
import pytest

from profiler.analysis.frame import latency_column, unit_of
from profiler.errors import UserError
from tests import DATA
from tests.analysis.tables import networks


def test_the_latency_column_is_found() -> None:
    frame = networks()
    assert latency_column(frame.assign(latency_raw_ms=1), None) == "latency_ms"
    assert latency_column(pd.read_csv(DATA / "pycls_v100.csv"), None) == "infer_ms"
    assert latency_column(frame, "params") == "params"


@pytest.mark.parametrize(
    ("columns", "asked", "said"),
    [
        (["model", "acts"], None, "no latency column: name one with --y; the table has model, acts"),
        (["model", "cpu_ms", "gpu_ms"], None, r"several columns look like a latency \(cpu_ms, gpu_ms\)"),
        (["model", "acts"], "speed", "no column 'speed'; the table has model, acts"),
    ],
)
def test_a_latency_column_that_is_not_there(columns: list[str], asked: str | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        latency_column(pd.DataFrame(columns=columns), asked)


@pytest.mark.parametrize(
    ("column", "unit"), [("latency_ms", "ms"), ("infer (ms)", "ms"), ("epoch_s", "s"), ("latency", "")]
)
def test_units_are_read_off_names(column: str, unit: str) -> None:
    assert unit_of(column) == unit
