"""Networks by runtimes: what a cell says, and when it is marked."""

from __future__ import annotations

from profiler.records.columns import COLUMNS, Row
from profiler.report.matrix import runtimes_table


def row(model: str, backend: str, ms: float | None, half: float | None = 0.05, **more: str | int | float) -> Row:
    ends: Row = {"latency_ci_low_ms": None, "latency_ci_high_ms": None}
    if ms is not None and half is not None:
        ends = {"latency_ci_low_ms": ms * (1 - half), "latency_ci_high_ms": ms * (1 + half)}
    given: Row = {"model": model, "backend": backend, "latency_ms": ms, "status": "ok", "threads": 1}
    return dict.fromkeys(COLUMNS) | given | ends | more


def texts(rows: list[Row]) -> list[list[str]]:
    table = runtimes_table(rows)
    assert table is not None
    return [[cell if isinstance(cell, str) else cell[0] for cell in line] for line in table.rows]


def test_a_cell_is_a_speed_up_over_eager_with_its_interval_and_marked_where_that_holds_one() -> None:
    rows = [
        row("a", "onnxruntime", 5.0),
        row("a", "eager", 10.0),
        row("a", "compile", 9.8),
        row("a", "aoti", 8.0, None),
    ]
    (line,) = texts(rows)
    assert line[:3] == ["a", "10.0", "2.00 [1.86, 2.15]"]
    assert line[3].startswith("≈ 1.02 [0.9")
    assert line[4] == "≈ 1.25"


def test_what_failed_says_how_and_what_was_not_asked_is_empty() -> None:
    rows = [row("a", "eager", 10.0), row("a", "onnxruntime", None, status="parity"), row("b", "onnxruntime", 3.0)]
    assert texts(rows) == [["a", "10.0", "parity"], ["b", "", ""]]


def test_settings_have_lines_of_their_own_and_forwards_with_gaps_too() -> None:
    rows = [row("a", name, 10.0, gap_ms=gap) for gap in (20.0, 50.0) for name in ("eager", "compile")]
    assert [line[:2] for line in texts(rows)] == [["a", "20.0"], ["a", "50.0"]]


def test_one_runtime_is_no_matrix() -> None:
    assert runtimes_table([row("a", "eager", 1.0)]) is None
