from __future__ import annotations

import io

import pytest
from rich.console import Console

from profiler.analysis.fit import fit
from profiler.report.console import print_fits
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
