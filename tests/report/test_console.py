from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from profiler.analysis.fit import fit
from profiler.report.closing import predictors_table
from profiler.report.console import print_fits, rich_table
from tests.analysis.tables import networks


@pytest.mark.parametrize("brief", [False, True])
def test_nothing_is_cut_off_on_a_log_of_80_columns(brief: bool) -> None:
    frame = networks(backend="onnxruntime", device="cpu", precision="fp32", threads=16, batch=128, mode="infer")
    frame["latency_ms"] *= 12345.678
    console = Console(width=80, file=io.StringIO())
    print_fits(fit(frame), console, brief=brief)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in said
    assert ("per family" in said) is not brief
    assert said.index("pooled on") < said.index(" predict latency best")


def test_a_line_through_three_networks_has_no_interval() -> None:
    three, more = (networks(backend="eager").head(number) for number in (3, 9))
    said = []
    for frame in (three, more):
        console = Console(width=200, file=io.StringIO())
        print_fits(fit(frame), console)
        said.append(console.file.getvalue())  # type: ignore[attr-defined]
    assert [text.count("[") > 1 for text in said] == [False, True]


def test_an_interval_is_not_taken_apart_beside_labels_and_backends() -> None:
    frame = networks(device="cpu")
    sides = [(label, backend) for label in ("h100", "xeon-large") for backend in ("eager", "onnxruntime")]
    joined = pd.concat([frame.assign(fleet_label=label, backend=backend) for label, backend in sides])
    table = predictors_table(fit(joined))
    assert table is not None
    console = Console(width=80, file=io.StringIO())
    console.print(rich_table(table))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.count("[") for line in lines if "[" in line] == [3, 3, 3, 3]
    assert all(line.count("[") == line.count("]") for line in lines)
    assert sum("onnxruntime" in line for line in lines) == 2
