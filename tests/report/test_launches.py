"""What the page says of forwards that wait for launches."""

from __future__ import annotations

import pandas as pd
import pytest

from profiler.report.sections import cases_table


def frame(*bound: object) -> pd.DataFrame:
    names = [f"net{number}" for number in range(len(bound))]
    return pd.DataFrame(
        {"model": names, "backend": "eager", "status": "ok", "latency_ms": 2.0, "device_ms": 0.5, "launch_bound": bound}
    )


def test_the_page_names_what_is_launch_bound_and_shows_the_devices_time() -> None:
    table = cases_table(frame("true", "false", None), "latency_ms")
    assert "Launch-bound: net0. " in table.note
    assert "net1" not in table.note
    assert "device (ms)" in table.numbers


@pytest.mark.parametrize("bound", [("false",), (None,), (float("nan"),)])
def test_where_nothing_is_launch_bound_nothing_is_said(bound: tuple[object]) -> None:
    assert cases_table(frame(*bound), "latency_ms").note == ""
    assert cases_table(frame(*bound).drop(columns="launch_bound"), "latency_ms").note == ""
